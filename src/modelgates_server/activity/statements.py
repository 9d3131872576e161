"""A question to analytics as one SQL statement, the same for SQLite and PostgreSQL.

It is made in layers, each a SELECT over the one before: the facts (from roll-ups, generations, or both), the bucket of time that
each belongs to, its place among the others of its group where a quantile asks for that, the groups, and the rows that are shown.
Only columns of the schema and our own labels become part of the text; whatever people wrote is bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.measures import DIMENSIONS, LISTS, MEASURES, METRICS, OPERATORS, Column, Kind, Metric
from modelgates_server.activity.questions import DATE, HOUR_MS, Filter, Question, months
from modelgates_server.storage import schema

AT: Final = "at"
"""The label of a row's bucket of time (Unix seconds); dimensions and metrics have their own names."""

_SECONDS: Final = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_MONDAY_S: Final = 3 * 86_400
"""Unix time began on a Thursday: weeks begin three days before its multiples."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the range of time, and the table that is read for it."""

    hours: bool
    since_ms: int
    until_ms: int


def pieces(question: Question, now_s: float) -> list[Piece]:
    """Cut the range so that roll-ups serve all full hours, and generations only what is left, or what roll-ups do not know.

    The current hour counts as full when the range goes on until now: nothing has happened after now.
    """
    since_ms, until_ms = question.since_ms, question.until_ms
    whole = [Piece(hours=False, since_ms=since_ms, until_ms=until_ms)]
    if question.detailed or question.granularity == "minute":
        return whole
    first_ms = -(-since_ms // HOUR_MS) * HOUR_MS
    ending_ms = -(-until_ms // HOUR_MS) * HOUR_MS
    last_ms = ending_ms if until_ms >= now_s * 1000 else until_ms // HOUR_MS * HOUR_MS
    if first_ms >= last_ms:
        return whole
    edges = [(since_ms, first_ms), (last_ms, until_ms)]
    return [
        Piece(hours=True, since_ms=first_ms, until_ms=last_ms),
        *(Piece(hours=False, since_ms=start, until_ms=end) for start, end in edges if start < end),
    ]


def statement(organization_id: str, question: Question, parts: Sequence[Piece]) -> sa.Select[Any]:
    """Give the statement: columns `AT` when there is a granularity, each dimension, each metric that we have data for.

    It gives one row more than the question's limit when there are more.
    """
    measured = [METRICS[name] for name in question.measured if METRICS[name].kind is not Kind.ABSENT]
    facts = sa.union_all(*(_facts(organization_id, question, measured, part) for part in parts)).subquery()
    keys = [*([AT] if question.granularity else []), *question.dimensions]
    timed = _timed(facts, question).subquery()
    placed = _placed(timed, keys, measured).subquery()
    groups = sa.select(*(placed.c[key] for key in keys), *(_metric(one, placed).label(one.name) for one in measured))
    grouped = groups.group_by(*(placed.c[key] for key in keys)).subquery()
    if question.group_limit is not None and question.granularity and question.dimensions:
        grouped = _first_of_each(grouped, question, keys).subquery()
    shown = sa.select(*(grouped.c[name] for name in [*keys, *(one.name for one in measured)]))
    return shown.order_by(*_ordering(grouped, question, keys)).limit(question.limit + 1)


def _facts(organization_id: str, question: Question, measured: Sequence[Metric], part: Piece) -> sa.Select[Any]:
    table = schema.activity_hours if part.hours else schema.generations
    when, unit_ms = (table.c.hour_s, 1000) if part.hours else (table.c.created_at_ms, 1)
    names = sorted({"requests", *(name for one in measured for name in one.measures)})
    columns = [
        (when if part.hours else when // 1000).label(AT),
        *(_dimension(name, part).label(name) for name in question.dimensions),
        *(_measure(name, part).label(f"of_{name}") for name in names),
    ]
    conditions = [
        table.c.organization_id == organization_id,
        when >= part.since_ms // unit_ms,
        when < part.until_ms // unit_ms,
        *(_condition(one, part) for one in question.filters),
    ]
    return sa.select(*columns).select_from(table).where(*conditions)


def _dimension(name: str, part: Piece) -> Column:
    dimension = DIMENSIONS[name]
    found = dimension.hours if part.hours else dimension.each
    if found is None:
        raise LookupError(name)
    return found


def _measure(name: str, part: Piece) -> Column:
    measure = MEASURES[name]
    found = measure.hours if part.hours else measure.each
    if found is None:
        raise LookupError(name)
    return found


def _condition(one: Filter, part: Piece) -> Column:
    column = _dimension(one.field, part)
    value = list(one.values) if one.operator in LISTS else one.values[0]
    holds = OPERATORS[one.operator](column, value)
    return sa.or_(holds, column.is_(None)) if one.include_unset else holds


def _timed(facts: sa.Subquery, question: Question) -> sa.Select[Any]:
    others = [column for column in facts.c if column.key != AT]
    if question.granularity is None:
        return sa.select(*others)
    return sa.select(_bucket(facts.c[AT], question).label(AT), *others)


def _bucket(at_s: Column, question: Question) -> Column:
    if question.granularity == "month":
        starts = months(question.since_ms // 1000, -(-question.until_ms // 1000))
        branches = [(at_s < end, sa.literal(start, sa.BigInteger)) for start, end in pairwise(starts)]
        last = sa.literal(starts[-1], sa.BigInteger)
        return sa.case(*branches, else_=last) if branches else last
    size_s = _SECONDS[question.granularity or "day"]
    shift_s = _MONDAY_S if question.granularity == "week" else 0
    return at_s - (at_s + shift_s) % size_s


def _placed(timed: sa.Subquery, keys: Sequence[str], measured: Sequence[Metric]) -> sa.Select[Any]:
    """Rows with their place in the order of a measure, and how many have it at all: nearest-rank quantiles need no more."""
    ranked = dict.fromkeys(one.of[0] for one in measured if one.kind is Kind.QUANTILE)
    group = [timed.c[key] for key in keys] or None
    columns: list[Column] = []
    for name in ranked:
        value = timed.c[f"of_{name}"]
        columns += [
            sa.func.row_number().over(partition_by=group, order_by=value.asc().nulls_last()).label(f"place_{name}"),
            sa.func.count(value).over(partition_by=group).label(f"count_{name}"),
        ]
    return sa.select(*timed.c, *columns)


def _metric(metric: Metric, rows: sa.Subquery) -> Column:
    values = [rows.c[f"of_{name}"] for name in metric.of]
    if metric.kind is Kind.SUM:
        return _total(values)
    if metric.kind is Kind.COMPONENT:
        return sa.func.nullif(_total(values), 0)
    if metric.kind is Kind.RATIO:
        return _real(_total(values)) / _real(sa.func.nullif(_total([rows.c[f"of_{name}"] for name in metric.per]), 0))
    if metric.kind is Kind.AVERAGE:
        return _real(_total(values)) / _real(sa.func.nullif(sa.func.count(values[0]), 0))
    place, count = rows.c[f"place_{metric.of[0]}"], rows.c[f"count_{metric.of[0]}"]
    return sa.func.min(sa.case((place * 100 >= count * metric.quantile, values[0])))


def _total(values: Sequence[Column]) -> Column:
    sums = [sa.func.coalesce(sa.func.sum(value), 0) for value in values]
    return sa.cast(sum(sums[1:], sums[0]), sa.BigInteger)


def _real(value: Column) -> Column:
    return sa.cast(value, sa.Double)


def _first_of_each(grouped: sa.Subquery, question: Question, keys: Sequence[str]) -> sa.Select[Any]:
    """The first `group_limit` rows of each combination of dimensions."""
    place = sa.func.row_number().over(
        partition_by=[grouped.c[name] for name in question.dimensions],
        order_by=list(_ordering(grouped, question, keys)),
    )
    numbered = sa.select(*grouped.c, place.label("place")).subquery()
    kept = [column for column in numbered.c if column.key != "place"]
    return sa.select(*kept).where(numbered.c.place <= question.group_limit)


def _ordering(rows: sa.Subquery, question: Question, keys: Sequence[str]) -> Iterator[Any]:
    """What was asked for, then every key: the same rows always come in the same order. Nulls come last."""
    order = question.order
    first = AT if order.field == DATE else order.field
    column = rows.c[first]
    yield (column.desc() if order.descending else column.asc()).nulls_last()
    for key in keys:
        if key != first:
            yield (rows.c[key].desc() if key == AT else rows.c[key].asc()).nulls_last()
