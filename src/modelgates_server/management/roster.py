"""The people of an organisation as an admin looks at them: what they may spend and did, their keys, when they were last here.

Read a page at a time, oldest member first, by key instead of offset. Shares are set here as one whole, as they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest
from modelgates_server.limits import Scope, Window
from modelgates_server.management.budgets import BUDGET_WINDOWS, Budget, BudgetRow, find_budgets, store_budget
from modelgates_server.management.change import Note, change
from modelgates_server.management.members import member_in
from modelgates_server.management.spent import SOFT
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

_MEMBERS = schema.members
_KEYS = schema.api_keys
_CURSOR: Final = "that place of the list does not exist; look at it from the beginning"


@dataclass(frozen=True, slots=True)
class Share:
    """What a member may spend in a window, and did: nano-USD. `ends_at_s` is when it starts again; None for life.

    A soft one refuses nothing.
    """

    window: str
    limit_nusd: int
    spent_nusd: int
    ends_at_s: int | None
    soft: bool


@dataclass(frozen=True, slots=True)
class Colleague:
    """A member. `month_nusd` is what their keys used this month (UTC); `keys` counts those that are on.

    `last_request_ms` and `last_seen_s` (at the console, None when every session has ended) are Unix times. `with_password` and
    `with_identity` say how they can sign in besides by link.
    """

    id: str
    name: str
    email: str | None
    role: str
    created_at_s: int
    shares: tuple[Share, ...]
    month_nusd: int
    keys: int
    last_request_ms: int | None
    last_seen_s: int | None
    with_password: bool
    with_identity: bool


@dataclass(frozen=True, slots=True)
class Roster:
    """A page of colleagues; `after` is the cursor of the next page, None on the last. `total` counts all members."""

    people: tuple[Colleague, ...]
    after: str | None
    total: int


def roster(engine: sa.Engine, organization_id: str, after: str, limit: int, now_s: float) -> Roster:
    """Give up to `limit` members behind a cursor; an empty one means the beginning. Raises BadRequest for no cursor of ours."""
    live = (_MEMBERS.c.organization_id == organization_id, _MEMBERS.c.removed_at_s.is_(None))
    query = sa.select(_MEMBERS).where(*live, *_behind(after)).order_by(_MEMBERS.c.created_at_s, _MEMBERS.c.id)
    with reading(engine) as connection:
        rows = connection.execute(query.limit(limit + 1)).mappings().all()
        total = connection.execute(sa.select(sa.func.count()).where(*live)).scalar_one()
        people = _people(connection, organization_id, rows[:limit], now_s)
    more = len(rows) > limit
    return Roster(people, f"{people[-1].created_at_s}.{people[-1].id}" if more else None, total)


def colleague(engine: sa.Engine, organization_id: str, member_id: str, now_s: float) -> Colleague:
    """Give one member. Raises NotFound."""
    with reading(engine) as connection:
        member_in(connection, organization_id, member_id)
        rows = connection.execute(sa.select(_MEMBERS).where(_MEMBERS.c.id == member_id)).mappings().all()
        return _people(connection, organization_id, rows, now_s)[0]


def set_shares(
    engine: sa.Engine, organization_id: str, member_id: str, limits: Mapping[Window, int], actor: str, now_s: float
) -> list[BudgetRow]:
    """Set what a member may spend in each window, in nano-USD; a share of a window that is not named is taken away.

    Raises BadRequest for a limit that cannot be, NotFound.
    """
    with change(engine, now_s) as changing:
        row = member_in(changing.connection, organization_id, member_id)
        before = {one.window: one for one in _shares_of(changing.connection, organization_id, row.id)}
        changing.bump_policy()
        for window in BUDGET_WINDOWS:
            known, wanted = before.get(window), limits.get(window)
            if wanted == (None if known is None else known.limit_nusd):
                continue
            after = store_budget(changing, organization_id, Budget(Scope.MEMBER, row.id, window, wanted))
            details: dict[str, Any] = {"window": str(window), "limit_nusd": wanted}
            details |= {} if after is None else {"mode": after.mode, "include_byok": after.include_byok}
            changing.note(Note(organization_id, actor, "budget.set", f"{Scope.MEMBER}:{row.id}", details))
        return _shares_of(changing.connection, organization_id, row.id)


def _behind(cursor: str) -> tuple[sa.ColumnElement[bool], ...]:
    if not cursor:
        return ()
    created, _, member_id = cursor.partition(".")
    if not created.isascii() or not created.isdecimal() or len(created) > 12 or not member_id:
        raise BadRequest(_CURSOR)
    return (sa.tuple_(_MEMBERS.c.created_at_s, _MEMBERS.c.id) > sa.tuple_(int(created), member_id),)


def _people(
    connection: sa.Connection, organization_id: str, rows: Sequence[sa.RowMapping], now_s: float
) -> tuple[Colleague, ...]:
    ids = [row["id"] for row in rows]
    shares = _shares(connection, organization_id, ids, now_s)
    months = _months(connection, organization_id, ids, now_s)
    keys = _keys(connection, organization_id, ids)
    seen = _seen(connection, organization_id, ids)
    return tuple(
        Colleague(
            id=row["id"],
            name=row["name"],
            email=row["email"],
            role=row["role"],
            created_at_s=row["created_at_s"],
            shares=shares.get(row["id"], ()),
            month_nusd=months.get(row["id"], 0),
            keys=keys.get(row["id"], (0, None))[0],
            last_request_ms=keys.get(row["id"], (0, None))[1],
            last_seen_s=seen.get(row["id"]),
            with_password=row["password_hash"] is not None,
            with_identity=row["oidc_subject"] is not None,
        )
        for row in rows
    )


def _shares_of(connection: sa.Connection, organization_id: str, member_id: str) -> list[BudgetRow]:
    return find_budgets(connection, organization_id, Scope.MEMBER, member_id)


def _shares(
    connection: sa.Connection, organization_id: str, ids: Sequence[str], now_s: float
) -> dict[str, tuple[Share, ...]]:
    """The shares of some members, the narrowest first, with what stands on their meters."""
    wanted = set(ids)
    budgets = [one for one in find_budgets(connection, organization_id, Scope.MEMBER) if one.scope_id in wanted]
    meters = schema.meters.c
    named = {one.meter.row_id(now_s): one for one in budgets}
    posted = connection.execute(sa.select(meters.id, meters.posted).where(meters.id.in_(list(named))))
    spent = {row.id: row.posted for row in posted}
    found: dict[str, tuple[Share, ...]] = {}
    for meter_id, one in named.items():
        share = Share(
            str(one.window), one.limit_nusd, spent.get(meter_id, 0), one.window.bounds_s(now_s)[1], one.mode == SOFT
        )
        found[one.scope_id] = (share, *found.get(one.scope_id, ()))
    return found


def _months(connection: sa.Connection, organization_id: str, ids: Sequence[str], now_s: float) -> dict[str, int]:
    days = schema.activity_days.c
    query = (
        sa.select(days.member_id, sa.cast(sa.func.sum(days.cost_nusd), sa.BigInteger).label("nusd"))
        .where(
            days.organization_id == organization_id,
            days.day_s >= Window.MONTH.bounds_s(now_s)[0],
            days.member_id.in_(ids),
        )
        .group_by(days.member_id)
    )
    return {row.member_id: row.nusd for row in connection.execute(query)}


def _keys(connection: sa.Connection, organization_id: str, ids: Sequence[str]) -> dict[str, tuple[int, int | None]]:
    """How many keys of each are on, and when any of theirs was used last: the end of each key's stretch of an index."""
    receipts = schema.generations.c
    last = sa.select(sa.func.max(receipts.created_at_ms)).where(receipts.key_hash == _KEYS.c.hash).scalar_subquery()
    on = sa.and_(_KEYS.c.disabled == 0, _KEYS.c.deleted_at_s.is_(None))
    query = sa.select(_KEYS.c.member_id, on.label("is_on"), last.label("last_ms")).where(
        _KEYS.c.organization_id == organization_id,
        _KEYS.c.member_id.in_(ids),
        _KEYS.c["class"] == str(KeyClass.INFERENCE),
    )
    found: dict[str, tuple[int, int | None]] = {}
    for row in connection.execute(query):
        count, latest = found.get(row.member_id, (0, None))
        times = [one for one in (latest, row.last_ms) if one is not None]
        found[row.member_id] = (count + bool(row.is_on), max(times, default=None))
    return found


def _seen(connection: sa.Connection, organization_id: str, ids: Sequence[str]) -> dict[str, int]:
    sessions = schema.sessions.c
    mine = (sessions.organization_id == organization_id, sessions.member_id.in_(ids))
    query = sa.select(sessions.member_id, sa.func.max(sessions.last_seen_at_s).label("seen")).where(*mine)
    return {row.member_id: row.seen for row in connection.execute(query.group_by(sessions.member_id))}
