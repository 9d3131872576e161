"""Read single members of a request body, and refuse wrong ones in the words of the Anthropic API.

The refusals are `<path>: <sentence>`, such as ``max_tokens: Input should be a valid integer`` (client-protocol X-4).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from modelgates_server.dialects.scan import check_utf8, scan_object
from modelgates_server.errors import BadRequest

if TYPE_CHECKING:
    from msgspec.json import Decoder

T = TypeVar("T")

TEXT_MAX: Final = 256
"""Characters of `model`, `session_id`, `user` and the like (product-surface 2.1)."""

INTEGER_MAX: Final = 10**9
"""A thousand times any real limit, and small enough to keep prices within 64 bits."""

MEMBER_BYTES_MAX: Final = 64 * 1024
"""Largest member that is decoded, unless the caller knows better; the objects made of it may take ten times more."""

_INTEGER: Final = re.compile(rb"-?[0-9]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_COMPLAINT: Final = re.compile(
    r"Expected `(?P<kind>array|bool|int|object|str)[^`]*`(?: of length)?(?: (?P<sign><=|>=) (?P<limit>\d+))?"
    r"|Object missing required field `(?P<missing>[^`]*)`"
    r"|Object contains unknown field `(?P<extra>[^`]*)`"
)
_WHERE: Final = re.compile(r" - at `\$([^`]*)`$")
_SENTENCES: Final = {
    "array": "Input should be a valid list",
    "bool": "Input should be a valid boolean",
    "int": "Input should be a valid integer",
    "object": "Input should be an object",
    "str": "Input should be a valid string",
}
_COMPARISONS: Final = {"<=": "less than or equal to", ">=": "greater than or equal to"}


class Fields:
    """The members of one request body. `null` counts as absent everywhere."""

    __slots__ = ("body", "spans")

    def __init__(self, body: bytes) -> None:
        """Raise BadRequest unless `body` is one JSON object in UTF-8 without repeated keys."""
        self.spans = scan_object(body)
        check_utf8(body)
        self.body = body

    def span(self, name: str) -> tuple[int, int] | None:
        """Find the byte range of a member's value."""
        span = self.spans.get(name)
        if span is None or (span[1] - span[0] == 4 and self.body.startswith(b"null", span[0])):
            return None
        return span

    def integer(self, name: str) -> int | None:
        """Read a JSON integer from 0 to a thousand million; `true`, `1.0` and `1e3` are none."""
        span = self.span(name)
        if span is None:
            return None
        raw = self.body[span[0] : min(span[1], span[0] + 32)]
        if not _INTEGER.fullmatch(raw):
            raise BadRequest(f"{name}: {_SENTENCES['int']}")
        if raw.startswith(b"-") and raw != b"-0":
            raise BadRequest(f"{name}: Input should be greater than or equal to 0")
        if len(raw) > 10 or int(raw) > INTEGER_MAX:
            raise BadRequest(f"{name}: Input should be less than or equal to {INTEGER_MAX}")
        return int(raw)

    def boolean(self, name: str) -> bool:
        """Read a JSON boolean; absent is False."""
        span = self.span(name)
        if span is None:
            return False
        if self.body[span[0]] not in b"tf":
            raise BadRequest(f"{name}: {_SENTENCES['bool']}")
        return self.body[span[0]] == ord("t")

    def text(self, name: str) -> str | None:
        """Read a string of at most 256 characters without control characters; the empty string counts as absent."""
        span = self.span(name)
        if span is None:
            return None
        if self.body[span[0]] != ord('"'):
            raise BadRequest(f"{name}: {_SENTENCES['str']}")
        if span[1] - span[0] > 6 * TEXT_MAX + 2:
            raise BadRequest(f"{name}: String should have at most {TEXT_MAX} characters")
        text: str = msgspec.json.decode(self.body[span[0] : span[1]])
        return check_text(name, text) or None

    def decode(self, name: str, decoder: Decoder[T], bytes_max: int = MEMBER_BYTES_MAX) -> T | None:
        """Read a member as the decoder's type. What the decoder does not declare is skipped."""
        span = self.span(name)
        if span is None:
            return None
        try:
            return decoder.decode(self._raw(name, span, bytes_max))
        except msgspec.ValidationError as error:
            raise BadRequest(_sentence(name, str(error))) from None
        except RecursionError:
            raise BadRequest(f"{name}: Input is nested too deeply") from None

    def _raw(self, name: str, span: tuple[int, int], bytes_max: int) -> bytes:
        if span[1] - span[0] > bytes_max:
            raise BadRequest(f"{name}: Input should have at most {bytes_max} bytes")
        return self.body[span[0] : span[1]]


def check_text(path: str, text: str) -> str:
    """Give back `text`. Raises BadRequest when it is too long, or holds what no database or log line should."""
    if len(text) > TEXT_MAX:
        raise BadRequest(f"{path}: String should have at most {TEXT_MAX} characters")
    if _CONTROL.search(text):
        raise BadRequest(f"{path}: String should not contain control characters")
    return text


def _sentence(name: str, complaint: str) -> str:
    """Turn ``Expected `int`, got `str` - at `$[0].max_uses``` into ``tools.0.max_uses: Input should be …``."""
    where = _WHERE.search(complaint)
    path = name + (where[1].replace("[", ".").replace("]", "") if where else "")
    match = _COMPLAINT.match(complaint)
    if match is None:
        return f"{path}: Input is not valid"
    if match["missing"]:
        return f"{path}.{match['missing']}: Field required"
    if match["extra"]:
        return f"{path}.{match['extra']}: Extra inputs are not permitted"
    if not match["sign"]:
        return f"{path}: {_SENTENCES[match['kind']]}"
    if match["kind"] == "array":
        return f"{path}: List should have at {'most' if match['sign'] == '<=' else 'least'} {match['limit']} items"
    return f"{path}: Input should be {_COMPARISONS[match['sign']]} {match['limit']}"
