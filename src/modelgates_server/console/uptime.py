"""How providers did in the last day, hour by hour: every attempt counts, also those that another provider made good."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

HOUR_S: Final = 3600
HOURS: Final = 24
SAMPLES_MIN: Final = 5
"""Fewer attempts than that say nothing about a provider."""

FINE_PERMILLE: Final = 990
POOR_PERMILLE: Final = 900


@dataclass(frozen=True, slots=True)
class HourBar:
    """One hour. A rate limit is neither up nor down. `up_permille` is None where too little was asked; `fill` is how the bar looks."""

    hour_s: int
    attempts: int
    answered: int
    limited: int
    up_permille: int | None
    fill: str


@dataclass(frozen=True, slots=True)
class LastDay:
    """The last 24 hours of a provider, this one included, oldest first. `answer_ms` is the mean time to the first content."""

    hours: tuple[HourBar, ...]
    attempts: int
    limited: int
    up_permille: int | None
    answer_ms: int | None


def last_days(engine: sa.Engine, organization_id: str, providers: Iterable[str], now_s: float) -> dict[str, LastDay]:
    """Give the last day of each of these providers, as this organisation found them. Raises StoreUnavailable."""
    hours = schema.provider_hours.c
    first_s = int(now_s) // HOUR_S * HOUR_S - (HOURS - 1) * HOUR_S
    query = sa.select(schema.provider_hours).where(hours.organization_id == organization_id, hours.hour_s >= first_s)
    found: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    with reading(engine) as connection:
        for row in connection.execute(query).mappings():
            found[row["provider"]][row["hour_s"]] = dict(row)
    return {slug: _day(found[slug], first_s) for slug in providers}


def _day(rows: Mapping[int, Mapping[str, Any]], first_s: int) -> LastDay:
    sums = {name: sum(row[name] for row in rows.values()) for name in ("attempts", "answered", "limited", "answer_ms")}
    return LastDay(
        hours=tuple(_bar(first_s + place * HOUR_S, rows.get(first_s + place * HOUR_S)) for place in range(HOURS)),
        attempts=sums["attempts"],
        limited=sums["limited"],
        up_permille=_permille(sums["answered"], sums["attempts"] - sums["limited"]),
        answer_ms=sums["answer_ms"] // sums["answered"] if sums["answered"] else None,
    )


def _bar(hour_s: int, row: Mapping[str, Any] | None) -> HourBar:
    if row is None:
        return HourBar(hour_s, 0, 0, 0, None, "none")
    up = _permille(row["answered"], row["attempts"] - row["limited"])
    return HourBar(hour_s, row["attempts"], row["answered"], row["limited"], up, _fill(up))


def _permille(answered: int, counted: int) -> int | None:
    """Thousandths that answered, rounded down: a thousand means all."""
    return answered * 1000 // counted if counted >= SAMPLES_MIN else None


def _fill(up_permille: int | None) -> str:
    if up_permille is None:
        return "none"
    return "good" if up_permille >= FINE_PERMILLE else "warn" if up_permille >= POOR_PERMILLE else "bad"
