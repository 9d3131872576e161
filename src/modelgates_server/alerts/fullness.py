"""The limits that are nearest to their end, fullest first: for whoever wants to see in one look what will run out, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.alerts.budgets import limits_beside_meters
from modelgates_server.limits import Scope
from modelgates_server.storage import schema

_METERS, _KEYS = schema.meters.c, schema.api_keys.c
_FULL: Final = "full"


@dataclass(frozen=True, slots=True)
class Fullness:
    """A limit with what is on it, in nano-USD. `guardrail` is the name of the one that sets it, empty for others.

    `full_at_s` is when it will be full at the pace of its window so far; None when it starts again before that, is full already,
    or nothing is used.
    """

    scope: str
    scope_id: str
    window: str
    guardrail: str
    used_nusd: int
    held_nusd: int
    limit_nusd: int
    hard: bool
    resets_at_s: int | None
    full_at_s: int | None


def fullest(
    connection: sa.Connection, organization_id: str, only_member_id: str | None, count: int, now_s: float
) -> list[Fullness]:
    """Give the `count` fullest limits of an organisation that something is used of, or those over one member alone."""
    found: list[Fullness] = []
    for query in limits_beside_meters(now_s):
        columns = query.selected_columns
        full = (sa.cast(_METERS.posted, sa.Double) / columns["limit_nusd"]).label(_FULL)
        some = query.add_columns(_METERS.held, _METERS.starts_at_s, full).where(
            _METERS.organization_id == organization_id, _METERS.posted > 0
        )
        if only_member_id is not None:
            some = some.where(_of(columns["scope"], columns["scope_id"], only_member_id))
        rows = connection.execute(some.order_by(full.desc()).limit(count))
        found += [_shown(row, now_s) for row in rows]
    return sorted(found, key=lambda one: (-one.used_nusd / one.limit_nusd, one.scope, one.scope_id))[:count]


def _of(scope: Any, scope_id: Any, member_id: str) -> sa.ColumnElement[bool]:
    """Limits that nobody else uses up: of the member's own keys, share and places."""
    keys = sa.select(_KEYS.hash).where(_KEYS.member_id == member_id)
    return sa.or_(
        sa.and_(scope == str(Scope.KEY), scope_id.in_(keys)),
        sa.and_(scope == str(Scope.MEMBER), scope_id == member_id),
        sa.and_(scope == str(Scope.SEAT), scope_id.endswith(f"/{member_id}", autoescape=True)),
    )


def _shown(row: Any, now_s: float) -> Fullness:
    left = row.limit_nusd - row.posted
    full_at_s = None
    if row.ends_at_s is not None and left > 0:
        passed_s = max(1, int(now_s) - row.starts_at_s)
        at_s = int(now_s) + left * passed_s // row.posted
        full_at_s = at_s if at_s < row.ends_at_s else None
    return Fullness(
        row.scope, row.scope_id, row.span, row.guardrail, row.posted, row.held, row.limit_nusd, row.mode == "hard",
        row.ends_at_s, full_at_s,
    )  # fmt: skip
