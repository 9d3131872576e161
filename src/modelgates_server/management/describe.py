"""Keys as programs and people read them, with what they used (product-surface 2.6), and times as they write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.management.key_values import KeyRow
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

_PERIODS: Final = {
    "day": (Window.DAY, schema.activity_hours.c.cost_nusd),
    "week": (Window.WEEK, schema.activity_hours.c.cost_nusd),
    "month": (Window.MONTH, schema.activity_hours.c.cost_nusd),
    "byok_life": (Window.LIFE, schema.activity_hours.c.byok_cost_nusd),
    "byok_day": (Window.DAY, schema.activity_hours.c.byok_cost_nusd),
    "byok_week": (Window.WEEK, schema.activity_hours.c.byok_cost_nusd),
    "byok_month": (Window.MONTH, schema.activity_hours.c.byok_cost_nusd),
}
"""The sums of a key's hours, by the beginning of their names in `KeyUse`; its life's own use stands on a meter."""

_RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|\+00:00)", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Nano-USD: what a key used in its life, today, this week and this month (UTC), and in the window of its limit.

    `byok_…` is what its organisation's own provider accounts were asked. `last_used_ms` is Unix milliseconds, None for never.
    """

    life_nusd: int = 0
    day_nusd: int = 0
    week_nusd: int = 0
    month_nusd: int = 0
    byok_life_nusd: int = 0
    byok_day_nusd: int = 0
    byok_week_nusd: int = 0
    byok_month_nusd: int = 0
    limited_nusd: int = 0
    last_used_ms: int | None = None


def keys_use(engine: sa.Engine, rows: Sequence[KeyRow], now_s: float) -> dict[str, KeyUse]:
    """Give what each key used, by hash, in a few queries for any number of keys."""
    life = {row.hash: MeterRef(Scope.KEY, row.hash, Unit.NUSD, Window.LIFE).row_id(now_s) for row in rows}
    limited = {row.hash: row.limit_meter.row_id(now_s) for row in rows}
    with reading(engine) as connection:
        posted = _posted(connection, {*life.values(), *limited.values()})
        sums = {row["key_hash"]: row for row in connection.execute(_sums(rows, now_s)).mappings()}
        last = {row.hash: row.last_ms for row in connection.execute(_last(rows))}
    return {
        row.hash: KeyUse(
            life_nusd=posted.get(life[row.hash], 0),
            limited_nusd=posted.get(limited[row.hash], 0),
            last_used_ms=last.get(row.hash),
            **{f"{name}_nusd": sums[row.hash][name] if row.hash in sums else 0 for name in _PERIODS},
        )
        for row in rows
    }


def key_data(row: KeyRow, use: KeyUse) -> dict[str, Any]:
    """Describe a key with every field of product-surface 2.6.

    Members whose name ends in ``_nusd`` are whole nano-USD; whoever writes them for others drops the ending and writes USD.
    """
    remaining = None if row.limit_nusd is None else max(0, row.limit_nusd - use.limited_nusd)
    management = row.key_class is KeyClass.MANAGEMENT
    return {
        "hash": row.hash,
        "name": row.name,
        "label": row.label,
        "disabled": row.disabled,
        "limit_nusd": row.limit_nusd,
        "limit_remaining_nusd": remaining,
        "limit_reset": row.limit_reset,
        "include_byok_in_limit": row.include_byok_in_limit,
        "usage_nusd": use.life_nusd,
        "usage_daily_nusd": use.day_nusd,
        "usage_weekly_nusd": use.week_nusd,
        "usage_monthly_nusd": use.month_nusd,
        "byok_usage_nusd": use.byok_life_nusd,
        "byok_usage_daily_nusd": use.byok_day_nusd,
        "byok_usage_weekly_nusd": use.byok_week_nusd,
        "byok_usage_monthly_nusd": use.byok_month_nusd,
        "requests_per_minute": row.requests_per_minute,
        "tokens_per_minute": row.tokens_per_minute,
        "parallel_max": row.parallel_max,
        "allowed_models": row.allowed_models,
        "provider": None if row.routing is None else msgspec.Raw(row.routing.encode()),
        "is_management_key": management,
        "last_used_at": None if use.last_used_ms is None else rfc3339(use.last_used_ms / 1000),
        "created_at": rfc3339(row.created_at_s),
        "updated_at": rfc3339(row.updated_at_s),
        "expires_at": None if row.expires_at_s is None else rfc3339(row.expires_at_s),
        "creator_user_id": row.member_id,
        "external_user": None,  # keys of other systems' users do not exist here; clients expect the member
        "organization_id": row.organization_id,
        "workspace_id": row.workspace_id,
    }


def rfc3339(unix_s: float) -> str:
    """Write a time in UTC, to the second."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_expiry(text: str, now_s: float) -> int:
    """Read an expiry such as ``2027-01-31T12:00:00Z`` as Unix seconds. Raises BadRequest unless it is UTC and to come."""
    text = text.strip()
    if not _RFC3339_UTC.fullmatch(text):
        raise BadRequest(f"{text[:60]!r} is not a time in UTC", remedy="write it like 2027-01-31T12:00:00Z")
    try:
        expires_at_s = int(datetime.fromisoformat(text.upper()).timestamp())
    except ValueError as error:
        raise BadRequest(
            f"{text[:60]!r} is not a time: {error}", remedy="write it like 2027-01-31T12:00:00Z"
        ) from error
    if expires_at_s <= now_s:
        raise BadRequest(f"{text} is in the past", remedy="name a time to come")
    return expires_at_s


def _posted(connection: sa.Connection, ids: Iterable[str]) -> Mapping[str, int]:
    meters = schema.meters.c
    found = connection.execute(sa.select(meters.id, meters.posted).where(meters.id.in_(list(ids))))
    return {row.id: row.posted for row in found}


def _sums(rows: Sequence[KeyRow], now_s: float) -> sa.Select[Any]:
    """What each key used in each period: of its own credit, and of its organisation's provider accounts."""
    hours = schema.activity_hours.c
    sums = [
        sa.func.coalesce(sa.func.sum(cost).filter(hours.hour_s >= window.bounds_s(now_s)[0]), 0).label(name)
        for name, (window, cost) in _PERIODS.items()
    ]
    mine = hours.key_hash.in_([row.hash for row in rows])
    return sa.select(hours.key_hash, *sums).where(mine).group_by(hours.key_hash)


def _last(rows: Sequence[KeyRow]) -> sa.Select[Any]:
    """When each key was used last: the end of its stretch of an index, whatever is in it."""
    known, receipts = schema.api_keys.c, schema.generations.c
    last = sa.select(sa.func.max(receipts.created_at_ms)).where(receipts.key_hash == known.hash).scalar_subquery()
    return sa.select(known.hash, last.label("last_ms")).where(known.hash.in_([row.hash for row in rows]))
