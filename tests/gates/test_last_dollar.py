"""The last dollar: a thousand requests at once, money for seven (reliability-security 4.3, gate R1)."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from tests.gates.house import POSTGRES, REPLICAS, SQLITE, WORKERS, House, Key, Layout, Order, Told, Watcher, open_house
from tests.support.figures import Figures
from tests.support.process import SimulatorProcess

pytestmark = pytest.mark.slow

RACES = int(os.environ.get("MODELGATES_TEST_RACES", "2"))
REQUESTS = 1000
AFFORDABLE = 7
SIZES = ((16, "hello"), (40, "hello, hello"), (90, "a longer word of welcome " * 8), (160, "x" * 900))
"""Output tokens and text of requests of mixed sizes: the largest costs ten times the smallest."""


@pytest.mark.parametrize("layout", [SQLITE, POSTGRES, WORKERS, REPLICAS], ids=str)
async def test_the_last_dollar_is_spent_once(
    layout: Layout, tmp_path: Path, upstream: SimulatorProcess, request: pytest.FixtureRequest, figures: Figures
) -> None:
    """With charge equal to hold, exactly seven of 1,000 are answered; of mixed sizes, none that was refused would have fitted."""
    postgres = request.getfixturevalue("postgres") if layout.store == "postgresql" else None
    with open_house(tmp_path, layout, upstream, postgres) as house:
        orders = [await house.measure(*size) for size in SIZES]
        with Watcher(house.url) as watcher:
            for race in range(RACES):
                await exactly_seven(house, orders[0])
                await mixed(house, orders, random.Random(f"{layout} {race}"))
        (sums,) = house.rows(
            "SELECT (SELECT COUNT(*) FROM holds) AS holds, (SELECT CAST(SUM(held) AS BIGINT) FROM meters) AS held"
        )
        checked = house.stands[0].cli("db", "check")

    assert watcher.seen == []
    assert watcher.looks > RACES
    assert (sums["holds"], sums["held"]) == (0, 0)
    assert (checked.code, checked.json["problems"]) == (0, [])
    figures.add(f"last dollar, {layout}", report(house, watcher))


async def exactly_seven(house: House, order: Order) -> None:
    """Money for seven of one size."""
    key = house.new_key(AFFORDABLE * order.cost_nusd)
    told = await house.race(key, [order] * REQUESTS)

    assert statuses(told) == {200: AFFORDABLE, 402: REQUESTS - AFFORDABLE}
    assert house.used(key) == (AFFORDABLE * order.cost_nusd, 0)
    assert {one.cost_nusd for one in told if one.status == 200} == {order.cost_nusd}


async def mixed(house: House, orders: list[Order], dice: random.Random) -> None:
    """Money for about thirty of mixed sizes: what remains is less than the smallest that was refused."""
    limit_nusd = dice.randint(20, 40) * orders[1].cost_nusd
    key = house.new_key(limit_nusd)
    asked = dice.choices(orders, k=REQUESTS)
    told = await house.race(key, asked)
    spent_nusd = sum(one.cost_nusd for one in told)
    refused = [order.cost_nusd for order, one in zip(asked, told, strict=True) if one.status == 402]

    assert set(statuses(told)) == {200, 402}
    assert house.used(key) == (spent_nusd, 0)
    assert 0 <= limit_nusd - spent_nusd < min(refused)
    house.count["false refusals"] += sum(cost_nusd <= limit_nusd - spent_nusd for cost_nusd in refused)
    await one_more(house, key, orders[0], spent_nusd)


async def one_more(house: House, key: Key, order: Order, spent_nusd: int) -> None:
    """With money for one more it is answered, and the next one refused: nothing was left held or counted in vain."""
    house.manage("PATCH", f"keys/{key.hash}", {"limit": (spent_nusd + order.cost_nusd) / 10**9})
    told = [(await house.race(key, [order]))[0].status for _ in range(2)]

    assert told == [200, 402]


def statuses(told: list[Told]) -> dict[int, int]:
    return dict(Counter(one.status for one in told))


def report(house: House, watcher: Watcher) -> dict[str, object]:
    """A run in which a race is lost ends before."""
    return {
        "races": 2 * RACES,
        "requests": 2 * RACES * REQUESTS,
        "overspend": f"{watcher.overspent_nusd / 10**9:.9f} USD",
        "false refusals": house.count["false refusals"],
        "looks at the meters": watcher.looks,
        "answers with 503": house.count["503"],
    }
