"""An answer on its way to the client: headers at the commit point, pings in the gaps, errors in whichever form is still possible."""

from __future__ import annotations

import asyncio

from modelgates_server.clock import IdleWatch
from modelgates_server.dialects.faults import PING, error_event
from modelgates_server.edge.context import Context
from modelgates_server.edge.exchange import JSON, Header, Request
from modelgates_server.edge.faults import money_headers, render
from modelgates_server.edge.notices import refusal_headers, standing_headers
from modelgates_server.errors import MoneyRefused
from modelgates_server.relay.answers import Answer

_SSE: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Outlet:
    """The response side of one Messages request.

    A client that takes nothing for a minute is treated like one that left.
    """

    __slots__ = ("_context", "_pinging", "_request", "_stream", "_stuck_gaps", "_watch", "_writing")

    def __init__(self, request: Request, context: Context, *, stream: bool) -> None:
        self._request = request
        self._context = context
        self._stream = stream
        self._pinging: asyncio.Task[None] | None = None
        self._writing = False
        self._stuck_gaps = 0
        self._watch = IdleWatch(context.settings.first_ping_s, self._first_gap) if stream else None

    async def carry(self, answer: Answer) -> None:
        """Send a committed answer to its end. While its client is slow, nothing is read from its provider."""
        if not self._stream:
            body = await answer.read() or b""
            self._request.finished()
            await self._request.respond(200, body, (JSON, *self._marks(answer)))
            return
        if self._pinging is not None:
            await self._pinging
        if not self._request.started:
            await self._request.start(200, [*_SSE, *self._marks(answer)])
        self._watch_gaps()
        answer.pipe(self._write_now)
        write = self._request.write
        while (data := await answer.read()) is not None:
            if self._pinging is not None:
                await self._pinging
                self._pinging = None
            self._writing = True
            await write(data, more=True)
            self._writing = False
            self._stuck_gaps = 0
            if self._watch is not None:
                self._watch.touch()
        await self._end()

    def _write_now(self, data: bytes) -> bool:
        """Take plain content at once, unless a ping or a write is under way or the client is slow."""
        if self._writing or not self._request.write_now(data):
            return False
        if self._watch is not None:
            self._watch.touch()
        return True

    async def fail(self, error: BaseException) -> None:
        """Tell the client: as a status if nothing was sent, else as an event in the stream."""
        if self._pinging is not None:
            await self._pinging
        rendered = render(error, self._request.id)
        if self._request.started:
            await self._request.write(error_event(rendered.body), more=True)
            await self._end()
            return
        extra: tuple[Header, ...] = ()
        if isinstance(error, MoneyRefused):
            extra = (*money_headers(error, self._context.clock.now_s()), *refusal_headers(error))
        self._request.finished()
        await self._request.respond(rendered.status, rendered.body, (*rendered.headers, *extra))

    def close(self) -> None:
        """Stop the timers. Synchronous and repeatable."""
        if self._watch is not None:
            self._watch.stop()
        if self._pinging is not None:
            self._pinging.cancel()

    async def _end(self) -> None:
        self.close()
        self._request.finished()
        await self._request.write(b"", more=False)

    def _marks(self, answer: Answer) -> list[Header]:
        exchange = answer.exchange
        marks = standing_headers(exchange.hold, exchange.charged_nusd, exchange.own_nusd)
        if answer.exchange.clamped is not None:
            marks.append((b"x-modelgates-max-tokens", b"%d" % answer.exchange.clamped))
        if answer.exchange.endpoint is not None and answer.exchange.endpoint.kind == "sandbox":
            marks.append((b"x-modelgates-sandbox", b"true"))
        return marks

    # Pings. They are written by a task of their own while the carrier waits for the provider; the carrier waits for them
    # before it writes, so an event is never split.

    def _watch_gaps(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        self._watch = IdleWatch(self._context.settings.ping_s, self._gap)

    def _first_gap(self) -> None:
        self._watch_gaps()
        self._gap()

    def _gap(self) -> None:
        if self._writing:
            self._stuck_gaps += 1
            if self._stuck_gaps * self._context.settings.ping_s >= self._context.settings.stuck_s:
                self._request.abort()
            return
        if self._pinging is None or self._pinging.done():
            self._pinging = self._context.tasks.spawn(self._ping(), "ping")

    async def _ping(self) -> None:
        self._writing = True  # a full socket holds up a ping as well
        if not self._request.started:
            await self._request.start(200, _SSE)
        await self._request.write(PING, more=True)
        self._writing = False
        self._stuck_gaps = 0
