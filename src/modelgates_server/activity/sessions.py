"""Sessions: what clients did under one session id, newest first, with totals over everything that the session did.

A page goes back over the log (`logs_guide`) as far as it may read and keeps the sessions whose last request lies there; their totals
come from the session's own index. A session that goes on moves to the front, as a newest-first list should have it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.logs_filter import FAILURES, LogFilter, checked
from modelgates_server.activity.logs_guide import BOUNDS, Bounds, Walk
from modelgates_server.activity.measures import Column
from modelgates_server.clock import Clock
from modelgates_server.errors import BadRequest
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.patience import within

PATIENCE_S: Final = 10.0
MANY: Final = 1_000_000
"""A session may be made of any number of receipts: the walk does not stop early."""

NAMES_MAX: Final = 20
"""Models and people of one session that are named."""

_EACH = schema.generations.c
_LATER = schema.generations.alias("later")
_CURSOR: Final = re.compile(r"(\d{1,15})\.(.{0,512})", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class SessionLine:
    """A session and what it did, as far as it may be seen. Amounts in nano-USD, times in Unix milliseconds."""

    session_id: str
    first_at_ms: int
    last_at_ms: int
    requests: int
    failures: int
    prompt_tokens: int
    output_tokens: int
    cost_nusd: int
    byok_cost_nusd: int
    models: tuple[str, ...]
    members: tuple[str, ...]
    app: str | None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions; `older` is the cursor of the next one, None at the end.

    `searched_ms` is set when the page stopped before it was full, because it had read enough.
    """

    lines: tuple[SessionLine, ...]
    older: str | None
    searched_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Last:
    """A session and when its last request was made."""

    at_ms: int
    session_id: str

    @property
    def text(self) -> str:
        return f"{self.at_ms}.{self.session_id}"


def page_sessions(  # noqa: PLR0913 - whose, which, from where, how many, and how much to read for it
    engine: sa.Engine,
    organization_id: str,
    wanted: LogFilter,
    cursor: str | None,
    limit: int,
    clock: Clock,
    bounds: Bounds = BOUNDS,
) -> SessionPage:
    """Give a page of at most `limit` sessions. What `wanted` leaves out counts nowhere: not in totals, nor for who was last.

    Raises BadRequest for a cursor that was not given out here, TookTooLong.
    """
    start = None if not cursor else _position(cursor)
    with reading(engine) as connection, within(connection, PATIENCE_S, clock):
        walk = Walk(connection, organization_id, wanted, bounds, clock=clock)
        search = _Search(connection, organization_id, wanted, start)
        found = search.find(walk, limit + 1)
        lines = search.lines(found[:limit])
    if len(found) > limit:
        return SessionPage(lines, found[limit - 1].text)
    stopped = walk.stopped_at_ms
    return SessionPage(lines, None if stopped is None else _Last(stopped, "").text, stopped)


class _Search:
    """One page's search."""

    def __init__(self, connection: sa.Connection, organization_id: str, wanted: LogFilter, start: _Last | None) -> None:
        self._connection = connection
        self._organization_id = organization_id
        self._wanted = wanted
        self._start = start
        self._fitting = [*wanted.receipts(organization_id), checked(_EACH.session_id).is_not(None)]

    def find(self, walk: Walk, needed: int) -> list[_Last]:
        """Up to `needed` sessions, the last active first."""
        until_ms = self._wanted.until_ms
        if self._start is not None:
            ends_ms = self._start.at_ms + bool(
                self._start.session_id
            )  # of that very time nothing, where there is no id
            until_ms = min(ends_ms, ends_ms if until_ms is None else until_ms)
        found: list[_Last] = []
        for part in walk.slices(self._wanted.since_ms, until_ms, MANY):
            found += self._last_active(part.conditions(self._organization_id), part.until_ms, needed - len(found))
            if len(found) == needed:
                break
        return found

    def _last_active(self, place: list[Column], until_ms: int, needed: int) -> list[_Last]:
        """Sessions whose last request lies in a slice of the log: it has one there, and none after it."""
        last = sa.func.max(_EACH.created_at_ms)
        sessions = (
            sa.select(_EACH.session_id, last.label("at_ms"))
            .where(*place, *self._fitting)
            .group_by(_EACH.session_id)
            .subquery()
        )
        after = self._translated([*self._fitting, *self._times()])
        later = sa.select(sa.literal(1)).where(
            _LATER.c.organization_id == self._organization_id,
            _LATER.c.session_id == sessions.c.session_id,
            _LATER.c.created_at_ms >= until_ms,
            *after,
        )
        query = sa.select(sessions.c.session_id, sessions.c.at_ms).where(~later.exists())
        if self._start is not None:
            at, id_ = sessions.c.at_ms, sessions.c.session_id
            query = query.where(
                sa.or_(at < self._start.at_ms, sa.and_(at == self._start.at_ms, id_ < self._start.session_id))
            )
        query = query.order_by(sessions.c.at_ms.desc(), sessions.c.session_id.desc()).limit(needed)
        return [_Last(row.at_ms, row.session_id) for row in self._connection.execute(query)]

    def _times(self) -> list[Column]:
        times: list[Column] = []
        if self._wanted.since_ms is not None:
            times.append(_EACH.created_at_ms >= self._wanted.since_ms)
        if self._wanted.until_ms is not None:
            times.append(_EACH.created_at_ms < self._wanted.until_ms)
        return times

    @staticmethod
    def _translated(conditions: Sequence[Column]) -> list[Column]:
        """The same conditions on the other name of the table."""
        return [
            sa.sql.visitors.replacement_traverse(
                condition,
                {},
                lambda element, **_: _LATER.c[element.name] if _is_column(element) else None,
            )
            for condition in conditions
        ]

    def lines(self, found: Sequence[_Last]) -> tuple[SessionLine, ...]:
        """Those sessions with their totals, in that order."""
        ids = [last.session_id for last in found]
        if not ids:
            return ()
        mine = [_EACH.organization_id == self._organization_id, _EACH.session_id.in_(ids)]
        mine += [*self._fitting, *self._times()]
        totals = {row["session_id"]: row for row in self._connection.execute(_totals(mine)).mappings()}
        models = self._names(mine, _EACH.model)
        people = self._names(mine, schema.members.c.name)
        return tuple(
            SessionLine(
                models=models.get(id_, ()), members=people.get(id_, ()), **{name: totals[id_][name] for name in _TOTALS}
            )
            for id_ in ids
        )

    def _names(self, mine: Sequence[Column], column: Column) -> dict[str, tuple[str, ...]]:
        """What a column has in each session, without repeating it."""
        query = (
            sa.select(_EACH.session_id, column)
            .select_from(schema.generations)
            .outerjoin(schema.members, schema.members.c.id == _EACH.member_id)
            .where(*mine, column.is_not(None))
            .group_by(_EACH.session_id, column)
            .order_by(_EACH.session_id, sa.func.max(_EACH.created_at_ms).desc(), column)
        )
        names: dict[str, tuple[str, ...]] = {}
        for id_, name in self._connection.execute(query):
            known = names.get(id_, ())
            if name not in known and len(known) < NAMES_MAX:
                names[id_] = (*known, name)
        return names


def _is_column(element: Any) -> bool:
    return isinstance(element, sa.Column) and element.table is schema.generations


_TOTALS: Final = (
    "session_id", "first_at_ms", "last_at_ms", "requests", "failures", "prompt_tokens", "output_tokens", "cost_nusd",
    "byok_cost_nusd", "app",
)  # fmt: skip


def _totals(mine: Sequence[Column]) -> sa.Select[Any]:
    prompt = _EACH.input_tokens + _EACH.cache_read_tokens + _EACH.cache_write_5m_tokens + _EACH.cache_write_1h_tokens
    sums = {
        "failures": sa.case((_EACH.outcome.in_(sorted(FAILURES)), 1), else_=0),
        "prompt_tokens": prompt,
        "output_tokens": _EACH.output_tokens,
        "cost_nusd": _EACH.cost_nusd,
        "byok_cost_nusd": _EACH.byok_cost_nusd,
    }
    return (
        sa.select(
            _EACH.session_id,
            sa.func.min(_EACH.created_at_ms).label("first_at_ms"),
            sa.func.max(_EACH.created_at_ms).label("last_at_ms"),
            sa.func.count().label("requests"),
            sa.func.max(_EACH.app).label("app"),
            *(sa.cast(sa.func.sum(value), sa.BigInteger).label(name) for name, value in sums.items()),
        )
        .where(*mine)
        .group_by(_EACH.session_id)
    )


def _position(cursor: str) -> _Last:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise BadRequest("cursor: this is not one of a page of sessions; begin at its first page")
    return _Last(int(found[1]), found[2])
