"""Answers past their commit point: what the edge reads, chunk by chunk, and what is booked before the tail is given.

A stream's last `message_delta` and its `message_stop`, and a whole answer's body, are held back until the receipt is durable
(design decision 2). After the commit point there is no retry and no splice: a stream that breaks ends with an error event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from modelgates_server.clock import IdleWatch
from modelgates_server.dialects.edit import add_member, delta_event, extend_event, message_body, start_event
from modelgates_server.dialects.faults import error_body, error_event
from modelgates_server.dialects.meter import BYTES_PER_TOKEN, Reading
from modelgates_server.dialects.values import BadEvent, Event, Kind, Usage
from modelgates_server.providers.base import Fault, Reply
from modelgates_server.relay.exchange import Exchange
from modelgates_server.relay.failures import shown_event
from modelgates_server.relay.opening import Opening
from modelgates_server.relay.values import Settings


class Answer(Protocol):
    """A committed answer. Read until None; close in every case, as often as you like."""

    exchange: Exchange

    async def read(self) -> bytes | None:
        """The next bytes for the client; None after the last."""
        ...

    def pipe(self, sink: Callable[[bytes], bool]) -> None:
        """Let plain content go to `sink` at once while `read` waits; it returns false when it cannot take it now."""
        ...

    def close(self) -> None:
        """Let go: closes the upstream and settles what is not settled. Synchronous."""
        ...


class WholeAnswer:
    """One JSON message."""

    def __init__(self, exchange: Exchange, body: bytes, reading: Reading, report: bytes | None) -> None:
        self.exchange = exchange
        self._body: bytes | None = body
        self._usage = reading.usage if reading.has_usage else _estimated(reading, len(body), exchange.input_estimate)
        self._stop_reason = reading.stop_reason
        self._report = report

    async def read(self) -> bytes | None:
        body, self._body = self._body, None
        if body is None:
            return None
        exchange = self.exchange
        if exchange.record is not None:
            exchange.record.begun(body)
        await exchange.settle("completed", self._usage, self._stop_reason)
        body = message_body(body, exchange.origin.id, exchange.cost_text, exchange.shown_model)
        return body if self._report is None else add_member(body, "modelgates_metadata", self._report)

    def pipe(self, sink: Callable[[bytes], bool]) -> None:
        """There is only one piece."""

    def close(self, outcome: str = "completed") -> None:
        self._body = None
        self.exchange.settle(outcome, self._usage, self._stop_reason)


class StreamAnswer:
    """A stream of events, read one upstream read at a time: no queue, the client's pace is the upstream's pace."""

    def __init__(
        self, exchange: Exchange, reply: Reply, opening: Opening, settings: Settings, report: bytes | None
    ) -> None:
        self.exchange = exchange
        self._reply = reply
        self._splitter = opening.splitter
        self._meter = opening.meter
        self._report = report
        self._tail: list[Event] = []
        self._ended = False
        self._reading = False
        self._late = False
        self._interrupted: tuple[str, str] | None = None
        self._watch = IdleWatch(settings.idle_s, self._idle)
        left_s = exchange.started_s + settings.total_s - exchange.clock.monotonic_s()
        self._limit = asyncio.get_running_loop().call_later(max(0.0, left_s), self._expire)
        self._first = opening.events
        self._reads_out = exchange.endpoint is not None and exchange.endpoint.cancel == "bills_full"

    async def read(self) -> bytes | None:
        if self._first:
            events, self._first = self._first, []
            if self.exchange.record is not None:
                self.exchange.record.begun(self._meter)
            return b"".join([await self._step(event) for event in events if not self._ended])
        while not self._ended:
            events = await self._events()
            if len(events) == 1 and not self._tail and events[0].kind in _CONTENT:
                self._meter.see(events[0])  # the common case, on every delta of a paced stream
                return events[0].raw
            try:
                out = await self._pass(events)
            except BadEvent as error:  # an event that we must read and cannot; what came with it is not passed on
                out = await self._pass(self._break("api_error", _UNREADABLE, str(error)))
            if out:
                return out
        return None

    def pipe(self, sink: Callable[[bytes], bool]) -> None:
        def take(data: bytes) -> bool:
            if self._tail or self._ended or not self._splitter.is_one_delta(data) or not sink(data):
                return False
            self._meter.see(Event(Kind.DELTA, b"content_block_delta", data))
            self._watch.touch()
            return True

        self._reply.tap(take)

    def close(self) -> None:
        exchange = self.exchange
        if self._reads_out and not self._ended and exchange.settled is None and exchange.spawn is not None:
            exchange.draining = True
            exchange.spawn(self.read_out(), f"drain {exchange.origin.id}")
            return
        if not exchange.draining:
            self._leave()

    async def read_out(self) -> None:
        """Nobody listens any more, but the provider bills the whole answer: read it to its end and book it exactly."""
        self._first, self._reading = [], False
        if self.exchange.record is not None:
            self.exchange.record.left()
        self._ended = self._meter.finished  # a short answer came whole with its opening
        try:
            while not self._ended:
                for event in await self._events():
                    self._meter.see(event)
                    if event.kind in {Kind.STOP, Kind.ERROR}:
                        self._ended = True
        except BadEvent:
            pass  # what was read until here is what can be known
        finally:
            self._leave()

    def _leave(self) -> None:
        """Let go of the provider, and settle what is not settled as left by its client."""
        self._stop()
        self._reply.close()
        self._ended = True
        if self.exchange.settled is None:
            self.exchange.upstream_id = self._meter.upstream_id
            meter = self._meter
            whole = meter.finished and meter.has_usage
            usage = meter.usage if whole else meter.estimated_usage(self.exchange.input_estimate)
            self.exchange.settle("cancelled", usage, meter.stop_reason)

    def interrupt(self, sentence: str) -> None:
        """End the stream with an error event at its next read: this process cannot carry it any further."""
        self._interrupted = ("api_error", sentence)
        self._reads_out = False
        self._reply.close()

    def _expire(self) -> None:
        self._interrupted = ("timeout_error", "The answer took longer than this gateway allows.")
        self._reply.close()

    def cost_so_far_nusd(self) -> int:
        """What would be charged if the stream ended here, at most the hold; below zero what an own account would be asked."""
        exchange = self.exchange
        cost_nusd = exchange.price(self._meter.estimated_usage(exchange.input_estimate))
        if exchange.endpoint is not None and exchange.endpoint.own is not None:
            return -cost_nusd
        return exchange.hold.split(cost_nusd)[0]

    async def _events(self) -> list[Event]:
        """The next events, or what an ending or a fault makes of the stream."""
        self._reading = True
        self._watch.touch()
        try:
            data = await self._reply.read()
            if data:
                return self._splitter.feed(data)
        except Fault as fault:
            if self._interrupted:
                return self._break(*self._interrupted, "interrupted")
            sentence = "The provider stopped sending." if self._late else "The provider's stream broke."
            return self._break("timeout_error" if self._late else "api_error", sentence, str(fault))
        except BadEvent as error:
            return self._break("api_error", _UNREADABLE, str(error))
        finally:
            self._reading = False
        return self._break("api_error", "The provider's stream ended early.", "end without message_stop")

    async def _pass(self, events: list[Event]) -> bytes:
        """What of `events` goes to the client now. The tail waits until it is booked."""
        parts = []
        for event in events:
            self._meter.see(event)
            parts.append(await self._step(event))
            if self._ended:
                break
        return b"".join(parts)

    async def _step(self, event: Event) -> bytes:
        match event.kind:
            case Kind.START:
                return start_event(event, self.exchange.origin.id, self.exchange.shown_model)
            case Kind.MESSAGE_DELTA:
                passed = self._release()
                self._tail = [event]
                return passed
            case Kind.STOP:
                return await self._finish(event)
            case Kind.ERROR:
                self._end("broken")
                operator = self.exchange.endpoint.traits.operator if self.exchange.endpoint else ""
                return shown_event(event, operator, self.exchange.origin.id)
            case Kind.OTHER if event.name and self._reply.foreign_events:
                return b""
            case Kind.PING | Kind.OTHER if self._tail:
                return event.raw
            case _:
                return self._release() + event.raw

    def _release(self) -> bytes:
        """A held `message_delta` that turned out not to be the last goes on unchanged."""
        held, self._tail = self._tail, []
        return b"".join(event.raw for event in held)

    async def _finish(self, stop: Event) -> bytes:
        exchange, meter = self.exchange, self._meter
        exchange.upstream_id = meter.upstream_id
        usage = meter.usage if meter.has_usage else meter.estimated_usage(exchange.input_estimate)
        settled = exchange.settle("completed", usage, meter.stop_reason)
        self._ended = True
        self._stop()
        await settled
        self._reply.close()  # only now: by this time its last chunk is in, and the connection can be used again
        held, self._tail = self._tail, []
        tail = [delta_event(event, exchange.cost_text) for event in held]
        last = stop.raw if self._report is None else extend_event(stop, "modelgates_metadata", self._report)
        return b"".join([*tail, last])

    def _break(self, error_type: str, sentence: str, detail: str) -> list[Event]:
        """The stream cannot go on: say so in the stream's own words."""
        self.exchange.note = detail
        raw = error_event(error_body(error_type, sentence, self.exchange.origin.id))
        return [Event(Kind.ERROR, b"error", raw)]

    def _end(self, outcome: str) -> None:
        meter = self._meter
        self._ended = True
        self._stop()
        self._reply.close()
        self.exchange.upstream_id = meter.upstream_id
        self.exchange.settle(outcome, meter.estimated_usage(self.exchange.input_estimate), meter.stop_reason)

    def _stop(self) -> None:
        self._watch.stop()
        self._limit.cancel()

    def _idle(self) -> None:
        if self._reading:
            self._late = True
            self._reply.close()


_CONTENT = frozenset({Kind.BLOCK_START, Kind.DELTA, Kind.BLOCK_STOP})

_UNREADABLE = "The provider's stream cannot be read."


def _estimated(reading: Reading, body_bytes: int, input_tokens: int) -> Usage:
    """The usage of an answer that does not report it (reliability row 16): a token each four bytes."""
    usage = reading.usage
    output_tokens = 0 if reading.content_empty else -(-body_bytes // BYTES_PER_TOKEN)
    return replace(
        usage,
        input_tokens=usage.input_tokens or input_tokens,
        output_tokens=usage.output_tokens or output_tokens,
        estimated=True,
    )
