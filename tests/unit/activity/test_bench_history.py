"""The history that the bench reads is one that a gateway could have written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House, open_house

from modelgates_server.storage.engine import reading
from modelgates_server.storage.maintenance import check

BENCH = Path(__file__).parents[3] / "bench"
COUNT = 4_000
MAKE = "import sys; from pathlib import Path; from history import write; write(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))"


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A database that the bench filled, on SQLite."""
    with open_house(tmp_path / "history.db") as opened:
        opened.engine.dispose()
        order = [sys.executable, "-c", MAKE, str(opened.path), str(COUNT), str(opened.clock.now_s())]
        subprocess.run(order, cwd=BENCH, check=True, capture_output=True)
        yield opened


def test_its_roll_ups_are_the_sums_of_its_receipts(house: House) -> None:
    """`db check` finds no hour and no day that differs, and nothing that belongs to nobody."""
    kinds = {problem.kind for problem in check(house.database)}

    assert kinds.isdisjoint({"roll-ups", "days", "references", "tenants", "integrity", "schema"})


def test_it_goes_on_for_a_month(house: House) -> None:
    """A year long, as busy as offices are, up to a month from now: the bench may use it for that long."""
    query = "SELECT COUNT(*), MAX(created_at_ms) - MIN(created_at_ms), MAX(created_at_ms), COUNT(DISTINCT key_hash) FROM generations"
    with reading(house.engine) as connection:
        count, span_ms, last_ms, keys = connection.execute(sa.text(query)).one()

    assert count == COUNT
    assert 360 * 86_400_000 < span_ms < 365 * 86_400_000
    assert 29 * 86_400_000 < last_ms - house.clock.now_s() * 1000 < 32 * 86_400_000
    assert keys == 60
