"""Whom guardrails are given to, as a page shows it: names, and what each has used of the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.limits import MeterRef, Scope
from modelgates_server.management.budgets import spent_nusd
from modelgates_server.management.guardrails import GuardrailRow
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

HOLDERS_MAX: Final = 500
"""More of them are of no use on one page."""

_MEMBERS, _KEYS = schema.members.c, schema.api_keys.c
_OF_MEMBERS, _OF_KEYS = schema.guardrail_members.c, schema.guardrail_keys.c


@dataclass(frozen=True, slots=True)
class Holder:
    """A member or key that a guardrail holds for. `spent_nusd` is what counts towards its budget now; None without one.

    `member_id` is the member's own id, or whose the key is (None: nobody's).
    """

    kind: str
    id: str
    name: str
    member_id: str | None
    spent_nusd: int | None


@dataclass(frozen=True, slots=True)
class Given:
    """How many members and keys have each guardrail, by its id."""

    members: Mapping[str, int]
    keys: Mapping[str, int]


def given_to(engine: sa.Engine, organization_id: str) -> Given:
    """Count whom each guardrail is given to; removed members and deleted keys do not count."""
    members = (
        sa.select(_OF_MEMBERS.guardrail_id, sa.func.count())
        .join(schema.members, _MEMBERS.id == _OF_MEMBERS.member_id)
        .where(_OF_MEMBERS.organization_id == organization_id, _MEMBERS.removed_at_s.is_(None))
        .group_by(_OF_MEMBERS.guardrail_id)
    )
    keys = (
        sa.select(_OF_KEYS.guardrail_id, sa.func.count())
        .join(schema.api_keys, _KEYS.hash == _OF_KEYS.key_hash)
        .where(_OF_KEYS.organization_id == organization_id, _KEYS.deleted_at_s.is_(None))
        .group_by(_OF_KEYS.guardrail_id)
    )
    with reading(engine) as connection:
        return Given(
            {row[0]: row[1] for row in connection.execute(members)},
            {row[0]: row[1] for row in connection.execute(keys)},
        )


def holders(engine: sa.Engine, row: GuardrailRow, now_s: float) -> list[Holder]:
    """Give those whom a guardrail is given to, members first, by name; of a default one everybody, those who used most first."""
    with reading(engine) as connection:
        found = [_holder(one, Scope.MEMBER) for one in connection.execute(_members(row)).mappings()]
        found += (
            [] if row.is_default else [_holder(one, Scope.KEY) for one in connection.execute(_keys(row)).mappings()]
        )
    refs = {one.id: _meter(row, one) for one in found}
    known = [ref for ref in refs.values() if ref is not None]
    spent = spent_nusd(engine, known, now_s) if known else {}
    told = [
        Holder(one.kind, one.id, one.name, one.member_id, None if ref is None else spent[ref.row_id(now_s)])
        for one in found
        for ref in [refs[one.id]]
    ]
    return sorted(told, key=lambda one: -(one.spent_nusd or 0)) if row.is_default else told


def _members(row: GuardrailRow) -> sa.Select[Any]:
    query = (
        sa.select(_MEMBERS.id.label("id"), _MEMBERS.name, _MEMBERS.id.label("member_id"))
        .where(_MEMBERS.organization_id == row.organization_id, _MEMBERS.removed_at_s.is_(None))
        .order_by(_MEMBERS.name, _MEMBERS.id)
        .limit(HOLDERS_MAX)
    )
    if row.is_default:
        return query
    return query.join(schema.guardrail_members, _OF_MEMBERS.member_id == _MEMBERS.id).where(
        _OF_MEMBERS.guardrail_id == row.id
    )


def _keys(row: GuardrailRow) -> sa.Select[Any]:
    return (
        sa.select(_KEYS.hash.label("id"), _KEYS.name, _KEYS.member_id)
        .join(schema.guardrail_keys, _OF_KEYS.key_hash == _KEYS.hash)
        .where(
            _KEYS.organization_id == row.organization_id, _KEYS.deleted_at_s.is_(None), _OF_KEYS.guardrail_id == row.id
        )
        .order_by(_KEYS.name, _KEYS.hash)
        .limit(HOLDERS_MAX)
    )


def _holder(row: sa.RowMapping, scope: Scope) -> Holder:
    return Holder(str(scope), row["id"], row["name"], row["member_id"], None)


def _meter(row: GuardrailRow, one: Holder) -> MeterRef | None:
    if row.is_default:
        return row.meter(Scope.SEAT, f"{row.workspace_id}/{one.id}")
    return row.meter(Scope(one.kind), one.id)
