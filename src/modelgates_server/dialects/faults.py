"""Errors on the wire: write ours in the Anthropic envelope, read whatever an upstream calls an error (providers 6)."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
"""Keeps a quiet stream alive (client-protocol S-6); only ever sent between two events."""

FAULT_BYTES_MAX: Final = 64 * 1024
"""How much of an error body is looked at (providers 6.1)."""

_MESSAGE_CHARS_MAX: Final = 2_000
_TEXT_CHARS_MAX: Final = 300

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_TITLE: Final = re.compile(r"<title[^>]*>([^<]{1,200})</title", re.IGNORECASE)
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


class Fault(Struct, frozen=True):
    """What an upstream's error says. `type` is always one of the Anthropic words, or newer than this code.

    `code` is the finest name that the upstream gives: Anthropic's `details.error_code`, an AWS exception, a Google
    status, an Azure or OpenAI code. `anthropic_shaped` bodies may be shown to a client as they are.
    """

    type: str
    message: str
    code: str | None = None
    anthropic_shaped: bool = False


def error_body(
    error_type: str, message: str, request_id: str | None, details: Mapping[str, Any] | None = None
) -> bytes:
    """Write the error envelope of the Messages API (client-protocol 7) on one line."""
    error: dict[str, Any] = {"type": error_type, "message": message}
    if details is not None:
        error["details"] = details
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def error_event(body: bytes) -> bytes:
    """Write an error envelope as the event that ends a stream. Line ends become spaces, so it stays one event."""
    return b"event: error\ndata: %s\n\n" % body.translate(_LINE_ENDS)


def type_of_status(status: int) -> str:
    """Name the Anthropic error type that goes with a HTTP status (providers 6.2)."""
    return _TYPES.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")


RETRY_AFTER_S_MAX: Final = 600.0
"""What asks for a longer pause is mistaken, or lies (reliability row 24)."""


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Read `retry-after`: seconds or a HTTP date (`now_s` in Unix seconds); None when it is neither. At most ten minutes."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, OverflowError, TypeError):
            return None
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX) if seconds == seconds else None  # noqa: PLR0124 - not a number


_PRIVATE: Final = re.compile(
    r"arn:[\w-]*:[^\s'\"`,)]+"  # AWS resources name the account
    r"|\b\d{12}\b"  # AWS accounts
    r"|projects/[^\s'\"`,)/]+(?:/[^\s'\"`,)]+)*"  # Google resources name the project
    r"|\bproject(?:_number|_id)?:[^\s'\"`,)]+"  # and so do its quotas
    r"|https?://[^\s'\"`,)]+"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # tenants, subscriptions, requests
    r"|[\w.+-]+@[\w-]+\.[\w.-]+",  # service accounts and people
    re.IGNORECASE,
)
_OVERFLOWS: Final = (
    re.compile(r"prompt tokens \((?P<n>\d+)\) exceed model maximum \((?P<m>\d+)\)", re.IGNORECASE),
    re.compile(r"maximum context length is (?P<m>\d+) tokens.*?resulted in (?P<n>\d+)", re.IGNORECASE | re.DOTALL),
)


def shown_message(message: str) -> str:
    """A cloud provider's sentence without what names its customer.

    A prompt that is too long is told in Anthropic's words: Claude Code repairs itself on them (providers 3.3 and 6.4).
    """
    for pattern in _OVERFLOWS:
        if match := pattern.search(message):
            return f"prompt is too long: {match['n']} tokens > {match['m']} maximum"
    if "input is too long" in message.lower():
        return f"prompt is too long: {_PRIVATE.sub('…', message)}"
    return _PRIVATE.sub("…", message)


def read_fault(status: int, body: bytes, content_type: str = "", aws_error_type: str | None = None) -> Fault:
    """Read an error answer of any provider, or the payload of an error event (with status 200). Never raises.

    `aws_error_type` is the header `x-amzn-ErrorType`.
    """
    body = body[:FAULT_BYTES_MAX]
    code = _aws_code(aws_error_type)
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Fault(type_of_status(status), _text_message(status, body, content_type), code)
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        return Fault(type_of_status(status), _text_message(status, body, content_type), code)
    return _read_answer(status, answer, code)


def _read_answer(status: int, answer: dict[str, Any], code: str | None) -> Fault:
    error = answer.get("error")
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = answer
    message = _first_text(error.get("message"), error.get("Message"), answer.get("message"), answer.get("Message"))
    message = (message or f"The provider answered {status} without a message.")[:_MESSAGE_CHARS_MAX]
    kind = _first_text(error.get("type"))
    details = error.get("details")
    named = details.get("error_code") if isinstance(details, dict) else None
    code = code or _first_text(named, error.get("status"), error.get("code"), _aws_code(answer.get("__type")))
    shaped = answer.get("type") == "error" and kind is not None and error is not answer
    return Fault(kind if shaped and kind else type_of_status(status), message, code, shaped)


def _first_text(*values: object) -> str | None:
    """Take the first short text among the places where providers put it; numbers (an OpenAI code) count as text."""
    for value in values:
        if isinstance(value, str) and value:
            return value
        if type(value) is int:
            return str(value)
    return None


def _aws_code(name: object) -> str | None:
    """Cut ``com.amazon#ThrottlingException:http://…`` down to the name of the exception."""
    return (name.partition(":")[0].rpartition("#")[2] or None) if isinstance(name, str) else None


def _text_message(status: int, body: bytes, content_type: str) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    if "html" in content_type.lower() or text[:15].lower().startswith(("<!doctype", "<html")):
        title = _TITLE.search(text)
        about = f": {title[1].strip()}" if title else ""
        return f"The provider answered {status} with a web page{about}."
    return text[:_TEXT_CHARS_MAX] or f"The provider answered {status} without a body."
