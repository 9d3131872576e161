"""The figures of one look: what was spent today and this month, by whom, on which model, through which provider.

Read in one pass over the days of a month. Days and months are those of budgets: UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.series import PATIENCE_S, Figures, figures_of
from modelgates_server.activity.series_names import names, told_apart
from modelgates_server.activity.series_slice import DAY_S, By
from modelgates_server.activity.series_sources import DAYS, MEASURES, NOTHING, Sums, plus
from modelgates_server.clock import Clock
from modelgates_server.limits import Window
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.patience import within

SHOWN: Final = 6
"""Lines of each list; Activity has the rest."""

BY: Final = (By.MEMBER, By.MODEL, By.PROVIDER)

_TODAY, _YESTERDAY, _BEFORE = 2, 1, 0


@dataclass(frozen=True, slots=True)
class SpentLine:
    """Somebody or something: what it makes today and this month, in nano-USD, own provider keys included."""

    id: str
    name: str
    today_nusd: int
    month_nusd: int
    month_requests: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used. `saved_nusd` is what reading from caches saved this month, after what writing to them cost more."""

    today: Figures
    yesterday: Figures
    month: Figures
    saved_nusd: int
    by_member: tuple[SpentLine, ...]
    by_model: tuple[SpentLine, ...]
    by_provider: tuple[SpentLine, ...]


def spent(engine: sa.Engine, organization_id: str, only_member_id: str | None, clock: Clock) -> Spent:
    """Give what was spent today and this month, by all or by one member. Raises StoreUnavailable, TookTooLong."""
    now_s = clock.now_s()
    today_s, (month_s, _) = int(now_s) // DAY_S * DAY_S, Window.MONTH.bounds_s(now_s)
    with reading(engine) as connection, within(connection, PATIENCE_S, clock):
        query = _query(organization_id, only_member_id, today_s, min(month_s, today_s - DAY_S))
        found = [
            (row[0], dict(zip(BY, row[1:4], strict=True)), row[4], tuple(row[5:])) for row in connection.execute(query)
        ]
        in_month = [one for one in found if one[0] != _YESTERDAY or month_s <= today_s - DAY_S]
        lines = {by: _lines(connection, organization_id, by, in_month) for by in BY}
    return Spent(
        today=_figures(found, lambda when: when == _TODAY),
        yesterday=_figures(found, lambda when: when == _YESTERDAY),
        month=_figures(in_month, lambda _: True),
        saved_nusd=sum(saved for _, _, saved, _ in in_month),
        by_member=lines[By.MEMBER],
        by_model=lines[By.MODEL],
        by_provider=lines[By.PROVIDER],
    )


_Found = tuple[int, dict[By, str], int, Sums]


def _query(organization_id: str, only_member_id: str | None, today_s: int, since_s: int) -> sa.Select[Any]:
    days = schema.activity_days.c
    when = sa.case((days.day_s == today_s, _TODAY), (days.day_s == today_s - DAY_S, _YESTERDAY), else_=_BEFORE)
    facts = sa.select(
        when.label("when"),
        *(sa.func.coalesce(DAYS.by[by], "").label(by) for by in BY),
        days.cache_discount_nusd,
        *(DAYS.measures[name].label(name) for name in MEASURES),
    ).where(days.organization_id == organization_id, days.day_s >= since_s, days.day_s <= today_s)
    if only_member_id is not None:
        facts = facts.where(days.member_id == only_member_id)
    rows = facts.subquery().c
    keys = [rows.when, *(rows[by] for by in BY)]
    sums = [sa.cast(sa.func.sum(rows[name]), sa.BigInteger) for name in ("cache_discount_nusd", *MEASURES)]
    return sa.select(*keys, *sums).group_by(*keys)


def _figures(found: list[_Found], fits: Callable[[int], bool]) -> Figures:
    sums = NOTHING
    for when, _, _, more in found:
        if fits(when):
            sums = plus(sums, more)
    return figures_of(sums)


def _lines(connection: sa.Connection, organization_id: str, by: By, found: list[_Found]) -> tuple[SpentLine, ...]:
    """The first of today, then of the month."""
    today: dict[str, int] = defaultdict(int)
    month: dict[str, Sums] = defaultdict(lambda: NOTHING)
    for when, ids, _, sums in found:
        month[ids[by]] = plus(month[ids[by]], sums)
        if when == _TODAY:
            today[ids[by]] += figures_of(sums).spend_nusd
    figures = {id_: figures_of(sums) for id_, sums in month.items()}
    first = sorted(figures, key=lambda id_: (-today[id_], -figures[id_].spend_nusd, -figures[id_].requests, id_))[
        :SHOWN
    ]
    texts = told_apart(names(connection, organization_id, by, first))
    return tuple(
        SpentLine(id_, texts[id_], today[id_], figures[id_].spend_nusd, figures[id_].requests) for id_ in first
    )
