"""Who may talk to the MCP server, and how it is woken.

The official SDK costs 20 MB of memory and a quarter of a second of import (measured beside what a serving process has loaded
anyway), and most gateways are never asked: it is imported by the first request, in a thread, never on the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from modelgates_server.docsite.house import DocsHouse

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

PATH: Final = "/docs/_mcp/server"
TASK: Final = "upkeep docs mcp"

_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Gate:
    """The MCP server's place, as an ASGI application: it answers POST, to programs and to pages of this gateway's own address.

    Each request stands for itself: any process may answer it, and no stream is kept open for what the server might say later.
    """

    def __init__(self, house: DocsHouse) -> None:
        self._house = house
        self._waking = asyncio.Lock()
        self._manager: StreamableHTTPSessionManager | None = None
        self._living: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refused(scope["method"], Headers(scope=scope))
        if refused is not None:
            await refused(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        manager = self._manager
        if manager is None or self._living is None or self._living.done():
            manager = await self._wake()
        await manager.handle_request(scope, receive, guarded)

    def _refused(self, method: str, headers: Headers) -> Response | None:
        """What to answer to who may not ask."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._house.knows(host):
            sentence = f"This gateway is not known by that name. Its address is {self._house.origin}; [server] public_url sets it.\n"
            return PlainTextResponse(sentence, 421, _HEADERS)
        if origin is not None and not self._house.knows(urlsplit(origin).netloc):
            return PlainTextResponse("Pages of other sites may not use this server.\n", 403, _HEADERS)
        if method != "POST":
            sentence = (
                "This is an MCP server (streamable HTTP): it answers POST. In Claude Code:"
                f" claude mcp add --transport http modelgates {self._house.told(host)}{PATH}\n"
            )
            return PlainTextResponse(sentence, 405, {**_HEADERS, "allow": "POST"})
        return None

    async def _wake(self) -> StreamableHTTPSessionManager:
        async with self._waking:  # of several first requests, one makes it
            if self._manager is None or self._living is None or self._living.done():
                made = await asyncio.to_thread(_make, self._house)
                ready = asyncio.get_running_loop().create_future()
                self._living = self._house.spawn(_live(made, ready), TASK)
                await ready
                self._manager = made
        return self._manager


async def _live(manager: StreamableHTTPSessionManager, ready: asyncio.Future[None]) -> None:
    """Hold what the SDK's requests run in until the application ends: it must be left by the task that entered it."""
    try:
        async with manager.run():
            ready.set_result(None)
            await asyncio.get_running_loop().create_future()
    except Exception as error:
        if ready.done():
            raise
        ready.set_exception(error)


def _make(house: DocsHouse) -> StreamableHTTPSessionManager:
    from modelgates_server.docsite.server import session_manager  # noqa: PLC0415 - see above

    return session_manager(house)
