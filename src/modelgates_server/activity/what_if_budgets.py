"""What a budget would have refused: roll-ups find where it would have been used up, and only from there on receipts are replayed.

How many receipts one answer reads is bounded; where that is not enough, the answer says that it is about right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.activity.logs_guide import KEYS_MAX
from modelgates_server.activity.what_if import Allowance, Paid, Refusals, replay
from modelgates_server.activity.what_if_whom import (
    DAYS,
    EACH,
    Rollup,
    Whom,
    about,
    added_up,
    cost,
    finest,
    owner_in,
    receipts,
    total,
)
from modelgates_server.limits import Scope, Window
from modelgates_server.storage import schema

ROWS_MAX: Final = 100_000
"""Receipts that one answer may read."""

PAIRS_MAX: Final = 400
"""Owners' windows that are replayed one by one."""


@dataclass(frozen=True, slots=True)
class _Over:
    """An owner who would have passed the limit in a window.

    `from_s` is the hour (of an app: the day) in which that would have happened, `spent_nusd` what was spent before it. `requests` are
    those from then on; `later` and `later_nusd` are those after that hour.
    """

    owner: str
    from_s: int
    until_s: int
    spent_nusd: int
    requests: int
    later: int
    later_nusd: int


@dataclass(frozen=True, slots=True)
class _Read:
    """An owner's requests that were read, in order of time; all of it where `rest_s` is the window's end.

    Else there are more: `rest_s` begins the hour (of an app: the day) of the first one that was not read. `keys` are the owner's.
    """

    rows: list[Paid]
    rest_s: int
    keys: list[str] | None


def would_refuse(
    connection: sa.Connection, whom: Whom, allowance: Allowance, rows_max: int = ROWS_MAX, pairs_max: int = PAIRS_MAX
) -> Refusals:
    """See what a budget would have refused since `whom.since_s`; what was spent in a window before that counts."""
    refusals = Refusals(whom.since_s * 1000)
    pairs = [over for bounds in _windows(allowance.window, whom) for over in _over(connection, whom, allowance, bounds)]
    pairs.sort(key=lambda over: over.requests)
    for place, over in enumerate(pairs[:pairs_max]):
        share = rows_max // (min(len(pairs), pairs_max) - place)
        read = _read(connection, whom, allowance, over, share)
        rows_max -= len(read.rows)
        replay(read.rows, allowance.limit_nusd, over.spent_nusd, refusals)
        if read.rest_s < over.until_s:
            _count_rest(connection, whom, allowance, over, read, refusals)
    for over in pairs[pairs_max:]:
        refusals.exact = False
        whose = (None, over.owner) if allowance.scope is Scope.KEY else (over.owner, "")
        refusals.add(whose, over.later, over.later_nusd, max(over.from_s, whom.since_s) * 1000)
    return refusals


def _windows(window: Window, whom: Whom) -> Iterator[tuple[int, int]]:
    """Every window that has a part in the time that is looked at, the newest first."""
    start_s, end_s = window.bounds_s(whom.now_s)
    yield start_s, whom.now_s + 1 if end_s is None else end_s
    while start_s > whom.since_s:
        end_s = start_s
        start_s, _ = window.bounds_s(start_s - 1)
        yield start_s, end_s


def _over(connection: sa.Connection, whom: Whom, allowance: Allowance, bounds: tuple[int, int]) -> Iterator[_Over]:
    """Those who passed the limit in a window: days tell who, hours tell when."""
    owner = owner_in(DAYS.table, allowance)
    passed = sa.select(owner).where(*added_up(DAYS, whom, allowance, bounds)).group_by(owner)
    passed = passed.having(total(cost(DAYS.table, allowance)) > allowance.limit_nusd)
    owners = list(connection.execute(passed).scalars())
    for start in range(0, len(owners), KEYS_MAX):
        running = _running(finest(allowance.scope), whom, allowance, bounds, owners[start : start + KEYS_MAX])
        before = running.c.total - running.c.nusd
        after = before > allowance.limit_nusd
        query = (
            sa.select(
                running.c.owner,
                sa.func.min(running.c.at_s).label("from_s"),
                sa.func.min(before).label("spent"),
                total(running.c.requests).label("requests"),
                total(sa.case((after, running.c.requests), else_=0)).label("later"),
                total(sa.case((after, running.c.nusd), else_=0)).label("later_nusd"),
            )
            .where(running.c.total > allowance.limit_nusd)
            .group_by(running.c.owner)
        )
        for row in connection.execute(query):
            yield _Over(row.owner, row.from_s, bounds[1], row.spent, row.requests, row.later, row.later_nusd)


def _running(
    rollup: Rollup, whom: Whom, allowance: Allowance, bounds: tuple[int, int], owners: Sequence[str]
) -> sa.Subquery:
    """Each owner's use hour by hour, with what it comes to up to then."""
    owner = owner_in(rollup.table, allowance)
    hours = (
        sa.select(
            owner.label("owner"),
            rollup.when.label("at_s"),
            total(rollup.table.c.requests).label("requests"),
            total(cost(rollup.table, allowance)).label("nusd"),
        )
        .where(*added_up(rollup, whom, allowance, bounds), owner.in_(owners))
        .group_by(owner, rollup.when)
        .subquery()
    )
    so_far = sa.func.sum(hours.c.nusd).over(partition_by=hours.c.owner, order_by=hours.c.at_s)
    return sa.select(*hours.c, sa.cast(so_far, sa.BigInteger).label("total")).subquery()


def _read(connection: sa.Connection, whom: Whom, allowance: Allowance, over: _Over, limit: int) -> _Read:
    """Read an owner's requests from where the limit was passed, up to `limit`."""
    bounds, size_s = (over.from_s, over.until_s), finest(allowance.scope).size_s
    mine = receipts(connection, whom, allowance, over.owner, bounds)
    end_s = about(connection, whom, mine.keys, bounds, limit)  # several keys are sorted before the limit bites
    query = (
        sa.select(EACH.created_at_ms, EACH.member_id, EACH.key_hash, cost(schema.generations, allowance).label("nusd"))
        .where(*mine.conditions, EACH.created_at_ms < end_s * 1000)
        .order_by(EACH.created_at_ms, EACH.id)
        .limit(limit)
    )
    rows = [Paid(row.created_at_ms, (row.member_id, row.key_hash), row.nusd) for row in connection.execute(query)]
    if len(rows) == limit:
        end_s = rows[-1].at_ms // 1000 if rows else over.from_s
    rest_s = end_s if end_s == over.until_s else end_s // size_s * size_s
    return _Read(rows, rest_s, mine.keys)


def _count_rest(
    connection: sa.Connection, whom: Whom, allowance: Allowance, over: _Over, read: _Read, refusals: Refusals
) -> None:
    """Count what was not read as refused: almost nothing is left then. The roll-ups say how much it is, less what was read of it."""
    rollup, from_s = finest(allowance.scope), max(read.rest_s, whom.since_s)
    table, keys = rollup.table.c, (rollup.table.c.member_id, rollup.table.c.key_hash)
    mine = added_up(rollup, whom, allowance, (from_s, over.until_s), read.keys)
    sums = (total(table.requests).label("requests"), total(cost(rollup.table, allowance)).label("nusd"))
    query = sa.select(*keys, *sums).where(*mine, owner_in(rollup.table, allowance) == over.owner).group_by(*keys)
    left = {(row.member_id, row.key_hash): [row.requests, row.nusd] for row in connection.execute(query)}
    for row in read.rows:
        if row.at_ms >= from_s * 1000 and row.whose in left:
            left[row.whose][0] -= 1
            left[row.whose][1] -= row.nusd
    for whose, (requests, nusd) in left.items():
        refusals.exact = refusals.exact and requests <= 0
        refusals.add(whose, requests, nusd, from_s * 1000)
