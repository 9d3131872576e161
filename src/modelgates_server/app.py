"""The composition root: builds the application from its configuration, owns every task, and takes it down in reverse.

The only file that names concrete adapters.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from modelgates_server import upkeep
from modelgates_server.activity import generation
from modelgates_server.assembly import Application, Parts, assemble
from modelgates_server.clock import Clock, SystemClock
from modelgates_server.config import Config
from modelgates_server.config.values import Server as ServerSettings
from modelgates_server.crew import Crew
from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.ledger.owner import register
from modelgates_server.ledger.units import TABLES
from modelgates_server.listener import ADMIN_REMEDY, Listener, listen, listen_url, loop_factory, server_config
from modelgates_server.outbound.guard import Guard
from modelgates_server.outbound.http import Outbound
from modelgates_server.storage.engine import database_of
from modelgates_server.storage.journal import left_behind
from modelgates_server.storage.lock import serving_lock
from modelgates_server.storage.opening import Store, open_store
from modelgates_server.storage.rows import Rows
from modelgates_server.storage.writer import Distributed, Simple
from modelgates_server.tasks import Tasks, every

log = logging.getLogger(__name__)

POLICY_S, CHECKPOINT_S, PRUNE_S = 0.25, 1.0, 60.0
"""How often: a changed policy is noticed (design decision 14), running streams are noted (decision 11), old rows removed."""

LEASE_S, SWEEP_S = 1.0, 3.0
"""How often this process says that it lives, and looks for others that no longer do (decision 11)."""

ALERTS_S, DELIVERIES_S, OLD_ALERTS_S = 5.0, 2.0, 3600.0
"""How often every limit is looked at, what is due is sent, and old alerts are forgotten."""

RECONCILE_S = 3600.0
"""How often it is looked whether a provider's report is due, which is once a day."""

ROLLUPS_S = 3600.0
"""How often it is looked whether a server of the version before left days out; once more at the start."""

DRAIN_LAST_S = 2.0
"""This long before the drain limit, streams that still run are ended with an error event that says why."""

GC_OBJECTS = 20_000
"""A request makes a few hundred objects and hardly a cycle: looking for cycles less often saves a tenth of the CPU."""

SWITCH_INTERVAL_S = 0.0005
"""The commit thread gets the interpreter back within half a millisecond after its fsync, instead of Python's five."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a running server can be reached by. `admin_url` is the address of management, when it has one of its own."""

    url: str
    admin_url: str | None
    sandbox: bool
    warnings: tuple[str, ...]


def serve(config: Config, announce: Callable[[Served], None]) -> int:
    """Serve until told to stop; the exit code. `announce` is called once requests can be answered.

    Raises ConfigError when the address cannot be used, StoreUnavailable when another process serves this database.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with serving_lock(database_of(config.database.url)), ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in _listen(config.server)]
        config = at_ports(config, listeners)
        served = _served(config, listeners)
        if config.server.workers == 1:
            return _run(config, listeners, lambda: announce(served))
        crew = Crew(
            config.server.workers,
            lambda ready, alive: _run(config, listeners, ready, alive),
            lambda: announce(served),
            SystemClock(),
        )
        return crew.run()


def _listen(server: ServerSettings) -> Iterator[socket.socket]:
    """The socket for clients, and that for management if it has its own. Raises ConfigError."""
    yield listen(server.host, server.port)
    if server.admin_listen is not None:
        yield listen(*server.admin_listen, ADMIN_REMEDY)


def at_ports(config: Config, listeners: Sequence[socket.socket]) -> Config:
    """The configuration with the ports that are really listened at: port 0 takes any."""
    server = replace(config.server, port=listeners[0].getsockname()[1])
    if server.admin_listen is not None:
        server = replace(server, admin_listen=server.admin_listen._replace(port=listeners[1].getsockname()[1]))
    return replace(config, server=server)


def _served(config: Config, listeners: Sequence[socket.socket]) -> Served:
    server = config.server
    own = [listen_url(*listener.getsockname()[:2], tls=server.tls_cert is not None) for listener in listeners]
    admin_url = None if server.admin_listen is None else server.admin_url or own[1]
    return Served(server.public_url or own[0], admin_url, config.sandbox, tuple(config.warnings))


def _run(
    config: Config, listeners: Sequence[socket.socket], ready: Callable[[], None], alive: int | None = None
) -> int:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(config, listeners, ready, alive))


async def _serve(
    config: Config, listeners: Sequence[socket.socket], ready: Callable[[], None], alive: int | None
) -> int:
    """Serve in this process. `alive` is a descriptor that becomes readable when the parent is gone: then this process stops too."""
    async with build(config, SystemClock()) as application:
        context = application.context

        async def started() -> None:
            context.ready = True
            gc.collect()
            gc.freeze()  # what was made until now lives as long as the process: do not look at it again
            gc.set_threshold(GC_OBJECTS, 20, 50)
            ready()

        loop = asyncio.get_running_loop()

        def stopping() -> None:
            loop.call_soon_threadsafe(_drain, application, config.server.drain_s)  # called from a signal handler

        if alive is not None:
            loop.add_reader(alive, _orphaned, loop, alive)
        second = None if application.admin is None else (server_config(config, application.admin), listeners[1])
        main = server_config(config, application.asgi)
        server = Listener(main, started, stopping, worker=alive is not None, second=second)
        await server.serve(sockets=[listeners[0]])
    return 0


def _orphaned(loop: asyncio.AbstractEventLoop, alive: int) -> None:
    loop.remove_reader(alive)
    os.kill(os.getpid(), signal.SIGTERM)


def _drain(application: Application, drain_s: float) -> None:
    """Refuse new work; near the limit, end what still runs with a sentence instead of a cut."""
    application.context.draining = True
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        application.relay.stopping.now = True
        for answer in list(application.relay.live.values()):
            answer.interrupt("The gateway is stopping; please send the request again.")

    loop.call_later(max(0.0, drain_s - DRAIN_LAST_S), interrupt)


@asynccontextmanager
async def build(config: Config, clock: Clock) -> AsyncIterator[Application]:
    """Build the application on an initialised database, sweep what a dead owner left, start upkeep; at the end, settle and close.

    The database must be at the current schema (`storage.maintenance.upgrade`) and initialised (`management`).
    """
    async with AsyncExitStack() as stack:  # taken down in reverse
        writing = Tasks()
        stack.push_async_callback(writing.close)
        database = database_of(config.database.url)
        store = await stack.enter_async_context(open_store(database, TABLES, config.data_dir, clock, writing.spawn))
        outbound = Outbound(connect_s=config.routing.connect_s)
        stack.push_async_callback(outbound.close)
        guarded = Outbound(connect_s=config.routing.connect_s, guard=Guard(config.server.outbound_allow))
        stack.push_async_callback(guarded.close)
        sandbox = await _sandbox(config)
        if sandbox is not None:
            stack.push_async_callback(sandbox.stop)
        epoch = await register(store.writer, store.reader, store.name, store.clock.now_s())
        distributed = database.distributed
        ledger = Ledger(
            store.writer, store.clock, epoch, name=store.name, distributed=distributed, plain=generation.plain
        )
        if isinstance(store.writer, Distributed):
            store.writer.returning = partial(ledger.come_back, reader=store.reader)
        stack.push_async_callback(_book_all, ledger, store, config.server.drain_s)
        engines = stack.enter_context(ExitStack())  # closed after the tasks that use them
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        await _recover(ledger, store, config.data_dir)
        application = assemble(Parts(config, store, ledger, outbound, guarded, tasks, sandbox.url if sandbox else None))
        engines.callback(application.watch.engine.dispose)
        _start_upkeep(application, config.data_dir)
        yield application


async def _recover(ledger: Ledger, store: Store, folder: Path) -> None:
    """Book what dead processes left: their journals to the nano-dollar, then their open holds as estimates."""
    for records, booked in left_behind(folder):
        try:
            count = await ledger.replay(records)
        except Exception as error:  # noqa: BLE001 - it is kept, and must not stop this process nor the sweep
            log.error("journal_not_booked", extra={"reason": repr(error), "records": len(records)})  # noqa: TRY400
            continue
        if count:
            log.warning("journal_booked", extra={"count": count, "records": len(records)})
        booked()
    if swept := await ledger.sweep(store.reader, generation.lost):
        log.warning("lost_holds_settled", extra={"count": swept})


async def _book_all(ledger: Ledger, store: Store, limit_s: float) -> None:
    """Wait for what is owed. While the store is away that is settlements: a farewell is given up, and the lease runs out."""
    ledger.farewell()
    if not await store.writer.drain(limit_s):
        log.error("store_did_not_drain")


async def _sandbox(config: Config) -> Any:
    """Start the simulator on a loopback port, if a provider of kind sandbox is configured."""
    if not any(provider.kind == "sandbox" for provider in config.providers):
        return None
    from modelgates_server.simulator import Simulator  # noqa: PLC0415 - only where it is used
    from modelgates_server.simulator import serve as serve_simulator  # noqa: PLC0415

    return await serve_simulator(Simulator(), "127.0.0.1", 0)


def _start_upkeep(application: Application, folder: Path) -> None:
    context, store, ledger = application.context, application.store, application.ledger

    def prune() -> None:
        statements = list(upkeep.prune(store.clock))

        def write(rows: Rows) -> None:
            for statement, row in statements:
                rows.write(statement, row)

        with suppress(StoreUnavailable):
            store.writer.submit(Simple(write)).add_done_callback(_report_failure)

    def checkpoint() -> None:
        progress = application.relay.progress()
        if progress:
            ledger.checkpoint(progress)

    async def lease() -> None:
        if ledger.fenced:
            await ledger.rejoin(store.reader)
        ledger.renew_lease()
        await store.observe()

    work: list[tuple[str, float, Callable[[], Awaitable[object] | object]]] = [
        ("policy", POLICY_S, context.directory.refresh),
        ("checkpoint", CHECKPOINT_S, checkpoint),
        ("prune", PRUNE_S, prune),
        ("contents", PRUNE_S, partial(asyncio.to_thread, upkeep.prune_contents, application.watch.engine, store.clock)),
        ("lease", LEASE_S, lease),
        ("alerts", ALERTS_S, application.watch.look),
        ("old alerts", OLD_ALERTS_S, application.watch.forget),
        ("deliveries", DELIVERIES_S, application.courier.deliver_due),
    ]
    if store.database.distributed:
        work.append(("sweep", SWEEP_S, partial(_recover, ledger, store, folder)))
    if application.daily.accounts:
        work.append(("reconcile", RECONCILE_S, application.daily.look))
    for name, every_s, act in work:
        application.tasks.spawn(every(every_s, act, name), f"upkeep {name}")
    mend = partial(asyncio.to_thread, upkeep.mend_days, application.watch.engine, store.clock)
    application.tasks.spawn(every(ROLLUPS_S, mend, "roll-ups", at_once=True), "upkeep roll-ups")


def _report_failure(done: asyncio.Future[Any]) -> None:
    with suppress(asyncio.CancelledError):
        if done.exception() is not None:
            log.warning("upkeep_write_failed", extra={"reason": str(done.exception())})
