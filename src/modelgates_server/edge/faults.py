"""Errors as HTTP, in the envelope of the Messages API: status and type of each.

Sources: design section 6 (status codes), client-protocol section 7 (what clients do with each).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from modelgates_server import errors
from modelgates_server.dialects.edit import add_member
from modelgates_server.dialects.faults import error_body
from modelgates_server.edge.exchange import JSON, Header
from modelgates_server.edge.numbers import rfc3339, usd_number

NO_RETRY: Final[Header] = (b"x-should-retry", b"false")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An error ready to send."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = (JSON,)


@dataclass(frozen=True, slots=True)
class _Form:
    status: int
    type: str
    headers: tuple[Header, ...] = ()


_FORMS: Final[dict[type[Exception], _Form]] = {
    errors.TooLarge: _Form(413, "request_too_large"),
    errors.BadRequest: _Form(400, "invalid_request_error"),
    errors.Unauthenticated: _Form(401, "authentication_error", (NO_RETRY,)),
    errors.WrongKeyClass: _Form(403, "permission_error", (NO_RETRY,)),
    errors.NotFound: _Form(404, "not_found_error"),
    errors.MoneyRefused: _Form(402, "billing_error", (NO_RETRY,)),
    errors.RateRefused: _Form(429, "rate_limit_error"),
    errors.Draining: _Form(503, "api_error", ((b"retry-after", b"1"), (b"connection", b"close"))),
    errors.StoreError: _Form(503, "api_error", ((b"retry-after", b"2"),)),
    errors.ModelGatesError: _Form(500, "api_error"),
}

UPSTREAM: Final[dict[str, _Form]] = {
    "unreachable": _Form(503, "api_error"),
    "stale": _Form(503, "api_error"),
    "reset": _Form(502, "api_error"),
    "timeout": _Form(504, "timeout_error"),
    "rate_limit": _Form(429, "rate_limit_error"),
    "ramp": _Form(429, "rate_limit_error"),
    "quota": _Form(429, "rate_limit_error"),
    "overloaded": _Form(529, "overloaded_error"),
    "upstream": _Form(502, "api_error"),
    "misconfigured": _Form(503, "api_error"),
    "region": _Form(503, "api_error"),
    "account": _Form(503, "api_error"),
    "absent": _Form(404, "not_found_error"),
    "not_offered": _Form(502, "api_error"),
    "too_large": _Form(413, "request_too_large"),
    "conflict": _Form(409, "conflict_error"),
    "capability": _Form(400, "invalid_request_error"),
    "portability": _Form(400, "invalid_request_error"),
    "context": _Form(400, "invalid_request_error"),
    "client": _Form(400, "invalid_request_error"),
    "broken": _Form(502, "api_error"),
    "stream": _Form(502, "api_error"),
}
"""By `routing.verdict.FaultClass`; a test holds that every class has its form."""

VERBATIM: Final = frozenset(
    {
        "rate_limit",
        "ramp",
        "overloaded",
        "absent",
        "too_large",
        "conflict",
        "capability",
        "portability",
        "context",
        "client",
    }
)
"""Classes whose upstream status and body are passed on unchanged: clients repair themselves on the wording (X-1, X-4)."""

_KEPT: Final = frozenset({503, 504})
"""Statuses of a failing provider that say more than 502: not now, and not in time."""

INTERNAL_MESSAGE: Final = "Something went wrong inside the gateway. The request id finds it in the log."


def render(error: BaseException, request_id: str) -> Rendered:
    """Any error as a response. What is not ours is a masked 500."""
    if isinstance(error, errors.UpstreamFailed):
        return _upstream(error, request_id)
    if not isinstance(error, errors.ModelGatesError):
        return Rendered(500, error_body("api_error", INTERNAL_MESSAGE, request_id))
    form = next(_FORMS[cls] for cls in type(error).__mro__ if cls in _FORMS)
    headers = (JSON, *form.headers)
    if isinstance(error, errors.RateRefused):
        headers = (*headers, *((name.encode(), value.encode()) for name, value in error.headers.items()))
    details = None
    if isinstance(error, errors.MoneyRefused):
        details = _money_details(error)
    return Rendered(form.status, error_body(form.type, error.message, request_id, details), headers)


def with_code(rendered: Rendered) -> bytes:
    """The body with its status as `error.code` too, where clients of the OpenRouter world read it (product-surface 2.9)."""
    told = msgspec.json.decode(rendered.body)
    if not isinstance(told, dict) or not isinstance(told.get("error"), dict):
        return rendered.body
    told["error"]["code"] = rendered.status
    return msgspec.json.encode(told)


def money_headers(error: errors.MoneyRefused, now_s: float) -> tuple[Header, ...]:
    """`retry-after`, only when the window resets (design section 6)."""
    if error.resets_at_s is None:
        return ()
    return ((b"retry-after", b"%d" % max(1, error.resets_at_s - int(now_s))),)


def _money_details(error: errors.MoneyRefused) -> dict[str, object]:
    named = {} if error.budget is None else {"budget": error.budget}
    return {
        "scope": error.scope,
        **named,
        "limit": usd_number(error.limit_nusd),
        "remaining": usd_number(error.remaining_nusd),
        "resets_at": None if error.resets_at_s is None else rfc3339(error.resets_at_s),
        "affordable_max_tokens": error.affordable_max_tokens,
        "reason": error.reason,
    }


def _upstream(error: errors.UpstreamFailed, request_id: str) -> Rendered:
    form = UPSTREAM[error.kind]
    headers: list[Header] = [JSON]
    if error.retry_after is not None:
        headers.append((b"retry-after", error.retry_after.encode("latin-1")))
    if error.should_retry is not None:
        headers.append((b"x-should-retry", error.should_retry.encode("latin-1")))
    if error.body is not None and error.kind in VERBATIM:
        return Rendered(
            error.status if error.status not in {None, 200} else form.status,
            _reported(error.body, error),
            tuple(headers),
        )
    status = error.status if error.kind == "upstream" and error.status in _KEPT else form.status
    return Rendered(status, _reported(error_body(form.type, error.message, request_id), error), tuple(headers))


def _reported(body: bytes, error: errors.UpstreamFailed) -> bytes:
    """With the routing report beside `error`, when the client asked for one (product-surface 2.13)."""
    return body if error.report is None else add_member(body, "modelgates_metadata", error.report)
