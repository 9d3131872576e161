"""What rates and lists would have refused: minutes with too many requests, and models and providers that were used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.what_if import Allowance, Refusals, Used
from modelgates_server.activity.what_if_whom import DAYS, EACH, HOURS, Whom, added_up, owned, receipts, total

ROWS_MAX: Final = 300_000
"""Receipts whose minutes one answer may count."""

RUN_ROWS: Final = 20_000
"""The same in one statement, about."""

USED_MAX: Final = 100_000
MINUTE_MS: Final = 60_000
HOUR_S: Final = 3_600


def used(connection: sa.Connection, whom: Whom, owners: Sequence[Allowance] | None = None) -> list[Used]:
    """What was done with which model through which provider, by key; with `owners`, only by those whose allowances these are."""
    days = DAYS.table.c
    mine = [days.organization_id == whom.organization_id, days.day_s >= whom.since_s]
    if owners is not None:
        mine.append(sa.or_(sa.false(), *(sa.and_(*owned(DAYS.table, one)) for one in owners)))
    sums = (
        sa.func.min(days.day_s).label("first_s"),
        total(days.requests).label("requests"),
        total(days.cost_nusd + days.byok_cost_nusd).label("nusd"),
    )
    keys = (days.member_id, days.key_hash, days.model, days.provider)
    query = sa.select(*keys, *sums).where(*mine).group_by(*keys).order_by(sa.desc("requests")).limit(USED_MAX)
    return [
        Used((row.member_id, row.key_hash), row.model, row.provider, row.requests, row.nusd, row.first_s * 1000)
        for row in connection.execute(query)
    ]


def would_pace(
    connection: sa.Connection, whom: Whom, owner: Allowance, per_minute: int, rows_max: int = ROWS_MAX
) -> Refusals:
    """See what a rate of requests would have refused; `owner` has one owner, whose rate it is; its amount does not matter.

    It looks back as far as it may read: `looked_from_ms` says how far that was.
    """
    refusals = Refusals(whom.since_s * 1000)
    for start_s, end_s, requests in _busy(connection, whom, owner, per_minute):
        if rows_max <= 0:
            refusals.looked_from_ms = end_s * 1000
            break
        rows_max -= requests
        for row in connection.execute(_too_fast(connection, whom, owner, (start_s, end_s), per_minute)):
            refusals.add((row.member_id, row.key_hash), row.requests, row.nusd, row.first_ms)
    return refusals


def _busy(connection: sa.Connection, whom: Whom, owner: Allowance, per_minute: int) -> Iterator[tuple[int, int, int]]:
    """Runs of hours that had more requests than one minute may have, with how many, the newest first: no other minute is over it."""
    hours = HOURS.table.c
    query = (
        sa.select(hours.hour_s, total(hours.requests).label("requests"))
        .where(*added_up(HOURS, whom, owner, (whom.since_s, whom.now_s + 1)))
        .group_by(hours.hour_s)
        .having(total(hours.requests) > per_minute)
        .order_by(hours.hour_s.desc())
    )
    run: tuple[int, int, int] | None = None
    for row in connection.execute(query):
        if run is not None and row.hour_s + HOUR_S == run[0] and run[2] < RUN_ROWS:
            run = (row.hour_s, run[1], run[2] + row.requests)
            continue
        if run is not None:
            yield run
        run = (row.hour_s, row.hour_s + HOUR_S, row.requests)
    if run is not None:
        yield run


def _too_fast(
    connection: sa.Connection, whom: Whom, owner: Allowance, bounds: tuple[int, int], per_minute: int
) -> sa.Select[Any]:
    """Requests that came when their minute had as many as it may, by whose they were."""
    (id_,) = owner.owners or ()
    place = receipts(connection, whom, owner, id_, bounds)
    minute = EACH.created_at_ms // MINUTE_MS
    number = sa.func.row_number().over(partition_by=minute, order_by=(EACH.created_at_ms, EACH.id))
    placed = (
        sa.select(EACH.created_at_ms, EACH.member_id, EACH.key_hash, EACH.cost_nusd, number.label("number"))
        .where(*place.conditions)
        .subquery()
    )
    keys = (placed.c.member_id, placed.c.key_hash)
    sums = (
        sa.func.count().label("requests"),
        total(placed.c.cost_nusd).label("nusd"),
        sa.func.min(placed.c.created_at_ms).label("first_ms"),
    )
    return sa.select(*keys, *sums).where(placed.c.number > per_minute).group_by(*keys)
