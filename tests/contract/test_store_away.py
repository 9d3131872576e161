"""PostgreSQL goes away, comes back, loses what it knew, or is not heard: no money is lost, none is spent twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest
import sqlalchemy as sa
from tests.support.gateway import until
from tests.support.postgres import Postgres
from tests.support.proxy import open_proxy
from tests.support.store import ORG, USD, Bank, key_meter, open_branch

from modelgates_server.activity import generation
from modelgates_server.activity.generation import Cost, Generation, Origin
from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger import credit
from modelgates_server.ledger.values import Bill, Hold
from modelgates_server.storage.engine import database_of
from modelgates_server.storage.journal import left_behind
from modelgates_server.storage.reader import Lookups
from modelgates_server.storage.writer import NOTED

CREDIT = credit.credit_meter(ORG)


async def held(bank: Bank, amount_nusd: int = 5 * USD) -> Hold:
    """A hold, as soon as the store takes one."""
    async with asyncio.timeout(30):
        while True:
            try:
                hold = await bank.ledger.hold(bank.request(amount_nusd))
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                assert isinstance(hold, Hold)
                return hold


def receipt(hold: Hold, cost_nusd: int) -> list[tuple[generation.Statement | str, generation.Row]]:
    origin = Origin(hold.id, ORG, "w", None, "key-test", 1_800_000_000_000, "m", "m", streamed=True)
    cost = Cost(cost_nusd, cost_nusd, 0, hold.amount_nusd, "t")
    return generation.rows(Generation(origin, "completed", cost=cost, provider="sim"))


async def test_while_the_store_is_away_holds_are_refused_and_settlements_stand_in_the_journal(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """A stream that was running is booked on this machine at once, and in the store when it is back."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank)
        postgres.kill()
        with pytest.raises(StoreUnavailable):
            await bank.ledger.hold(bank.request(USD))

        booked = await bank.ledger.settle(hold, Bill(charged_nusd=2 * USD, provider="sim"), receipt(hold, 2 * USD))
        postgres.start()
        await until(lambda: bank.ledger.open_holds == 0, "the settlement did not reach the store")

        assert booked is NOTED
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (2 * USD, 0)
        assert bank.reader.one("SELECT cost_nusd FROM generations") == {"cost_nusd": 2 * USD}
        assert isinstance(await held(bank), Hold)


async def test_a_store_that_does_not_answer_is_away(postgres: Postgres, postgres_url: str, tmp_path: Path) -> None:
    """With all of its processes stopped, connections stay open and nothing comes back: holds are refused all the same."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank)
        postgres.pause()
        try:
            async with asyncio.timeout(10):
                with pytest.raises(StoreUnavailable):
                    await bank.ledger.hold(bank.request(USD))
                with pytest.raises(StoreUnavailable):
                    await bank.serving.one("SELECT 1 AS one")
                booked = await bank.ledger.settle(hold, Bill(charged_nusd=USD, provider="sim"), receipt(hold, USD))
        finally:
            postgres.resume()
        await until(lambda: bank.ledger.open_holds == 0, "the settlement did not reach the store")

        assert booked is NOTED
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (USD, 0)


async def test_a_store_that_lost_its_newest_commits_is_told_of_open_holds(postgres_url: str, tmp_path: Path) -> None:
    """After a failover that forgot a hold, it is made anew under a new epoch before anything else is admitted."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=10 * USD) as bank:
        hold, before = await held(bank, 8 * USD), bank.ledger.epoch
        forget(bank, hold)

        await bank.ledger.rejoin(bank.serving)
        refused = await bank.ledger.hold(bank.request(5 * USD))
        await bank.ledger.settle(hold, Bill(charged_nusd=8 * USD, provider="sim"), receipt(hold, 8 * USD))

        assert not isinstance(refused, Hold)
        assert bank.ledger.epoch > before
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (8 * USD, 0)
        assert bank.meter(key_meter())["posted"] == 8 * USD


def forget(bank: Bank, hold: Hold) -> None:
    """What a failover to a replica that lagged behind leaves: as if the hold had never been."""
    assert bank.store is not None
    engine = sa.create_engine(bank.store.database.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM holds WHERE id = :id"), {"id": hold.id})
        connection.execute(sa.text("UPDATE meters SET held = 0"))
        connection.execute(sa.text("DELETE FROM meters WHERE scope = 'key'"))
    engine.dispose()


async def test_an_owner_that_was_taken_for_dead_admits_nothing_until_it_has_a_new_life(
    postgres_url: str, tmp_path: Path
) -> None:
    """Stopped for longer than its lease, it finds its holds settled; its own settlement corrects the estimate, once."""
    async with (
        open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank,
        open_branch(postgres_url, tmp_path) as other,
    ):
        hold = await held(bank, 10 * USD)
        expire(bank)
        lost = [lost_receipt(hold)]
        swept = await other.ledger.sweep(other.serving, lambda _row, _cost: lost.pop())

        with pytest.raises(StoreUnavailable):
            await bank.ledger.hold(bank.request(USD))
        await bank.ledger.settle(hold, Bill(charged_nusd=3 * USD, provider="sim"), receipt(hold, 3 * USD))
        await bank.writer.drain(5)
        await bank.ledger.rejoin(bank.serving)

        assert swept == 1
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (3 * USD, 0)
        assert isinstance(await bank.ledger.hold(bank.request(USD)), Hold)


def expire(bank: Bank) -> None:
    """Let the lease of the bank's epoch run out."""
    assert bank.store is not None
    engine = sa.create_engine(bank.store.database.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        statement = sa.text("UPDATE processes SET seen_at_s = seen_at_s - 60 WHERE epoch = :epoch")
        connection.execute(statement, {"epoch": bank.ledger.epoch})
    engine.dispose()


def lost_receipt(hold: Hold) -> list[tuple[generation.Statement | str, generation.Row]]:
    origin = Origin(hold.id, ORG, "w", None, "key-test", 1_800_000_000_000, "m", "m", streamed=True)
    usage = generation.Usage(estimated=True)
    return generation.rows(Generation(origin, "lost", usage, Cost(USD, USD, 0, 10 * USD, "t"), provider="sim"))


async def test_the_journal_of_a_dead_process_is_booked_once(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """It died while the store was away: the next process books what it promised, to the nano-dollar, however often it reads it."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank)
        postgres.kill()
        await bank.ledger.settle(hold, Bill(charged_nusd=2 * USD, provider="sim"), receipt(hold, 2 * USD))
        kept = the_journal(tmp_path)
        postgres.start()
        await until(lambda: bank.ledger.open_holds == 0, "the settlement did not reach the store")
        forget_receipt(bank, hold)
    (tmp_path / "journal-dead.jsonl").write_bytes(kept)

    async with open_branch(postgres_url, tmp_path) as bank:
        ((records, booked),) = [(list(records), booked) for records, booked in left_behind(tmp_path)]
        counts = [await bank.ledger.replay(records), await bank.ledger.replay(records)]
        booked()

        assert counts == [1, 0]
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (2 * USD, 0)
        assert bank.reader.one("SELECT cost_nusd FROM generations") == {"cost_nusd": 2 * USD}
        assert list(left_behind(tmp_path)) == []


def the_journal(folder: Path) -> bytes:
    """What stands in the only one there is."""
    (file,) = folder.glob("journal-*")
    return file.read_bytes()


def forget_receipt(bank: Bank, hold: Hold) -> None:
    """As if the settlement had never reached the store, and the hold had been lost with it."""
    assert bank.store is not None
    engine = sa.create_engine(bank.store.database.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE meters SET posted = 0"))
        connection.execute(sa.text("DELETE FROM generations WHERE id = :id"), {"id": hold.id})
        connection.execute(sa.text("DELETE FROM activity_hours"))
        connection.execute(sa.text("DELETE FROM entries WHERE generation_id = :id"), {"id": hold.id})
    engine.dispose()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_whose_answer_was_lost_leaves_no_hold_and_books_once(
    postgres: Postgres, postgres_url: str, tmp_path: Path, when: Literal["before", "after"]
) -> None:
    """The connection breaks at the commit: the hold is refused and given back if it was made, a settlement is booked exactly once."""
    async with open_proxy(int(sa.make_url(postgres_url).port or 0)) as proxy:
        url = sa.make_url(postgres_url).set(port=proxy.port).render_as_string(hide_password=False)
        async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD):
            pass
        async with open_branch(url, tmp_path) as bank:
            bank.reader = Lookups(database_of(postgres_url))  # it would wait for this very loop to carry its bytes
            proxy.when, proxy.cut = when, b"COMMIT"
            with pytest.raises(StoreUnavailable):
                await bank.ledger.hold(bank.request(5 * USD))
            hold = await held(bank, 4 * USD)
            proxy.when, proxy.cut = when, b"COMMIT"
            await bank.ledger.settle(hold, Bill(charged_nusd=3 * USD, provider="sim"), receipt(hold, 3 * USD))
            await until(lambda: bank.ledger.open_holds == 0, "the settlement did not reach the store")
            await bank.writer.drain(5)

            assert proxy.cuts == 2
            assert bank.count("holds") == 0
            assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (3 * USD, 0)
            assert bank.count("generations") == 1


async def test_processes_share_a_budget_exactly(postgres_url: str, tmp_path: Path) -> None:
    """Three processes race for money for seven: seven holds are made, whoever makes them."""
    async with (
        open_branch(postgres_url, tmp_path, credit_nusd=7 * USD) as first,
        open_branch(postgres_url, tmp_path) as second,
        open_branch(postgres_url, tmp_path) as third,
    ):
        banks = [first, second, third]
        results = await asyncio.gather(*(bank.ledger.hold(bank.request(USD)) for _ in range(100) for bank in banks))

        assert sum(isinstance(result, Hold) for result in results) == 7
        assert first.overspent() == []
        assert first.meter(CREDIT)["held"] == 7 * USD
