"""Replicas are killed, started again and stopped for longer than their lease, and PostgreSQL dies now and then (gate R1).

All the while clients spend the last of the credit.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.crash.load import list_price_nusd
from tests.gates.house import REPLICAS, House, Key, Order, Told, Watcher, browser, message, open_house
from tests.support.figures import Figures
from tests.support.postgres import Postgres
from tests.support.process import SimulatorProcess

from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger import credit
from modelgates_server.storage.engine import database_of, open_engine, transaction

pytestmark = pytest.mark.slow

LASTS_S = float(os.environ.get("MODELGATES_TEST_CHAOS_S", "12"))
PAUSE_S = 13.5
"""A lease of ten seconds, and up to three until somebody looks."""

DISASTER_EVERY = 4
"""Kills of a replica for one of PostgreSQL, which dies a moment earlier: what is finished meanwhile stands in a journal."""

RECOVERED_S = 60.0
CLIENTS = 24
STREAMS = 3
LONG = {"tokens": 90, "event_delay_s": 0.05}
"""Answers of some seconds: they are under way when their replica is stopped."""

SCARCE_NUSD = 5_000_000
"""About the price of one request: more is given only when less is left."""

TOML = """
[routing]
clamp = false
hold_wait_s = 0.3

[credits]
initial_grant_usd = "0.01"
"""


class Chaos:
    """Clients that spend, a payer that gives a little all the time, and a hand that kills."""

    def __init__(self, house: House, postgres: Postgres, seed: int) -> None:
        self.house = house
        self._postgres = postgres
        self.dice = random.Random(seed)
        self.told: list[Told] = []
        self.count: Counter[str] = Counter()
        self.over = False
        self._engine = open_engine(database_of(house.url))
        self._paused: set[int] = set()
        self._dying: int | None = None

    def close(self) -> None:
        self._engine.dispose()

    async def run(self, key: Key, lasts_s: float) -> None:
        async with browser() as session, asyncio.TaskGroup() as group:
            for seat in range(CLIENTS):
                group.create_task(self._client(session, key, random.Random(f"{self.dice.random()}/{seat}")))
            group.create_task(self._pay())
            group.create_task(self._stop_one(session, key))
            await self._kill(time.monotonic() + lasts_s)
            self.over = True

    async def _client(self, session: aiohttp.ClientSession, key: Key, dice: random.Random) -> None:
        while not self.over:
            order = Order(message(100, "hello", stream=dice.random() < 0.5), {"tokens": dice.randint(1, 100)}, 0)
            pace = {"event_delay_s": 0.005} if dice.random() < 0.5 else {"delay_s": dice.random() * 0.1}
            told = await self.house.ask(session, key, order, at=dice.choice(self._awake()), **pace)
            self.told.append(told)
            if told.status != 200:
                await asyncio.sleep(0.05)

    def _awake(self) -> list[int]:
        """Replicas that do not stand still: a client at another would wait for it, and soon all of them would."""
        return [at for at in range(len(self.house.servers)) if at not in self._paused]

    async def _pay(self) -> None:
        """Never enough for everybody: the limit is reached all the time."""
        organization_id = self.house.servers[0].facts["organization_id"]
        while not self.over:
            with suppress(StoreUnavailable):
                await asyncio.to_thread(self._grant, organization_id)
            await asyncio.sleep(0.5)

    def _grant(self, organization_id: str) -> None:
        with transaction(self._engine) as connection:
            standing = credit.standing(connection, organization_id)
            if standing.balance_nusd - standing.held_nusd < SCARCE_NUSD:
                credit.grant(connection, organization_id, 4 * SCARCE_NUSD, "test", "test", time.time())

    async def _kill(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            at = self._dying = self.dice.choice(self._awake())
            disaster = self.count["kills"] % DISASTER_EVERY == DISASTER_EVERY - 1
            if disaster:
                await asyncio.to_thread(self._postgres.kill)
                self.count["disasters"] += 1
                await asyncio.sleep(self.dice.random())
            self.house.kill(at)
            self.count["kills"] += 1
            await asyncio.sleep(self.dice.random() * 0.5)
            if disaster:
                await asyncio.to_thread(self._postgres.start)
            await asyncio.to_thread(self.house.restart, at)
            self._dying = None
            await asyncio.sleep(self.dice.random())

    async def _stop_one(self, session: aiohttp.ClientSession, key: Key) -> None:
        """Stop a replica in the middle of answers, for longer than its lease; then these answers arrive whole all the same."""
        while not self.over:
            at = self.dice.choice([at for at in self._awake() if at != self._dying])
            self._paused.add(at)  # from now on nobody kills it
            name, since = f"long-{self.count['pauses']}", self._latest()
            order = Order(message(100, "hello", stream=True, metadata={"user_id": name}), LONG, 0)
            async with asyncio.TaskGroup() as group:
                streams = [group.create_task(self._long(session, key, order, at)) for _ in range(STREAMS)]
                while self._under_way(name, since) < STREAMS and not self.over:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
                self.house.pause(at)
                await asyncio.sleep(PAUSE_S)
                self.house.resume(at)
            self.told += [stream.result() for stream in streams]
            self.count["pauses"] += 1
            self._paused.discard(at)

    def _latest(self) -> int:
        return max((entry["sequence"] for entry in self.house.upstream.log_since()), default=0)

    def _under_way(self, name: str, since: int) -> int:
        entries = self.house.upstream.log_since(since)
        return sum(entry["user_id"] == name and entry["events_sent"] > 2 for entry in entries)

    async def _long(self, session: aiohttp.ClientSession, key: Key, order: Order, at: int) -> Told:
        """Until there is money for it."""
        told = await self.house.ask(session, key, order, at=at)
        while told.status != 200 and not self.over:
            await asyncio.sleep(0.02)
            told = await self.house.ask(session, key, order, at=at)
        return told


@pytest.mark.parametrize("layout", [REPLICAS], ids=str)
async def test_no_overspend_while_replicas_die_and_stand_still(
    layout: Any, tmp_path: Path, upstream: SimulatorProcess, postgres: Postgres, figures: Figures
) -> None:
    """Overspend is 0 throughout; in the end nothing is held, the books agree with themselves and with the provider's truth."""
    with open_house(tmp_path, layout, upstream, postgres, TOML) as house:
        chaos, key = Chaos(house, postgres, 20_260_103), house.new_key()
        with Watcher(house.url) as watcher:
            await chaos.run(key, LASTS_S)
            took_s = await recovered(house)
        chaos.close()
        rows = {row["id"]: row for row in house.rows("SELECT * FROM generations")}
        checked = house.stands[0].cli("db", "check")
        truth = upstream.log_since()

    assert watcher.seen == []
    assert (checked.code, checked.json["problems"]) == (0, [])
    agree(chaos.told, rows, truth)
    assert Counter(told.status for told in chaos.told)[402] > 10
    figures.add(f"chaos, {layout}", report(chaos, watcher, rows, took_s))


async def recovered(house: House) -> float:
    """Wait until nothing is held any more; how long it took."""
    begun_s = time.monotonic()
    while house.rows("SELECT id FROM holds") or house.rows("SELECT id FROM meters WHERE held <> 0"):
        assert time.monotonic() < begun_s + RECOVERED_S, house.rows("SELECT * FROM holds")
        await asyncio.sleep(0.2)
    return time.monotonic() - begun_s


def agree(told: list[Told], rows: dict[str, dict[str, Any]], truth: list[dict[str, Any]]) -> None:
    """What arrived is booked at what it said, what the provider generated has a receipt, and what is booked is what it generated."""
    prices = {entry["message_id"]: list_price_nusd(entry["usage"]) for entry in truth if entry["usage"]}
    for one in told:
        if one.status == 200:
            row = rows[one.id]
            booked = row["cost_nusd"] if row["outcome"] == "completed" else row["upstream_cost_nusd"]
            assert (booked, row["estimated"]) == (one.cost_nusd, 0), row
    assert len(rows) >= len(prices)
    for row in rows.values():
        assert row["cost_nusd"] <= row["held_nusd"]
        assert row["outcome"] in {"completed", "lost"}, row
        if row["outcome"] == "completed":
            assert row["cost_nusd"] == prices[row["upstream_id"]]


def report(chaos: Chaos, watcher: Watcher, rows: dict[str, dict[str, Any]], took_s: float) -> dict[str, object]:
    """A run that breaks a promise ends before."""
    lost = [row for row in rows.values() if row["outcome"] == "lost"]
    return {
        "requests": len(chaos.told),
        "answered": sum(told.status == 200 for told in chaos.told),
        "refused for want of money": sum(told.status == 402 for told in chaos.told),
        "answers with 503": sum(told.status == 503 for told in chaos.told),
        "broken connections": sum(told.status == 0 for told in chaos.told),
        "kills": chaos.count["kills"],
        "kills of PostgreSQL": chaos.count["disasters"],
        "stops beyond the lease": chaos.count["pauses"],
        "settled for the dead": sum(row["estimated"] for row in lost),
        "corrected afterwards": sum(not row["estimated"] for row in lost),
        "overspend": f"{watcher.overspent_nusd / 10**9:.9f} USD",
        "looks at the meters": watcher.looks,
        "nothing held after": f"{took_s:.1f} s",
    }
