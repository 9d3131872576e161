"""kill -9 of the real `serve` under load, with the simulator's truth log as judge (reliability-security 4.1, gates R2 and R23)."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.crash.load import Load, list_price_nusd
from tests.support.eyes import Eyes, pass_time
from tests.support.figures import Figures, percentile
from tests.support.postgres import Postgres
from tests.support.process import Server, SimulatorProcess, Stand

SQLITE_KILLS = int(os.environ.get("MODELGATES_TEST_SERVER_KILLS", "5"))
POSTGRES_KILLS = int(os.environ.get("MODELGATES_TEST_POSTGRES_SERVER_KILLS", "3"))

LIFE_S = (0.3, 1.5)
"""The load runs this long before the kill: always into the middle of streams."""

CREDIT = '[credits]\ninitial_grant_usd = "100000"'
"""Enough for the long run of hundreds of kills."""

DISASTER_EVERY = 3
"""So often PostgreSQL dies too, before the server does: what is finished then stands in its journal only."""


class Judge:
    """Compares receipts with what clients saw and with what the provider says it generated, one life after another."""

    def __init__(self, stand: Stand, upstream: SimulatorProcess) -> None:
        self._stand = stand
        self._upstream = upstream
        self._until_ms = 0
        self._sequence = 0
        self.count: Counter[str] = Counter()
        self.ready_s: list[float] = []

    def after(self, load: Load) -> None:
        """After a restart: what clients saw completed is booked to the digit; the rest is an estimate, at most its hold."""
        entries = self._upstream.log_since(self._sequence)
        truth = {entry["message_id"]: list_price_nusd(entry["usage"]) for entry in entries if entry["usage"]}
        found = self._stand.rows("SELECT * FROM generations WHERE created_at_ms > :until_ms", until_ms=self._until_ms)
        rows = {row["id"]: row for row in found}
        lost = [id_ for id_ in load.completed if id_ not in rows or rows[id_]["outcome"] != "completed"]
        self.count["missing"] += len(lost)

        assert lost == []
        assert {id_: rows[id_]["cost_nusd"] for id_ in load.completed} == load.completed
        assert len(rows) >= len(truth)  # what was dispatched has a receipt
        for row in found:
            self._check(row, truth)
        self._until_ms, self._sequence = max(row["created_at_ms"] for row in found), entries[-1]["sequence"]
        self.count.update(row["outcome"] for row in found)
        self.count["delivered"] += len(load.completed)
        self.count["refused"] += load.refused

    def _check(self, row: dict[str, Any], truth: dict[str, int]) -> None:
        assert (row["outcome"], row["estimated"]) in {("completed", 0), ("lost", 1)}
        assert 0 <= row["cost_nusd"] <= row["held_nusd"]
        if row["outcome"] == "completed":
            assert row["cost_nusd"] == truth[row["upstream_id"]]


def at_rest(stand: Stand, count: Counter[str]) -> None:
    """Right after a restart: nothing is held, no limit is broken, and every sum in the books agrees."""
    (sums,) = stand.rows(
        """SELECT (SELECT COUNT(*) FROM holds) AS holds, (SELECT CAST(SUM(held) AS BIGINT) FROM meters) AS held,
            (SELECT posted FROM meters WHERE scope = 'organization') AS posted,
            (SELECT CAST(SUM(cost_nusd) AS BIGINT) FROM generations) AS generations,
            (SELECT CAST(SUM(amount_nusd) AS BIGINT) FROM entries WHERE kind = 'charge') AS entries"""
    )
    checked = stand.cli("db", "check")
    count["open holds"] += sums["holds"]
    count["unbalanced"] += len(checked.json["problems"])

    assert (sums["holds"], sums["held"]) == (0, 0)
    assert sums["posted"] == sums["generations"] == sums["entries"]
    assert stand.overspent() == []
    assert (checked.code, checked.json["problems"]) == (0, [])


async def live_and_die(server: Server, key: str, seed: str, life_s: float, postgres: Postgres | None) -> Load:
    """Load the gateway for a while, then kill it in the middle of it; with `postgres`, that dies first."""
    load = Load(server, key, seed)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await asyncio.sleep(life_s)
        if postgres is not None:
            await asyncio.to_thread(postgres.kill)
            await asyncio.sleep(life_s / 2)
        server.kill()
    if postgres is not None:
        await asyncio.to_thread(postgres.start)
    return load


async def kill_again_and_again(judge: Judge, stand: Stand, kills: int, postgres: Postgres | None = None) -> None:
    dice = random.Random(20_260_102)
    server = stand.serve()
    try:
        for number in range(kills):
            disaster = postgres if number % DISASTER_EVERY == DISASTER_EVERY - 1 else None
            load = await live_and_die(server, stand.key, f"kill {number}", dice.uniform(*LIFE_S), disaster)
            if postgres is not None:
                judge.count["disasters"] += disaster is not None
                with Eyes(stand.database_url) as eyes:
                    pass_time(eyes)
            begun_s = time.monotonic()
            server = stand.serve()
            judge.ready_s.append(time.monotonic() - begun_s)
            at_rest(stand, judge.count)
            judge.after(load)
    finally:
        server.kill()
    assert judge.count["completed"] > 10 * kills
    assert judge.count["lost"] > kills


@pytest.mark.slow
async def test_no_kill_of_the_server_loses_a_completed_answer(
    tmp_path: Path, upstream: SimulatorProcess, figures: Figures
) -> None:
    """Killed under load and started again, the server has swept its holds and booked all that clients saw, to the digit."""
    stand = Stand(tmp_path / "gateway", upstream=upstream.url, toml=CREDIT)
    judge, begun_s = Judge(stand, upstream), time.monotonic()

    await kill_again_and_again(judge, stand, SQLITE_KILLS)

    figures.add("`serve` on SQLite", report(judge, SQLITE_KILLS, time.monotonic() - begun_s))


@pytest.mark.slow
async def test_no_kill_of_server_or_postgresql_loses_a_completed_answer(
    tmp_path: Path, upstream: SimulatorProcess, postgres: Postgres, figures: Figures
) -> None:
    """The same on PostgreSQL, which dies too now and then; what was finished meanwhile comes from the journal."""
    with postgres.database(empty=True) as url:
        stand = Stand(tmp_path / "gateway", upstream=upstream.url, toml=CREDIT, database_url=url)
        judge, begun_s = Judge(stand, upstream), time.monotonic()

        await kill_again_and_again(judge, stand, POSTGRES_KILLS, postgres)

    assert judge.count["disasters"] > 0
    figures.add("`serve` on PostgreSQL", report(judge, POSTGRES_KILLS, time.monotonic() - begun_s))


def report(judge: Judge, kills: int, took_s: float) -> dict[str, object]:
    """Reached only when nothing was lost: every promise is asserted on the way."""
    count = judge.count
    return {
        "kills": kills,
        "kills of PostgreSQL": count["disasters"],
        "answers delivered": count["delivered"],
        "holds that the dead left": count["lost"],
        "answers delivered and not booked": count["missing"],
        "sums that do not agree": count["unbalanced"],
        "open holds after recovery": count["open holds"],
        "ready, median": f"{percentile(judge.ready_s, 50) * 1000:.0f} ms",
        "ready, p99": f"{percentile(judge.ready_s, 99) * 1000:.0f} ms",
        "took": f"{took_s / 60:.1f} min",
    }
