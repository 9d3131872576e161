"""One look: what was spent today, yesterday and this month, by whom, on what and through whom; on both stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from random import Random

import sqlalchemy as sa
from tests.unit.activity.crowd import NOW_S, ORG, Did, settle, someone

from modelgates_server.activity.overview import SHOWN, SpentLine, spent
from modelgates_server.clock import ManualClock

DAY_MS = 86_400_000
CLOCK = ManualClock(NOW_S)
MIDNIGHT_MS = NOW_S * 1000 // DAY_MS * DAY_MS
MONTH_MS = int(datetime.fromisoformat("2027-01-01T00:00+00:00").timestamp()) * 1000


def of(did: Did, since_ms: int, until_ms: int) -> bool:
    return did.organization_id == ORG and since_ms <= did.at_ms < until_ms


def cost(crowd: list[Did]) -> int:
    return sum(did.cost_nusd + did.byok_nusd for did in crowd)


def test_the_sums_are_those_of_the_receipts(either_engine: sa.Engine) -> None:
    """Of today, yesterday and the month so far; every list adds up to its part of them, the first of today first."""
    random = Random(5)
    crowd = [someone(random, days=24) for _ in range(300)] + [
        replace(someone(random), ago_ms=n * 60_000) for n in range(60)
    ]
    settle(either_engine, crowd)
    found = spent(either_engine, ORG, None, CLOCK)
    today = [did for did in crowd if of(did, MIDNIGHT_MS, NOW_S * 1000 + 1)]
    month = [did for did in crowd if of(did, MONTH_MS, NOW_S * 1000 + 1)]

    assert (found.today.spend_nusd, found.today.requests) == (cost(today), len(today))
    assert found.yesterday.spend_nusd == cost([did for did in crowd if of(did, MIDNIGHT_MS - DAY_MS, MIDNIGHT_MS)])
    assert (found.month.spend_nusd, found.month.requests) == (cost(month), len(month))
    assert found.saved_nusd == 3 * len(month)
    for lines in (found.by_member, found.by_model, found.by_provider):
        assert sum(line.today_nusd for line in lines) == cost(today)
        assert sum(line.month_nusd for line in lines) == cost(month)
        assert [line.today_nusd for line in lines] == sorted((line.today_nusd for line in lines), reverse=True)


def test_yesterday_of_the_first_belongs_to_another_month(engine: sa.Engine) -> None:
    """On the first day of a month, yesterday is told, and the month is today."""
    first = ManualClock(MONTH_MS / 1000 + 7_200)
    settle(
        engine,
        [Did(ago_ms=NOW_S * 1000 - MONTH_MS - hours * 3_600_000, cost_nusd=nusd) for hours, nusd in ((1, 5), (-3, 9))],
    )
    found = spent(engine, ORG, None, first)

    assert (found.today.spend_nusd, found.yesterday.spend_nusd, found.month.spend_nusd) == (5, 9, 5)


def test_a_member_sees_their_own(either_engine: sa.Engine) -> None:
    """And nobody else's name."""
    settle(either_engine, [Did(key=key, cost_nusd=10**key) for key in range(4)])
    found = spent(either_engine, ORG, f"{ORG}-member-1", CLOCK)

    assert found.month.spend_nusd == 10**1 + 10**3
    assert [line.name for line in found.by_member] == ["Member 1"]


def test_lists_are_short(engine: sa.Engine) -> None:
    """The first few; Activity has the rest."""
    settle(engine, [Did(model=f"m/{number}", cost_nusd=number + 1) for number in range(SHOWN + 3)])
    first, *_ = found = spent(engine, ORG, None, CLOCK).by_model

    assert len(found) == SHOWN
    assert first == SpentLine(f"m/{SHOWN + 2}", f"m/{SHOWN + 2}", SHOWN + 3, SHOWN + 3, 1)
