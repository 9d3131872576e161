"""Limits, and what was spent before they were set: use survives edits (product-surface 5.3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest
from modelgates_server.ledger.units import new_meter
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.management.change import Change
from modelgates_server.money import AMOUNT_NUSD_MAX
from modelgates_server.storage import schema
from modelgates_server.storage.portable import greatest, upsert

IDS_MAX: Final = 500
"""In one statement: databases bound the values that a statement may carry."""

HARD, SOFT = "hard", "soft"
"""What a limit does: hard refuses, soft only counts and alerts."""

_HOURS = schema.activity_hours.c
_RECEIPTS = schema.generations.c
_OWNERS: Final[dict[Scope, sa.ColumnElement[Any]]] = {
    Scope.ORGANIZATION: _HOURS.organization_id,
    Scope.WORKSPACE: _HOURS.workspace_id,
    Scope.MEMBER: _HOURS.member_id,
    Scope.SEAT: _HOURS.workspace_id + "/" + _HOURS.member_id,
    Scope.KEY: _HOURS.key_hash,
}
"""Whose use an hour's row is. It does not know the app, so that is asked of the receipts themselves."""

_Kind = tuple[Scope, Unit, Window]


def check_limit(limit_nusd: int | None) -> None:
    """Refuse a limit that is negative or above a million USD, with BadRequest."""
    if limit_nusd is not None and not 0 <= limit_nusd <= AMOUNT_NUSD_MAX:
        raise BadRequest("a limit must be zero or more, and at most one million USD")


def check_mode(mode: str) -> None:
    """Refuse what is no mode, with BadRequest."""
    if mode not in {HARD, SOFT}:
        raise BadRequest("mode must be hard (refuses) or soft (only counts and alerts)")


def count_spent(changing: Change, ref: MeterRef, organization_id: str) -> None:
    """Make a new limit see what was spent in its window before it was set."""
    count_all(changing, [ref], organization_id)


def count_all(changing: Change, refs: Iterable[MeterRef], organization_id: str) -> None:
    """Make many new limits see it.

    A meter is at least the roll-ups of its window; windows begin at full hours, so these are exact. A meter that nothing was
    spent on needs no row: the first request makes it.
    """
    meters = schema.meters
    kinds: dict[_Kind, list[MeterRef]] = defaultdict(list)
    for ref in refs:
        kinds[ref.scope, ref.unit, ref.window].append(ref)
    ids = sorted(ref.row_id(changing.now_s) for alike in kinds.values() for ref in alike)
    for start in range(0, len(ids), IDS_MAX):  # nobody posts to them between the sum and its writing
        changing.lock_meters(meters.c.id.in_(ids[start : start + IDS_MAX]))
    rows: list[dict[str, Any]] = []
    for kind, alike in kinds.items():
        for start in range(0, len(alike), IDS_MAX):
            rows += _counted(changing, kind, alike[start : start + IDS_MAX], organization_id)
    if not rows:
        return
    meter = upsert(changing.connection, meters)
    most = greatest(changing.connection, meters.c.posted, meter.excluded.posted)
    # the limit is written by the first request that it admits
    meter = meter.on_conflict_do_update(index_elements=["id"], set_={"posted": most, "limit": None})
    changing.connection.execute(meter, sorted(rows, key=lambda row: str(row["id"])))


def _counted(changing: Change, kind: _Kind, refs: Sequence[MeterRef], organization_id: str) -> Iterator[dict[str, Any]]:
    """Rows of meters with what was spent in their windows; none where nothing was."""
    by_owner, now_s = {ref.scope_id: ref for ref in refs}, changing.now_s
    for owner, spent in changing.connection.execute(_spent(kind, list(by_owner), organization_id, now_s)):
        if spent:
            ref = by_owner[owner]
            yield new_meter(ref, ref.row_id(now_s), organization_id, now_s) | {"limit": None, "posted": spent}


def _spent(kind: _Kind, owners: Sequence[str], organization_id: str, now_s: int) -> sa.Select[Any]:
    """What each owner spent in the window that contains `now_s`: rows of owner and nano-USD."""
    scope, unit, window = kind
    starts_at_s, ends_at_s = window.bounds_s(now_s)
    if scope is Scope.APP:
        return _spent_by_app(unit, owners, organization_id, (starts_at_s, ends_at_s))
    cost = _HOURS.cost_nusd + _HOURS.byok_cost_nusd if unit is Unit.SPEND else _HOURS.cost_nusd
    owner = _OWNERS[scope]
    within = [_HOURS.organization_id == organization_id, owner.in_(owners), _HOURS.hour_s >= starts_at_s]
    if ends_at_s is not None:
        within.append(_HOURS.hour_s < ends_at_s)
    return sa.select(owner, sa.func.sum(cost)).where(*within).group_by(owner)


def _spent_by_app(
    unit: Unit, owners: Sequence[str], organization_id: str, bounds_s: tuple[int, int | None]
) -> sa.Select[Any]:
    cost = _RECEIPTS.cost_nusd + _RECEIPTS.byok_cost_nusd if unit is Unit.SPEND else _RECEIPTS.cost_nusd
    names = [owner.removeprefix(f"{organization_id}/") for owner in owners]
    within = [
        _RECEIPTS.organization_id == organization_id,
        _RECEIPTS.app.in_(names),
        _RECEIPTS.created_at_ms >= bounds_s[0] * 1000,
    ]
    if bounds_s[1] is not None:
        within.append(_RECEIPTS.created_at_ms < bounds_s[1] * 1000)
    owner: sa.ColumnElement[Any] = sa.literal(f"{organization_id}/") + _RECEIPTS.app
    return sa.select(owner, sa.func.sum(cost)).where(*within).group_by(_RECEIPTS.app)
