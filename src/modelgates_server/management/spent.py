"""Limits, and what was spent before they were set: use survives edits (product-surface 5.3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

_OF_RECEIPTS: Final[dict[Scope, sa.ColumnElement[Any]]] = {
    Scope.WORKSPACE: _RECEIPTS.workspace_id,
    Scope.SEAT: _RECEIPTS.workspace_id + "/" + _RECEIPTS.member_id,
}
"""Whose use a receipt is, where an hour's row may not know it: a key may have moved in the middle."""

HOUR_S: Final = 3_600
PAIRS_MAX: Final = 200
MOVE: Final = "key.update"
"""What the audit log calls a change that may have moved a key."""

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
    # what was admitted before stays within it; a late settlement looks at it too
    room = greatest(changing.connection, meter.excluded["limit"], most + meters.c.held)
    limit = sa.case((meter.excluded["limit"].is_(None), sa.null()), else_=room)
    meter = meter.on_conflict_do_update(index_elements=["id"], set_={"posted": most, "limit": limit})
    changing.connection.execute(meter, sorted(rows, key=lambda row: str(row["id"])))


def _counted(changing: Change, kind: _Kind, refs: Sequence[MeterRef], organization_id: str) -> Iterator[dict[str, Any]]:
    """Rows of meters with what was spent in their windows; none where nothing was."""
    by_owner, now_s = {ref.scope_id: ref for ref in refs}, changing.now_s
    for owner, spent in _spent(changing, kind, list(by_owner), organization_id).items():
        if spent:
            ref = by_owner[owner]
            row = new_meter(ref, ref.row_id(now_s), organization_id, now_s)
            yield row | {"limit": None if ref.limit is None else max(ref.limit, spent), "posted": spent}


def _spent(changing: Change, kind: _Kind, owners: Sequence[str], organization_id: str) -> Mapping[str, int]:
    """What each owner spent in the window that contains this moment, in nano-USD."""
    scope, unit, window = kind
    starts_at_s, ends_at_s = window.bounds_s(changing.now_s)
    if scope is Scope.APP:
        apps = _spent_by_app(unit, owners, organization_id, (starts_at_s, ends_at_s))
        return {owner: int(spent) for owner, spent in changing.connection.execute(apps)}
    owner, spent = _OWNERS[scope], defaultdict[str, int](int)
    within = [_HOURS.organization_id == organization_id, owner.in_(owners), _HOURS.hour_s >= starts_at_s]
    if ends_at_s is not None:
        within.append(_HOURS.hour_s < ends_at_s)
    queries = [(1, sa.select(owner, sa.func.sum(_cost(_HOURS, unit))).where(*within).group_by(owner))]
    if scope in _OF_RECEIPTS:
        mixed = _mixed_hours(changing, organization_id, starts_at_s)
        receipts = [_RECEIPTS.organization_id == organization_id, _OF_RECEIPTS[scope].in_(owners)]
        for start in range(0, len(mixed), PAIRS_MAX):
            queries += _instead(scope, unit, mixed[start : start + PAIRS_MAX], within, receipts)
    for sign, query in queries:
        for who, amount in changing.connection.execute(query):
            spent[who] += sign * int(amount)
    return spent


def _cost(columns: Any, unit: Unit) -> sa.ColumnElement[int]:
    both: sa.ColumnElement[int] = columns.cost_nusd + columns.byok_cost_nusd
    return both if unit is Unit.SPEND else columns.cost_nusd


def _mixed_hours(changing: Change, organization_id: str, since_s: int) -> list[tuple[str, int]]:
    """The hours in which a key may have been used in two workspaces: its roll-up stands under one of them.

    A request belongs to the hour in which it came and to the workspace in which it was admitted, which may be a little later.
    """
    audit = schema.audit.c
    moves = sa.select(audit.target, audit.created_at_s).where(
        audit.organization_id == organization_id,
        audit.created_at_s >= since_s - HOUR_S,
        audit.action == MOVE,
        audit.details.contains('"workspace_id"'),
    )
    hours = {
        (key_hash, at_s // HOUR_S * HOUR_S + shift_s)
        for key_hash, at_s in changing.connection.execute(moves)
        for shift_s in (-HOUR_S, 0, HOUR_S)
    }
    return sorted(pair for pair in hours if pair[1] >= since_s)


def _instead(
    scope: Scope, unit: Unit, mixed: Sequence[tuple[str, int]], rolled_up: Sequence[Any], receipts: Sequence[Any]
) -> Iterator[tuple[int, sa.Select[Any]]]:
    """Take away what the roll-ups of these hours of keys say, and add what the receipts themselves say: signs and sums."""
    hours = sa.or_(*((_HOURS.key_hash == key) & (_HOURS.hour_s == hour_s) for key, hour_s in mixed))
    rolled = _OWNERS[scope]
    yield -1, sa.select(rolled, sa.func.sum(_cost(_HOURS, unit))).where(*rolled_up, hours).group_by(rolled)
    times = sa.or_(
        *(
            (_RECEIPTS.key_hash == key) & _RECEIPTS.created_at_ms.between(hour_s * 1000, (hour_s + HOUR_S) * 1000 - 1)
            for key, hour_s in mixed
        )
    )
    owner = _OF_RECEIPTS[scope]
    yield 1, sa.select(owner, sa.func.sum(_cost(_RECEIPTS, unit))).where(*receipts, times).group_by(owner)


def _spent_by_app(
    unit: Unit, owners: Sequence[str], organization_id: str, bounds_s: tuple[int, int | None]
) -> sa.Select[Any]:
    names = [owner.removeprefix(f"{organization_id}/") for owner in owners]
    within = [
        _RECEIPTS.organization_id == organization_id,
        _RECEIPTS.app.in_(names),
        _RECEIPTS.created_at_ms >= bounds_s[0] * 1000,
    ]
    if bounds_s[1] is not None:
        within.append(_RECEIPTS.created_at_ms < bounds_s[1] * 1000)
    owner: sa.ColumnElement[Any] = sa.literal(f"{organization_id}/") + _RECEIPTS.app
    return sa.select(owner, sa.func.sum(_cost(_RECEIPTS, unit))).where(*within).group_by(_RECEIPTS.app)
