"""Limits that change between a hold and its end: what was admitted stays within them, and nothing more is charged to them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.contract.test_refused import estimate
from tests.support.store import ORG, USD, Bank, open_branch

from modelgates_server.ledger import credit
from modelgates_server.ledger.values import Bill, Hold, Refusal
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.management.change import change
from modelgates_server.management.spent import count_spent
from modelgates_server.storage.engine import database_of, open_engine

CREDIT = credit.credit_meter(ORG)


def limited(limit_nusd: int, window: Window = Window.LIFE) -> tuple[MeterRef, ...]:
    return MeterRef(Scope.KEY, "key-test", Unit.NUSD, window, limit_nusd), CREDIT


async def held(bank: Bank, amount_nusd: int, meters: tuple[MeterRef, ...]) -> Hold:
    hold = await bank.ledger.hold(bank.request(amount_nusd, meters=meters))
    assert isinstance(hold, Hold)
    return hold


async def test_a_refusal_beside_a_settlement_leaves_the_row_alone(store_url: str, tmp_path: Path) -> None:
    """Both in one batch, under a limit that was lowered: what the row says is what its holds were admitted under."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        first, second = [await held(bank, 5 * USD, limited(10 * USD)) for _ in range(2)]
        refused = asyncio.ensure_future(bank.ledger.hold(bank.request(5 * USD, meters=limited(USD))))
        await asyncio.sleep(0)
        await bank.ledger.settle(first, Bill(charged_nusd=4 * USD, provider="sim"))
        assert isinstance(await refused, Refusal)
        assert bank.overspent() == []
        await bank.ledger.settle(second, Bill(charged_nusd=4 * USD, provider="sim"))
        assert bank.overspent() == []
        assert bank.meter(limited(0)[0])["posted"] == 8 * USD


async def test_who_asks_nothing_of_a_lowered_limit_passes_it(store_url: str, tmp_path: Path) -> None:
    """A request on an own provider key costs no credit: the row stays true, and whoever asks for anything is refused."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        await bank.ledger.settle(
            await held(bank, 5 * USD, limited(10 * USD)), Bill(charged_nusd=4 * USD, provider="sim")
        )
        await held(bank, 0, limited(USD))
        assert bank.overspent() == []
        assert isinstance(await bank.ledger.hold(bank.request(1, meters=limited(USD))), Refusal)


@pytest.mark.parametrize("edited", [False, True])
async def test_a_late_settlement_fills_what_is_left_also_after_an_edit(
    store_url: str, tmp_path: Path, edited: bool
) -> None:
    """The rest is the operator's: writing the same limit once more does not open it (docs/budgets.md)."""
    day = limited(6 * USD, Window.DAY)
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        late = await held(bank, 5 * USD, day)
    async with open_branch(store_url, tmp_path) as bank:
        await bank.ledger.sweep(bank.serving, estimate)
        other = await held(bank, 4 * USD, day)
        await bank.ledger.settle(other, Bill(charged_nusd=4 * USD, provider="sim"))
        before = bank.meter(day[0])["posted"]
        if edited:
            engine = open_engine(database_of(store_url))
            with change(engine, bank.clock.now_s()) as changing:
                count_spent(changing, day[0], ORG)
            engine.dispose()
        await bank.ledger.settle(late, Bill(charged_nusd=5 * USD, provider="sim"))
        await bank.writer.drain(5)
        assert 4 * USD < before < 6 * USD
        assert bank.meter(day[0])["posted"] == 6 * USD
        (overrun,) = bank.reader.all("SELECT amount_nusd FROM entries WHERE kind = 'overrun'")
        assert overrun["amount_nusd"] == 3 * USD
