"""Change single members of JSON bodies and events, and leave every other byte as it came (client-protocol B-1).

An edit is `(start, end, text)`: the byte range that `text` replaces. All text that goes in is JSON already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from modelgates_server.dialects.scan import scan_object
from modelgates_server.dialects.values import BadAnswer, BadEvent
from modelgates_server.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.dialects.scan import Spans
    from modelgates_server.dialects.values import Ask, Event

    Edit = tuple[int, int, bytes]

GATEWAY_EXTRAS: Final = frozenset(
    {
        "fallbacks",
        "models",
        "plugins",
        "preset",
        "provider",
        "route",
        "session_id",
        "stop_server_tools_when",
        "trace",
        "user",
    }
)
"""Fields that only this gateway understands (product-surface 2.1): drop them before the body goes upstream."""

GATEWAY_EXTRAS_BUT_FALLBACKS: Final = GATEWAY_EXTRAS - {"fallbacks"}
"""The same for a request whose `anthropic-beta` makes `fallbacks` the upstream's field."""

_encode: Final = msgspec.json.encode


def write_ask(
    ask: Ask,
    *,
    model: str | None = None,
    max_tokens: int | None = None,
    drop: frozenset[str] = frozenset(),
    put: Mapping[str, bytes] | None = None,
) -> bytes:
    """Give the body for an upstream, with `model` and `max_tokens` replaced unless they are None.

    The fields in `drop` are removed, those in `put` set to JSON values (added at the end when the body does not have them).
    Every other byte stays as the client sent it; when nothing changes, the result is `ask.body` itself. A field that
    the body does not have is not missed by `drop`.
    """
    body, spans = ask.body, ask.spans
    if put:
        drop -= put.keys()
    edits = [] if drop.isdisjoint(spans) else _cuts(body, spans, drop)
    set_already = drop | put.keys() if put else drop
    if model is not None and model != ask.model and "model" not in set_already:
        edits.append((*spans["model"], _encode(model)))
    if max_tokens is not None and max_tokens != ask.max_tokens and "max_tokens" in spans.keys() - set_already:
        edits.append((*spans["max_tokens"], b"%d" % max_tokens))
    if put:
        edits += _puts(spans, drop, put)
    return _splice(body, edits) if edits else body


def _puts(spans: Mapping[str, tuple[int, int]], drop: frozenset[str], put: Mapping[str, bytes]) -> list[Edit]:
    """Replace members where they stand; new ones follow the last member that is kept (there is always one: `messages`)."""
    edits = [(*spans[key], value) for key, value in put.items() if key in spans]
    added = b"".join(b",%s:%s" % (_encode(key), value) for key, value in put.items() if key not in spans)
    if added:
        end = next(spans[key][1] for key in reversed(tuple(spans)) if key not in drop)
        edits.append((end, end, added))
    return edits


def add_member(body: bytes, key: str, value: bytes) -> bytes:
    """Set one member of the JSON object `body` to the JSON `value`; added at the end if new. Raises BadRequest."""
    return _splice(body, [_put(scan_object(body), body.index(b"{"), key, value)])


def start_event(event: Event, message_id: str, model: str | None = None) -> bytes:
    """Write a message_start with our message id, and our model name unless None. Raises BadEvent."""
    raw, start, end = _payload(event)
    message = _scan_event(raw, start, end).get("message")
    if message is None:
        raise BadEvent("message_start without a message")
    spans = _scan_event(raw, *message)
    return _splice(raw, _identity(spans, message[0], message_id, model))


def delta_event(event: Event, cost_text: str) -> bytes:
    """Write a message_delta with `usage.cost`, a decimal literal in USD; other members may follow it. Raises BadEvent."""
    raw, start, end = _payload(event)
    try:
        return _splice(raw, [_put_cost(raw, scan_object(raw, start, end), raw.index(b"{", start), cost_text)])
    except BadRequest as error:
        raise BadEvent(error.message) from None


def extend_event(event: Event, key: str, value: bytes) -> bytes:
    """Write any event with one more top-level member, such as the routing report in message_stop. Raises BadEvent."""
    raw, start, end = _payload(event)
    return _splice(raw, [_put(_scan_event(raw, start, end), raw.index(b"{", start), key, value)])


def message_body(body: bytes, message_id: str, cost_text: str, model: str | None = None) -> bytes:
    """Write a JSON answer with our message id, `usage.cost`, and our model name unless None. Raises BadAnswer."""
    try:
        spans = scan_object(body)
        start = body.index(b"{")
        return _splice(body, [*_identity(spans, start, message_id, model), _put_cost(body, spans, start, cost_text)])
    except BadRequest as error:
        raise BadAnswer(error.message) from None


def _identity(spans: Spans, start: int, message_id: str, model: str | None) -> list[Edit]:
    edits = [_put(spans, start, "id", _encode(message_id))]
    if model is not None:
        edits.append(_put(spans, start, "model", _encode(model)))
    return edits


def _put_cost(body: bytes, spans: Spans, start: int, cost_text: str) -> Edit:
    usage = spans.get("usage")
    if usage is None or body[usage[0]] != ord("{"):
        return _put(spans, start, "usage", b'{"cost":%s}' % cost_text.encode())
    inside = body[usage[0] + 1 : usage[1] - 1].rstrip()
    if inside and b'"cost' not in inside:  # the usual case needs no second scan
        end = usage[0] + 1 + len(inside)
        return (end, end, b',"cost":%s' % cost_text.encode())
    return _put(scan_object(body, *usage), usage[0], "cost", cost_text.encode())


def _put(spans: Spans, start: int, key: str, value: bytes) -> Edit:
    """Replace a member of the object that opens at `start`, or add it after the last one."""
    if key in spans:
        return (*spans[key], value)
    member = b"%s:%s" % (_encode(key), value)
    if not spans:
        return (start + 1, start + 1, member)
    end = next(reversed(spans.values()))[1]
    return (end, end, b"," + member)


def _cuts(body: bytes, spans: Mapping[str, tuple[int, int]], drop: frozenset[str]) -> list[Edit]:
    """Cut members out: each with the comma before it, but those that lead the object with the comma after them."""
    cuts: list[Edit] = []
    previous_end = 0
    leading_start = -1
    kept_one = False
    for key, (_, end) in spans.items():
        if key in drop and kept_one:
            cuts.append((previous_end, end, b""))
        elif key in drop and leading_start < 0:
            leading_start = body.index(b'"', previous_end)
        elif key not in drop and not kept_one:
            kept_one = True
            if leading_start >= 0:
                cuts.append((leading_start, body.index(b'"', previous_end), b""))
        previous_end = end
    if leading_start >= 0 and not kept_one:
        cuts.append((leading_start, previous_end, b""))
    return cuts


def _splice(body: bytes, edits: list[Edit]) -> bytes:
    """Apply edits whose ranges do not overlap; the one copy that is made is the result."""
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    position = 0
    for start, end, text in sorted(edits, key=lambda edit: edit[:2]):  # what is added goes before what is cut
        parts += (view[position:start], text)
        position = end
    parts.append(view[position:])
    return b"".join(parts)


def _payload(event: Event) -> tuple[bytes, int, int]:
    """Give a frame and the byte range of its payload; a payload of several lines is first written on one."""
    lines = event.data_spans
    if len(lines) == 1:
        return (event.raw, *lines[0])
    data = event.data.replace(b"\n", b" ")
    head = b"event: %s\ndata: " % event.name
    return head + data + b"\n\n", len(head), len(head) + len(data)


def _scan_event(raw: bytes, start: int, end: int) -> Spans:
    try:
        return scan_object(raw, start, end)
    except BadRequest as error:
        raise BadEvent(error.message) from None
