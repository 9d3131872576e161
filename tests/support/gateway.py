"""A whole gateway in this process: real database, real port, simulators as providers."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa
import uvicorn

from modelgates_server.app import Application, at_ports, build
from modelgates_server.clock import Clock, SystemClock
from modelgates_server.config import Config, load_config
from modelgates_server.edge.protocol import GatewayProtocol
from modelgates_server.errors import StoreUnavailable
from modelgates_server.management import Initialised, NewKey, create_key, initialise
from modelgates_server.money import nusd_from_usd
from modelgates_server.simulator import Simulator, TokenIssuer, serve_identity
from modelgates_server.simulator import serve as serve_simulator
from modelgates_server.storage.checks import Problem
from modelgates_server.storage.engine import database_of, open_engine
from modelgates_server.storage.maintenance import check, upgrade
from modelgates_server.storage.reader import Lookups
from modelgates_server.vault.secret import load_secret
from tests.support.upstream import ACCOUNT, ServiceAccount, Upstream

MODEL = "claude-opus-4-8"
UPSTREAM_KEY = "sk-upstream"
PATIENCE_S = 5.0
STORE_PATIENCE_S = 60.0
"""Where another process has to answer, on a machine that may stand still for a while."""

LARGE_BYTES = 512 * 1024
"""From here on the HTTP client sends piece by piece."""


@dataclass(frozen=True)
class Told:
    """A whole answer, as a client got it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def events(self) -> list[tuple[str, bytes]]:
        return events(self.body)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    @property
    def meaning(self) -> list[str]:
        """The names without the pings, which come and go with the machine's load."""
        return [name for name in self.names if name != "ping"]

    @property
    def id(self) -> str:
        return self.headers["x-generation-id"]


@dataclass
class Between:
    """What stands between the server and the application: nothing, or `act(scope, work)`, which runs the work."""

    application: Application
    act: Callable[[Any, Coroutine[Any, Any, None]], Awaitable[None]] | None = None

    async def admin(self, scope: Any, receive: Any, send: Any) -> None:
        """What answers at the address of management."""
        assert self.application.admin is not None
        await self.application.admin(scope, receive, send)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        work = self.application.asgi(scope, receive, send)
        await (work if self.act is None else self.act(scope, work))


@dataclass
class Gateway:
    """A running gateway and what tests ask of it."""

    url: str
    key: str
    config: Config
    application: Application
    simulators: list[Simulator]
    http: aiohttp.ClientSession
    initialised: Initialised
    server: uvicorn.Server
    between: Between
    lookups: Lookups
    admin_url: str = ""

    @property
    def simulator(self) -> Simulator:
        return self.simulators[0]

    @property
    def connections(self) -> int:
        """How many clients are connected, as the server sees it."""
        return len(self.server.server_state.connections)

    @property
    def messages_url(self) -> str:
        return f"{self.url}/api/v1/messages"

    def headers(
        self, *, key: str | None = None, simulate: Mapping[str, Any] | None = None, **extra: str
    ) -> dict[str, str]:
        """What a client always sends; `simulate` is the simulator's control, `extra` has - as _."""
        base = {"x-api-key": key or self.key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
        if simulate is not None:
            base["anthropic-simulate"] = json.dumps(simulate)
        return base | {name.replace("_", "-"): value for name, value in extra.items()}

    async def send(
        self,
        body: Mapping[str, Any] | bytes,
        *,
        simulate: Mapping[str, Any] | None = None,
        key: str | None = None,
        path: str = "/api/v1/messages",
        **headers: str,
    ) -> Told:
        """Post a body and read the whole answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = self.headers(key=key, simulate=simulate, **headers)
        return await self.request("POST", path, all_headers, data)

    async def admitted(self, body: Mapping[str, Any] | bytes, **more: Any) -> Told:
        """Send as clients do, once more after a 503: on a machine that stands still the store may seem to be away."""
        async with asyncio.timeout(STORE_PATIENCE_S):
            while (told := await self.send(body, **more)).status == 503:  # noqa: ASYNC110 - a database, which sets no event of ours
                await asyncio.sleep(0.05)
        return told

    async def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, data: Any = None) -> Told:
        """Any request, exactly as written; redirects are not followed."""
        data = io.BytesIO(data) if isinstance(data, bytes) and len(data) > LARGE_BYTES else data
        async with self.http.request(
            method, self.url + path, headers=headers or {}, data=data, allow_redirects=False
        ) as response:
            return Told(response.status, response.headers, await response.read())

    def forget(self) -> None:
        """Everybody is in service again and holds no conversation, as after a restart."""
        self.application.relay.router.health.forget()
        self.application.relay.router.stickiness.forget()

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        return self.lookups.all(statement, values)

    def generation(self, generation_id: str) -> dict[str, Any]:
        """The receipt's row; fails when there is none."""
        (row,) = self.rows("SELECT * FROM generations WHERE id = :id", id=generation_id)
        return row

    async def receipt(self, generation_id: str) -> dict[str, Any]:
        """The receipt's row of a request that did not complete: such a receipt may come a little after the answer."""
        found = "SELECT 1 FROM generations WHERE id = :id"
        await until(lambda: self.rows(found, id=generation_id), "there is no receipt")
        return self.generation(generation_id)

    def entries(self, generation_id: str) -> dict[str, int]:
        """What was booked for a request: the sum of each kind of entry."""
        found = "SELECT kind, SUM(amount_nusd) AS sum FROM entries WHERE generation_id = :id GROUP BY kind"
        return {row["kind"]: row["sum"] for row in self.rows(found, id=generation_id)}

    def problems(self) -> list[Problem]:
        """What is wrong in the books: nothing, at any time."""
        return check(self.application.store.database)

    def overspent(self) -> list[dict[str, Any]]:
        return self.rows('SELECT * FROM meters WHERE "limit" IS NOT NULL AND posted + held > "limit"')

    @contextmanager
    def engine(self) -> Iterator[tuple[sa.Engine, float]]:
        """Another connection, as the CLI has while the server runs, and the time."""
        engine = open_engine(self.application.store.database)
        try:
            yield engine, SystemClock().now_s()
        finally:
            engine.dispose()

    def new_key(self, name: str = "another", **settings: Any) -> str:
        """Make a key from another connection; gives its text."""
        return self.new_key_row(name, **settings)[0]

    def new_key_row(self, name: str = "another", **settings: Any) -> tuple[str, str]:
        """Make a key from another connection; gives its text and its hash."""
        with self.engine() as (engine, now_s):
            wanted, organization_id = NewKey(name=name, **settings), self.initialised.organization_id
            secret, row = create_key(engine, load_secret(self.config), organization_id, wanted, "test", now_s)
        return secret, row.hash

    async def settled(self) -> None:
        """Wait until everything that is queued is committed and nothing is held."""
        await until(lambda: not self.rows("SELECT id FROM holds"), "holds are still open")
        await self.application.writer.drain(PATIENCE_S)

    async def quiet(self, story: str = "") -> None:
        """Wait until no request is left anywhere: no hold, no stream, no task, no open upstream connection."""
        await self.application.writer.drain(PATIENCE_S)
        await until(lambda: not self.leftovers(), lambda: (story, self.leftovers()))

    def leftovers(self) -> list[str]:
        """What a finished request must not leave behind."""
        tasks = [task.get_name() for task in self.application.tasks._tasks]
        found = [f"task {name}" for name in tasks if not name.startswith("upkeep")]
        found += [f"live {id_}" for id_ in self.application.relay.live]
        found += [f"hold {row['id']}" for row in self.rows("SELECT id FROM holds")]
        for simulator in self.simulators:
            found += [f"upstream {entry.sequence}" for entry in simulator.log if entry.outcome == "running"]
        return found


async def until(
    true: Callable[[], object], complaint: str | Callable[[], object], patience_s: float = PATIENCE_S
) -> None:
    """Poll until `true()`; fails with the complaint when it takes too long."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + patience_s
    while not true():
        if loop.time() > give_up_s:
            raise AssertionError(complaint if isinstance(complaint, str) else complaint())
        await asyncio.sleep(0.005)


def ask(text: str = "hello", *, max_tokens: int = 200, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """A small Messages body."""
    return {
        "model": MODEL,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
    } | fields


def events(body: bytes) -> list[tuple[str, bytes]]:
    """The events of a stream, as (name, data). Fails on anything between events that is no event."""
    found = []
    for frame in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line.split(b": ", 1) for line in frame.split(b"\n") if line]
        if lines:
            assert [line[0] for line in lines] == [b"event", b"data"], frame[:200]
            found.append((lines[0][1].decode(), lines[1][1]))
    return found


@asynccontextmanager
async def open_gateway(
    folder: Path,
    *,
    credit_usd: str = "100",
    simulators: int | Mapping[str, str] = 1,
    upstreams: Sequence[Upstream] = (),
    routing: Mapping[str, Any] | None = None,
    toml: str = "",
    database_url: str = "",
    clock: Clock | None = None,
) -> AsyncIterator[Gateway]:
    """Start simulators and a gateway over them, on free ports, with an initialised database in `folder`, or at `database_url`.

    `simulators` says how many of Anthropic's, called anthropic, backup-1 and so on; or slug -> kind. `upstreams` are further
    providers, asked after them unless `routing` has an order. Without a `clock` the gateway goes by the machine's.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        _make(folder)
        stand_ins: list[Simulator] = []
        providers: list[Upstream] = []
        for slug, kind in (_anthropics(simulators) if isinstance(simulators, int) else simulators).items():
            simulator, upstream = await _stand_in(stack, folder, slug, kind)
            stand_ins.append(simulator)
            providers.append(upstream)
        if database_url:
            toml += f"\n[database]\nurl = {json.dumps(database_url)}\n"
        config = _configure(folder, [*providers, *upstreams], routing or {}, toml)
        made = _initialise(config, credit_usd, clock)
        second = None
        if config.server.admin_listen is not None:  # addresses that are told must be true
            first, second = (stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2048)) for _ in "ab")
            config = at_ports(config, (first, second))
        application = await _build(stack, config, clock)
        between = Between(application)
        if second is None:
            url, server = await stack.enter_async_context(_listening(between))
        else:
            url, server = await stack.enter_async_context(_listening(between, first))
            await stack.enter_async_context(_listening(between, second, between.admin))
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        lookups = Lookups(application.store.database)
        stack.callback(lookups.close)
        admin_url = "" if second is None else _address(second)
        yield Gateway(
            url, made.api_key or "", config, application, stand_ins, http, made, server, between, lookups, admin_url
        )


def _address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _anthropics(count: int) -> dict[str, str]:
    return {f"backup-{number}" if number else "anthropic": "anthropic" for number in range(count)}


def _make(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


async def _stand_in(stack: AsyncExitStack, folder: Path, slug: str, kind: str) -> tuple[Simulator, Upstream]:
    """A running simulator that speaks the wire of a kind. Google's takes only tokens of a token server of its own."""
    issuer = TokenIssuer() if kind == "vertex" else None
    wire = "compatible" if kind == "anthropic-compatible" else kind
    simulator = Simulator(keep_bodies=True, wire=wire, tokens=issuer)
    served = await serve_simulator(simulator, "127.0.0.1", 0)
    stack.push_async_callback(served.stop)
    more = {}
    if issuer is not None:
        identity = await serve_identity(issuer)
        stack.push_async_callback(identity.stop)
        account = ServiceAccount.make()
        issuer.trust(ACCOUNT, account.public_pem)
        more = {"credentials": account.write(folder / "account.json", identity.url)}
    return simulator, Upstream(slug, served.url, kind, more)


def _configure(folder: Path, providers: Sequence[Upstream], routing: Mapping[str, Any], toml: str) -> Config:
    lines = [toml, "[routing]", *(f"{name} = {json.dumps(value)}" for name, value in routing.items())]
    lines += [provider.table for provider in providers]
    file = folder / "modelgates.toml"
    file.write_text("\n".join(lines))
    return load_config(file, folder / "data", None, {"UPSTREAM_KEY": UPSTREAM_KEY}, folder, {})


def _initialise(config: Config, credit_usd: str, clock: Clock) -> Initialised:
    database = database_of(config.database.url)
    secret = load_secret(config)
    upgrade(database)
    engine = open_engine(database)
    try:
        return initialise(engine, secret, nusd_from_usd(credit_usd), clock.now_s())
    finally:
        engine.dispose()


async def _build(stack: AsyncExitStack, config: Config, clock: Clock) -> Application:
    """A gateway that finds its store away ends, and whoever supervises it starts it again."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + STORE_PATIENCE_S
    while True:
        try:
            return await stack.enter_async_context(build(config, clock))
        except StoreUnavailable:
            if not config.database.url.startswith("postgres") or loop.time() > give_up_s:
                raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _listening(
    between: Between, listener: socket.socket | None = None, asgi: Any = None
) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    """Serve on a free port, or at a socket, as `app.serve` does, but without its signals."""
    server = uvicorn.Server(
        uvicorn.Config(
            asgi or between,
            interface="asgi3",
            http=GatewayProtocol,
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,  # as in service
            timeout_graceful_shutdown=5,
        )
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    with listener or socket.create_server(("127.0.0.1", 0), backlog=2048) as own:
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[own]))
        await until(lambda: server.started, "the gateway does not start")
        between.application.context.ready = True
        try:
            yield _address(own), server
        finally:
            server.should_exit = True
            await serving
