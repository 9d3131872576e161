"""Making good what a server of the version before left out: it adds requests up by the hour, and knows no days.

Days are written in the settlement's own transaction (`generation.rows`), so they lack only what servers settled that do not write
them, while both versions serve one database or where one left a journal. Hours tell which days that is; the receipts tell what to add.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.generation import SUMS
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.storage.portable import one_at_a_time, upsert

DAY_S: Final = 86_400
DAYS: Final = 35
"""How far back is looked: an upgrade of several machines takes days, and a journal lies no longer."""

TURN: Final = 0x6D67_6461_7973
"""Two processes that add the same difference at once would add it twice: they take turns under this number."""

Column = sa.ColumnElement[Any]

_EACH = schema.generations.c
_HOURS = schema.activity_hours.c
_DAYS = schema.activity_days
_KEYS: Final = tuple(column.name for column in _DAYS.primary_key.columns)
_ADDED: Final = (*SUMS, "cache_discount_nusd")
_COMPARED: Final = ("requests", "cost_nusd", "byok_cost_nusd", "input_tokens", "output_tokens", "cache_read_tokens")


def mend(engine: sa.Engine, now_s: float) -> list[tuple[str, int]]:
    """Compare the last days with their hours, and add what a day lacks; gives (organisation, day) of those that lacked something.

    Any number of processes may do so beside servers that settle. Raises StoreUnavailable.
    """
    since_s = (int(now_s) // DAY_S - DAYS) * DAY_S
    with reading(engine) as connection:
        organizations = connection.execute(sa.select(schema.organizations.c.id)).scalars().all()
        lacking = [(one, day_s) for one in organizations for day_s in differing(connection, one, since_s)]
    for organization_id, day_s in lacking:
        with transaction(engine) as connection:
            _add_what_lacks(connection, organization_id, day_s)
    return lacking


def differing(connection: sa.Connection, organization_id: str, since_s: int) -> Sequence[int]:
    """The days (Unix seconds of their beginning) since `since_s` that are not the sum of their hours."""
    day_s = (_HOURS.hour_s - _HOURS.hour_s % sa.literal_column(str(DAY_S))).label("day_s")
    hours = sa.select(day_s, *(_HOURS[name] for name in _COMPARED)).where(
        _HOURS.organization_id == organization_id, _HOURS.hour_s >= since_s
    )
    days = sa.select(_DAYS.c.day_s, *((-_DAYS.c[name]).label(name) for name in _COMPARED)).where(
        _DAYS.c.organization_id == organization_id, _DAYS.c.day_s >= since_s
    )
    both = sa.union_all(hours, days).subquery()
    differ = sa.or_(*(sa.func.sum(both.c[name]) != 0 for name in _COMPARED))
    return connection.execute(sa.select(both.c.day_s).group_by(both.c.day_s).having(differ)).scalars().all()


def _add_what_lacks(connection: sa.Connection, organization_id: str, day_s: int) -> None:
    """Add the difference between a day and its receipts, in one statement.

    It sees one moment, in which what newer servers settled is in both, and adding lets them go on settling meanwhile.
    """
    one_at_a_time(connection, TURN)
    truth = _receipts(organization_id, day_s).subquery()
    known = (
        sa.select(*(_DAYS.c[name] for name in (*_KEYS, "workspace_id", "member_id")))
        .add_columns(*((-_DAYS.c[name]).label(name) for name in _ADDED))
        .where(_DAYS.c.organization_id == organization_id, _DAYS.c.day_s == day_s)
    )
    both = sa.union_all(sa.select(*truth.c), known).subquery()
    sums: dict[str, Column] = {name: sa.cast(sa.func.sum(both.c[name]), sa.BigInteger) for name in _ADDED}
    taken: dict[str, Column] = {name: both.c[name] for name in _KEYS}
    taken |= {name: sa.func.max(both.c[name]) for name in ("workspace_id", "member_id")}
    found = (
        sa.select(*(value.label(name) for name, value in (taken | sums).items()))
        .where(sa.true())  # SQLite could take ON CONFLICT for a part of a join
        .group_by(*(both.c[name] for name in _KEYS))
        .having(sa.or_(*(value != 0 for value in sums.values())))
        .order_by(*(both.c[name] for name in _KEYS))  # as settlements lock them
    )
    adding = upsert(connection, _DAYS).from_select([*taken, *sums], found)
    changes = {name: _DAYS.c[name] + adding.excluded[name] for name in _ADDED}
    connection.execute(adding.on_conflict_do_update(index_elements=list(_DAYS.primary_key.columns), set_=changes))


def _receipts(organization_id: str, day_s: int) -> sa.Select[Any]:
    """The receipts of a day under the names of the columns of days."""
    each: dict[str, Column] = {
        "organization_id": _EACH.organization_id,
        "day_s": sa.literal(day_s, sa.BigInteger),
        "key_hash": _EACH.key_hash,
        "model": _EACH.model,
        "provider": sa.func.coalesce(_EACH.provider, ""),
        "app": sa.func.coalesce(_EACH.app, ""),
        "workspace_id": _EACH.workspace_id,
        "member_id": _EACH.member_id,
        "requests": sa.literal(1, sa.BigInteger),
        "failures": sa.case((_EACH.outcome.in_(("failed", "broken")), 1), else_=0),
        "input_tokens": _EACH.input_tokens,
        "output_tokens": _EACH.output_tokens,
        "thinking_tokens": _EACH.thinking_tokens,
        "cache_read_tokens": _EACH.cache_read_tokens,
        "cache_write_tokens": _EACH.cache_write_5m_tokens + _EACH.cache_write_1h_tokens,
        "cost_nusd": _EACH.cost_nusd,
        "byok_cost_nusd": _EACH.byok_cost_nusd,
        "cache_discount_nusd": _EACH.cache_discount_nusd,
    }
    names = (*_KEYS, "workspace_id", "member_id", *_ADDED)
    return sa.select(*(each[name].label(name) for name in names)).where(
        _EACH.organization_id == organization_id,
        _EACH.created_at_ms >= day_s * 1000,
        _EACH.created_at_ms < (day_s + DAY_S) * 1000,
    )
