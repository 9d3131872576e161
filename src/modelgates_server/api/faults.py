"""Errors as the management API tells them: one envelope, the status as its code (product-surface 2 and 5.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from modelgates_server import errors
from modelgates_server.api.answers import Answer, answer
from modelgates_server.statuses import status_of

MESSAGE_CHARACTERS_MAX: Final = 1_000
FAULTS_SHOWN_MAX: Final = 20
INTERNAL_MESSAGE: Final = "Something went wrong inside the gateway. The request id finds it in the log."

_HEADERS: Final[dict[int, dict[str, str]]] = {
    401: {"www-authenticate": "Bearer", "x-should-retry": "false"},
    403: {"x-should-retry": "false"},
    413: {"connection": "close"},
    503: {"retry-after": "2"},
}


class Methods(NamedTuple):
    """What may be done at the paths that fit a pattern."""

    path: re.Pattern[str]
    methods: frozenset[str]


def install(app: FastAPI) -> None:
    """Make every failure of the application speak the envelope."""
    app.add_exception_handler(errors.ModelGatesError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


def fault(
    status: int, message: str, metadata: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Write an error."""
    body: dict[str, Any] = {"code": status, "message": message[:MESSAGE_CHARACTERS_MAX]}
    if metadata:
        body["metadata"] = dict(metadata)
    return answer({"error": body}, status, {**_HEADERS.get(status, {}), **(headers or {})})


def render(error: Exception) -> Answer:
    """Write any error. What is not ours is a masked 500."""
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        return fault(error.status_code, str(error.detail), None, error.headers)
    if not isinstance(error, errors.ModelGatesError):
        return fault(500, INTERNAL_MESSAGE)
    status = status_of(error)
    headers = error.headers if isinstance(error, errors.RateRefused) else None
    if status == 500:
        return fault(500, INTERNAL_MESSAGE)
    return fault(status, error.message, {"remedy": error.remedy} if error.remedy else None, headers)


async def _ours(_request: Request, error: Exception) -> Answer:
    return render(error)


async def _invalid(_request: Request, error: Exception) -> Answer:
    return render(error)


async def _unknown(_request: Request, _error: Exception) -> Answer:
    return fault(500, INTERNAL_MESSAGE)


async def _http(request: Request, error: Exception) -> Answer:
    if isinstance(error, HTTPException) and error.status_code == 404:
        return fault(404, f"There is nothing at {request.method} {request.url.path[:200]}.")
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = ", ".join(sorted(_allowed(request)))
        return fault(405, f"{request.method} is not available here; use {allowed}", None, {"allow": allowed})
    return render(error)


def _allowed(request: Request) -> set[str]:
    known: tuple[Methods, ...] = request.app.state.methods
    return {method for one in known if one.path.match(request.scope["path"]) for method in one.methods}


def _of_validation(error: RequestValidationError) -> Answer:
    """Name the fields, never what was in them: it may be a secret."""
    found = [
        {"path": _path(one["loc"]), "message": one["msg"].removeprefix("Value error, ")}
        for one in error.errors()[:FAULTS_SHOWN_MAX]
    ]
    first = found[0]
    return fault(400, f"{first['path']}: {first['message']}", {"errors": found})


def _path(place: tuple[Any, ...]) -> str:
    """`limit` instead of `body.limit`; the part says itself where it is not the body."""
    parts = [str(part) for part in (place[1:] if len(place) > 1 else place)]
    return ".".join(parts)
