"""Which HTTP status an error has: one table for the management API and the pages. Inference has its own envelope (`edge/faults.py`)."""

from __future__ import annotations

from typing import Final

from modelgates_server import errors

STATUS: Final[dict[type[Exception], int]] = {
    errors.TooLarge: 413,
    errors.BadRequest: 400,
    errors.Unauthenticated: 401,
    errors.WrongKeyClass: 403,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.KeyReused: 422,
    errors.MoneyRefused: 402,
    errors.RateRefused: 429,
    errors.TookTooLong: 408,
    errors.Draining: 503,
    errors.IdentityFailed: 502,
    errors.StoreError: 503,
    errors.ModelGatesError: 500,
}
"""An error has the status of the nearest class above it; 500 is a mistake of ours, and its words are not shown."""


def status_of(error: errors.ModelGatesError) -> int:
    """The HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
