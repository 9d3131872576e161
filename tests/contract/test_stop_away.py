"""A process is told to stop while PostgreSQL is away: with nothing to book it stops at once, what is owed is waited for and kept."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from tests.contract.test_store_away import held, receipt, the_journal
from tests.support.gateway import STORE_PATIENCE_S, until
from tests.support.postgres import Postgres
from tests.support.process import Stand
from tests.support.store import USD, Bank, open_branch

from modelgates_server.app import _book_all
from modelgates_server.ledger.values import Bill
from modelgates_server.storage.writer import RETRY_S

LIMIT_S = 30.0
"""How long a process that stops waits for what is owed, `serve` as well: who ends sooner did not wait for it."""


async def stopped(bank: Bank, limit_s: float = LIMIT_S) -> float:
    """Book all as a process does that stops; how long that took."""
    assert bank.store is not None
    begun_s = time.monotonic()
    await _book_all(bank.ledger, bank.store, limit_s)
    return time.monotonic() - begun_s


def journals(folder: Path) -> list[Path]:
    return list(folder.glob("journal-*"))


@pytest.mark.parametrize("missed", [True, False], ids=["missed", "unnoticed"])
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_idle_process_does_not_wait_for_a_store_that_is_away(
    postgres: Postgres, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, missed: bool
) -> None:
    """Whether it knew of the outage or meets it with its farewell: it does not use its limit, and nothing is said to be lost."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank:
        postgres.kill() if how == "killed" else postgres.pause()
        try:
            if missed:
                bank.ledger.renew_lease()
                await until(lambda: bank.writer.away, "the store is not missed", STORE_PATIENCE_S)
            took_s = await stopped(bank)
        finally:
            postgres.start() if how == "killed" else postgres.resume()

    assert took_s < LIMIT_S
    assert "store_did_not_drain" not in caplog.messages
    assert journals(tmp_path) == []


async def test_a_settlement_is_waited_for_and_stays_in_the_journal(
    postgres: Postgres, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole limit, with an error at its end; the journal has it for the next process."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank)
        postgres.kill()
        try:
            bank.ledger.renew_lease()
            await until(lambda: bank.writer.away, "the store is not missed", STORE_PATIENCE_S)
            await asyncio.sleep(2 * RETRY_S)  # nothing is owed yet
            await bank.ledger.settle(hold, Bill(charged_nusd=2 * USD, provider="sim"), receipt(hold, 2 * USD))
            took_s = await stopped(bank, 2.0)
            kept = the_journal(tmp_path)
        finally:
            postgres.start()

    assert took_s >= 2.0
    assert "store_did_not_drain" in caplog.messages
    assert hold.id.encode() in kept


async def test_a_settlement_is_booked_when_the_store_comes_back_in_time(
    postgres: Postgres, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that stops during a short outage ends with everything in the store, and its journal is gone."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank)
        postgres.kill()
        await bank.ledger.settle(hold, Bill(charged_nusd=2 * USD, provider="sim"), receipt(hold, 2 * USD))
        stopping = asyncio.ensure_future(stopped(bank))
        await asyncio.sleep(0.5)
        assert not stopping.done()
        postgres.start()
        await stopping
        assert bank.reader.one("SELECT cost_nusd FROM generations") == {"cost_nusd": 2 * USD}

    assert "store_did_not_drain" not in caplog.messages
    assert journals(tmp_path) == []


async def test_an_outage_is_told_once_on_one_line(
    postgres: Postgres, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while a settlement waits, for which it is tried again and again; what libpq says has more lines."""
    async with open_branch(postgres_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await held(bank)
        postgres.kill()
        try:
            await bank.ledger.settle(hold, Bill(charged_nusd=2 * USD, provider="sim"), receipt(hold, 2 * USD))
            await asyncio.sleep(4 * RETRY_S)
        finally:
            postgres.start()
        await bank.writer.drain(STORE_PATIENCE_S)

    (reason,) = [record.__dict__["reason"] for record in caplog.records if record.message == "store_away"]
    assert "\n" not in reason
    assert reason.endswith("failed: Connection refused")


@pytest.mark.slow
async def test_an_idle_server_stops_at_once(postgres: Postgres, postgres_url: str, tmp_path: Path) -> None:
    """The real process, told to stop while its database is gone: a success without the wait, and no error in its log."""
    stand = Stand(tmp_path / "stand", database_url=postgres_url)
    server = await asyncio.to_thread(stand.serve)
    postgres.kill()
    try:
        log = tmp_path / "stand" / "serve.log"
        await until(lambda: "store_away" in log.read_text(), "the store is not missed", STORE_PATIENCE_S)
        begun_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.wait)
        took_s = time.monotonic() - begun_s
    finally:
        server.kill()
        postgres.start()

    assert code == 0
    assert took_s < LIMIT_S
    assert "store_did_not_drain" not in log.read_text()
