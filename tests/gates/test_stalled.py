"""A replica that stands still in the middle of a batch must not keep its locks (reliability-security 3.3, row 61)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.support.store import ORG, USD, Bank, open_branch

from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger.credit import credit_meter
from modelgates_server.ledger.values import Bill, Hold
from modelgates_server.storage.engine import database_of
from modelgates_server.storage.postgres import IDLE_MS, LOCK_MS, SERVING, STATEMENT_MS

pytestmark = pytest.mark.slow

FREE_S = 10.0
LIMITS = (
    f"-c lock_timeout={LOCK_MS} -c statement_timeout={STATEMENT_MS} -c idle_in_transaction_session_timeout={IDLE_MS}"
)


@contextmanager
def stopped_between_two_messages(url: str, meter_id: str) -> Iterator[None]:
    """What SIGSTOP leaves of a replica that sent the beginning of its pipeline: locks, and a server that waits for the rest."""
    line = psycopg.connect(database_of(url).conninfo, autocommit=True, application_name=SERVING, options=LIMITS)
    line.pgconn.enter_pipeline_mode()
    line.pgconn.send_query_params(b"BEGIN", None)
    statement = b"SELECT id FROM meters WHERE id = $1 FOR NO KEY UPDATE"
    line.pgconn.send_query_params(statement, [meter_id.encode()])
    line.pgconn.flush()
    try:
        yield
    finally:
        line.pgconn.finish()


async def test_a_replica_that_stands_still_in_a_batch_loses_its_locks(postgres_url: str, tmp_path: Path) -> None:
    """Others refuse within a second while they wait for it, then end its session and go on; what they had open is whole."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await bank.ledger.hold(bank.request(5 * USD))
        assert isinstance(hold, Hold)
        with stopped_between_two_messages(postgres_url, credit_meter(ORG).row_id(0)):
            await locked(bank)
            async with asyncio.timeout(1.5):
                with pytest.raises(StoreUnavailable):
                    await bank.ledger.hold(bank.request(USD))
            async with asyncio.timeout(FREE_S):
                await admitted(bank)
        await bank.ledger.settle(hold, Bill(charged_nusd=2 * USD, provider="sim"))

        assert (bank.meter(credit_meter(ORG))["posted"], bank.meter(credit_meter(ORG))["held"]) == (2 * USD, USD)


async def locked(bank: Bank) -> None:
    """Wait until the server has run what was sent to it."""
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'ClientRead' AND query LIKE '%FOR NO KEY UPDATE' AND state = 'active'"
    async with asyncio.timeout(FREE_S):
        while not await bank.serving.all(query):  # noqa: ASYNC110 - another process, which can set no event of ours
            await asyncio.sleep(0.01)


async def admitted(bank: Bank) -> None:
    """Ask until a hold is taken."""
    while True:
        try:
            assert isinstance(await bank.ledger.hold(bank.request(USD)), Hold)
        except StoreUnavailable:
            await asyncio.sleep(0.05)
        else:
            return
