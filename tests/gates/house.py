"""One installation in several real processes: replicas of `serve` over one database, killed, stopped and asked at will."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
from tests.crash.load import INPUT_NUSD, MODEL, OUTPUT_NUSD, headers, read_stream, read_whole
from tests.support.eyes import AWAY, Eyes
from tests.support.postgres import Postgres
from tests.support.process import Server, SimulatorProcess, Stand

USD = 10**9

TOML = """
[routing]
clamp = false

[credits]
initial_grant_usd = "100000"
"""

PRICES = 8
"""Writing a cache costs 5/4 of plain input, so that every fourth bound fits."""

REFUSED_TIMES_MAX = 100
"""A 503 is asked again so often."""


class Layout(NamedTuple):
    """How many replicas of how many workers, over which store."""

    store: str
    replicas: int = 1
    workers: int = 1

    def __str__(self) -> str:
        more = f", {self.replicas} replicas" if self.replicas > 1 else ""
        return self.store + more + (f", {self.workers} workers" if self.workers > 1 else "")


SQLITE = Layout("sqlite")
POSTGRES = Layout("postgresql")
WORKERS = Layout("postgresql", workers=2)
REPLICAS = Layout("postgresql", replicas=4)


class Key(NamedTuple):
    text: str
    hash: str


class Order(NamedTuple):
    """A request whose answer costs exactly what is held for it."""

    body: bytes
    simulate: dict[str, Any]
    cost_nusd: int


class Told(NamedTuple):
    """What a client got: a status, and of a whole answer its id and what it said it cost. Status 0 is a broken connection."""

    status: int
    id: str = ""
    cost_nusd: int = 0


@dataclass
class House:
    """`servers` are the replicas; `count` what their clients went through."""

    stands: list[Stand]
    servers: list[Server]
    upstream: SimulatorProcess
    count: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return self.stands[0].database_url

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        return self.stands[0].rows(statement, **values)

    # Managing it.

    def manage(self, method: str, path: str, body: dict[str, Any] | None = None, *, at: int = 0) -> dict[str, Any]:
        """Call the management API of a replica."""
        request = urllib.request.Request(
            f"{self.servers[at].base_url}/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"authorization": f"Bearer {self.stands[0].management_key}", "content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return dict(json.loads(response.read()))

    def new_key(self, limit_nusd: int | None = None, **more: Any) -> Key:
        limit = None if limit_nusd is None else limit_nusd / USD
        made = self.manage("POST", "keys", {"name": "gate", "limit": limit} | more)
        return Key(made["key"], made["data"]["hash"])

    def used(self, key: Key) -> tuple[int, int]:
        """What a key was charged, and what is held for it now."""
        (meter,) = self.rows(
            "SELECT posted, held FROM meters WHERE scope = 'key' AND scope_id = :hash AND unit = 'nusd'"
            " AND \"window\" = 'life'",
            hash=key.hash,
        )
        return meter["posted"], meter["held"]

    # Asking it.

    async def measure(self, max_tokens: int, text: str = "hello") -> Order:
        """Find out what is held for a request, and have the provider answer at exactly that cost from now on.

        The hold's input is bounded at the price of writing a cache; text is added until plain input can cost the same.
        """
        key = self.new_key()
        async with browser() as session:
            for more in range(PRICES):
                body = message(max_tokens, text + "." * more)
                told = await self.ask(session, key, Order(body, {"tokens": 1}, 0), at=0)
                (row,) = self.rows("SELECT held_nusd FROM generations WHERE id = :id", id=told.id)
                tokens, rest = divmod(row["held_nusd"] - max_tokens * OUTPUT_NUSD, INPUT_NUSD)
                if rest == 0:
                    return Order(body, {"tokens": max_tokens, "input_tokens": tokens}, row["held_nusd"])
        raise AssertionError("no text makes the bound a multiple of the price of input")

    async def ask(self, session: aiohttp.ClientSession, key: Key, order: Order, *, at: int, **pace: Any) -> Told:
        """One request to one replica."""
        return await ask(session, self.servers[at], key, order, **pace)

    async def insist(self, session: aiohttp.ClientSession, key: Key, order: Order, *, at: int) -> Told:
        """The same, again after a 503."""
        for _ in range(REFUSED_TIMES_MAX):
            told = await self.ask(session, key, order, at=at)
            if told.status != 503:
                break
            self.count["503"] += 1
            await asyncio.sleep(0.1)
        return told

    async def race(self, key: Key, orders: Sequence[Order]) -> list[Told]:
        """All at once, each on a connection of its own, spread over the replicas."""
        async with browser() as session:
            asked = [
                self.insist(session, key, order, at=place % len(self.servers)) for place, order in enumerate(orders)
            ]
            return list(await asyncio.gather(*asked))

    # Its life.

    def kill(self, at: int) -> None:
        self.servers[at].kill()

    def pause(self, at: int) -> None:
        """Let a replica stand still: its connections stay open, and it does not know that time passes."""
        self.servers[at].process.send_signal(signal.SIGSTOP)

    def resume(self, at: int) -> None:
        self.servers[at].process.send_signal(signal.SIGCONT)

    def restart(self, at: int) -> None:
        """Start a replica that was killed, on the port it had."""
        port = self.servers[at].url.rpartition(":")[2]
        self.servers[at] = self.stands[at].serve("--port", port)

    def close(self) -> None:
        for server in self.servers:
            server.process.send_signal(signal.SIGCONT)
            server.kill()


async def ask(session: aiohttp.ClientSession, server: Server, key: Key, order: Order, **pace: Any) -> Told:
    """One request."""
    head = headers(key.text, **order.simulate, **pace)
    try:
        async with session.post(f"{server.base_url}/v1/messages", headers=head, data=order.body) as response:
            answer = await response.read()
            if response.status != 200:
                return Told(response.status)
        streamed = response.content_type == "text/event-stream"
        return Told(200, *(read_stream(answer) if streamed else read_whole(json.loads(answer, parse_float=Decimal))))
    except (aiohttp.ClientError, ConnectionError):
        return Told(0)


def message(max_tokens: int, text: str, *, stream: bool = False, **more: Any) -> bytes:
    asked = {
        "model": MODEL,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
    }
    return json.dumps(asked | more).encode()


def browser() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=aiohttp.ClientTimeout(total=120)
    )


@contextmanager
def open_house(
    folder: Path, layout: Layout, upstream: SimulatorProcess, postgres: Postgres | None, toml: str = TOML
) -> Iterator[House]:
    """Start the first replica, which sets the database up, then the others beside each other, with its secret."""
    if postgres is None:
        with _replicas(folder, layout, upstream, "", toml) as house:
            yield house
        return
    with postgres.database(empty=True) as url, _replicas(folder, layout, upstream, url, toml) as house:
        yield house


@contextmanager
def _replicas(folder: Path, layout: Layout, upstream: SimulatorProcess, url: str, toml: str) -> Iterator[House]:
    stands = [
        Stand(folder / f"replica-{place}", upstream=upstream.url, toml=toml, database_url=url)
        for place in range(layout.replicas)
    ]
    options = ("--workers", str(layout.workers)) if layout.workers > 1 else ()
    house = House(stands, [stands[0].serve(*options)], upstream)
    try:
        for stand in stands[1:]:
            stand.data.mkdir()
            shutil.copy(stands[0].data / "secret.key", stand.data)
        with ThreadPoolExecutor(4) as pool:
            house.servers += pool.map(lambda stand: stand.serve(*options), stands[1:])
        yield house
    finally:
        house.close()


class Watcher(threading.Thread):
    """Looks at every meter all the time; `seen` is what it saw above a limit."""

    def __init__(self, url: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self._eyes = Eyes(url)
        self._done = threading.Event()
        self.seen: list[dict[str, Any]] = []
        self.looks = 0

    @property
    def overspent_nusd(self) -> int:
        """The most by which a limit was exceeded, ever."""
        return max((row["posted"] + row["held"] - row["limit"] for row in self.seen), default=0)

    def run(self) -> None:
        while not self._done.wait(0.005):
            try:
                self.seen += self._eyes.overspent()
                self.looks += 1
            except AWAY:
                time.sleep(0.1)
        self._eyes.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()
