"""What must never stop the writer, nor make it throw money away: rows that cannot be sent, read-only stores, connections that die idle."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.contract.test_store_away import CREDIT, held, receipt
from tests.support.gateway import until
from tests.support.postgres import Postgres
from tests.support.store import ORG, USD, open_branch

from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger.units import ADD_ENTRY
from modelgates_server.ledger.values import Bill, Hold
from modelgates_server.storage.hot import Row
from modelgates_server.storage.rows import Rows
from modelgates_server.storage.writer import NOTED, Simple

END_SERVING = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'modelgates serve'"


def entry(**changed: object) -> Row:
    """An entry of the books."""
    return {
        "organization_id": ORG, "created_at_s": 0, "kind": "grant", "debit": "a", "credit": "b", "amount_nusd": 1,
        "generation_id": None, "note": None, "author": None,
    } | changed  # fmt: skip


@pytest.mark.parametrize("bad", [{"amount_nusd": 2**70}, {"note": "\ud800"}, {"amount_nusd": 2**63}], ids=str)
async def test_a_row_that_no_driver_can_send_fails_alone(store_url: str, tmp_path: Path, bad: Row) -> None:
    """A number or a text that cannot be encoded refuses its own unit; others of its batch and the next batches are served."""
    async with open_branch(store_url, tmp_path, credit_nusd=10 * USD) as bank:
        first = bank.writer.submit(Simple(lambda rows: rows.write(ADD_ENTRY, entry())))
        spoilt = bank.writer.submit(Simple(lambda rows: rows.write(ADD_ENTRY, entry(**bad)), keep=True))
        await first
        with pytest.raises(StoreUnavailable, match="refused"):
            await spoilt

        assert isinstance(await bank.ledger.hold(bank.request(USD)), Hold)
        assert bank.reader.one("SELECT COUNT(*) AS n FROM entries WHERE debit = 'a'") == {"n": 1}


async def test_a_unit_that_cannot_even_say_what_it_needs_fails_alone(store_url: str, tmp_path: Path) -> None:
    """Whatever a unit raises, the writer goes on."""

    class Broken(Simple):
        def needs(self) -> dict[str, tuple[str, ...]]:
            raise LookupError("broken")

    async with open_branch(store_url, tmp_path, credit_nusd=10 * USD) as bank:
        spoilt = bank.writer.submit(Broken(lambda _rows: None))
        with pytest.raises(StoreUnavailable, match="broken"):
            await spoilt
        assert isinstance(await bank.ledger.hold(bank.request(USD)), Hold)


async def test_a_hold_that_is_tried_again_on_a_fresh_connection_belongs_to_the_new_life(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """Nobody renews the old life's lease any more: its holds would be settled as lost while they run."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=10 * USD) as bank:
        before = bank.ledger.epoch
        postgres.execute(END_SERVING.format(sa.make_url(postgres_url).database))
        hold = await bank.ledger.hold(bank.request(USD))

        assert isinstance(hold, Hold)
        assert bank.ledger.epoch > before
        assert bank.reader.one("SELECT epoch FROM holds") == {"epoch": bank.ledger.epoch}


async def test_a_store_that_only_reads_is_away(postgres: Postgres, postgres_url: str, tmp_path: Path) -> None:
    """A full disk or a switch-over makes a running database read-only: settlements stand in the journal until it writes again."""
    name = sa.make_url(postgres_url).database
    async with open_branch(postgres_url, tmp_path, credit_nusd=10 * USD) as bank:
        hold = await held(bank, 2 * USD)
        postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        postgres.execute(END_SERVING.format(name))
        booked = await bank.ledger.settle(hold, Bill(charged_nusd=USD, provider="sim"), receipt(hold, USD))
        with pytest.raises(StoreUnavailable):
            await bank.ledger.hold(bank.request(USD))
        postgres.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        postgres.execute(END_SERVING.format(name))
        await until(lambda: bank.ledger.open_holds == 0, "the settlement did not reach the store")

        assert booked is NOTED
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (USD, 0)
        assert isinstance(await held(bank, USD), Hold)


async def test_a_store_that_begins_to_refuse_writes_in_mid_life_is_away(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """The same with connections that stay open, which is what managed databases do when their disk fills up."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=10 * USD) as bank:
        hold = await held(bank, 2 * USD)

        def only_read(rows: Rows) -> None:
            rows.write("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", {})

        await bank.writer.submit(Simple(only_read))
        await bank.ledger.settle(hold, Bill(charged_nusd=USD, provider="sim"), receipt(hold, USD))
        await until(lambda: bank.ledger.open_holds == 0, "the settlement did not reach the store")

        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (USD, 0)


async def test_who_waits_in_vain_is_forgotten(store_url: str, tmp_path: Path) -> None:
    """A process that settles nothing wakes nobody: those whose patience ended must not pile up in it."""
    async with open_branch(store_url, tmp_path, credit_nusd=10 * USD) as bank:
        for _ in range(3):
            assert not await bank.ledger.released(0.01)

        assert len(bank.ledger._waiting) == 0
