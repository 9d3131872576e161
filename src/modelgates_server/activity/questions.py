"""A question to analytics, checked before any database hears of it (product-surface 2.7). Pure: values in, values out.

Names are looked up in the allow-lists of `measures`; values stay parameters for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from modelgates_server.activity.measures import DIMENSIONS, GRANULARITIES, LISTS, MEASURES, METRICS, OPERATORS, Kind
from modelgates_server.errors import BadRequest
from modelgates_server.limits import Window

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
DEFAULT_DAYS: Final = 7
DAYS_MAX: Final = 367
DETAIL_DAYS_MAX: Final = 31
"""For minutes and hours, and for all that the roll-ups do not keep: each request of the range is read."""

LAST_MS: Final = 253_370_764_800_000
"""The year 9999: the month after its last one is no date any more."""

METRICS_MAX: Final = 30
DIMENSIONS_MAX: Final = 2
FILTERS_MAX: Final = 20
VALUES_MAX: Final = 1_000
VALUE_CHARACTERS_MAX: Final = 1_000
LIMIT_DEFAULT: Final = 1_000
LIMIT_MAX: Final = 10_000

DATE: Final = "date"
"""How `order_by` calls the time of a row."""

REQUESTS: Final = "request_count"
"""The metric that rows may be sorted by without being shown."""

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on a dimension. Rows without a value meet none; `include_unset` adds them."""

    field: str
    operator: str
    values: tuple[str, ...]
    include_unset: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """By which column rows are sorted: a metric, a dimension, or the date."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What to measure, from `since_ms` until before `until_ms` (Unix milliseconds), and how to break it down.

    `group_limit` is the most rows of each combination of dimensions. Check it with `check` before anything else.
    """

    metrics: tuple[str, ...]
    since_ms: int
    until_ms: int
    dimensions: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    granularity: str | None = None
    order_by: Order | None = None
    limit: int = LIMIT_DEFAULT
    group_limit: int | None = None

    @property
    def order(self) -> Order:
        """The order that was asked for, or the usual one: the newest first, without a time the largest first."""
        if self.order_by is not None:
            return self.order_by
        facts = [name for name in self.metrics if METRICS[name].kind is not Kind.ABSENT]
        return Order(DATE if self.granularity else next(iter(facts), REQUESTS), descending=True)

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics to compute: requests may be sorted by without being shown."""
        extra = self.order.field
        return self.metrics if extra in self.metrics or extra not in METRICS else (*self.metrics, extra)

    @property
    def detailed(self) -> list[str]:
        """What of it only the generations know."""
        named = [name for name in (*self.dimensions, *(one.field for one in self.filters)) if not _kept(name)]
        named += [name for name in self.measured if any(not _rolled(part) for part in METRICS[name].measures)]
        return list(dict.fromkeys(named))


def usual_range_ms(now_s: float) -> tuple[int, int]:
    """The last seven days, in whole hours: what is asked when nobody names a range."""
    until_ms = -(-int(now_s * 1000) // HOUR_MS) * HOUR_MS
    return until_ms - DEFAULT_DAYS * DAY_MS, until_ms


def check(question: Question) -> None:
    """Refuse a question that cannot be answered, with BadRequest and what can."""
    _check_names("metric", question.metrics, METRICS, METRICS_MAX)
    _check_names("dimension", question.dimensions, DIMENSIONS, DIMENSIONS_MAX)
    if not question.metrics:
        raise BadRequest("metrics: name at least one; GET /api/v1/analytics/meta lists them")
    if question.granularity is not None and question.granularity not in GRANULARITIES:
        raise _unknown("granularity", question.granularity, GRANULARITIES)
    if len(question.filters) > FILTERS_MAX:
        raise BadRequest(f"filters: at most {FILTERS_MAX}")
    for one in question.filters:
        _check_filter(one)
    _check_order(question)
    if not 1 <= question.limit <= LIMIT_MAX:
        raise BadRequest(f"limit: must be between 1 and {LIMIT_MAX}")
    if question.group_limit is not None and not 1 <= question.group_limit <= LIMIT_MAX:
        raise BadRequest(f"group_limit: must be between 1 and {LIMIT_MAX}")
    _check_range(question)


def unmeasured(question: Question) -> list[str]:
    """One warning for each metric that is a known name and no fact here."""
    absent = [name for name in question.metrics if METRICS[name].kind is Kind.ABSENT]
    return [f"{name} is not measured by this gateway; it is always 0 or null" for name in absent]


def months(since_s: int, until_s: int) -> list[int]:
    """The beginnings of the months that a range touches, in Unix seconds: the one bucket that arithmetic cannot find."""
    starts, (start, end) = [], Window.MONTH.bounds_s(since_s)
    while end is not None and start < until_s:
        starts.append(start)
        start, end = Window.MONTH.bounds_s(end)
    return starts


def shown_time(granularity: str, start_s: int) -> str:
    """A bucket's beginning as analytics writes it: ``2026-11-26``, with the time where days are too coarse."""
    form = "%Y-%m-%d %H:%M:%S" if granularity in {"minute", "hour"} else "%Y-%m-%d"
    return datetime.fromtimestamp(start_s, UTC).strftime(form)


def _kept(dimension: str) -> bool:
    return DIMENSIONS[dimension].hours is not None


def _rolled(measure: str) -> bool:
    return MEASURES[measure].hours is not None


def _check_names(kind: str, names: Sequence[str], known: Any, most: int) -> None:
    for name in names:
        if name not in known:
            raise _unknown(kind, name, [] if kind == "metric" else known)
    if len(set(names)) != len(names):
        raise BadRequest(f"{kind}s: each {kind} once")
    if len(names) > most:
        raise BadRequest(f"{kind}s: at most {most}")


def _unknown(kind: str, name: str, known: Sequence[str]) -> BadRequest:
    listed = f"; there are {', '.join(known)}" if known else ""
    return BadRequest(
        f"there is no {kind} {name[:_SHOWN]!r}{listed}", remedy="GET /api/v1/analytics/meta lists what can be asked"
    )


def _check_filter(one: Filter) -> None:
    if one.field not in DIMENSIONS:
        raise _unknown("dimension", one.field, list(DIMENSIONS))
    if one.operator not in OPERATORS:
        raise _unknown("operator", one.operator, list(OPERATORS))
    if one.operator not in LISTS and len(one.values) != 1:
        raise BadRequest(f"filters: {one.operator} takes one value; in and not_in take lists")
    if not 1 <= len(one.values) <= VALUES_MAX:
        raise BadRequest(f"filters: a list has between 1 and {VALUES_MAX} values")
    if any(len(value) > VALUE_CHARACTERS_MAX for value in one.values):
        raise BadRequest(f"filters: a value has at most {VALUE_CHARACTERS_MAX} characters")
    if one.include_unset and one.operator not in LISTS:
        raise BadRequest("filters: include_unset goes with in and not_in")
    if one.include_unset and not DIMENSIONS[one.field].optional:
        raise BadRequest(f"filters: every row has a value of {one.field}, so include_unset means nothing")


def _check_order(question: Question) -> None:
    order = question.order
    facts = {name for name in question.metrics if METRICS[name].kind is not Kind.ABSENT}
    sortable = {*facts, *question.dimensions, REQUESTS} | ({DATE} if question.granularity else set())
    if order.field not in sortable:
        raise BadRequest(
            f"order_by: cannot sort by {order.field[:_SHOWN]!r}; there are {', '.join(sorted(sortable))}",
            remedy="sort by a metric or dimension of the question, or with a granularity by date",
        )


def _check_range(question: Question) -> None:
    length_ms = question.until_ms - question.since_ms
    if question.since_ms < 0 or length_ms <= 0:
        raise BadRequest("time_range: the start must come before the end")
    if question.until_ms > LAST_MS:
        raise BadRequest("time_range: must end before the year 9999")
    if length_ms > DAYS_MAX * DAY_MS:
        raise BadRequest(f"time_range: at most {DAYS_MAX} days")
    fine = [question.granularity] if question.granularity in {"minute", "hour"} else []
    detailed = question.detailed + fine
    if detailed and length_ms > DETAIL_DAYS_MAX * DAY_MS:
        raise BadRequest(f"time_range: at most {DETAIL_DAYS_MAX} days together with {', '.join(map(str, detailed))}")
