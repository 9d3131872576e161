"""The log: every request as a line, newest first, a page at a time, in both directions, however many there are.

Pages go by key (time and id), so that they neither repeat nor miss a line whatever comes in between. What one page may read is
bounded (`logs_guide`): a filter that hardly anything meets gives a short page that says how far it was searched, and goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from modelgates_server.activity.logs_filter import LogFilter, checked
from modelgates_server.activity.logs_guide import BOUNDS, Bounds, Walk
from modelgates_server.activity.measures import Column
from modelgates_server.activity.timeline import tokens_per_s
from modelgates_server.clock import Clock
from modelgates_server.errors import BadRequest
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.patience import within

PATIENCE_S: Final = 10.0
"""No page needs it; it is there for a disk that is slow."""

OLDER, NEWER = "o", "n"

_EACH = schema.generations.c
_CURSOR: Final = re.compile(r"([on])(\d{1,15})\.([0-9A-Za-z_-]{0,100})", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One request as the log shows it. `key_name` and `member_name` are None when there is none (any more).

    `prompt_tokens` are all that went in, also from and to caches; `tries` are the attempts that it took.
    """

    id: str
    created_at_ms: int
    model: str
    provider: str | None
    workspace_id: str
    key_hash: str
    key_name: str | None
    key_label: str | None
    member_id: str | None
    member_name: str | None
    app: str | None
    session_id: str | None
    external_user: str | None
    prompt_tokens: int
    output_tokens: int
    thinking_tokens: int
    cache_read_tokens: int
    cost_nusd: int
    byok_cost_nusd: int
    estimated: bool
    latency_ms: int | None
    generation_ms: int | None
    tokens_per_s: int | None
    tries: int
    streamed: bool
    outcome: str
    finish_reason: str | None
    has_feedback: bool


@dataclass(frozen=True, slots=True)
class LogPage:
    """A page of the log. `newer` and `older` are cursors, None when there is nothing that way.

    `searched_ms` is set when the page stopped before it was full, because it had read enough: nothing beyond that time was looked at.
    """

    lines: tuple[LogLine, ...]
    newer: str | None
    older: str | None
    searched_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Position:
    """A place in the log, and which way to go from there; what has this time and id itself is left out."""

    way: str
    at_ms: int
    id: str

    @property
    def text(self) -> str:
        return f"{self.way}{self.at_ms}.{self.id}"

    @property
    def ends_ms(self) -> int:
        """The end (exclusive) of what can lie before it: of that very time nothing, where there is no id."""
        return self.at_ms + bool(self.id)

    @property
    def beyond(self) -> Column:
        at, id_ = _EACH.created_at_ms, _EACH.id
        if self.way == OLDER:
            return sa.or_(at < self.at_ms, sa.and_(at == self.at_ms, id_ < self.id))
        return sa.or_(at > self.at_ms, sa.and_(at == self.at_ms, id_ > self.id))


def page_logs(  # noqa: PLR0913 - whose, which, from where, how many, and how much to read for it
    engine: sa.Engine,
    organization_id: str,
    wanted: LogFilter,
    cursor: str | None,
    limit: int,
    clock: Clock,
    bounds: Bounds = BOUNDS,
) -> LogPage:
    """Give a page of at most `limit` lines. Raises BadRequest for a cursor that was not given out here, TookTooLong."""
    start = None if not cursor else _position(cursor)
    with reading(engine) as connection, within(connection, PATIENCE_S, clock):
        search = _Search(connection, organization_id, wanted, start, bounds, clock)
        found = search.find(limit + 1)
        lines = _lines(connection, organization_id, found[:limit])
    full = len(found) > limit
    newest_first = start is None or start.way == OLDER
    if not newest_first:
        lines = lines[::-1]
    onward = _onward(newest_first, lines, full, search.stopped_at_ms)
    back = _back(start, lines)
    stopped = search.stopped_at_ms if not full else None
    return LogPage(lines, back, onward, stopped) if newest_first else LogPage(lines, onward, back, stopped)


def _onward(newest_first: bool, lines: Sequence[LogLine], full: bool, stopped_at_ms: int | None) -> str | None:  # noqa: FBT001
    """The cursor of what lies beyond the page, in the direction in which it was read."""
    way = OLDER if newest_first else NEWER
    if full:
        last = lines[-1] if newest_first else lines[0]
        return _Position(way, last.created_at_ms, last.id).text
    return None if stopped_at_ms is None else _Position(way, stopped_at_ms, "").text


def _back(start: _Position | None, lines: Sequence[LogLine]) -> str | None:
    """The cursor of where the page was come from; an empty page leads to what stood beside it."""
    if start is None:
        return None
    if start.way == OLDER:
        return (
            _Position(NEWER, lines[0].created_at_ms, lines[0].id).text
            if lines
            else _Position(NEWER, start.at_ms, "").text
        )
    return (
        _Position(OLDER, lines[-1].created_at_ms, lines[-1].id).text
        if lines
        else _Position(OLDER, start.at_ms + 1, "").text
    )


class _Search:
    """One page's search for ids, in the order of its direction."""

    def __init__(
        self,
        connection: sa.Connection,
        organization_id: str,
        wanted: LogFilter,
        start: _Position | None,
        bounds: Bounds,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._organization_id = organization_id
        self._wanted = wanted
        self._start = start
        self._newest_first = start is None or start.way == OLDER
        self._walk = Walk(connection, organization_id, wanted, bounds, newest_first=self._newest_first, clock=clock)
        self._fitting = wanted.receipts(organization_id)
        self.stopped_at_ms: int | None = None

    def find(self, needed: int) -> list[str]:
        """Up to `needed` ids."""
        since_ms, until_ms = self._wanted.since_ms, self._wanted.until_ms
        if self._start is not None and self._newest_first:
            until_ms = min(self._start.ends_ms, until_ms if until_ms is not None else self._start.ends_ms)
        if self._start is not None and not self._newest_first:
            since_ms = max(self._start.at_ms, since_ms or 0)
        if self._wanted.plain:
            between = [_EACH.created_at_ms >= since_ms] if since_ms is not None else []
            between += [_EACH.created_at_ms < until_ms] if until_ms is not None else []
            return self._read([*self._fitting, *between], needed)
        found: list[str] = []
        for part in self._walk.slices(since_ms, until_ms, needed):
            found += self._read([*part.conditions(self._organization_id), *self._fitting], needed - len(found))
            if len(found) == needed:
                return found
        self.stopped_at_ms = self._walk.stopped_at_ms
        return found

    def _read(self, conditions: list[Column], needed: int) -> list[str]:
        if self._start is not None:
            conditions = [*conditions, self._start.beyond]
        at, id_ = _EACH.created_at_ms, _EACH.id
        order = (at.desc(), id_.desc()) if self._newest_first else (at.asc(), id_.asc())
        query = sa.select(id_).where(*conditions).order_by(*order).limit(needed)
        return list(self._connection.execute(query).scalars())


def _position(cursor: str) -> _Position:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise BadRequest("cursor: this is not one of a page of the log; begin at its first page")
    return _Position(found[1], int(found[2]), found[3])


_KEYS, _MEMBERS, _SAID = schema.api_keys.c, schema.members.c, schema.generation_feedback.c
_NAMED: Final = {field.name for field in fields(LogLine)}


def _lines(connection: sa.Connection, organization_id: str, ids: Sequence[str]) -> tuple[LogLine, ...]:
    """Those receipts as lines, in the order of their ids here."""
    said = sa.exists(sa.literal(1)).where(_SAID.generation_id == _EACH.id)
    names = [_KEYS.name.label("key_name"), _KEYS.label.label("key_label"), _MEMBERS.name.label("member_name")]
    own = [column for column in schema.generations.columns if column.name in _NAMED]
    written = [_EACH.input_tokens, _EACH.cache_write_5m_tokens, _EACH.cache_write_1h_tokens, _EACH.attempts]
    query = (
        sa.select(*own, *written, *names, said.label("has_feedback"))
        .select_from(schema.generations)
        .outerjoin(schema.api_keys, _KEYS.hash == _EACH.key_hash)
        .outerjoin(schema.members, _MEMBERS.id == _EACH.member_id)
        .where(checked(_EACH.organization_id) == organization_id, _EACH.id.in_(ids))
    )
    by_id = {row["id"]: _line(row) for row in connection.execute(query).mappings()} if ids else {}
    return tuple(by_id[id_] for id_ in ids)


def _line(row: Mapping[Any, Any]) -> LogLine:
    given = {name: row[name] for name in _NAMED if name in row}
    cached = row["cache_read_tokens"] + row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"]
    counted = {
        "prompt_tokens": row["input_tokens"] + cached,
        "tokens_per_s": tokens_per_s(row),
        "tries": len(msgspec.json.decode(row["attempts"])),
    }
    flags = {name: bool(row[name]) for name in ("estimated", "streamed", "has_feedback")}
    return LogLine(**{**given, **counted, **flags})
