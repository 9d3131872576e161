"""How long the credit lasts: by the pace of the last seven days."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.unit.activity.crowd import NOW_S, ORG, OTHER, Did, settle

from modelgates_server.activity.runway import Pace, pace
from modelgates_server.storage.engine import reading

DAY_MS = 86_400_000


def pace_of(engine: sa.Engine, organization_id: str = ORG) -> Pace:
    with reading(engine) as connection:
        return pace(connection, organization_id, NOW_S)


def test_the_pace_is_the_average_of_seven_days(either_engine: sa.Engine) -> None:
    """What is older does not count, nor what others spent; $14 in seven days are $2 a day, so $10 last five days."""
    spent = [Did(ago_ms=days * DAY_MS, cost_nusd=nusd) for days, nusd in ((1, 8), (6, 6), (9, 1_000))]
    settle(either_engine, [*spent, Did(organization_id=OTHER, cost_nusd=50)])
    found = pace_of(either_engine)

    assert (found.spent_nusd, found.span_s, found.per_day_nusd) == (14, 7 * 86_400, 2)
    assert found.lasts_s(10) == 5 * 86_400
    assert found.lasts_s(-3) == 0


@pytest.mark.parametrize(("hours", "span_days"), [(2, 1), (24, 1), (48, 2), (72, 3)])
def test_whoever_began_this_week_is_measured_since_then(engine: sa.Engine, hours: int, span_days: int) -> None:
    """An organisation that has spent for two days is not told the half of its pace; but no day is guessed from an hour."""
    settle(engine, [Did(ago_ms=hours * 3_600_000, cost_nusd=600)])

    assert pace_of(engine) == Pace(600, span_days * 86_400)


def test_who_spends_nothing_never_runs_out(either_engine: sa.Engine) -> None:
    """There is no pace, and so no end."""
    found = pace_of(either_engine)

    assert (found.spent_nusd, found.per_day_nusd, found.lasts_s(5)) == (0, 0, None)
