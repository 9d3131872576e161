"""How long the credit lasts at the current pace: the average of the last seven days, or since the first request if that is later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.storage import schema

DAY_S: Final = 86_400
PACE_DAYS: Final = 7
"""A week has its weekend in it: fewer days would promise too much on a Friday and too little on a Monday."""

Column = sa.ColumnElement[Any]

_HOURS = schema.activity_hours.c
_DAYS = schema.activity_days.c


@dataclass(frozen=True, slots=True)
class Pace:
    """What was spent in a stretch of time, in nano-USD. `span_s` is how long that is: a day at least, seven days at most."""

    spent_nusd: int
    span_s: int

    @property
    def per_day_nusd(self) -> int:
        """The average of a day."""
        return self.spent_nusd * DAY_S // self.span_s

    def lasts_s(self, free_nusd: int) -> int | None:
        """How many seconds an amount lasts at this pace; None when nothing is spent, so that it never ends."""
        if self.spent_nusd <= 0:
            return None
        return max(0, free_nusd) * self.span_s // self.spent_nusd


def pace(connection: sa.Connection, organization_id: str, now_s: float) -> Pace:
    """Give an organisation's current pace, from the roll-ups: hours until the first midnight, then days. Today counts as it is."""
    since_s = int(now_s) - PACE_DAYS * DAY_S
    mine = _HOURS.organization_id == organization_id
    first_s: int | None = connection.execute(sa.select(sa.func.min(_HOURS.hour_s)).where(mine)).scalar_one()
    begins_s = since_s if first_s is None else max(since_s, first_s)
    midnight_s = -(-begins_s // DAY_S) * DAY_S
    hours = (mine, _HOURS.hour_s >= begins_s, _HOURS.hour_s < midnight_s)
    days = (_DAYS.organization_id == organization_id, _DAYS.day_s >= midnight_s, _DAYS.day_s <= int(now_s))
    spent = _spent(connection, _HOURS.cost_nusd, hours) + _spent(connection, _DAYS.cost_nusd, days)
    return Pace(spent, min(PACE_DAYS * DAY_S, max(DAY_S, int(now_s) - begins_s)))


def _spent(connection: sa.Connection, cost: Column, conditions: tuple[Column, ...]) -> int:
    query = sa.select(sa.cast(sa.func.coalesce(sa.func.sum(cost), 0), sa.BigInteger)).where(*conditions)
    return int(connection.execute(query).scalar_one())
