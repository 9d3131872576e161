"""Answers to questions about use: what was asked, how long it took, what it cost, by whom (product-surface 2.7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.measures import METRICS, Column, Kind, Metric
from modelgates_server.activity.questions import Question, check, shown_time, unmeasured
from modelgates_server.activity.statements import AT, Piece, pieces, statement
from modelgates_server.clock import Clock
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.patience import within

PATIENCE_S: Final = 10.0
"""Longest time that a question may take."""

_IDS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Answered:
    """What was found. In `rows` money stands under names that end in ``_nusd``, in nano-USD."""

    rows: list[dict[str, Any]]
    truncated: bool
    warnings: list[str]
    query_time_ms: int


@dataclass(frozen=True, slots=True)
class _Named:
    """A dimension whose ids have names: rows show both, the name where scripts look for it, the id as `id_as`."""

    id_as: str
    ids: Column
    organization: Column
    shown: Mapping[str, Column]


_KEYS, _MEMBERS, _PLACES = schema.api_keys.c, schema.members.c, schema.workspaces.c
_NAMED: Final[dict[str, _Named]] = {
    "api_key_id": _Named("api_key_hash", _KEYS.hash, _KEYS.organization_id, {"api_key_id": _KEYS.name}),
    "user": _Named(
        "user_id", _MEMBERS.id, _MEMBERS.organization_id, {"user": _MEMBERS.name, "user_email": _MEMBERS.email}
    ),
    "workspace": _Named("workspace_id", _PLACES.id, _PLACES.organization_id, {"workspace": _PLACES.name}),
}


def ask(
    engine: sa.Engine, organization_id: str, question: Question, clock: Clock, patience_s: float = PATIENCE_S
) -> Answered:
    """Answer from one snapshot. Raises BadRequest, TookTooLong, StoreUnavailable."""
    check(question)
    began_s = clock.monotonic_s()
    with reading(engine) as connection, within(connection, patience_s, clock):
        found = run(connection, organization_id, question, pieces(question, clock.now_s()))
        rows = list(_named(connection, organization_id, question, found[: question.limit]))
        warnings = [*unmeasured(question), *_unknown_ids(connection, organization_id, question)]
    took_ms = round((clock.monotonic_s() - began_s) * 1000)
    return Answered(rows, len(found) > question.limit, warnings, took_ms)


def run(
    connection: sa.Connection, organization_id: str, question: Question, parts: Sequence[Piece]
) -> list[dict[str, Any]]:
    """Give the rows with ids instead of names; one more than the limit when there are more."""
    found = connection.execute(statement(organization_id, question, parts)).mappings()
    return [_row(row, question) for row in found]


def _row(row: sa.RowMapping, question: Question) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if question.granularity is not None:
        shown[f"date__{question.granularity}"] = shown_time(question.granularity, row[AT])
    shown |= {name: row[name] for name in question.dimensions}
    for name in question.metrics:
        metric = METRICS[name]
        shown[f"{name}_nusd" if metric.is_money else name] = _value(metric, row)
    return shown


def _value(metric: Metric, row: sa.RowMapping) -> Any:
    if metric.kind is Kind.ABSENT:
        return 0 if metric.display_format == "number" else None
    value = row[metric.name]
    return value if value is None or metric.scale == 1 else value / metric.scale


def _named(
    connection: sa.Connection, organization_id: str, question: Question, rows: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Put names where the ids were, and the ids beside them."""
    names = {
        dimension: _names(connection, organization_id, _NAMED[dimension], {row[dimension] for row in rows} - {None})
        for dimension in question.dimensions
        if dimension in _NAMED
    }
    for row in rows:
        shown = dict(row)
        for dimension, known in names.items():
            named, found = _NAMED[dimension], row[dimension]
            shown[named.id_as] = found
            shown |= known.get(found) or {name: found if name == dimension else None for name in named.shown}
        yield shown


def _names(
    connection: sa.Connection, organization_id: str, named: _Named, ids: set[str]
) -> dict[str, dict[str, str | None]]:
    wanted, found = sorted(ids), {}
    columns = [column.label(name) for name, column in named.shown.items()]
    for start in range(0, len(wanted), _IDS_AT_ONCE):
        some = named.ids.in_(wanted[start : start + _IDS_AT_ONCE])
        query = sa.select(named.ids.label("id"), *columns).where(named.organization == organization_id, some)
        for row in connection.execute(query).mappings():
            found[row["id"]] = {name: row[name] for name in named.shown}
    return found


def _unknown_ids(connection: sa.Connection, organization_id: str, question: Question) -> Iterator[str]:
    """Warn of ids in filters that nobody of the organisation has: they fit no row, and that may be a slip."""
    for one in question.filters:
        named = _NAMED.get(one.field)
        if named is None or one.operator not in {"eq", "in"}:
            continue
        known = _names(connection, organization_id, named, set(one.values))
        for value in one.values:
            if value not in known:
                yield f"{one.field} {value[:100]!r} is not known here; it fits no row"
