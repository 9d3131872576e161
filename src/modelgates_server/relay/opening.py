"""Opening an answer: from a sent request to its first content. Until then an error is a fault like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.meter import Reading, UsageMeter, read_message
from modelgates_server.dialects.sse import EventSplitter
from modelgates_server.dialects.values import BadAnswer, BadEvent, Event, Kind
from modelgates_server.providers.base import Fault, Outgoing, Provider, Reply

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""A whole answer is at most 128k tokens of text and tool input; this is far above it and still bounds memory."""

_COMMITTING: Final = frozenset(
    {Kind.BLOCK_START, Kind.DELTA, Kind.BLOCK_STOP, Kind.MESSAGE_DELTA, Kind.STOP, Kind.ERROR}
)


class Opening:
    """The beginning of a stream, before its commit point: events are gathered here until there is content."""

    __slots__ = ("events", "meter", "splitter")

    def __init__(self, meter: UsageMeter) -> None:
        self.splitter = EventSplitter()
        self.meter = meter
        self.events: list[Event] = []

    def add(self, events: list[Event]) -> Event | None:
        """Take events; give the one that commits the answer (content, an error or an end), if it has come."""
        committed = None
        for event in events:
            self.events.append(event)
            self.meter.see(event)
            if committed is None and event.kind in _COMMITTING:
                committed = event
        return committed


class Opened(NamedTuple):
    """An answer with content: its open reply, and the opening of a stream or a whole body that was read."""

    reply: Reply
    content: Opening | tuple[bytes, Reading]


async def open_answer(
    provider: Provider, endpoint: Endpoint, request: Outgoing, limit_s: float, meter: Callable[[], UsageMeter]
) -> Opened:
    """Send a request and wait for its first content, or for the whole of an answer that is not streamed.

    `meter` makes the meter of a stream. Raises Fault, also when `limit_s` passes. Whoever gets the answer closes it.
    """
    reply: Reply | None = None
    try:
        async with asyncio.timeout(limit_s):
            reply = await provider.open(endpoint, request)
            if request.stream:
                return Opened(reply, await _stream(reply, meter()))
            whole = await _whole(reply)
    except TimeoutError as error:
        _close(reply)
        raise Fault("timeout", f"no {'content' if request.stream else 'answer'} within {limit_s:g} s") from error
    except BaseException:
        _close(reply)
        raise
    reply.close()
    return Opened(reply, whole)


async def _stream(reply: Reply, meter: UsageMeter) -> Opening:
    """Read until the first content."""
    if not reply.content_type.startswith("text/event-stream"):
        raise Fault("unreadable", f"a stream was asked for, {reply.content_type or 'nothing'} came")
    opening = Opening(meter)
    while True:
        data = await reply.read()
        if not data:
            raise Fault("unreadable", "the stream ended before any content")
        try:
            event = opening.add(opening.splitter.feed(data))
        except BadEvent as error:
            raise Fault("unreadable", str(error)) from error
        if event is None:
            continue
        if event.kind is Kind.ERROR:
            raise Fault("error_event", "the stream began with an error", status=200, body=event.data)
        return opening


async def _whole(reply: Reply) -> tuple[bytes, Reading]:
    """Read a JSON answer to its end, and see that it is a message."""
    parts, size = [], 0
    while part := await reply.read():
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise Fault("unreadable", "the answer is too large")
    body = b"".join(parts)
    try:
        return body, read_message(body)
    except BadAnswer as error:
        raise Fault("unreadable", str(error)) from error


def _close(reply: Reply | None) -> None:
    if reply is not None:
        reply.close()
