"""The one HTTP client for everything that goes out: a pool of connections, and nothing that could surprise a gateway.

URLs are taken as already encoded; there are no redirects, no cookies, no proxies from the environment, no automatic headers and no limit
of connections (design decision 22). Upstreams are asked for `identity`; one that compresses all the same is inflated.

Why not a library: see decision 0007. The parser, TLS and the event loop are libraries; what is ours is which bytes go where.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from modelgates_server.outbound.connection import Connection, Exchange, OutboundError
from modelgates_server.outbound.guard import Guard

KEEP_ALIVE_S = 55.0
"""Below the 60 s at which common load balancers drop idle connections, so that a stale one is rarely picked."""

__all__ = ["Outbound", "OutboundError", "OutboundReply"]


class _Target(NamedTuple):
    """Where a URL leads: the address, and what the request line and the `host` header say."""

    secure: bool
    host: str
    port: int
    path: str
    authority: str


@lru_cache(maxsize=256)
def _target(url: str) -> _Target:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise OutboundError("connect", "not an http address")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(secure, parts.hostname, parts.port or (443 if secure else 80), path, parts.netloc.rpartition("@")[2])


class OutboundReply:
    """An open answer. Whoever has it closes it; closing is immediate and drops the connection unless all was read."""

    __slots__ = ("_exchange", "close", "headers", "read", "status")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.status = exchange.status
        self.headers = exchange.headers
        self.read = exchange.read
        self.close = exchange.close

    def tap(self, taker: Callable[[bytes], bool] | None) -> None:
        """Offer pieces to `taker` as they arrive; see `connection.Exchange`."""
        self._exchange.tap = taker

    async def read_all(self, size_bytes_max: int) -> bytes:
        """The rest of the answer, cut off at `size_bytes_max`."""
        parts: list[bytes] = []
        size = 0
        while size < size_bytes_max and (part := await self.read()):
            parts.append(part)
            size += len(part)
        return b"".join(parts)[:size_bytes_max]


class Outbound:
    """A connection pool. Make it inside the running loop; close it when the loop ends.

    With a `guard`, for URLs that the operator did not write: each is read by it, and each connection goes to an address it checked.
    """

    def __init__(self, *, connect_s: float, verify: ssl.SSLContext | None = None, guard: Guard | None = None) -> None:
        self._connect_s = connect_s
        self._verify = verify
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._idle: dict[tuple[bool, str, int], list[Connection]] = {}
        self._open: set[Connection] = set()
        self._home: dict[Connection, tuple[bool, str, int]] = {}

    async def request(
        self, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes | None = None
    ) -> OutboundReply:
        """Send one request and wait for the answer's head.

        Raises OutboundError: `connect` when nothing was sent, `stale` when a reused connection was closed before it
        answered, `reset` when the fate of the request is unknown. Raises BadRequest for a URL that the guard does not take.
        """
        target = _target(url if self._guard is None else self._guard.read(url).url)
        payload = body or b""
        head = _head(method, target, headers, len(payload))
        connection = self._take(target) or await self._connect(target)
        exchange = connection.send(head, payload)
        try:
            await exchange.head()
        except BaseException:
            connection.abort()
            raise
        return OutboundReply(exchange)

    async def close(self) -> None:
        """Cut every connection."""
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    def _take(self, target: _Target) -> Connection | None:
        """The connection that was used last, if one is idle and young enough."""
        idle = self._idle.get(target[:3])
        while idle:
            connection = idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since_s < KEEP_ALIVE_S:
                connection.reused = True
                return connection
            connection.abort()
        return None

    async def _connect(self, target: _Target) -> Connection:
        try:
            async with asyncio.timeout(self._connect_s):
                if self._guard is None:
                    connection = await self._reach(target, target.host)
                else:
                    connection = await self._reach_checked(
                        target, await self._guard.addresses(target.host, target.port)
                    )
        except TimeoutError as error:
            raise OutboundError("connect", f"no connection within {self._connect_s:g} s") from error
        except (OSError, ssl.SSLError) as error:
            raise OutboundError("connect", str(error) or type(error).__name__) from error
        self._open.add(connection)
        self._home[connection] = target[:3]
        return connection

    async def _reach(self, target: _Target, host: str) -> Connection:
        """Connect to `host`, a name or an address; whoever answers there must prove to be the target's."""
        context = (self._verify or _default_context()) if target.secure else None
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._freed, self._lost),
            host,
            target.port,
            ssl=context,
            server_hostname=target.host if target.secure else None,
        )
        return connection

    async def _reach_checked(self, target: _Target, addresses: Sequence[str]) -> Connection:
        """Connect to the first of some addresses that can be reached."""
        for address in addresses[:-1]:
            with suppress(OSError):
                return await self._reach(target, address)
        return await self._reach(target, addresses[-1])

    def _freed(self, connection: Connection) -> None:
        connection.idle_since_s = self._loop.time()
        home = self._home.get(connection)
        if home is not None:
            self._idle.setdefault(home, []).append(connection)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        idle = self._idle.get(self._home.pop(connection, (False, "", 0)))
        if idle and connection in idle:
            idle.remove(connection)


def _head(method: str, target: _Target, headers: Iterable[tuple[str, str]], length: int) -> bytes:
    lines = [f"{method} {target.path} HTTP/1.1", f"host: {target.authority}", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers]
    text = "\r\n".join(lines)
    if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1 or "\0" in text:
        raise OutboundError("connect", "a header holds a line break")
    return f"{text}\r\n\r\n".encode("latin-1")


@lru_cache(maxsize=1)
def _default_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
