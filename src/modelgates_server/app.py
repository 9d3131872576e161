"""The composition root: builds the application from its configuration, owns every task, and takes it down in reverse.

The only file that names concrete adapters.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from modelgates_server import upkeep
from modelgates_server.accounts.directory import Directory
from modelgates_server.activity import generation
from modelgates_server.activity.metrics import Metrics
from modelgates_server.activity.reports import recall
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.clock import Clock, SystemClock
from modelgates_server.config import Config, ProviderConfig
from modelgates_server.config.endpoints import endpoints_of
from modelgates_server.console.pages import Pages
from modelgates_server.console.status import House, ProviderLine
from modelgates_server.edge.context import Context, EdgeSettings
from modelgates_server.edge.server import Route, Server
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.ledger.units import TABLES
from modelgates_server.listener import Listener, listen, listen_url, loop_factory, server_config
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers.base import Provider, Setup
from modelgates_server.providers.kinds import build_provider
from modelgates_server.relay.answers import StreamAnswer
from modelgates_server.relay.carry import Carrier
from modelgates_server.relay.funds import Funds
from modelgates_server.relay.router import Router
from modelgates_server.relay.spine import Relay
from modelgates_server.relay.values import Settings, Stopping
from modelgates_server.routing.fit import Fitter
from modelgates_server.routing.health import Health
from modelgates_server.routing.stick import Stickiness
from modelgates_server.storage.engine import connect, open_engine, sqlite_path
from modelgates_server.storage.lock import ServingLock
from modelgates_server.storage.reader import Reader
from modelgates_server.storage.writer import Simple, Writer
from modelgates_server.vault.secret import load_secret

log = logging.getLogger(__name__)

POLICY_S, CHECKPOINT_S, PRUNE_S = 0.25, 1.0, 60.0
"""How often: a changed policy is noticed (design decision 14), running streams are noted (decision 11), old rows removed."""

DRAIN_LAST_S = 2.0
"""This long before the drain limit, streams that still run are ended with an error event that says why."""

COUNT_S = 10.0
"""A token count is quick or of no use: a refusal must not wait for it, and clients estimate by themselves."""

GC_OBJECTS = 20_000
"""A request makes a few hundred objects and hardly a cycle: looking for cycles less often saves a tenth of the CPU."""

SWITCH_INTERVAL_S = 0.0005
"""The commit thread gets the interpreter back within half a millisecond after its fsync, instead of Python's five."""


_SPREAD: Final = random.Random().random  # noqa: S311 - pauses that differ, not secrets


@dataclass(frozen=True, slots=True)
class Served:
    """What a running server can be reached by."""

    url: str
    sandbox: bool
    warnings: tuple[str, ...]


class Tasks:
    """Owns every task of the application: named, kept until done, cancelled at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(slots=True)
class Application:
    """A built gateway: the ASGI application and the parts that tests look at."""

    asgi: Server
    context: Context
    ledger: Ledger
    writer: Writer
    tasks: Tasks
    relay: Relay


def serve(config: Config, announce: Callable[[Served], None]) -> int:
    """Serve until told to stop; the exit code. `announce` is called once requests can be answered.

    Raises ConfigError when the address cannot be used, StoreUnavailable when another process serves this database.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    lock = ServingLock(sqlite_path(config.database.url))
    lock.acquire()
    try:
        with (
            listen(config.server.host, config.server.port) as listener,
            asyncio.Runner(loop_factory=loop_factory()) as runner,
        ):
            return runner.run(_serve(config, listener, announce))
    finally:
        lock.release()


async def _serve(config: Config, listener: socket.socket, announce: Callable[[Served], None]) -> int:
    async with build(config, SystemClock()) as application:
        context = application.context
        host, port = listener.getsockname()[:2]
        url = config.server.public_url or listen_url(host, port, tls=config.server.tls_cert is not None)

        async def started() -> None:
            context.ready = True
            gc.collect()
            gc.freeze()  # what was made until now lives as long as the process: do not look at it again
            gc.set_threshold(GC_OBJECTS, 20, 50)
            announce(Served(url, config.sandbox, tuple(config.warnings)))

        loop = asyncio.get_running_loop()

        def stopping() -> None:
            loop.call_soon_threadsafe(_drain, application, config.server.drain_s)  # called from a signal handler

        server = Listener(server_config(config, application.asgi), started, stopping)
        await server.serve(sockets=[listener])
    return 0


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
    path = sqlite_path(config.database.url)
    async with AsyncExitStack() as stack:  # taken down in reverse
        reader = Reader(path)
        stack.callback(reader.close)
        connection = connect(path)
        epoch = connection.execute(_NEXT_EPOCH).fetchone()[0]
        writer = Writer(connection, TABLES)
        stack.callback(writer.close)
        outbound = Outbound(connect_s=config.routing.connect_s)
        stack.push_async_callback(outbound.close)
        sandbox = await _sandbox(config)
        if sandbox is not None:
            stack.push_async_callback(sandbox.stop)
        stack.push_async_callback(_book_all, writer, config.server.drain_s)
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        ledger = Ledger(writer, clock, int(epoch))
        if swept := await ledger.sweep(reader, generation.lost):
            log.warning("lost_holds_settled", extra={"count": swept})
        parts = _Parts(config, clock, reader, writer, ledger, outbound, tasks, sandbox.url if sandbox else None)
        application = _assemble(parts)
        _start_upkeep(application, clock)
        yield application


_NEXT_EPOCH = (
    "INSERT INTO meta (key, value) VALUES ('epoch', '1') ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value"
)


async def _book_all(writer: Writer, limit_s: float) -> None:
    if not await writer.drain(limit_s):
        log.error("store_did_not_drain")


async def _sandbox(config: Config) -> Any:
    """Start the simulator on a loopback port, if a provider of kind sandbox is configured."""
    if not any(provider.kind == "sandbox" for provider in config.providers):
        return None
    from modelgates_server.simulator import Simulator  # noqa: PLC0415 - only where it is used
    from modelgates_server.simulator import serve as serve_simulator  # noqa: PLC0415

    return await serve_simulator(Simulator(), "127.0.0.1", 0)


class _Parts(NamedTuple):
    """What an application is assembled from."""

    config: Config
    clock: Clock
    reader: Reader
    writer: Writer
    ledger: Ledger
    outbound: Outbound
    tasks: Tasks
    sandbox_url: str | None


def _assemble(parts: _Parts) -> Application:
    config, clock, reader, writer, ledger, outbound, tasks, sandbox_url = parts
    catalogue = load_catalogue(bundled(), _file(config.catalogue.models))
    directory = Directory(reader, load_secret(config, create=False), clock)
    settings = _settings(config)
    metrics = Metrics()
    metrics.watch("store_batches", "Transactions of the writer", lambda: writer.batches)
    metrics.watch("store_units", "Changes that those transactions carried", lambda: writer.units)
    providers = {entry.slug: _provider(entry, outbound, sandbox_url) for entry in config.providers}
    router = Router(
        catalogue=catalogue,
        endpoints=endpoints_of(catalogue, config.providers),
        fitter=Fitter(config.kinds, [entry.traits for entry in config.providers]),
        health=Health(_SPREAD, cool_s_max=config.routing.cool_s_max),
        stickiness=Stickiness(),
        clock=clock,
        order=tuple(config.routing.order),
        recall=partial(recall, reader),
    )
    metrics.watch_providers(
        providers, lambda: [slug for slug, _, _ in router.health.out_of_service(clock.monotonic_s())]
    )
    live: dict[str, StreamAnswer] = {}
    relay = Relay(
        catalogue=catalogue,
        router=router,
        providers=providers,
        carrier=Carrier(router, providers, settings, live, _SPREAD),
        ledger=ledger,
        funds=Funds(ledger, directory, clock, settings, catalogue.version),
        metrics=metrics,
        clock=clock,
        settings=settings,
        live=live,
        stopping=Stopping(),
        spawn=tasks.spawn,
    )
    context = Context(
        relay, directory, catalogue, reader, metrics, clock, tasks,
        EdgeSettings(config.routing.first_ping_s, config.routing.ping_s),
    )  # fmt: skip
    pages = Pages(open_engine(sqlite_path(config.database.url)), clock, _house(config))
    routes = {path: Route({"GET": _page(page), "HEAD": _page(page)}) for path, page in pages.routes().items()}
    return Application(Server(context, routes), context, ledger, writer, tasks, relay)


def _house(config: Config) -> House:
    server = config.server
    origin = server.public_url or listen_url(server.host, server.port, tls=server.tls_cert is not None)
    return House(origin, tuple(ProviderLine(entry.slug, entry.kind) for entry in config.providers))


def _page(handler: Callable[[Any], Awaitable[None]]) -> Callable[[Context, Any], Awaitable[None]]:
    async def page(_context: Context, request: Any) -> None:
        await handler(request)

    return page


def _settings(config: Config) -> Settings:
    routing = config.routing
    return Settings(
        first_byte_s=routing.first_byte_s,
        answer_s=routing.answer_s,
        count_s=min(COUNT_S, routing.first_byte_s),
        idle_s=routing.idle_s,
        total_s=routing.total_s,
        hold_wait_s=routing.hold_wait_s,
        retry_pause_s=routing.retry_pause_s,
        attempts_max=routing.attempts_max,
        clamp=routing.clamp,
    )


def _file(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _provider(entry: ProviderConfig, outbound: Outbound, sandbox_url: str | None) -> Provider:
    sandbox = entry.kind == "sandbox"
    setup = Setup(
        slug=entry.slug,
        kind=entry.traits,
        base_url=(sandbox_url or "") if sandbox else entry.base_url,
        api_key="sandbox" if sandbox else entry.api_key.reveal() if entry.api_key else None,
        key_header=entry.key_header,
        settings=entry.settings,
    )
    return build_provider(setup, outbound)


def _start_upkeep(application: Application, clock: Clock) -> None:
    context, writer = application.context, application.writer

    def prune() -> None:
        statements = list(upkeep.prune(clock))

        def write(rows: Any) -> None:
            for statement, row in statements:
                rows.write(statement, row)

        writer.submit(Simple(write)).add_done_callback(_report_failure)

    def checkpoint() -> None:
        progress = application.relay.progress()
        if progress:
            application.ledger.checkpoint(progress)

    for name, every_s, work in (
        ("policy", POLICY_S, context.directory.refresh),
        ("checkpoint", CHECKPOINT_S, checkpoint),
        ("prune", PRUNE_S, prune),
    ):
        application.tasks.spawn(_every(every_s, work, name), f"upkeep {name}")


async def _every(pause_s: float, work: Callable[[], object], name: str) -> None:
    """Run `work` for ever; one failure does not stop the next run."""
    while True:
        await asyncio.sleep(pause_s)
        try:
            work()
        except Exception:
            log.exception("upkeep_failed", extra={"work": name})


def _report_failure(done: asyncio.Future[Any]) -> None:
    with suppress(asyncio.CancelledError):
        if done.exception() is not None:
            log.warning("upkeep_write_failed", extra={"reason": str(done.exception())})
