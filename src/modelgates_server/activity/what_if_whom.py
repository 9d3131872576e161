"""Whose requests a what-if looks at, and in which tables: conditions for roll-ups and receipts of an allowance's owners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.logs_filter import LogFilter, checked
from modelgates_server.activity.logs_guide import KEYS_MAX
from modelgates_server.activity.measures import Column
from modelgates_server.activity.what_if import Allowance, Refusals
from modelgates_server.limits import Scope
from modelgates_server.storage import schema

DAY_S: Final = 86_400
EACH: Final = schema.generations.c

_OWNERS: Final = {
    Scope.ORGANIZATION: "organization_id",
    Scope.WORKSPACE: "workspace_id",
    Scope.APP: "app",
    Scope.MEMBER: "member_id",
    Scope.SEAT: "member_id",
    Scope.KEY: "key_hash",
}


@dataclass(frozen=True, slots=True)
class Whom:
    """Whose requests are looked at: an organisation's, from the beginning of a day until now (Unix seconds)."""

    organization_id: str
    since_s: int
    now_s: int

    @classmethod
    def lately(cls, organization_id: str, days: int, now_s: float) -> Whom:
        """The last `days` days in UTC, today being one of them."""
        now = int(now_s)
        return cls(organization_id, now // DAY_S * DAY_S - (days - 1) * DAY_S, now)


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table that adds requests up, and how long its rows are."""

    table: sa.Table
    when: Column
    size_s: int


HOURS: Final = Rollup(schema.activity_hours, schema.activity_hours.c.hour_s, 3_600)
DAYS: Final = Rollup(schema.activity_days, schema.activity_days.c.day_s, DAY_S)


def finest(scope: Scope) -> Rollup:
    """The finest roll-up that knows an owner: hours do not know the app."""
    return DAYS if scope is Scope.APP else HOURS


def owner_in(table: sa.Table, allowance: Allowance) -> Column:
    """The column that says who an owner is."""
    found: Column = table.c[_OWNERS[allowance.scope]]
    return found


def owned(table: sa.Table, allowance: Allowance) -> list[Column]:
    """Conditions for what counts for an allowance's owners."""
    owner = owner_in(table, allowance)
    conditions: list[Column] = [owner.is_not(None)]
    if allowance.owners is not None:
        conditions.append(owner.in_(allowance.owners))
    if allowance.workspace_id is not None:
        conditions.append(table.c.workspace_id == allowance.workspace_id)
    if allowance.memberless:
        conditions.append(table.c.member_id.is_(None))
    return conditions


def added_up(
    rollup: Rollup, whom: Whom, allowance: Allowance, bounds: tuple[int, int], keys: list[str] | None = None
) -> list[Column]:
    """Conditions for the roll-ups of an allowance's owners in a time (Unix seconds, the end exclusive), read by `keys` if known."""
    place = [rollup.table.c.organization_id == whom.organization_id]
    if keys is not None and rollup is HOURS:
        place = [checked(rollup.table.c.organization_id) == whom.organization_id, rollup.table.c.key_hash.in_(keys)]
    return [*place, rollup.when >= bounds[0], rollup.when < bounds[1], *owned(rollup.table, allowance)]


@dataclass(frozen=True, slots=True)
class Receipts:
    """One owner's receipts in a time: the conditions, and the keys by which they are read (None: by the organisation)."""

    conditions: list[Column]
    keys: list[str] | None


def receipts(
    connection: sa.Connection, whom: Whom, allowance: Allowance, owner: str, bounds: tuple[int, int]
) -> Receipts:
    """Find one owner's receipts in a time (Unix seconds, the end exclusive), through the keys that they have in those days."""
    keys: list[str] | None = None
    if allowance.scope is not Scope.ORGANIZATION:
        days = (bounds[0] // DAY_S * DAY_S, bounds[1])
        mine = [*added_up(DAYS, whom, allowance, days), owner_in(DAYS.table, allowance) == owner]
        query = sa.select(DAYS.table.c.key_hash).where(*mine).distinct().limit(KEYS_MAX + 1)
        found = list(connection.execute(query).scalars())
        keys = found if len(found) <= KEYS_MAX else None
    conditions = [
        *LogFilter.place(whom.organization_id, keys),
        *owned(schema.generations, allowance),
        owner_in(schema.generations, allowance) == owner,
        EACH.created_at_ms >= bounds[0] * 1000,
        EACH.created_at_ms < bounds[1] * 1000,
    ]
    return Receipts(conditions, keys)


def about(connection: sa.Connection, whom: Whom, keys: list[str] | None, bounds: tuple[int, int], count: int) -> int:
    """When (Unix seconds) about `count` receipts of some keys have come since the beginning of a time, or its end before that."""
    hours = HOURS.table.c
    within = [hours.organization_id == whom.organization_id]
    if keys is not None:
        within = [checked(hours.organization_id) == whom.organization_id, hours.key_hash.in_(keys)]
    within += [hours.hour_s >= bounds[0], hours.hour_s < bounds[1]]
    query = sa.select(hours.hour_s, total(hours.requests).label("requests")).where(*within)
    seen = 0
    for row in connection.execute(query.group_by(hours.hour_s).order_by(hours.hour_s)):
        seen += row.requests
        if seen >= count:
            return min(int(row.hour_s) + HOURS.size_s, bounds[1])
    return bounds[1]


def cost(table: sa.Table, allowance: Allowance) -> Column:
    """What counts for an allowance, in nano-USD."""
    return table.c.cost_nusd + table.c.byok_cost_nusd if allowance.include_byok else table.c.cost_nusd


def total(value: Any) -> Column:
    """A sum as a whole number: PostgreSQL makes a decimal of it."""
    return sa.cast(sa.func.coalesce(sa.func.sum(value), 0), sa.BigInteger)


@dataclass(frozen=True, slots=True)
class Names:
    """Names of members by id, and of keys by hash."""

    members: Mapping[str, str]
    keys: Mapping[str, str]


def names(connection: sa.Connection, organization_id: str, refusals: Sequence[Refusals]) -> Names:
    """The names of those whose requests would have been refused, as far as they have one."""
    whose = {one for found in refusals for one in found.by_whose}
    people, keys = schema.members.c, schema.api_keys.c
    wanted = (
        ({member for member, _ in whose if member is not None}, people.id, people.name, people.organization_id),
        ({key for member, key in whose if member is None}, keys.hash, keys.name, keys.organization_id),
    )
    found: list[dict[str, str]] = []
    for unsorted, id_, name, organization in wanted:
        ids, known = sorted(unsorted), dict[str, str]()
        for start in range(0, len(ids), KEYS_MAX):
            query = sa.select(id_, name).where(organization == organization_id, id_.in_(ids[start : start + KEYS_MAX]))
            known |= {row[0]: row[1] for row in connection.execute(query)}
        found.append(known)
    return Names(*found)
