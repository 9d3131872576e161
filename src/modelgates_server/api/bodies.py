"""Reading a JSON body strictly: what two readers could understand differently is refused (reliability-security 1.3)."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

from starlette.requests import ClientDisconnect, Request

from modelgates_server.errors import BadRequest, TooLarge

BODY_BYTES_MAX: Final = 1024 * 1024
"""No change that people make needs more."""

DISCARD_BYTES_MAX: Final = 64 * 1024 * 1024
"""How much of a body that is too large is read and dropped before the refusal: who still writes does not read."""

DEPTH_MAX: Final = 64
WHOLE_MAX: Final = 2**63 - 1
MAGNITUDE_MAX: Final = 300
"""Decimal exponents beyond those of any amount are refused before anything calculates with them."""

_MARKS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


async def read_body(request: Request) -> bytes:
    """Read the whole body. Raises TooLarge, or BadRequest when it is compressed or no JSON by its content type."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadRequest("Compressed request bodies are not accepted; send the JSON as it is")
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= BODY_BYTES_MAX:
                parts.append(part)
            elif size > DISCARD_BYTES_MAX:
                break
    except ClientDisconnect as error:
        raise BadRequest("The client left in the middle of its request") from error
    if size > BODY_BYTES_MAX:
        raise TooLarge("Request exceeds the maximum size of 1 MiB.")
    if size and not _is_json(request.headers.get("content-type", "")):
        raise BadRequest("The body must be JSON: send it with the header 'content-type: application/json'")
    return b"".join(parts)


def read_json(body: bytes) -> Any:
    """Decode JSON; fractions come as exact Decimals.

    Raises BadRequest for bad UTF-8, duplicate names, NaN and infinities, too deep nesting, and text that no database keeps.
    """
    try:
        text = body.decode("utf-8")
        _check_depth(text)
        value = json.loads(
            text, parse_float=_decimal, parse_int=_whole, parse_constant=_constant, object_pairs_hook=_unique
        )
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error.msg} at character {error.pos}") from error
    _check_texts(value)
    return value


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _check_depth(text: str) -> None:
    depth = 0
    for mark in _MARKS.finditer(text):
        if mark[0] in "[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise BadRequest(f"The body is nested deeper than {DEPTH_MAX} levels")
        elif mark[0] in "]}":
            depth -= 1


def _check_texts(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item


def _check_text(text: str) -> None:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadRequest("The body holds text with a NUL character or half a character (a lone surrogate)")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("The body names a member twice; which one counts would be a guess")
    return found


def _constant(name: str) -> NoReturn:
    raise BadRequest(f"The body holds {name}, which is no number in JSON")


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise BadRequest("The body holds a number that is out of range") from error
    if abs(value.adjusted()) > MAGNITUDE_MAX:
        raise BadRequest("The body holds a number that is out of range")
    return value


def _whole(text: str) -> int:
    if len(text) > len(str(-WHOLE_MAX)) or abs(int(text)) > WHOLE_MAX:
        raise BadRequest("The body holds a number that is out of range")
    return int(text)
