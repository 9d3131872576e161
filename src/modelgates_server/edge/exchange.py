"""One HTTP exchange as raw ASGI: reading the request, writing the response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, NoReturn, Protocol

from modelgates_server.edge.protocol import EXTENSION, Corkable
from modelgates_server.errors import BadRequest, TooLarge

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""The Messages API's own limit (client-protocol B-12)."""

DISCARD_BYTES_MAX: Final = 64 * 1024 * 1024
"""How much of a body that is too large is read and dropped before the refusal."""

JSON: Final = (b"content-type", b"application/json")


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


class Flow(Protocol):
    """The connection's back-pressure."""

    write_paused: bool

    async def drain(self) -> None: ...


class Connection(Protocol):
    """The server's connection: whether it is lost, whom to call when it is, and how to cut it."""

    gone: Callable[[], None] | None
    lost: bool
    cork: Corkable

    @property
    def chunking(self) -> bool: ...

    @property
    def flow(self) -> Flow: ...

    def write_chunk(self, data: bytes) -> bool: ...

    def drop(self) -> None:
        """Cut it now, unlike a close, which waits until the client has taken what was written."""
        ...


class Presence:
    """Ties a task to its client: entered, the task is cancelled when the client leaves."""

    __slots__ = ("_connection", "_task", "left")

    def __init__(self, connection: Connection | None) -> None:
        self._connection = connection
        self._task: asyncio.Task[Any] | None = None
        self.left = False

    def __enter__(self) -> None:
        if self._connection is None:  # a server of another kind: a client's leaving shows when writing to it
            return
        if self._connection.lost:
            raise ClientGone
        self._task = asyncio.current_task()
        self._connection.gone = self.leave

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        if self.left and self._task is not None:
            self._task.uncancel()
            if kind is asyncio.CancelledError:
                raise ClientGone from None

    def leave(self) -> None:
        """The client is gone."""
        if self._task is not None and not self.left:
            self.left = True
            self._task.cancel()

    def release(self) -> None:
        """From here on the client's leaving does not matter."""
        if self._connection is not None:
            self._connection.gone = None


class Request:
    """What came in: method, path, headers by lower-case name, and the way to the body and back."""

    __slots__ = (
        "_connection",
        "_direct",
        "_marks",
        "_presence",
        "_receive",
        "_send",
        "closing",
        "headers",
        "id",
        "inference",
        "method",
        "path",
        "query",
        "raw_headers",
        "started",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, *, inference: bool) -> None:
        self._connection: Connection | None = scope.get("extensions", {}).get(EXTENSION)
        self._presence: Presence | None = None
        self._direct = False
        self._receive = receive
        self._send = send
        self.id = request_id
        marks = [(b"request-id", request_id.encode())]
        self.inference = inference
        if inference:
            marks.append((b"x-generation-id", request_id.encode()))
        self._marks = marks
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.raw_headers: list[Header] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(self.raw_headers)
        self.started = False
        self.closing = False

    def header(self, name: bytes) -> str | None:
        """A header's value as text, or None."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None

    async def body(self) -> bytes:
        """The whole body. Raises TooLarge as soon as it is known to be, BadRequest when encoded, ClientGone.

        How fast it must come is the connection's business (`protocol.py`).
        """
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise BadRequest("Compressed request bodies are not accepted; send the JSON as it is")
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > BODY_BYTES_MAX:
            await self._refuse_large()
        message = await self._next()
        if not message.get("more_body"):
            return bytes(message.get("body", b""))
        parts: list[bytes] = [message.get("body", b"")]
        size = len(parts[0])
        while message.get("more_body"):
            message = await self._next()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > BODY_BYTES_MAX:
                parts.clear()
                await self._refuse_large()
        return b"".join(parts)

    async def _refuse_large(self) -> NoReturn:
        """Raise TooLarge once the client has sent the rest: one that is still writing would not read the answer."""
        self.closing = True
        size = 0
        while size < DISCARD_BYTES_MAX:
            message = await self._next()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        raise TooLarge

    async def _next(self) -> dict[str, Any]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    def cancelled_when_gone(self) -> Presence:
        """A context in which the running task is cancelled when the client leaves; ClientGone is raised at its end."""
        self._presence = Presence(self._connection)
        return self._presence

    @property
    def left(self) -> bool:
        """Whether the client is known to be gone."""
        return self._presence is not None and self._presence.left

    def abort(self) -> None:
        """Cut the connection, with what still waits to be sent; then the client is gone like any other."""
        if self._connection is not None:
            self._connection.drop()

    def finished(self) -> None:
        """The last bytes are about to be sent: from here on a client that leaves is none of our business."""
        if self._presence is not None:
            self._presence.release()

    async def start(self, status: int, headers: Iterable[Header]) -> None:
        """Send the status line and headers, once."""
        self.started = True
        sent = [*self._marks, *headers]
        if self.closing:
            sent.append((b"connection", b"close"))
        if self._connection is not None:
            self._connection.cork.cork()  # one packet with the first bytes of the body
        await self._send({"type": "http.response.start", "status": status, "headers": sent})

    async def write(self, body: bytes, *, more: bool) -> None:
        """Send a piece of the body. Returns when the client's socket has room again: this is the back-pressure."""
        connection = self._connection
        if self._direct and more and connection is not None:
            if connection.write_chunk(body):
                await connection.flow.drain()
            return
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        if connection is not None and not self._direct:
            connection.cork.uncork()
            self._direct = connection.chunking

    def write_now(self, body: bytes) -> bool:
        """Send a piece of a stream that is under way; false, and nothing sent, when the client's socket is full."""
        connection = self._connection
        if not self._direct or connection is None or connection.flow.write_paused:
            return False
        connection.write_chunk(body)
        return True

    def passing(self, send: Send) -> Send:
        """`send` for an application below: its response carries the request's id, and its head leaves with the first of the body."""
        connection = self._connection

        async def passed(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.started = True
                message = {**message, "headers": [(b"request-id", self.id.encode()), *message["headers"]]}
                if connection is not None:
                    connection.cork.cork()
            await send(message)
            if connection is not None and message["type"] == "http.response.body":
                connection.cork.uncork()

        return passed

    async def respond(self, status: int, body: bytes, headers: Iterable[Header] = (JSON,)) -> None:
        """Send a whole response."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.write(b"" if self.method == "HEAD" else body, more=False)
