"""Use by day, from the roll-ups: ``GET /activity`` (product-surface 2.7), and the same in more columns for an export.

Roll-ups are written in the settlement's own transaction, so the sums are those of the ledger, to the nano-dollar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.clock import Clock
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.money import usd_text
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.patience import within

COMPLETED_DAYS: Final = 30
EXPORT_DAYS_MAX: Final = 367
DAY_S: Final = 86_400
PATIENCE_S: Final = 10.0
"""Longest time that a report may take."""

_ROWS_AT_ONCE: Final = 1_000
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

Column = sa.ColumnElement[Any]
_HOURS = schema.activity_hours.c
_DAY: Final = (_HOURS.hour_s - _HOURS.hour_s % sa.literal_column(str(DAY_S))).label("day_s")


def _total(name: str, *columns: Column) -> sa.Label[Any]:
    added = sum(columns[1:], columns[0])
    return sa.cast(sa.func.sum(added), sa.BigInteger).label(name)


_SUMS: Final = (
    _total("requests", _HOURS.requests),
    _total("failures", _HOURS.failures),
    _total("prompt", _HOURS.input_tokens, _HOURS.cache_read_tokens, _HOURS.cache_write_tokens),
    _total("output", _HOURS.output_tokens),
    _total("thinking", _HOURS.thinking_tokens),
    _total("read", _HOURS.cache_read_tokens),
    _total("cost", _HOURS.cost_nusd),
    _total("byok_cost", _HOURS.byok_cost_nusd),
)


@dataclass(frozen=True, slots=True)
class Which:
    """Whose use, from `since_s` until before `until_s` (Unix seconds, midnights of UTC)."""

    since_s: int
    until_s: int
    key_hash: str | None = None
    member_id: str | None = None
    workspace_id: str | None = None
    by_workspace: bool = False


def completed(now_s: float, day: str | None = None) -> Which:
    """The last thirty days that are over, or one of them, written ``2026-11-26``. Raises BadRequest for any other day."""
    today_s = int(now_s) // DAY_S * DAY_S
    since_s = today_s - COMPLETED_DAYS * DAY_S
    if day is None:
        return Which(since_s, today_s)
    day_s = midnight_s(day, "date")
    if not since_s <= day_s < today_s:
        raise BadRequest(
            f"date: must be one of the last {COMPLETED_DAYS} completed days (UTC),"
            f" {day_text(since_s)} to {day_text(today_s - DAY_S)}"
        )
    return Which(day_s, day_s + DAY_S)


def days(now_s: float, first: str | None, last: str | None) -> Which:
    """From one day to another, both included: by default the last thirty completed ones. Raises BadRequest."""
    usual = completed(now_s)
    until_s = usual.until_s if last is None else midnight_s(last, "to") + DAY_S
    since_s = until_s - COMPLETED_DAYS * DAY_S if first is None else midnight_s(first, "from")
    if since_s >= until_s:
        raise BadRequest("from: must not be after to")
    if since_s < 0:
        raise BadRequest("from, to: there are no days before 1970-01-01")
    if until_s - since_s > EXPORT_DAYS_MAX * DAY_S:
        raise BadRequest(f"from, to: at most {EXPORT_DAYS_MAX} days")
    return replace(usual, since_s=since_s, until_s=until_s)


def midnight_s(text: str, name: str) -> int:
    """Read a day such as ``2026-11-26`` as the Unix seconds of its beginning in UTC. Raises BadRequest."""
    try:
        if _DATE.fullmatch(text):
            midnight = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            return int(midnight.timestamp())
    except ValueError:
        pass
    raise BadRequest(f"{name}: {text[:40]!r} is not a day; write it like 2026-11-26")


def daily(engine: sa.Engine, organization_id: str, which: Which, clock: Clock) -> list[dict[str, Any]]:
    """Give one row for each day, model and provider (and workspace, if asked), in that order.

    Amounts are nano-USD under names that end in ``_nusd``. Raises NotFound for a workspace of somebody else, TookTooLong.
    """
    keys = [_DAY, _HOURS.model, _HOURS.provider, *([_HOURS.workspace_id] if which.by_workspace else [])]
    query = sa.select(*keys, *_SUMS).where(*_conditions(organization_id, which)).group_by(*keys).order_by(*keys)
    with reading(engine) as connection, within(connection, PATIENCE_S, clock):
        _check_workspace(connection, organization_id, which.workspace_id)
        return [_row(row, which) for row in connection.execute(query).mappings()]


EXPORT_HEAD: Final = (
    "date", "model", "provider", "api_key_hash", "api_key_name", "user_id", "user_name", "user_email", "workspace_id",
    "workspace_name", "requests", "failures", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens",
    "usage_usd", "byok_usage_usd",
)  # fmt: skip


def export(connection: sa.Connection, organization_id: str, which: Which) -> Iterator[Sequence[object]]:
    """Give rows under `EXPORT_HEAD`: one for each day, model, provider, key, member and workspace; read as they are taken.

    Raises NotFound for a workspace of somebody else.
    """
    _check_workspace(connection, organization_id, which.workspace_id)
    keys = [_DAY, _HOURS.model, _HOURS.provider, _HOURS.key_hash, _HOURS.member_id, _HOURS.workspace_id]
    rows = sa.select(*keys, *_SUMS).where(*_conditions(organization_id, which)).group_by(*keys).subquery()
    own, people, places = schema.api_keys, schema.members, schema.workspaces
    joined = (
        rows.outerjoin(own, (own.c.hash == rows.c.key_hash) & (own.c.organization_id == organization_id))
        .outerjoin(people, (people.c.id == rows.c.member_id) & (people.c.organization_id == organization_id))
        .outerjoin(places, (places.c.id == rows.c.workspace_id) & (places.c.organization_id == organization_id))
    )
    names = [own.c.name.label("key"), people.c.name.label("member"), people.c.email, places.c.name.label("place")]
    query = sa.select(*rows.c, *names).select_from(joined).order_by(*(rows.c[column.key] for column in keys))
    found = connection.execute(query.execution_options(yield_per=_ROWS_AT_ONCE))
    for row in found:
        yield (
            day_text(row.day_s), row.model, row.provider, row.key_hash, row.key, row.member_id, row.member, row.email,
            row.workspace_id, row.place, row.requests, row.failures, row.prompt, row.output, row.thinking, row.read,
            usd_text(row.cost), usd_text(row.byok_cost),
        )  # fmt: skip


def _conditions(organization_id: str, which: Which) -> list[Column]:
    mine = [_HOURS.organization_id == organization_id, _HOURS.hour_s >= which.since_s, _HOURS.hour_s < which.until_s]
    wanted = (
        (_HOURS.key_hash, which.key_hash),
        (_HOURS.member_id, which.member_id),
        (_HOURS.workspace_id, which.workspace_id),
    )
    return mine + [column == value for column, value in wanted if value is not None]


def _check_workspace(connection: sa.Connection, organization_id: str, workspace_id: str | None) -> None:
    places = schema.workspaces.c
    own = sa.select(places.id).where(places.id == workspace_id, places.organization_id == organization_id)
    if workspace_id is not None and connection.execute(own).one_or_none() is None:
        raise NotFound("there is no such workspace")


def _row(row: sa.RowMapping, which: Which) -> dict[str, Any]:
    """The field names of product-surface 2.7. An endpoint is a provider that serves a model."""
    shown = {
        "date": day_text(row["day_s"]),
        "model": row["model"],
        "model_permaslug": row["model"],
        "endpoint_id": f"{row['provider']}|{row['model']}",
        "provider_name": row["provider"],
        "usage_nusd": row["cost"],
        "byok_usage_inference_nusd": row["byok_cost"],
        "requests": row["requests"],
        "prompt_tokens": row["prompt"],
        "completion_tokens": row["output"],
        "reasoning_tokens": row["thinking"],
        "cached_tokens": row["read"],
    }
    return shown | ({"workspace_id": row["workspace_id"]} if which.by_workspace else {})


def day_text(day_s: int) -> str:
    """Write a day as analytics does: ``2026-11-26``."""
    return datetime.fromtimestamp(day_s, UTC).strftime("%Y-%m-%d")
