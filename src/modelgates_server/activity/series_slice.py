"""What Activity is asked for: which stretch of time in which steps, grouped by what, of whom. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final

from modelgates_server.errors import BadRequest

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
BACK_MAX: Final = 200_000
"""Two hundred thousand hours are 22 years: nobody's history is longer."""


class Period(StrEnum):
    """How much time is shown, up to now: in steps of a minute, an hour, a day, a day, a month."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class By(StrEnum):
    """What use can be grouped and filtered by."""

    MODEL = "model"
    PROVIDER = "provider"
    KEY = "key"
    MEMBER = "member"
    WORKSPACE = "workspace"
    APP = "app"


class Metric(StrEnum):
    """What is drawn: credits and own provider keys together, all tokens, or requests."""

    SPEND = "spend"
    TOKENS = "tokens"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class Slice:
    """A cut through an organisation's use.

    `back` is how many periods before the current one. `filters` are values that must fit; an empty one means that there is none:
    no provider answered, the key is nobody's, no app was named. `only_member_id` is whose use may be seen; None for all.
    """

    period: Period = Period.MONTH
    back: int = 0
    group: By | None = By.MODEL
    metric: Metric = Metric.SPEND
    filters: Mapping[By, str] = field(default_factory=dict)
    only_member_id: str | None = None

    def involves(self, by: By) -> bool:
        """Whether grouping or filtering needs to know it."""
        return by is self.group or by in self.filters


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in steps. `starts_s` are the beginnings of the steps, all UTC; `step` is their kind.

    `before_since_ms` and `before_until_ms` bound the stretch that it is compared with: the one before, as long as this one has
    lasted until now.
    """

    starts_s: tuple[int, ...]
    until_s: int
    step: str
    before_since_ms: int
    before_until_ms: int

    @property
    def since_s(self) -> int:
        """The beginning."""
        return self.starts_s[0]

    @property
    def edges_s(self) -> list[tuple[int, int]]:
        """Each step's beginning and end."""
        return list(pairwise((*self.starts_s, self.until_s)))


_STEPS: Final = {
    Period.HOUR: ("minute", MINUTE_S, 60),
    Period.DAY: ("hour", HOUR_S, 24),
    Period.WEEK: ("day", DAY_S, 7),
    Period.MONTH: ("day", DAY_S, 30),
}
"""The kind of step, its seconds, and how many there are; the months of a year are counted apart."""

_MONTHS: Final = 12


def span_of(period: Period, back: int, now_s: float) -> Span:
    """Give the stretch of a period: the current step is its last. Raises BadRequest for one before 1970."""
    if period is Period.YEAR:
        return _year(back, now_s)
    step, size_s, count = _STEPS[period]
    length_s = size_s * count
    until_s = (int(now_s) // size_s + 1) * size_s - back * length_s
    since_s = until_s - length_s
    if since_s < length_s:
        raise _too_early()
    before_until_ms = since_s * 1000 if back else int(now_s * 1000) - length_s * 1000
    return Span(tuple(range(since_s, until_s, size_s)), until_s, step, (since_s - length_s) * 1000, before_until_ms)


def _year(back: int, now_s: float) -> Span:
    now = datetime.fromtimestamp(now_s, UTC)
    current = now.year * _MONTHS + now.month - 1
    first = current - (back + 1) * _MONTHS + 1
    if first - _MONTHS < 1970 * _MONTHS:
        raise _too_early()
    starts_s = tuple(month_s(first + place) for place in range(_MONTHS))
    before_until_ms = starts_s[0] * 1000
    if not back:
        passed_ms = int(now_s * 1000) - month_s(current) * 1000
        same_ms = month_s(current - _MONTHS) * 1000
        before_until_ms = min(before_until_ms, same_ms + passed_ms)
    return Span(starts_s, month_s(first + _MONTHS), "month", month_s(first - _MONTHS) * 1000, before_until_ms)


def month_s(number: int) -> int:
    """The beginning of a month, counted from the year 0 on, as Unix seconds."""
    return int(datetime(number // _MONTHS, number % _MONTHS + 1, 1, tzinfo=UTC).timestamp())


def _too_early() -> BadRequest:
    return BadRequest("There is no activity that long ago.", remedy="go back by fewer periods")
