"""Shapes that bodies, queries and answers share: exact amounts, paging, and what a body may be.

Fields that nobody declared are ignored, so nothing can be set that is not listed (reliability-security 2, mass assignment).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Annotated, Any, Final

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from modelgates_server.api.house import House
from modelgates_server.errors import BadRequest
from modelgates_server.money import nusd_from_usd

PAGE_ROWS_MAX = 100
OFFSET_MAX = 10**9
_USD_MAX = 1_000_000
_NANO: Final = Decimal("1e-9")


class Body(BaseModel):
    """What is sent. Types are strict: no text for a number, no truth for a count; unknown members are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    def given(self, *names: str) -> dict[str, Any]:
        """Give those of the named members that were sent, null included: what a PATCH changes."""
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}


class Shown(BaseModel):
    """What is answered; it describes the OpenAPI file, the endpoint writes plain data itself. Members may be added."""

    model_config = ConfigDict(extra="allow")


class Fault(Shown):
    """What went wrong."""

    code: int
    message: str
    metadata: dict[str, Any] | None = None


class FaultAnswer(Shown):
    """Every failure."""

    error: Fault


class Deleted(Shown):
    """Something is gone."""

    deleted: bool


@dataclass(frozen=True, slots=True)
class Paging:
    """Which rows of a list."""

    offset: int
    limit: int


def _page(
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX, description="How many rows to skip.")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX, description="How many rows to give.")] = PAGE_ROWS_MAX,
) -> Paging:
    return Paging(offset, limit)


Paged = Annotated[Paging, Depends(_page)]
"""The type of an endpoint's parameter that is given `offset` and `limit`."""


def _usd(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number in USD, such as 12.5")  # noqa: TRY004 - pydantic turns it into a refusal
    try:
        return nusd_from_usd(str(_nano(Decimal(value))))
    except BadRequest as error:
        raise ValueError(error.message) from error


def _nano(amount: Decimal) -> Decimal:
    """Without what is less than a nano-dollar: scripts calculate in floats, and then say 0.30000000000000004."""
    if not amount.is_finite() or amount.adjusted() > 12 or Decimal(0) < amount < _NANO:
        return amount  # which is refused with the reason
    return amount.quantize(_NANO, rounding=ROUND_DOWN)


def _signed_usd(value: object) -> int:
    negative = isinstance(value, int | Decimal) and value < 0
    return -_usd(-value) if negative else _usd(value)  # type: ignore[operator]


def _fraction(value: object) -> object:
    return float(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else value


Usd = Annotated[int, BeforeValidator(_usd), WithJsonSchema({"type": "number", "minimum": 0, "maximum": _USD_MAX})]
"""A field of a body that is an amount in USD: read exactly, as whole nano-USD."""

PositiveUsd = Annotated[
    int,
    BeforeValidator(_usd),
    Field(gt=0),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": _USD_MAX}),
]
"""The same, and it must be more than zero."""

SignedUsd = Annotated[
    int, BeforeValidator(_signed_usd), WithJsonSchema({"type": "number", "minimum": -_USD_MAX, "maximum": _USD_MAX})
]
"""The same, and it may be below zero."""

Fraction = Annotated[float, BeforeValidator(_fraction)]
"""A field of a body that is a number but no amount, such as a rate of samples."""

UsdShown = Annotated[int | float, WithJsonSchema({"type": "number"})]
"""A member of an answer that is an amount in USD."""

Moment = Annotated[
    str, Field(max_length=64, description="RFC 3339, UTC."), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""A field of a body that is a time; `management.parse_expiry` reads it."""

Models = Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=200)]
"""A field of a body that lists models, in any spelling; `slugs` reads it."""


def slugs(house: House, names: list[str] | None, field: str) -> tuple[str, ...] | None:
    """Give models by their slugs, whatever spelling was sent. Raises BadRequest for a name that means nothing here."""
    if names is None:
        return None
    found = []
    for name in names:
        resolved = house.catalogue.names.find(name)
        if resolved is None:
            raise BadRequest(f"{field}: there is no model {name[:100]!r} here", remedy="GET /api/v1/models lists them")
        found.append(resolved.model.slug)
    return tuple(dict.fromkeys(found))
