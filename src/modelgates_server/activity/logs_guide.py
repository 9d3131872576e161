"""Finding the few among millions: days and hours that add receipts up tell where those that fit can be, so that only these are read.

A walk goes over the log in one direction and gives slices of it, each small enough to be read at once. What one page may read is
bounded, and how long it may look: where a walk stops before the end, it says how far it came, and the next page goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.logs_filter import FAILURES, LogFilter, checked
from modelgates_server.activity.measures import Column
from modelgates_server.clock import Clock
from modelgates_server.storage import schema

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
KEYS_MAX: Final = 1_000
"""With more keys than this, a statement that names them is no short cut any more."""

THIN: Final = 4
"""When fewer than one in so many receipts of some days fit, they are read by the keys that have them."""

_EACH = schema.generations.c
_HOURS = schema.activity_hours.c
_DAYS = schema.activity_days.c


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one page may read: receipts at once (about) and in all, stretches, and rows of days and hours at once and in all.

    After `hurry_s` nothing more is begun: receipts that are not in memory come from the disk, ten times as slowly.
    """

    rows_at_once: int = 5_000
    rows_max: int = 50_000
    stretches_max: int = 200
    sums_at_once: int = 20_000
    sums_max: int = 400_000
    hurry_s: float = 0.15


BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the log to be read at once: from `since_ms` until before `until_ms`; with `keys`, only receipts of those."""

    since_ms: int
    until_ms: int
    keys: list[str] | None

    def conditions(self, organization_id: str) -> list[Column]:
        """Conditions for the receipts in it; those of the filter come on top."""
        between = [_EACH.created_at_ms >= self.since_ms, _EACH.created_at_ms < self.until_ms]
        return [*LogFilter.place(organization_id, self.keys), *between]


@dataclass(frozen=True, slots=True)
class _Day:
    """A day that may hold what fits; with `keys`, only receipts of those can."""

    starts_at_s: int
    keys: list[str] | None


@dataclass(frozen=True, slots=True)
class _Hour:
    """An hour that may hold what fits: how many of its receipts may, and how many have to be looked at."""

    starts_at_s: int
    fits: int
    all: int


class Walk:
    """A walk over an organisation's log between two times (Unix milliseconds, the end exclusive), newest or oldest first.

    Without a `clock` it never hurries.
    """

    def __init__(
        self,
        connection: sa.Connection,
        organization_id: str,
        wanted: LogFilter,
        bounds: Bounds = BOUNDS,
        *,
        newest_first: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock
        self._began_s = 0.0 if clock is None else clock.monotonic_s()
        self._given = False
        self._connection = connection
        self._organization_id = organization_id
        self._wanted = wanted
        self._bounds = bounds
        self._newest_first = newest_first
        self._rows_left = bounds.rows_max
        self._sums_left = bounds.sums_max
        self._stretches_left = bounds.stretches_max
        self.stopped_at_ms: int | None = None
        """Where the walk stopped because it had read enough: what lies behind is unread. None when it came to the end."""

    def slices(self, since_ms: int | None, until_ms: int | None, needed: int) -> Iterator[Slice]:
        """Give what is to be read, one after the other; stop asking when `needed` receipts were found."""
        first_s, end_s = self._ends(since_ms, until_ms)
        since_ms = first_s * 1000 if since_ms is None else since_ms
        until_ms = end_s * 1000 if until_ms is None else until_ms
        for day in self._days(first_s, end_s):
            for stretch in self._stretches(day, first_s, end_s, needed):
                if self._stretches_left <= 0:
                    self.stopped_at_ms = _ending(stretch) * 1000 if self._newest_first else _beginning(stretch) * 1000
                    return
                self._stretches_left -= 1
                for since_s, until_s, cost in self._together(stretch):
                    yield from self._read(max(since_ms, since_s * 1000), min(until_ms, until_s * 1000), day.keys, cost)
                    if self.stopped_at_ms is not None:
                        return

    # Where to look.

    def _ends(self, since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
        """The beginning of the first and the end of the last hour that can have anything (Unix seconds)."""
        within = self._own(_HOURS)
        if since_ms is not None:
            within.append(_HOURS.hour_s >= since_ms // 1000 // HOUR_S * HOUR_S)
        if until_ms is not None:
            within.append(_HOURS.hour_s <= (until_ms - 1) // 1000)
        first, last = (
            sa.select(edge(_HOURS.hour_s)).where(*within).scalar_subquery() for edge in (sa.func.min, sa.func.max)
        )
        row = self._connection.execute(sa.select(first.label("first"), last.label("last"))).one()
        return (0, 0) if row.first is None else (row.first, row.last + HOUR_S)

    def _days(self, first_s: int, end_s: int) -> Iterator[_Day]:
        """Days that may hold what fits, in the walk's direction: looked up for a few days at first, then for as many as is quick."""
        count, edge_s = 2, end_s if self._newest_first else first_s
        while first_s < end_s:
            if self._newest_first:
                window = (max(first_s, (edge_s - 1) // DAY_S * DAY_S - (count - 1) * DAY_S), edge_s)
            else:
                window = (edge_s, min(end_s, edge_s // DAY_S * DAY_S + count * DAY_S))
            rows, days = self._fitting_days(*window)
            yield from days
            edge_s = window[0] if self._newest_first else window[1]
            if edge_s == (first_s if self._newest_first else end_s):
                return
            if self._sums_left <= 0:
                self.stopped_at_ms = edge_s * 1000
                return
            count = max(1, min(count * 8, count * self._bounds.sums_at_once // max(1, rows)))

    def _fitting_days(self, starts_at_s: int, ends_at_s: int) -> tuple[int, list[_Day]]:
        """The days of a window that may hold what fits; and how many rows had to be looked at for that."""
        within = [*self._own(_DAYS), _DAYS.day_s > starts_at_s - DAY_S, _DAYS.day_s < ends_at_s]
        query = (
            sa.select(
                _DAYS.day_s,
                _total(self._fits(_DAYS)).label("fits"),
                _total(_DAYS.requests).label("all"),
                sa.func.count().label("rows"),
            )
            .where(*within)
            .group_by(_DAYS.day_s)
            .order_by(_DAYS.day_s.desc() if self._newest_first else _DAYS.day_s)
        )
        found = self._connection.execute(query).all()
        rows, fits = sum(row.rows for row in found), sum(row.fits for row in found)
        self._sums_left -= rows
        keys = None if self._wanted.key_hash is None else [self._wanted.key_hash]
        if keys is None and 0 < fits * THIN < sum(row.all for row in found):
            fitting = sa.select(_DAYS.key_hash).where(*within, self._fitting(_DAYS)).distinct().limit(KEYS_MAX + 1)
            some = list(self._connection.execute(fitting).scalars())
            keys = some if len(some) <= KEYS_MAX else None
        return rows, [_Day(row.day_s, keys) for row in found if row.fits > 0]

    def _stretches(self, day: _Day, first_s: int, end_s: int, needed: int) -> Iterator[list[_Hour]]:
        """Hours of a day that may hold what fits, as many together as are read at once, in the walk's direction."""
        stretch: list[_Hour] = []
        for hour in self._hours(day, max(first_s, day.starts_at_s), min(end_s, day.starts_at_s + DAY_S)):
            gap = bool(stretch) and abs(hour.starts_at_s - stretch[-1].starts_at_s) > HOUR_S
            enough = sum(one.all for one in stretch) >= self._bounds.rows_at_once or (
                self._wanted.exact and sum(one.fits for one in stretch) >= needed
            )
            if stretch and (enough or gap):
                yield stretch
                stretch = []
            stretch.append(hour)
        if stretch:
            yield stretch

    def _hours(self, day: _Day, starts_at_s: int, ends_at_s: int) -> list[_Hour]:
        within = self._own(_HOURS)
        if day.keys is not None:
            within = [checked(_HOURS.organization_id) == self._organization_id, _HOURS.key_hash.in_(day.keys)]
        query = (
            sa.select(
                _HOURS.hour_s,
                _total(self._fits(_HOURS)).label("fits"),
                _total(_HOURS.requests).label("all"),
                sa.func.count().label("rows"),
            )
            .where(*within, _HOURS.hour_s >= starts_at_s, _HOURS.hour_s < ends_at_s)
            .group_by(_HOURS.hour_s)
            .order_by(_HOURS.hour_s.desc() if self._newest_first else _HOURS.hour_s)
        )
        rows = self._connection.execute(query).all()
        self._sums_left -= sum(row.rows for row in rows)
        return [_Hour(row.hour_s, row.fits, row.all) for row in rows if row.fits > 0]

    # What to read there.

    def _together(self, stretch: Iterable[_Hour]) -> Iterator[tuple[int, int, int]]:
        """Hours that are read at once: beginning, end, and how many receipts that are."""
        run: tuple[int, int, int] | None = None
        for hour in stretch:
            if run is not None and run[2] + hour.all > self._bounds.rows_at_once:
                yield run
                run = None
            first, end, cost = run or (hour.starts_at_s, hour.starts_at_s + HOUR_S, 0)
            run = (min(first, hour.starts_at_s), max(end, hour.starts_at_s + HOUR_S), cost + hour.all)
        if run is not None:
            yield run

    def _read(self, since_ms: int, until_ms: int, keys: list[str] | None, cost: int) -> Iterator[Slice]:
        """A part in one slice; an hour that alone has too many receipts in several."""
        while since_ms < until_ms:
            if self._rows_left <= 0 or self._late():
                self.stopped_at_ms = until_ms if self._newest_first else since_ms
                return
            self._given = True
            edge_ms = self._edge(since_ms, until_ms, keys) if cost > self._bounds.rows_at_once else None
            self._rows_left -= min(cost, self._bounds.rows_at_once)
            if edge_ms is None:
                yield Slice(since_ms, until_ms, keys)
                return
            cost -= self._bounds.rows_at_once
            if self._newest_first:
                yield Slice(edge_ms, until_ms, keys)
                until_ms = edge_ms
            else:
                yield Slice(since_ms, edge_ms + 1, keys)
                since_ms = edge_ms + 1

    def _late(self) -> bool:
        """Whether it has looked long enough; not before it gave anything, or no page would come further."""
        if self._clock is None or not self._given:
            return False
        return self._clock.monotonic_s() - self._began_s > self._bounds.hurry_s

    def _edge(self, since_ms: int, until_ms: int, keys: list[str] | None) -> int | None:
        """When the last receipt happened that is read at once; None when all of them are."""
        order = _EACH.created_at_ms.desc() if self._newest_first else _EACH.created_at_ms.asc()
        within = Slice(since_ms, until_ms, keys).conditions(self._organization_id)
        last = self._bounds.rows_at_once - 1
        query = sa.select(_EACH.created_at_ms).where(*within).order_by(order).offset(last).limit(1)
        found: int | None = self._connection.execute(query).scalar_one_or_none()
        return found

    def _own(self, table: Any) -> list[Column]:
        """Conditions for the roll-ups that are looked at: the organisation's, or those of the one key that is asked for."""
        if self._wanted.key_hash is None:
            return [table.organization_id == self._organization_id]
        return [table.organization_id == self._organization_id, table.key_hash == self._wanted.key_hash]

    def _fitting(self, table: Any) -> Column:
        """The condition for roll-ups that may hold what fits."""
        return sa.and_(sa.true(), *self._wanted.added_up(self._organization_id, table))

    def _fits(self, table: Any) -> Column:
        """How many receipts of a roll-up may fit."""
        counted = table.failures if self._wanted.outcome in FAILURES else table.requests
        return sa.case((self._fitting(table), counted), else_=0)


def _beginning(stretch: Iterable[_Hour]) -> int:
    return min(hour.starts_at_s for hour in stretch)


def _ending(stretch: Iterable[_Hour]) -> int:
    return max(hour.starts_at_s for hour in stretch) + HOUR_S


def _total(value: Any) -> Column:
    """A sum as a whole number: PostgreSQL makes a decimal of it."""
    return sa.cast(sa.func.sum(value), sa.BigInteger)
