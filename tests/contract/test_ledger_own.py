"""What own provider keys mean to the ledger: no credit is moved, and budgets that count them do (SQLite and PostgreSQL)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.store import ORG, USD, Bank, engine_of, key_meter, open_branch

from modelgates_server.activity import generation
from modelgates_server.activity.generation import Origin
from modelgates_server.ledger import credit
from modelgates_server.ledger.credit import Movement, Moves
from modelgates_server.ledger.values import Bill, Hold, HoldRequest, Refusal
from modelgates_server.limits import Unit, Window
from modelgates_server.storage.engine import database_of, transaction

CREDIT = credit.credit_meter(ORG)
SPEND = key_meter(10 * USD, Window.MONTH, Unit.SPEND)
ORIGIN = Origin("", ORG, "ws", None, "key-test", 1_000, "m", "m", streamed=True)


def request(bank: Bank, amount_nusd: int, spend_nusd: int, own_nusd: int | None = None) -> HoldRequest:
    """A hold on credit for the operator's accounts, and on a budget for all; `own_nusd` as when an own key is asked first."""
    made = bank.request(amount_nusd, meters=(SPEND, CREDIT))
    context = generation.context(msgspec.structs.replace(ORIGIN, id=made.id), "sim", "t", own_nusd)
    floor_nusd = made.floor_nusd if own_nusd is None else 0
    return msgspec.structs.replace(made, spend_nusd=spend_nusd, context=context, floor_nusd=floor_nusd)


async def held(bank: Bank, *amounts: Any) -> Hold:
    hold = await bank.ledger.hold(request(bank, *amounts))
    assert isinstance(hold, Hold)
    return hold


def posted(bank: Bank) -> tuple[int, int]:
    """On the credit and on the budget; nothing is held any more."""
    credit_row, spend_row = bank.meter(CREDIT), bank.meter(SPEND)
    assert (credit_row["held"], spend_row["held"]) == (0, 0)
    return credit_row["posted"], spend_row["posted"]


async def test_an_own_key_fills_budgets_and_not_the_credit(store_url: str, tmp_path: Path) -> None:
    """Nothing is booked, because nobody here is owed anything."""
    async with open_branch(store_url, tmp_path, credit_nusd=USD) as bank:
        hold = await held(bank, 0, 4 * USD)
        assert (bank.meter(CREDIT)["held"], bank.meter(SPEND)["held"]) == (0, 4 * USD)
        await bank.ledger.settle(hold, Bill(byok_nusd=3 * USD, provider="sim"))

        assert posted(bank) == (0, 3 * USD)
        assert bank.reader.all("SELECT * FROM entries WHERE kind <> 'grant'") == []


async def test_the_operators_account_fills_both(store_url: str, tmp_path: Path) -> None:
    """The dearest of the operator's accounts is held on the credit, the dearest of all on the budget."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank, 2 * USD, 5 * USD)
        await bank.ledger.settle(hold, Bill(charged_nusd=USD, provider="sim"))

        assert posted(bank) == (USD, USD)


async def test_overdrawn_credit_does_not_refuse_who_asks_nothing_of_it(store_url: str, tmp_path: Path) -> None:
    """Credit that was taken back below what is used stops requests that need credit, and no others."""
    async with open_branch(store_url, tmp_path, credit_nusd=USD) as bank:
        await bank.ledger.settle(await held(bank, USD, USD), Bill(charged_nusd=USD, provider="sim"))
        taken = Movement(Moves.CORRECTION, -USD, "granted by mistake", "test")
        with engine_of(database_of(store_url)) as engine, transaction(engine) as connection:
            credit.move(connection, ORG, taken, bank.clock.now_s())
        refused = await bank.ledger.hold(request(bank, 1, 1))
        hold = await bank.ledger.hold(request(bank, 0, USD))

        assert isinstance(refused, Refusal)
        assert (refused.scope, refused.available, refused.spend_available) == ("organization", 0, 9 * USD)
        assert isinstance(hold, Hold)


async def test_a_budget_refuses_an_own_key_and_says_what_is_left(store_url: str, tmp_path: Path) -> None:
    """What is left of credit is nothing to it, so it is not told."""
    async with open_branch(store_url, tmp_path, credit_nusd=USD) as bank:
        refused = await bank.ledger.hold(request(bank, 0, 11 * USD))

        assert isinstance(refused, Refusal)
        assert (refused.unit, refused.available, refused.unheld, refused.spend_available) == (
            Unit.SPEND, 10 * USD, 10 * USD, 10 * USD,
        )  # fmt: skip


LOST = {
    "own key, no checkpoint": ((0, 5 * USD, 7), None, (0, 7)),
    "own key, streaming": ((0, 5 * USD, 7), -3 * USD, (0, 3 * USD)),
    "own key first, then the operator's": ((5 * USD, 5 * USD, 7), 2 * USD, (2 * USD, 2 * USD)),
    "the operator's first, no checkpoint": ((5 * USD, 5 * USD), None, (USD // 2, USD // 2)),
    "the operator's first, then a fallback key": ((5 * USD, 5 * USD), -2 * USD, (0, 2 * USD)),
}


@pytest.mark.parametrize("case", LOST)
async def test_a_lost_request_is_booked_where_it_was_served(store_url: str, tmp_path: Path, case: str) -> None:
    """The checkpoint tells whether an own key streamed; its receipt and its budgets say so, and no credit is taken for it."""
    amounts, progress, expected = LOST[case]
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank, *amounts)
        if progress is not None:
            bank.ledger.checkpoint([(hold.id, progress)])
        await bank.writer.drain(5)
    async with open_branch(store_url, tmp_path) as bank:
        assert await bank.ledger.sweep(bank.serving, generation.lost) == 1
        row = bank.reader.one("SELECT cost_nusd, upstream_cost_nusd, byok_cost_nusd, outcome FROM generations")

        assert posted(bank) == expected
        assert row == {
            "cost_nusd": expected[0],
            "upstream_cost_nusd": expected[0],
            "byok_cost_nusd": 0 if expected[0] else expected[1],
            "outcome": "lost",
        }


async def test_the_truth_that_comes_late_corrects_what_an_own_key_was_asked(store_url: str, tmp_path: Path) -> None:
    """Budget, receipt and roll-ups follow; the credit stays out of it."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank, 0, 5 * USD, 7)
    async with open_branch(store_url, tmp_path) as bank:
        await bank.ledger.sweep(bank.serving, generation.lost)
        for _ in range(2):
            await bank.ledger.settle(hold, Bill(byok_nusd=2 * USD, provider="sim"))
            await bank.writer.drain(5)
        hour = bank.reader.one("SELECT cost_nusd, byok_cost_nusd FROM activity_hours")
        day = bank.reader.one("SELECT cost_nusd, byok_cost_nusd FROM activity_days")

        assert posted(bank) == (0, 2 * USD)
        assert hour == day == {"cost_nusd": 0, "byok_cost_nusd": 2 * USD}
