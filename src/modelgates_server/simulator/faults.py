"""Faults on demand: what the control may ask for, and how it bends an answer.

A control is a JSON object. It comes from the model's name (``claude-sim-cut``), from a pushed script, and from the
request header ``anthropic-simulate``; the later of these win, field by field. Events are counted from 0 as they are
sent, pings included: 0 is `message_start`, 1 the ping, 2 the first `content_block_start`. Wires without pings count
without them, and Vertex counts its own events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER: Final = "anthropic-simulate"

BIG_EVENT_BYTES_MAX: Final = 128 * 1024 * 1024
"""Enough for every limit worth testing, too little to exhaust the machine by a typing error."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]

MODEL_FAULTS: Final[Mapping[str, dict[str, Any]]] = {
    "claude-sim-overloaded": {"status": 529},
    "claude-sim-ratelimited": {"status": 429, "retry_after": 1},
    "claude-sim-error500": {"status": 500},
    "claude-sim-cut": {"cut_after_event": 6},
    "claude-sim-stall": {"stall_after_event": 6},
    "claude-sim-slow": {"first_event_delay_s": 1.0, "event_delay_s": 0.05},
}

STATUS_OF: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Anthropic's error types (providers 6.2)."""

TYPE_OF: Final[Mapping[int, str]] = {status: error_type for error_type, status in STATUS_OF.items()}

MESSAGE_OF: Final[Mapping[str, str]] = {
    "overloaded_error": "Overloaded",
    "rate_limit_error": "This request would exceed your organization's rate limit.",
    "api_error": "Internal server error",
}

UNKNOWN_EVENT: Final = b'event: content_weather\ndata: {"type":"content_weather","outlook":"fair"}\n\n'


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One control, all of it optional. Times in seconds, sizes in bytes; see the module's words on counting events."""

    # instead of an answer
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    error_type: str | None = None
    """One of Anthropic's types, or the wire's own word; alone it has the status that belongs to it."""
    message: str | None = None
    headers: dict[str, str] = {}
    body: str | None = None
    retry_after: str | int | float | None = None
    redirect: str | None = None
    html_200: bool = False
    empty_200: bool = False
    # time; a JSON answer waits for all of its tokens at this pace
    delay_s: Seconds = 0
    first_event_delay_s: Seconds = 0
    event_delay_s: Seconds = 0
    # what is generated, truly
    tokens: Count | None = None
    input_tokens: Count | None = None
    stop_reason: str | None = None
    big_event_bytes: Annotated[int, msgspec.Meta(ge=0, le=BIG_EVENT_BYTES_MAX)] = 0
    # what is reported of it
    usage: dict[str, Any] = {}
    omit_usage: bool = False
    # how the stream goes; N means after N events. A JSON answer stops at its half instead
    stall_after_event: Count | None = None
    cut_after_event: Count | None = None
    cut_at_byte: Count | None = None
    end_after_event: Count | None = None
    error_at_event: Count | None = None
    malformed_at_event: Count | None = None
    unknown_event_at: Count | None = None
    no_message_stop: bool = False
    reset: bool = False
    """A cut sends a TCP reset instead of closing."""
    # how it is written
    json_for_stream: bool = False
    gzip: bool = False
    chunk_bytes: Count = 0
    crlf: bool = False

    @property
    def replaces_answer(self) -> bool:
        """Whether no answer is generated at all."""
        return (
            self.status is not None
            or (self.error_type is not None and self.error_at_event is None)
            or self.body is not None
            or self.redirect is not None
            or self.html_200
            or self.empty_200
        )

    def error(self) -> tuple[str, str]:
        """Type and message of the error that is asked for, by type or by status."""
        by_status = TYPE_OF.get(self.status or 0, "api_error" if (self.status or 0) >= 500 else "invalid_request_error")
        error_type = self.error_type or (by_status if self.status else "overloaded_error")
        return error_type, self.message or MESSAGE_OF.get(error_type, "Simulated fault")


NO_FAULT: Final = Fault()


def read_fault(model: str, script: Mapping[str, Any] | None, header: str | None) -> Fault:
    """Merge the three sources. Raises ValueError with the field at fault."""
    base = MODEL_FAULTS.get(model)
    if base is None and not script and header is None:
        return NO_FAULT
    told = msgspec.json.decode(header) if header else {}
    if not isinstance(told, dict):
        raise ValueError("the control must be a JSON object")  # noqa: TRY004 - one kind of error for callers
    return msgspec.convert({**(base or {}), **(script or {}), **told}, Fault)


Ending = Literal["end", "cut", "stall"]

_STOPS: Final[tuple[tuple[str, Ending, str], ...]] = (
    ("end_after_event", "end", "faulted"),
    ("cut_after_event", "cut", "cut"),
    ("stall_after_event", "stall", "faulted"),
)


class Delivery(msgspec.Struct):
    """What is really written: whole events with their tokens, the beginning of one more, and how it ends.

    `ending`: end (cleanly), cut (the connection), stall (open and silent). `outcome` is the truth log's word for it.
    """

    events: list[bytes]
    tokens: list[int]
    rest: bytes = b""
    ending: Ending = "end"
    outcome: str = "completed"


class Framing:
    """How events are framed, as far as a fault must know: server-sent events; other framings override."""

    unknown = UNKNOWN_EVENT

    def malform(self, event: bytes) -> bytes:
        """Break one event so that its reader can see it."""
        return event.rstrip(b"\r\n")[:-1] + b"\n\n"

    def crlf(self, event: bytes) -> bytes:
        return event.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


SSE: Final = Framing()


def bend(events: list[bytes], tokens: list[int], fault: Fault, error_event: bytes, framing: Framing = SSE) -> Delivery:
    """Apply the faults to a rendered stream; `error_event` is what `error_at_event` sends."""
    if fault is NO_FAULT:
        return Delivery(events, tokens)
    delivery = Delivery(list(events), list(tokens))
    if fault.no_message_stop:
        _truncate(delivery, len(events) - 1, "end", "faulted")
    if fault.unknown_event_at is not None:
        delivery.events.insert(fault.unknown_event_at, framing.unknown)
        delivery.tokens.insert(fault.unknown_event_at, 0)
    broken_at = fault.malformed_at_event
    if broken_at is not None and broken_at < len(delivery.events):
        delivery.events[broken_at] = framing.malform(delivery.events[broken_at])
    if fault.error_at_event is not None:
        _truncate(delivery, fault.error_at_event, "end", "faulted")
        delivery.events.append(error_event)
        delivery.tokens.append(0)
    for field, ending, outcome in _STOPS:
        stop = getattr(fault, field)
        if stop is not None:
            _truncate(delivery, stop, ending, outcome)
    if fault.crlf:
        delivery.events = [framing.crlf(event) for event in delivery.events]
    if fault.cut_at_byte is not None:
        _cut_at_byte(delivery, fault.cut_at_byte)
    return delivery


def bend_json(body: bytes, tokens: int, fault: Fault) -> Delivery:
    """Apply the faults to a JSON answer. It has no events, so whatever happens at an event happens at its half."""
    if fault is NO_FAULT:
        return Delivery([body], [tokens])
    half = body[: len(body) // 2]
    for field, ending, outcome in _STOPS:
        stop = getattr(fault, field)
        if stop is not None:
            return Delivery([], [], half if stop else b"", ending, outcome)
    if fault.malformed_at_event is not None:
        return Delivery([], [], half, "end", "faulted")
    delivery = Delivery([body], [tokens])
    if fault.cut_at_byte is not None:
        _cut_at_byte(delivery, fault.cut_at_byte)
    return delivery


def _truncate(delivery: Delivery, count: int, ending: Ending, outcome: str) -> None:
    del delivery.events[count:], delivery.tokens[count:]
    delivery.ending, delivery.outcome = ending, outcome


def _cut_at_byte(delivery: Delivery, size_bytes: int) -> None:
    left = size_bytes
    for at, event in enumerate(delivery.events):
        if len(event) > left:
            rest = event[:left]
            _truncate(delivery, at, "cut", "cut")
            delivery.rest = rest
            return
        left -= len(event)
