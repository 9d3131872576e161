"""A settlement that the database does not take as it is: its money is booked all the same, at the exact price."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.contract.test_hard_times import entry
from tests.contract.test_store_away import CREDIT, held, receipt
from tests.support.gateway import Gateway, ask, open_gateway
from tests.support.store import ORG, USD, open_branch

from modelgates_server.activity import generation
from modelgates_server.activity.generation import Cost, Generation, Origin
from modelgates_server.dialects.values import Usage
from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger.closing import Correct
from modelgates_server.ledger.units import ADD_ENTRY
from modelgates_server.ledger.values import Bill, Hold
from modelgates_server.storage.checks import Problem
from modelgates_server.storage.hot import Row
from modelgates_server.storage.writer import Refused, Simple


@contextmanager
def refused(gateway: Gateway, condition: str) -> Iterator[None]:
    """For the length of a block the database takes no receipt for which this holds."""
    on_postgres = gateway.application.store.database.distributed
    begin = f"ALTER TABLE generations ADD CONSTRAINT odd CHECK (NOT ({condition})) NOT VALID"
    end = "ALTER TABLE generations DROP CONSTRAINT odd"
    if not on_postgres:
        what = f"SELECT CASE WHEN NEW.{condition} THEN RAISE(ABORT, 'odd row') END"
        begin, end = f"CREATE TRIGGER odd BEFORE INSERT ON generations BEGIN {what}; END", "DROP TRIGGER odd"
    with gateway.engine() as (engine, _):
        with engine.begin() as connection:
            connection.execute(sa.text(begin))
        try:
            yield
        finally:
            with engine.begin() as connection:
                connection.execute(sa.text(end))


def estimate(hold: Row, bill: Bill) -> list[tuple[generation.Statement | str, Row]]:
    """What a sweeper writes of a hold whose owner is dead."""
    origin = Origin(hold["id"], ORG, "w", None, "key-test", 1_800_000_000_000, "m", "m", streamed=True)
    cost = Cost(bill.charged_nusd, bill.charged_nusd, 0, hold["amount_nusd"], "t")
    return generation.rows(Generation(origin, "lost", Usage(estimated=True), cost, provider="sim"))


def books(gateway: Gateway, generation_id: str) -> tuple[Row, dict[str, int], list[Problem]]:
    return gateway.generation(generation_id), gateway.entries(generation_id), gateway.problems()


@pytest.mark.parametrize("stream", [True, False])
async def test_the_money_of_a_refused_receipt_is_booked_exactly(store_url: str, tmp_path: Path, stream: bool) -> None:
    """The answer arrives, the books agree, and the plain receipt says what it costs and why it says no more."""
    async with open_gateway(tmp_path / "g", database_url=store_url) as gateway:
        good = await gateway.send(ask(stream=stream))
        await gateway.settled()
        with refused(gateway, "upstream_id IS NOT NULL"):
            told = await gateway.send(ask(stream=stream))
            await gateway.settled()
        before, after = books(gateway, good.id), books(gateway, told.id)
        count = gateway.application.writer.refused

    assert (good.status, told.status, count) == (200, 200, 0)
    assert (after[1], after[2]) == (before[1], [])
    same = (
        "cost_nusd",
        "upstream_cost_nusd",
        "outcome",
        "estimated",
        "provider",
        "model",
        "output_tokens",
        "held_nusd",
    )
    assert [after[0][name] for name in same] == [before[0][name] for name in same]
    (attempt,) = json.loads(after[0]["attempts"])
    assert attempt["detail"].startswith(generation.UNSTORED)
    assert "odd" in attempt["detail"]


async def test_what_is_refused_in_any_form_is_told_and_stays_held(store_url: str, tmp_path: Path) -> None:
    """No receipt at all is taken: the client of the one hears it, unless a journal has it; it is counted, and its hold stays open."""
    async with open_gateway(tmp_path / "g", database_url=store_url) as gateway:
        with refused(gateway, "id IS NOT NULL"):
            told = await gateway.send(ask())
            (hold,) = gateway.rows("SELECT id FROM holds")
        after = await gateway.send(ask())

        assert (told.status, after.status) == (200 if gateway.application.writer.journal else 503, 200)
        assert gateway.application.writer.refused == 1
        assert gateway.rows("SELECT id FROM holds") == [hold]
    async with open_gateway(tmp_path / "g", database_url=store_url) as gateway:
        await gateway.settled()
        row = gateway.generation(hold["id"])
        assert (row["outcome"], row["cost_nusd"] > 0) == (
            "completed" if gateway.application.writer.journal else "lost", True,
        )  # fmt: skip
        assert gateway.problems() == []


async def test_a_kept_unit_without_a_plainer_form_tells_who_waits(store_url: str, tmp_path: Path) -> None:
    """It is not tried again for ever: that would be in everybody's way."""
    async with open_branch(store_url, tmp_path, credit_nusd=10 * USD) as bank:
        spoilt = bank.writer.submit(Simple(lambda rows: rows.write(ADD_ENTRY, entry(amount_nusd=2**70)), keep=True))
        with pytest.raises(Refused) as told:
            await spoilt
        assert isinstance(told.value, StoreUnavailable)
        assert isinstance(await bank.ledger.hold(bank.request(USD)), Hold)


async def test_a_refused_correction_leaves_the_estimate(store_url: str, tmp_path: Path) -> None:
    """A sweeper's estimate that cannot be made the truth stands, whole; those that come after are not kept waiting."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold, other = await held(bank), await held(bank)
    async with open_branch(store_url, tmp_path) as bank:
        await bank.ledger.sweep(bank.serving, estimate)
        before = bank.meter(CREDIT)["posted"], bank.reader.all("SELECT * FROM generations"), bank.count("entries")
        with pytest.raises(Refused):
            await bank.ledger.settle(hold, Bill(charged_nusd=2 * USD, provider="sim", uncertain=(("sim", 2**70),)))
        await bank.writer.drain(5)
        after = bank.meter(CREDIT)["posted"], bank.reader.all("SELECT * FROM generations"), bank.count("entries")
        assert (bank.writer.refused, after) == (1, before)
        await bank.ledger.settle(other, Bill(charged_nusd=2 * USD, provider="sim"))
        await bank.writer.drain(5)
        (row,) = bank.reader.all("SELECT cost_nusd FROM generations WHERE estimated = 0")
        assert row == {"cost_nusd": 2 * USD}


async def test_what_is_settled_again_is_booked_in_a_plain_form_too(store_url: str, tmp_path: Path) -> None:
    """The store lost a sweeper's commit and has the hold again: the settlement that follows may say less, and costs the same."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank)
        bill, also = Bill(charged_nusd=2 * USD, provider="sim"), receipt(hold, 2 * USD)
        spoilt = [*also, (ADD_ENTRY, entry(amount_nusd=2**70))]
        await bank.writer.submit(Correct(hold, bill, spoilt, 0, plainly=lambda *_: also))
        await bank.writer.drain(5)
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (2 * USD, 0)
        assert bank.reader.one("SELECT cost_nusd FROM generations") == {"cost_nusd": 2 * USD}
        assert bank.writer.refused == 0
