"""The binary frames in which Bedrock Invoke streams (providers 3.4, 12.3), as server-sent events of the Messages dialect.

A frame, big-endian: its length, the length of its headers, a CRC-32 of those eight bytes, headers, payload, a CRC-32 of all
before. In the payload of a chunk is one event as base64, beside padding that hides the length of a token.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from modelgates_server.dialects.faults import error_body, error_event, shown_message
from modelgates_server.dialects.values import BadEvent
from modelgates_server.privacy import redacted, visible

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

FRAME_BYTES_MAX: Final = 16 << 20
"""What the vendor's own client accepts is 24 MiB; a chunk of an answer has a few kilobytes."""

METRICS: Final = "amazon-bedrock-invocationMetrics"
"""A member that Bedrock adds to the last event; clients of the Messages API do not know it."""

_PRELUDE: Final = struct.Struct(">III")
_CRC: Final = struct.Struct(">I")
_AROUND_BYTES: Final = _PRELUDE.size + _CRC.size
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value, by its type; 6 and 7 are bytes and text, with a length before them."""

_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MESSAGE_CHARS_MAX: Final = 500

_ERROR_TYPES: Final = {
    "throttling": "rate_limit_error",
    "servicequotaexceeded": "rate_limit_error",
    "serviceunavailable": "overloaded_error",
    "modelnotready": "overloaded_error",
    "internalserver": "api_error",
    "modelstreamerror": "api_error",
    "modelerror": "api_error",
    "modeltimeout": "timeout_error",
    "validation": "invalid_request_error",
    "accessdenied": "permission_error",
    "resourcenotfound": "not_found_error",
}
"""By the exception's name without its ending (providers 6.3): botocore calls every one of them a 400."""


class _Chunk(msgspec.Struct, gc=False):
    event: bytes = msgspec.field(name="bytes")  # base64, which msgspec undoes


class _Named(msgspec.Struct, gc=False):
    type: str


class _Told(msgspec.Struct, gc=False):
    message: str | None = None
    loud: str | None = msgspec.field(default=None, name="Message")
    original: str | None = msgspec.field(default=None, name="originalMessage")


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_NAMED: Final = msgspec.json.Decoder(_Named)
_TOLD: Final = msgspec.json.Decoder(_Told)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class EventStream:
    """Turns frames into events, wherever the network cut them. One for each answer.

    `metrics` are Bedrock's own counts once the last event was seen, as JSON: a second opinion on the usage.
    `broken` says why nothing more can be read; the events before that were given.
    """

    __slots__ = ("_needed_bytes", "_rest", "broken", "metrics")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed_bytes = 0
        self.metrics: bytes | None = None
        self.broken: BadEvent | None = None

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes. Raises BadEvent when the first frame of it is no frame."""
        if self.broken is not None:
            raise self.broken
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed_bytes:
                return b""  # joined once, when all of a frame is there
            data = bytes(self._rest)
            self._rest.clear()
        told: list[bytes] = []
        at = 0
        try:
            while len(data) - at >= (size := _frame_bytes(data, at)):
                told.append(self._event(data, at, size))
                at += size
            self._needed_bytes = size
        except BadEvent as error:
            self.broken = error
            if not any(told):
                raise
        self._rest += data[at:]
        return b"".join(told)

    def finish(self) -> None:
        """The answer is over. Raises BadEvent when that was in the middle of a frame."""
        if self.broken is not None:
            raise self.broken
        if self._rest:
            raise BadEvent(f"the stream ended within a frame, after {len(self._rest)} bytes of it")

    def _event(self, data: bytes, at: int, size: int) -> bytes:
        end = at + size - _CRC.size
        if zlib.crc32(memoryview(data)[at:end]) != _CRC.unpack_from(data, end)[0]:
            raise BadEvent("a frame does not have the checksum that it names")
        start = at + _PRELUDE.size
        payload_at = start + _PRELUDE.unpack_from(data, at)[1]
        headers = _read_headers(data[start:payload_at])
        payload = data[payload_at:end]
        if headers.get(":message-type") == "event":
            return self._chunk(payload) if headers.get(":event-type") == "chunk" else b""
        return _error(headers, payload)

    def _chunk(self, payload: bytes) -> bytes:
        try:
            event = _CHUNK.decode(payload).event
            name = _NAMED.decode(event).type
            if name == "message_stop" and METRICS.encode() in event:
                event = self._without_metrics(event)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise BadEvent("a chunk does not hold an event") from error
        if not _NAME.fullmatch(name):
            raise BadEvent("an event has a name that is none")
        if b"\n" in event or b"\r" in event:
            event = event.translate(_LINE_ENDS)  # between members only: JSON text has no line ends within
        return b"event: %s\ndata: %s\n\n" % (name.encode(), event)

    def _without_metrics(self, event: bytes) -> bytes:
        members = _MEMBERS.decode(event)
        self.metrics = bytes(members.pop(METRICS, msgspec.Raw(b"")))
        return msgspec.json.encode(members)


def _frame_bytes(data: bytes, at: int) -> int:
    """The size of the frame that begins at `at`, or at least what must be there to know it. Raises BadEvent."""
    if len(data) - at < _PRELUDE.size:
        return _PRELUDE.size
    size, headers_bytes, checksum = _PRELUDE.unpack_from(data, at)
    if zlib.crc32(data[at : at + _PRELUDE.size - _CRC.size]) != checksum:
        raise BadEvent("the head of a frame does not have the checksum that it names")
    if size > FRAME_BYTES_MAX or size < _AROUND_BYTES or headers_bytes > size - _AROUND_BYTES:
        raise BadEvent(f"a frame says that it has {size} bytes, {headers_bytes} of them headers")
    return int(size)


@lru_cache(maxsize=32)
def _read_headers(raw: bytes) -> Mapping[str, str]:
    """The headers that are text. All chunks have the same, so they are read once. Raises BadEvent."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(raw):
            name_at = at + 1
            kind_at = name_at + raw[at]
            kind = raw[kind_at]
            at = kind_at + 1
            size = _SIZES.get(kind)
            if size is None and kind in {6, 7}:
                size = int.from_bytes(raw[at : at + 2], "big")
                at += 2
            if size is None or at + size > len(raw):
                raise BadEvent("a header of a frame cannot be read")
            if kind == 7:
                found[raw[name_at:kind_at].decode()] = raw[at : at + size].decode()
            at += size
    except (IndexError, UnicodeError) as error:
        raise BadEvent("a header of a frame cannot be read") from error
    return found


def _error(headers: Mapping[str, str], payload: bytes) -> bytes:
    """An exception or an error, as the event with which Anthropic ends a stream that failed."""
    name = headers.get(":exception-type") or headers.get(":error-code") or "unknown"
    word = name.lower().removesuffix("exception")
    body = error_body(
        _ERROR_TYPES.get(word, "api_error"),
        visible(shown_message(redacted(_message(payload) or headers.get(":error-message", ""))), _MESSAGE_CHARS_MAX)
        or f"The provider broke off ({word}).",
        None,
        {"error_code": name if _NAME.fullmatch(name) else "unknown"},
    )
    return error_event(body)


def _message(payload: bytes) -> str:
    try:
        told = _TOLD.decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""
    return told.message or told.loud or told.original or ""
