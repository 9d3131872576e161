"""Where Activity's numbers come from: the coarsest of three tables that knows what is asked, so that a year is read in a blink.

Days know everything that is grouped by. Hours do not know the app; each receipt knows all, and is read for minutes, for hours by
app, and for the ends of stretches that are no full hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.expression import ColumnClause

from modelgates_server.activity.series_slice import DAY_S, HOUR_S, By, Period, Slice, Span
from modelgates_server.storage import schema

Column = sa.ColumnElement[Any]
Sums = tuple[int, ...]
"""Sums in the order of `MEASURES`."""

MEASURES: Final = (
    "requests", "failures", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "thinking_tokens",
    "cost_nusd", "byok_cost_nusd",
)  # fmt: skip
_TOTALS: Final = (
    ("cost_nusd", "byok_cost_nusd"),
    ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"),
    ("requests",),
)
NOTHING: Final[Sums] = (0,) * len(MEASURES)

_EACH = schema.generations.c
_HOURS = schema.activity_hours.c
_DAYS = schema.activity_days.c
_NONE: Column = sa.literal_column("''")
_ONE: Column = sa.literal_column("1")


@dataclass(frozen=True, slots=True)
class Source:
    """A table of use: its column of time in `unit_ms`, what it can group by, and what it sums up."""

    table: sa.Table
    when: Column
    unit_ms: int
    by: Mapping[By, Column]
    measures: Mapping[str, Column]

    @property
    def organization_id(self) -> Column:
        return self.table.c.organization_id


def _columns(columns: Any) -> dict[By, Column]:
    names = {By.MODEL: "model", By.PROVIDER: "provider", By.KEY: "key_hash", By.MEMBER: "member_id",
             By.WORKSPACE: "workspace_id", By.APP: "app"}  # fmt: skip
    return {by: columns[name] for by, name in names.items() if name in columns}


EACH: Final = Source(
    schema.generations,
    _EACH.created_at_ms,
    1,
    _columns(_EACH),
    {name: _EACH[name] for name in MEASURES if name in _EACH}
    | {
        "requests": _ONE,
        "failures": sa.case((_EACH.outcome.in_(("failed", "broken")), _ONE), else_=sa.literal_column("0")),
        "cache_write_tokens": _EACH.cache_write_5m_tokens + _EACH.cache_write_1h_tokens,
    },
)
HOURS: Final = Source(
    schema.activity_hours, _HOURS.hour_s, 1000, _columns(_HOURS), {name: _HOURS[name] for name in MEASURES}
)
DAYS: Final = Source(schema.activity_days, _DAYS.day_s, 1000, _columns(_DAYS), {name: _DAYS[name] for name in MEASURES})


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of time (Unix milliseconds) and the table that is read for it."""

    source: Source
    since_ms: int
    until_ms: int

    def conditions(self, organization_id: str, wanted: Slice) -> list[Column]:
        """Conditions for its rows. An empty value of a filter stands for none."""
        source, unit_ms = self.source, self.source.unit_ms
        fitting = [
            source.organization_id == organization_id,
            source.when >= self.since_ms // unit_ms,
            source.when < self.until_ms // unit_ms,
        ]
        for by, value in wanted.filters.items():
            column = source.by[by]
            fitting.append(column == value if value else sa.or_(column.is_(None), column == value))
        if wanted.only_member_id is not None:
            fitting.append(source.by[By.MEMBER] == wanted.only_member_id)
        return fitting


def source_of(wanted: Slice) -> Source:
    """The coarsest table that has the steps of a period."""
    if wanted.period is Period.HOUR:
        return EACH
    if wanted.period is Period.DAY:
        return EACH if wanted.involves(By.APP) else HOURS
    return DAYS


def parts_of(wanted: Slice, since_ms: int, until_ms: int) -> Iterator[Part]:
    """Cut a stretch that begins with a step: full days or hours where their tables know what is asked, receipts for the rest."""
    sources = [(DAYS, DAY_S * 1000)] if source_of(wanted) is DAYS else []
    if source_of(wanted) is not EACH and not wanted.involves(By.APP):
        sources.append((HOURS, HOUR_S * 1000))
    for source, size_ms in sources:
        edge_ms = until_ms // size_ms * size_ms
        if since_ms < edge_ms:
            yield Part(source, since_ms, edge_ms)
            since_ms = edge_ms
    if since_ms < until_ms:
        yield Part(EACH, since_ms, until_ms)


def in_steps(organization_id: str, wanted: Slice, span: Span) -> sa.Select[Any] | sa.CompoundSelect[Any]:
    """A statement for rows of step (its number), group, and `MEASURES`; a row without sums says nothing.

    Steps of one length are counted. Months are asked one by one: each is sorted into its groups apart, which is faster, too.
    """
    source, edges_s = source_of(wanted), span.edges_s
    group = _group(source, wanted.group)
    if wanted.period is Period.YEAR:
        months = [
            _grouped(organization_id, wanted, Part(source, since_s * 1000, until_s * 1000), _number(place), group)
            for place, (since_s, until_s) in enumerate(edges_s)
        ]
        return sa.union_all(*months)
    part = Part(source, span.since_s * 1000, span.until_s * 1000)
    passed = source.when - _number(part.since_ms // source.unit_ms)
    step = passed // _number((edges_s[0][1] - edges_s[0][0]) * 1000 // source.unit_ms)
    return _grouped(organization_id, wanted, part, step, group)


def _group(source: Source, by: By | None) -> Column:
    if by is None:
        return _NONE
    column = source.by[by]
    nullable = isinstance(column, sa.Column) and bool(column.nullable)
    return sa.func.coalesce(column, _NONE) if nullable else column


def _grouped(organization_id: str, wanted: Slice, part: Part, step: Column, group: Column) -> sa.Select[Any]:
    """Databases sort rows by what they are grouped by: a constant is none of it."""
    conditions = part.conditions(organization_id, wanted)
    sums = _sums(part.source.measures)
    found = sa.select(step.label("step"), group.label("group"), *sums).where(*conditions)
    return found.group_by(*(key for key in (step, group) if not (isinstance(key, ColumnClause) and key.is_literal)))


def _number(value: int) -> ColumnClause[Any]:
    """A number of ours as text of the statement: equal expressions must look equal to PostgreSQL."""
    return sa.literal_column(str(value))


def total(connection: sa.Connection, organization_id: str, wanted: Slice, parts: Sequence[Part]) -> Sums:
    """What some stretches make together: spend in nano-USD, tokens, requests."""
    found: Sums = (0, 0, 0)
    for part in parts:
        kept = part.source.measures
        sums = [_sum(sum((kept[name] for name in names[1:]), kept[names[0]])) for names in _TOTALS]
        row = connection.execute(sa.select(*sums).where(*part.conditions(organization_id, wanted))).one()
        found = plus(found, row)
    return found


def plus(one: Sequence[int | None], other: Sequence[int | None]) -> Sums:
    """Two sums added up; the sum of no rows at all is null."""
    return tuple((first or 0) + (second or 0) for first, second in zip(one, other, strict=True))


def _sums(columns: Any) -> list[Column]:
    return [_sum(columns[name]).label(name) for name in MEASURES]


def _sum(value: Column) -> Column:
    """A sum as a whole number: PostgreSQL makes a decimal of it."""
    return sa.cast(sa.func.sum(value), sa.BigInteger)
