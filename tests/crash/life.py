"""One life of a ledger process: holds and settlements over the real ledger, each acknowledged only after its commit.

Run as a program it is a nursery: it reads one job per line (JSON), forks a life for it, says its process id, and how it ended
when it is dead. Forking saves the imports, so that several lives fit into a second.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.support import shim

from modelgates_server.activity import generation
from modelgates_server.activity.generation import Cost, Generation, Origin
from modelgates_server.clock import SystemClock
from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger.credit import credit_meter
from modelgates_server.ledger.ledger import Bill, Hold, HoldRequest, Ledger, Refusal
from modelgates_server.ledger.owner import register
from modelgates_server.ledger.units import TABLES
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.storage.engine import database_of
from modelgates_server.storage.journal import left_behind
from modelgates_server.storage.opening import Store, open_store
from modelgates_server.storage.postgres_writer import PostgresWriter
from modelgates_server.storage.writer import NOTED
from modelgates_server.tasks import Tasks, every

ORG = "org-crash"
KEY = "key-crash"
METERS = (
    MeterRef(Scope.KEY, KEY, Unit.NUSD, Window.LIFE),
    MeterRef(Scope.KEY, KEY, Unit.TOKENS, Window.MINUTE),
    credit_meter(ORG),
)
SEATS = 16
"""Requests at a time: enough for batches of several units, and for refusals that only open holds cause."""

LIFE_S_MAX = 120.0
"""A life that nobody kills ends by itself, so that an aborted test leaves nothing running."""

AWAY_S = 0.1
"""Pause of a seat that was told that the store is away."""

LITTLE_NUSD = 1
"""Others take what they can, but never less than a thousand: there is room for so little under nearly every limit."""

LEASE_S, SWEEP_S = 0.5, 0.1
"""Oftener than in service, because these lives are short."""

Say = Callable[..., None]


class Job(NamedTuple):
    """What one life is to do.

    At how many seats it works, and how many requests each makes: 0 for work without end. No seat means recover and end. `fails` are
    the arguments of `shim.arm`. `born_s` is the machine's monotonic time. A `patient` life takes one hold, and settles it at SIGUSR1.
    """

    url: str
    folder: str
    acks: str
    number: int
    seats: int
    born_s: float
    requests: int = 0
    fails: tuple[str, int, int, int] | None = None
    patient: bool = False


async def live(job: Job) -> None:
    """Recover what former lives left, then work until killed. Does what `app.build` does, on the ledger alone."""
    say, tasks = speaker(job.acks), Tasks()
    try:
        async with asyncio.timeout(LIFE_S_MAX):
            while True:
                with suppress(StoreUnavailable):
                    await begin(job, say, tasks)
                    return
                await asyncio.sleep(AWAY_S)  # PostgreSQL is away
    except TimeoutError:
        say("expired")
    finally:
        await tasks.close()


async def begin(job: Job, say: Say, tasks: Tasks) -> None:
    database, folder = database_of(job.url), Path(job.folder)
    async with open_store(database, TABLES, folder, SystemClock(), tasks.spawn) as store:
        epoch = await register(store.writer, store.reader, store.name, store.clock.now_s())
        ledger = Ledger(store.writer, store.clock, epoch, name=store.name, distributed=database.distributed)
        if isinstance(store.writer, PostgresWriter):
            store.writer.returning = partial(ledger.come_back, reader=store.reader)
        await recover(ledger, store, folder, say, job)
        gc.freeze()
        if database.distributed and job.seats:
            tasks.spawn(every(LEASE_S, ledger.renew_lease, "lease"), "lease")
            tasks.spawn(every(SWEEP_S, partial(look_after, ledger, store, folder), "sweep"), "sweep")
        async with asyncio.TaskGroup() as group:
            for seat in range(job.seats):
                name = f"{job.number:06d}-{seat:02d}"
                group.create_task(wait(ledger, name, say) if job.patient else work(ledger, name, say, job.requests))
        ledger.farewell()
        await store.writer.drain(LIFE_S_MAX)


async def recover(ledger: Ledger, store: Store, folder: Path, say: Say, job: Job) -> None:
    """What is held after that belongs to others, who live."""
    booked, swept = await settle_for_the_dead(ledger, store, folder)
    (journal,) = folder.glob(f"journal-*-{os.getpid()}-*")  # noqa: ASYNC240 - nobody waits yet
    say("recovered", swept=swept, booked=booked, ready_s=time.monotonic() - job.born_s, journal=str(journal))


async def settle_for_the_dead(ledger: Ledger, store: Store, folder: Path) -> tuple[int, int]:
    """Journals first, then open holds; gives how many settlements there were of each."""
    booked = 0
    for records, forget in left_behind(folder):
        booked += await ledger.replay(records)
        forget()
    return booked, await ledger.sweep(store.reader, generation.lost)


async def look_after(ledger: Ledger, store: Store, folder: Path) -> None:
    """For neighbours that died meanwhile."""
    with suppress(StoreUnavailable):
        await settle_for_the_dead(ledger, store, folder)


def speaker(acks: str) -> Say:
    """A function that appends one line, unbuffered: what was said is known however the process dies."""
    file = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(what: str, **facts: object) -> None:
        os.write(file, json.dumps({"what": what} | facts).encode() + b"\n")

    return say


async def work(ledger: Ledger, seat: str, say: Say, requests: int) -> None:
    """One request after another: hold, perhaps a checkpoint, settle. Some clients leave, some holds are never settled."""
    dice = random.Random(seat)
    for number in range(requests) if requests else itertools.count():
        request = make_request(f"gen-{seat}-{number:06d}", dice.randint(1_000, 1_000_000))
        result: object = None
        try:
            async with asyncio.timeout(0.0005 if dice.random() < 0.05 else None):
                result = await ledger.hold(request)
        except TimeoutError:
            pass
        except StoreUnavailable:
            say("away")
            await asyncio.sleep(AWAY_S)
        if isinstance(result, Refusal):
            say("refused", id=request.id)
            await ledger.released(0.005)
        elif isinstance(result, Hold):
            say("held", id=request.id, amount=request.amount_nusd)
            await finish(ledger, result, request, dice, say)


async def wait(ledger: Ledger, seat: str, say: Say) -> None:
    """One hold that stays open until this life is told to settle it, whatever has become of the store by then; then until death."""
    told, dice, hold = asyncio.Event(), random.Random(seat), None
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    for number in itertools.count():
        with suppress(StoreUnavailable):
            hold = await ledger.hold(make_request(f"gen-{seat}-{number:06d}", LITTLE_NUSD))
        if isinstance(hold, Hold):
            break
        await asyncio.sleep(0.005)
    say("held", id=hold.id, amount=hold.amount_nusd)
    await told.wait()
    await settle(ledger, hold, dice, say)
    await asyncio.sleep(LIFE_S_MAX)


async def finish(ledger: Ledger, hold: Hold, request: HoldRequest, dice: random.Random, say: Say) -> None:
    """Settle at a cost that breaks its bound now and then; one in fifty is left to the sweeper."""
    if dice.random() < 0.3:
        ledger.checkpoint([(hold.id, hold.amount_nusd // 2)])
        await asyncio.sleep(dice.random() * 0.01)
    if dice.random() >= 0.02:
        await settle(ledger, hold, dice, say)


async def settle(ledger: Ledger, hold: Hold, dice: random.Random, say: Say) -> None:
    cost_nusd = dice.randint(0, hold.amount_nusd * 11 // 10)
    charged_nusd = min(cost_nusd, hold.amount_nusd)
    receipt = Generation(
        origin(hold.id), "completed", cost=Cost(charged_nusd, cost_nusd, 0, hold.amount_nusd, "test"), provider="sim"
    )
    try:
        settled = await ledger.settle(hold, Bill(cost_nusd, tokens=7, provider="sim"), generation.rows(receipt))
    except StoreUnavailable:  # it waited long enough, and no journal took it: nobody was promised anything
        say("unsettled", id=hold.id)
    else:
        noted = settled is NOTED
        say("noted" if noted or settled.late else "settled", id=hold.id, cost=charged_nusd, owed=cost_nusd)


def origin(generation_id: str) -> Origin:
    return Origin(
        id=generation_id, organization_id=ORG, workspace_id="ws-crash", member_id=None, key_hash=KEY,
        created_at_ms=int(SystemClock().now_s() * 1000), requested_model="m", model="m", streamed=False,
    )  # fmt: skip


def make_request(generation_id: str, amount_nusd: int) -> HoldRequest:
    return HoldRequest(
        id=generation_id, organization_id=ORG, policy_version=1, meters=METERS, amount_nusd=amount_nusd,
        floor_nusd=amount_nusd // 10, tokens=10, context=generation.context(origin(generation_id), "sim", "test"),
        now_s=SystemClock().now_s(),
    )  # fmt: skip


def be(job: Job) -> None:
    if job.fails:
        shim.arm(*job.fails)
    asyncio.run(live(job))
    if job.fails:
        speaker(job.acks)("calls", count=shim.calls())


def nursery() -> None:
    """Fork a life for each job; several may live at once."""
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        if (pid := order.get("ended")) is not None:
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        born_s = time.monotonic()
        pid = os.fork()
        if pid == 0:
            be(Job(**order, born_s=born_s))
            return
        print(pid, flush=True)


if __name__ == "__main__":
    nursery()
