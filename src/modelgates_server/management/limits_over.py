"""Every limit that stands over keys, with what is on it now: the same rules by which requests are admitted, read for people.

`accounts/policy.py` says which limits there are and in which order they are checked; here are the rows of many keys at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.accounts.policy import Layer, Limit, Policy, limits
from modelgates_server.limits import Scope, Window
from modelgates_server.management.key_values import KeyRow
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

OF_THE_KEY: Final = frozenset({Layer.KEY_LIMIT, Layer.API_KEY, Layer.DEFAULT_KEY})
"""Limits that no other key counts on."""

IDS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class LimitOver:
    """One limit over a key. Nano-USD; `window` is day, week, month or life, `ends_at_s` when it starts again (None: never).

    `layer` is one of `accounts.policy.Layer`; `name` is its guardrail's, its app's or nothing. A soft one refuses nothing.
    """

    layer: str
    name: str
    window: str
    amount_nusd: int
    posted_nusd: int
    held_nusd: int
    ends_at_s: int | None
    soft: bool
    guardrail_id: str | None
    includes_own_providers: bool

    @property
    def left_nusd(self) -> int:
        """What is left of it with open requests counted at what they may at most cost; below zero when it was lowered."""
        return self.amount_nusd - self.posted_nusd - self.held_nusd


def limits_over(
    engine: sa.Engine, organization_id: str, rows: Sequence[KeyRow], now_s: float
) -> dict[str, tuple[LimitOver, ...]]:
    """Give the limits over each key, by hash, in the order in which they are checked."""
    with reading(engine) as connection:
        return limits_in(connection, organization_id, rows, now_s)


def limits_in(
    connection: sa.Connection, organization_id: str, rows: Sequence[KeyRow], now_s: float
) -> dict[str, tuple[LimitOver, ...]]:
    """The same on an open connection, in a few queries for any number of keys."""
    budgets, guardrails = _budgets(connection, organization_id, rows), _guardrails(connection, organization_id, rows)
    found = {row.hash: limits(_policy(row, budgets, guardrails)) for row in rows}
    ids = {limit.meter.row_id(now_s) for over in found.values() for limit in over}
    meters = _meters(connection, sorted(ids))
    return {key_hash: tuple(_shown(limit, meters, now_s) for limit in over) for key_hash, over in found.items()}


def _policy(row: KeyRow, budgets: Iterable[Mapping[str, Any]], guardrails: _Guardrails) -> Policy:
    key = {name: getattr(row, name) for name in KeyRow.__slots__}
    owners = {
        Scope.ORGANIZATION: row.organization_id,
        Scope.WORKSPACE: row.workspace_id,
        Scope.MEMBER: row.member_id,
    }
    own = [one for one in budgets if one["scope"] == Scope.APP or owners.get(Scope(one["scope"])) == one["scope_id"]]
    held = (
        ("workspace", guardrails.of_workspaces.get(row.workspace_id)),
        ("member", guardrails.of_members.get(row.member_id or "")),
        ("key", guardrails.of_keys.get(row.hash)),
    )
    return Policy(key, own, (), [dict(guardrail, held_by=holder) for holder, guardrail in held if guardrail])


@dataclass(frozen=True, slots=True)
class _Guardrails:
    of_workspaces: Mapping[str, Mapping[str, Any]]
    of_members: Mapping[str, Mapping[str, Any]]
    of_keys: Mapping[str, Mapping[str, Any]]


def _guardrails(connection: sa.Connection, organization_id: str, rows: Sequence[KeyRow]) -> _Guardrails:
    table, keys, members = schema.guardrails, schema.guardrail_keys, schema.guardrail_members
    mine = table.c.organization_id == organization_id
    default = sa.select(table, table.c.workspace_id.label("holder")).where(mine, table.c.is_default == 1)
    of_keys = sa.select(table, keys.c.key_hash.label("holder")).join(keys, keys.c.guardrail_id == table.c.id)
    of_members = sa.select(table, members.c.member_id.label("holder")).join(
        members, members.c.guardrail_id == table.c.id
    )
    people = {row.member_id for row in rows if row.member_id is not None}
    return _Guardrails(
        _held(connection, default, table.c.workspace_id, {row.workspace_id for row in rows}),
        _held(connection, of_members.where(mine), members.c.member_id, people),
        _held(connection, of_keys.where(mine), keys.c.key_hash, {row.hash for row in rows}),
    )


def _held(
    connection: sa.Connection, query: sa.Select[Any], holder: sa.ColumnElement[Any], ids: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for some in _portions(ids):
        found |= {row["holder"]: dict(row) for row in connection.execute(query.where(holder.in_(some))).mappings()}
    return found


def _budgets(connection: sa.Connection, organization_id: str, rows: Sequence[KeyRow]) -> list[Mapping[str, Any]]:
    table = schema.budgets
    query = sa.select(table).where(table.c.organization_id == organization_id)
    broad = query.where(table.c.scope.in_([str(Scope.ORGANIZATION), str(Scope.APP)]))
    found: list[Mapping[str, Any]] = [dict(row) for row in connection.execute(broad).mappings()]
    owners: dict[Scope, set[str]] = defaultdict(set)
    for row in rows:
        owners[Scope.WORKSPACE].add(row.workspace_id)
        if row.member_id is not None:
            owners[Scope.MEMBER].add(row.member_id)
    for scope, ids in owners.items():
        for some in _portions(ids):
            theirs = query.where(table.c.scope == str(scope), table.c.scope_id.in_(some))
            found += [dict(row) for row in connection.execute(theirs).mappings()]
    return found


def _meters(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Any]:
    meters = schema.meters.c
    found: dict[str, Any] = {}
    for some in _portions(ids):
        query = sa.select(meters.id, meters.posted, meters.held).where(meters.id.in_(some))
        found |= {row.id: row for row in connection.execute(query)}
    return found


def _portions(ids: Iterable[str]) -> Iterable[list[str]]:
    """Databases bound the values that a statement may carry."""
    listed = sorted(ids)
    return (listed[start : start + IDS_MAX] for start in range(0, len(listed), IDS_MAX))


def _shown(limit: Limit, meters: Mapping[str, Any], now_s: float) -> LimitOver:
    meter = limit.meter
    stands = meters.get(meter.row_id(now_s))
    guarded = limit.guardrail_id is not None
    return LimitOver(
        layer=str(limit.layer),
        name=meter.label.removeprefix('guardrail "').removesuffix('"') if guarded else _app(limit),
        window=str(meter.window),
        amount_nusd=limit.amount_nusd,
        posted_nusd=0 if stands is None else stands.posted,
        held_nusd=0 if stands is None else stands.held,
        ends_at_s=Window(meter.window).bounds_s(now_s)[1],
        soft=limit.soft,
        guardrail_id=limit.guardrail_id,
        includes_own_providers=meter.unit == "spend",
    )


def _app(limit: Limit) -> str:
    return limit.meter.scope_id.partition("/")[2] if limit.layer is Layer.APP else ""
