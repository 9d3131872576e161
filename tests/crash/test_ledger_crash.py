"""kill -9 of ledger processes at random moments, hundreds of times over one database (reliability-security 4.1, 5.7, gate R2).

On SQLite one process follows the other. On PostgreSQL three live at a time, like replicas, and now and then PostgreSQL itself is
killed with all of its processes; then settlements stand in journals until it is back.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crash.nursery import Graveyard, Nursery, open_nursery
from tests.support.figures import Figures, percentile
from tests.support.postgres import Postgres

SQLITE_KILLS = int(os.environ.get("MODELGATES_TEST_KILLS", "150"))
POSTGRES_KILLS = int(os.environ.get("MODELGATES_TEST_POSTGRES_KILLS", "60"))

LIFE_S = 0.1
"""Most lives end so many seconds after their recovery at the latest, in the middle of work; some end in their recovery."""

DATABASE_KILLS = 500
"""Then a new database is begun: checks that read all of it stay quick."""

SEEN = ("held", "settled", "refused", "lost")
"""A run in which these are rare proves nothing."""

DISASTER_EVERY = 25
"""Kills of a life for one of PostgreSQL. In every other one of those, from the first on, a settlement is sure to stand in a journal."""


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    with open_nursery(tmp_path) as running:
        yield running


@pytest.mark.slow
def test_no_kill_loses_or_invents_money_on_sqlite(tmp_path: Path, nursery: Nursery, figures: Figures) -> None:
    """Killed again and again, the ledger loses nothing it acknowledged, exceeds no limit, and recovers to balanced books."""
    total, begun_s = Total(), time.monotonic()
    for database, kills in enumerate(portions(SQLITE_KILLS)):
        folder = tmp_path / str(database)
        folder.mkdir()
        dice = random.Random(f"sqlite {database}")
        ground = Graveyard(nursery, f"sqlite:///{folder / 'data' / 'ledger.db'}", folder, dice)
        run(ground, kills)
        total.add(ground)

    total.report(figures, "ledger on SQLite", SQLITE_KILLS, time.monotonic() - begun_s)
    assert min(total.count[what] for what in SEEN) > SQLITE_KILLS // 10


@pytest.mark.slow
def test_no_kill_loses_or_invents_money_on_postgresql(
    tmp_path: Path, nursery: Nursery, postgres: Postgres, figures: Figures
) -> None:
    """The same with replicas beside that settle what a dead one held, while PostgreSQL itself is killed now and then."""
    total, begun_s = Total(), time.monotonic()
    for database, kills in enumerate(portions(POSTGRES_KILLS)):
        folder = tmp_path / str(database)
        folder.mkdir()
        dice = random.Random(f"postgresql {database}")
        with postgres.database() as url:
            ground = Graveyard(nursery, url, folder, dice, together=3)
            run(ground, kills, postgres)
            total.add(ground)

    total.report(figures, "ledger on PostgreSQL, 3 at a time", POSTGRES_KILLS, time.monotonic() - begun_s)
    assert min(total.count[what] for what in SEEN) > POSTGRES_KILLS // 10
    assert total.count["noted"] > 0


def portions(kills: int) -> list[int]:
    """How many kills each database gets."""
    return [min(DATABASE_KILLS, kills - begun) for begun in range(0, kills, DATABASE_KILLS)]


def run(ground: Graveyard, kills: int, postgres: Postgres | None = None) -> None:
    for number in range(kills):
        ground.populate()
        ground.grant()
        victim = ground.choose()
        ground.watch(victim, LIFE_S)
        if postgres is not None and number % DISASTER_EVERY == DISASTER_EVERY // 2:
            with_a_promise = number // DISASTER_EVERY % 2 == 0
            befall = ground.disaster_with_a_promise if with_a_promise else ground.disaster
            befall(postgres, victim, ground.dice.uniform(0, 0.4))
        else:
            ground.kill(victim)
        ground.bury(victim)
    ground.close()


class Total:
    """What came of all databases."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.ready_s: list[float] = []

    def add(self, ground: Graveyard) -> None:
        self.count.update(ground.witness.count)
        self.ready_s += ground.witness.ready_s

    def report(self, figures: Figures, what: str, kills: int, took_s: float) -> None:
        """Reached only when nothing was lost: every promise is asserted on the way."""
        count = self.count
        figures.add(
            what,
            {
                "kills": kills,
                "kills of PostgreSQL": count["disasters"],
                "operations acknowledged": sum(count[kind] for kind in ("held", "settled", "noted", "refused")),
                "acknowledged from a journal": count["noted"],
                "holds that the dead left": count["lost"],
                "acknowledged operations lost": count["missing"],
                "sums that do not agree": count["unbalanced"],
                "open holds after recovery": count["open holds"],
                "ready, median": f"{percentile(self.ready_s, 50) * 1000:.0f} ms",
                "ready, p99": f"{percentile(self.ready_s, 99) * 1000:.0f} ms",
                "took": f"{took_s / 60:.1f} min",
            },
        )
