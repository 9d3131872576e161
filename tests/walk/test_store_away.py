"""PostgreSQL goes away under a running gateway: what runs finishes and is booked, what comes is refused, nothing is lost.

And what looks like it, but is not: rows that somebody keeps, a process that stood still itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from tests.contract.test_hard_times import entry
from tests.support.gateway import STORE_PATIENCE_S, Gateway, Told, ask, open_gateway, until
from tests.support.postgres import Postgres
from tests.support.proxy import open_proxy
from tests.support.store import ORG, USD, Bank, make_database, open_branch
from tests.walk.test_protocol_answer import assert_envelope

from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger.credit import credit_meter
from modelgates_server.ledger.units import ADD_ENTRY
from modelgates_server.ledger.values import Bill, Hold
from modelgates_server.storage.engine import database_of
from modelgates_server.storage.postgres import SILENT_S
from modelgates_server.storage.writer import Simple

SLOW = {"tokens": 40, "delay_s": 0.5, "event_delay_s": 0.1}


async def running(gateway: Gateway, *, stream: bool) -> asyncio.Task[Told]:
    """A request whose provider has begun to answer. Before that, a machine that stands still may have it refused: then another."""
    log, asked = gateway.simulator.log, len(gateway.simulator.log)
    async with asyncio.timeout(STORE_PATIENCE_S):
        while True:
            sending = gateway.send(ask(stream=stream, max_tokens=100), simulate=SLOW)
            task = asyncio.get_running_loop().create_task(sending)
            await until(lambda task=task: len(log) > asked or task.done(), "nothing was sent", STORE_PATIENCE_S)
            if len(log) > asked:
                break
            assert task.result().status == 503
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    return task


async def refused(gateway: Gateway) -> Told:
    """The first answer that says that the store is away."""
    for _ in range(1_000):
        told = await gateway.send(ask())
        if told.status == 503:
            return told
        await asyncio.sleep(0.02)
    raise AssertionError("requests are admitted although the store is away")


@pytest.mark.parametrize("how", ["killed", "frozen"])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_runs_finishes_and_what_comes_is_refused(
    postgres: Postgres, postgres_url: str, tmp_path: Path, how: str, stream: bool
) -> None:
    """A whole answer arrives while the store is away; new requests, also to manage, get 503; afterwards every nano-dollar is booked."""
    async with open_gateway(tmp_path / "gateway", database_url=postgres_url) as gateway:
        before = await running(gateway, stream=stream)
        postgres.kill() if how == "killed" else postgres.pause()
        try:
            told = await refused(gateway)
            await until(lambda: gateway.application.writer.away, "the store is not missed", STORE_PATIENCE_S)
            managed = await gateway.request("GET", "/api/v1/keys", manager(gateway))
            ready = await gateway.request("GET", "/readyz")
            finished = await before
        finally:
            postgres.start() if how == "killed" else postgres.resume()
        application = gateway.application
        await until(lambda: application.ledger.open_holds == 0, "the settlement did not arrive", STORE_PATIENCE_S)
        after = await gateway.admitted(ask())
        await gateway.quiet()

        assert_envelope(told, 503, "api_error")
        assert (managed.status, ready.status, after.status) == (503, 503, 200)
        assert finished.status == 200
        assert not stream or finished.meaning[-1] == "message_stop"
        row = gateway.generation(finished.id)
        assert (row["outcome"], row["output_tokens"], row["estimated"]) == ("completed", 40, 0)
        assert gateway.problems() == []
        assert sum(entry.outcome == "completed" for entry in gateway.simulator.log) == 2


def manager(gateway: Gateway) -> dict[str, str]:
    return {"authorization": f"Bearer {gateway.initialised.management_key}"}


@contextmanager
def changing(url: str) -> Iterator[None]:
    """A person's change that takes its time: it keeps the policy's row until it commits."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT version FROM policy FOR UPDATE")
        yield


ROUNDS = 5
"""On a machine that stands still the store may truly seem to be away: what must not happen then may not happen in one of so many."""


async def test_rows_that_somebody_keeps_are_no_outage(postgres_url: str, tmp_path: Path) -> None:
    """Requests that wait for a slow change get 503; the process lives on as before, and says so; then all is well."""
    async with open_gateway(tmp_path / "gateway", database_url=postgres_url) as gateway:
        application, lived_on = gateway.application, False
        for _ in range(ROUNDS):
            assert (await gateway.admitted(ask())).status == 200
            life, seen, told = application.ledger.epoch, leases(gateway), [200]
            with changing(postgres_url):
                async with asyncio.timeout(STORE_PATIENCE_S):
                    while len(told) < 10 or leases(gateway) == seen:
                        told += [one.status for one in await asyncio.gather(*(gateway.send(ask()) for _ in range(3)))]
                ready = await gateway.request("GET", "/readyz")
            lived_on = (ready.status, application.ledger.epoch) == (200, life)
            if lived_on:
                break

        assert lived_on
        assert set(told[1:]) == {503}
        assert (await gateway.admitted(ask())).status == 200
        await gateway.quiet()
        assert gateway.problems() == []


async def test_a_hold_that_is_made_after_its_refusal_is_given_back(postgres_url: str, tmp_path: Path) -> None:
    """Whoever waited was told that it takes too long; then the rows are free, just before the database would give up too."""
    make_database(database_of(postgres_url), 10 * USD)
    async with branch(postgres_url, tmp_path) as bank:
        for _ in range(ROUNDS):
            with changing(postgres_url), pytest.raises(StoreUnavailable):
                await bank.ledger.hold(bank.request(USD))
            kept = await taken(bank)
            await bank.writer.drain(STORE_PATIENCE_S)
            rows = await insisting(lambda: bank.serving.all("SELECT id FROM holds"))
            await insisting(lambda kept=kept: bank.ledger.settle(kept, Bill()))

            assert [row["id"] for row in rows] == [kept.id]
        await bank.writer.drain(STORE_PATIENCE_S)
        assert bank.meter(credit_meter(ORG))["held"] == 0


def leases(gateway: Gateway) -> int:
    """When the gateway was last known to live."""
    query = "SELECT seen_at_s FROM processes WHERE epoch = :epoch"
    return int(gateway.rows(query, epoch=gateway.application.ledger.epoch)[0]["seen_at_s"])


async def test_a_process_that_stood_still_does_not_take_the_store_for_away(postgres_url: str, tmp_path: Path) -> None:
    """Longer than a batch may take, and in the middle of one: the database answered all the time."""
    make_database(database_of(postgres_url), 10 * USD)
    async with branch(postgres_url, tmp_path) as bank:
        lives = []
        for _ in range(ROUNDS):
            before = bank.ledger.epoch
            await insisting(lambda: bank.writer.submit(Simple(lambda _rows: time.sleep(SILENT_S + 0.2))))
            await taken(bank)
            lives.append((before, bank.ledger.epoch))
            if before == bank.ledger.epoch:
                break

        assert lives[-1][0] == lives[-1][1], lives


@pytest.mark.parametrize("between", range(6))
async def test_batches_that_fail_spoil_no_later_ones(postgres_url: str, tmp_path: Path, between: int) -> None:
    """The driver prepares a statement that it has seen often enough, perhaps in a batch that fails: whoever comes after is served."""
    make_database(database_of(postgres_url), 10 * USD)
    refused: list[str] = []
    async with branch(postgres_url, tmp_path) as bank:
        await spoil(bank)
        for _ in range(between):
            await insisting(lambda: bank.writer.submit(Simple(lambda _rows: None)))
        await spoil(bank)
        await taken(bank, refused)

        assert [reason for reason in refused if "prepared statement" in reason] == []


async def spoil(bank: Bank) -> None:
    """A batch that the database refuses."""
    unit = Simple(lambda rows: rows.write(ADD_ENTRY, entry(amount_nusd=2**63)), keep=True)
    with pytest.raises(StoreUnavailable, match="refused"):
        await bank.writer.submit(unit)


async def test_two_new_lives_at_a_time_are_one(postgres_url: str, tmp_path: Path) -> None:
    """A connection that breaks while a stopped process takes a new life: every hold belongs to the life that goes on."""
    there = sa.make_url(postgres_url)
    async with open_proxy(int(there.port or 0)) as proxy:
        url = there.set(port=proxy.port).render_as_string(hide_password=False)
        make_database(database_of(postgres_url), 100 * USD)
        async with branch(url, tmp_path) as bank:
            held = {(await taken(bank)).id}
            proxy.cut = b"UPDATE holds SET epoch"
            again = asyncio.get_running_loop().create_task(insisting(lambda: bank.ledger.rejoin(bank.serving)))
            while not again.done():
                held.add((await taken(bank)).id)
            await again
            await bank.writer.drain(STORE_PATIENCE_S)
            rows = await insisting(lambda: bank.serving.all("SELECT id, epoch FROM holds"))

            assert proxy.cuts == 1
            assert {row["id"]: row["epoch"] for row in rows if row["id"] in held} == dict.fromkeys(
                held, bank.ledger.epoch
            )


@asynccontextmanager
async def branch(url: str, folder: Path) -> AsyncIterator[Bank]:
    """A serving process's bank, as soon as the store lets it begin."""
    async with AsyncExitStack() as stack:
        yield await insisting(lambda: stack.enter_async_context(open_branch(url, folder)))


async def taken(bank: Bank, refused: list[str] | None = None) -> Hold:
    """A hold, as soon as the store takes one."""
    return await insisting(lambda: bank.ledger.hold(bank.request(USD // 100)), refused)


async def insisting(ask_for: Callable[[], Awaitable[Any]], refused: list[str] | None = None) -> Any:
    """What is asked for, as soon as the store gives it; what it said before that."""
    refused = [] if refused is None else refused
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + STORE_PATIENCE_S
    while True:
        try:
            return await ask_for()
        except StoreUnavailable as error:
            refused.append(str(error))
            assert loop.time() < give_up_s, refused[-3:]
            await asyncio.sleep(0.01)
