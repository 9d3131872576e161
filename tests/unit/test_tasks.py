"""Work that is done again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from modelgates_server.errors import StoreUnavailable
from modelgates_server.tasks import every


def work_that(outcomes: Iterator[Exception | None], done: asyncio.Event) -> None:
    outcome = next(outcomes, None)
    if outcome is None:
        done.set()
    else:
        raise outcome


async def test_a_store_that_is_away_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is looked for: its log would drown what matters. Anything else is told with its place, each time."""
    done = asyncio.Event()
    outcomes = iter([StoreUnavailable(), StoreUnavailable(), StoreUnavailable(), ValueError("a"), ValueError("b")])
    running = asyncio.create_task(every(0, lambda: work_that(outcomes, done), "policy"))
    await asyncio.wait_for(done.wait(), 10)
    running.cancel()
    told = [(record.getMessage(), record.exc_info is not None) for record in caplog.records]

    assert told == [("upkeep_waits_for_the_store", False), ("upkeep_failed", True), ("upkeep_failed", True)]
