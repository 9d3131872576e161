"""Every write and every sync in turn fails, with EIO and with ENOSPC (reliability-security 4.1, 4.3, gate R4)."""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crash.nursery import Graveyard, open_nursery
from tests.support.eyes import Eyes
from tests.support.figures import Figures
from tests.support.shim import build, preloaded

pytestmark = pytest.mark.slow

LIVES = int(os.environ.get("MODELGATES_TEST_DISK_LIVES", "20"))
"""So many calls are chosen, evenly from the first to the last of a life; 0 takes every single one, with both errors."""

SEATS, REQUESTS = 4, 13
"""About a hundred operations: holds and settlements."""

LASTS = 10
"""Every other time it is not one call that fails but so many in a row, as on a disk that stays full for a while."""


KILLED_EVERY = 5
"""So many lives, one is killed besides: what a failed commit left on the disk may then be found by the next."""


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Graveyard]:
    with open_nursery(tmp_path, **preloaded(build(tmp_path))) as nursery:
        url = f"sqlite:///{tmp_path / 'data' / 'ledger.db'}"
        yield Graveyard(nursery, url, tmp_path, random.Random(20_260_104), journals=True)


def live(ground: Graveyard, first: int, last: int, error: int, *, killed: bool = False) -> Counter[str]:
    """A life during which some calls fail; it must end by itself, unless it is killed in the middle. Gives what it said, by kind."""
    before = Counter(ground.witness.count)
    ground.grant()
    fails = (str(ground.folder / "data"), first, last, error)
    life = ground.begin(SEATS, requests=REQUESTS, fails=fails)
    if killed:
        ground.watch(life, 0.5)
        ground.kill(life)
        ground.bury(life)
    else:
        ground.let_live(life)
    return ground.witness.count - before


def test_no_failing_call_loses_what_was_acknowledged(ground: Graveyard, figures: Figures) -> None:
    """Whichever call fails: what was acknowledged is there, what was refused is not, and the process goes on by itself."""
    live(ground, 0, 0, 0)
    calls = ground.witness.count["calls"]
    seen: Counter[str] = Counter()
    for number, (call, error) in enumerate(chosen(calls)):
        last = call + (LASTS - 1) * (number % 2)
        seen += live(ground, call, last, error, killed=number % KILLED_EVERY == KILLED_EVERY - 1)
    ground.close()
    with Eyes(ground.url) as eyes:
        whole = eyes.rows("PRAGMA integrity_check")

    assert calls > SEATS * REQUESTS
    assert whole == [{"integrity_check": "ok"}]
    assert min(seen[what] for what in ("held", "settled", "noted", "away")) > 0
    figures.add("failing disk, ledger on SQLite", report(ground.witness.count, seen, calls))


def chosen(calls: int) -> list[tuple[int, int]]:
    """Which call fails in each life, and how."""
    if not LIVES:
        return [(call, error) for call in range(1, calls + 1) for error in (errno.EIO, errno.ENOSPC)]
    errors = (errno.EIO, errno.ENOSPC)
    return [(1 + number * calls // LIVES, errors[number // 2 % 2]) for number in range(LIVES)]


def report(count: Counter[str], seen: Counter[str], calls: int) -> dict[str, object]:
    """Reached only when nothing was lost."""
    return {
        "calls of one life": calls,
        "lives with a failing call": len(chosen(calls)),
        "operations acknowledged": seen["held"] + seen["settled"] + seen["noted"] + seen["refused"],
        "acknowledged from a journal": seen["noted"],
        "refused while failing": seen["away"],
        "acknowledged operations lost": count["missing"],
        "sums that do not agree": count["unbalanced"],
        "open holds after recovery": count["open holds"],
    }
