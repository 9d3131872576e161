"""AWS's event stream frames, written by hand from providers 3.4 (botocore reads them in the tests).

A frame, big-endian: total length, length of the headers, CRC32 of those 8 bytes, headers, payload, CRC32 of all before.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Final

import msgspec

_STRING: Final = 7
"""The type of a header's value."""

_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame with string headers."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


def chunk(data: bytes) -> bytes:
    """One of Anthropic's events: its JSON in base64, padded so that its length does not tell what it says."""
    padding = _PADDING[: 1 + zlib.crc32(data) % len(_PADDING)]
    payload = b'{"bytes":"%b","p":"%b"}' % (base64.b64encode(data), padding.encode())
    return frame({":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(name: str, fields: dict[str, object]) -> bytes:
    """An exception of the service in the middle of a stream, such as ``throttlingException``."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, msgspec.json.encode(fields))


def error(code: str, message: str) -> bytes:
    """An error that the service does not model; it has no payload."""
    return frame({":error-code": code, ":error-message": message, ":message-type": "error"}, b"")


def _header(name: str, value: str) -> bytes:
    coded, text = name.encode(), value.encode()
    return struct.pack(">B", len(coded)) + coded + struct.pack(">BH", _STRING, len(text)) + text
