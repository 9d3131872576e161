"""What is taken away is gone: after the acknowledgement no replica admits another request (reliability-security 4.3, gate R22)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from tests.gates.house import REPLICAS, House, Key, Layout, Order, Told, browser, open_house
from tests.support.eyes import Eyes
from tests.support.figures import Figures
from tests.support.postgres import Postgres
from tests.support.process import SimulatorProcess

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("MODELGATES_TEST_REVOCATIONS", "1"))
CLIENTS = 16
BEFORE, AFTER = 5, 5
"""Requests on every replica: so many are answered before, so many are asked after the acknowledgement."""

PATIENCE_S = 60.0

_OF_KEY = """
    SELECT id FROM generations WHERE key_hash = :hash UNION SELECT id FROM holds WHERE context LIKE '%"' || :hash || '"%'
"""


class Load:
    """Clients of one key on all replicas. `after` counts what was asked after the acknowledgement, by replica and status."""

    def __init__(self, house: House, key: Key, order: Order) -> None:
        self._house = house
        self._key = key
        self._order = order
        self._over = False
        self.acknowledged = False
        self.before: Counter[int] = Counter()
        self.after: Counter[tuple[int, int]] = Counter()

    async def run(self, revoke: Callable[[], object]) -> set[str]:
        """Take the key away in the middle of the load; gives everything that was admitted until right after that."""
        async with browser() as session, asyncio.TaskGroup() as group:
            for seat in range(CLIENTS):
                group.create_task(self._client(session, seat % len(self._house.servers)))
            await self._until(lambda at: self.before[at] >= BEFORE)
            await asyncio.to_thread(revoke)
            self.acknowledged = True
            admitted = admitted_by(self._house, self._key)
            await self._until(lambda at: sum(n for (place, _), n in self.after.items() if place == at) >= AFTER)
            self._over = True
        return admitted

    async def _client(self, session: aiohttp.ClientSession, at: int) -> None:
        while not self._over:
            asked_after = self.acknowledged
            told: Told = await self._house.ask(session, self._key, self._order, at=at)
            if asked_after:
                self.after[at, told.status] += 1
            elif told.status == 200:
                self.before[at] += 1

    async def _until(self, enough: Callable[[int], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not all(map(enough, range(len(self._house.servers)))):  # noqa: ASYNC110 - many tasks count
                await asyncio.sleep(0.01)


def admitted_by(house: House, key: Key) -> set[str]:
    """Every request of a key that was ever admitted."""
    with Eyes(house.url) as eyes:
        return {row["id"] for row in eyes.rows(_OF_KEY, hash=key.hash)}


def disabled(house: House, key: Key, at: int) -> None:
    house.manage("PATCH", f"keys/{key.hash}", {"disabled": True}, at=at)


def disabled_by_command(house: House, key: Key, at: int) -> None:
    assert house.stands[at].cli("keys", "disable", key.hash).code == 0


def deleted(house: House, key: Key, at: int) -> None:
    house.manage("DELETE", f"keys/{key.hash}", at=at)


def lowered(house: House, key: Key, at: int) -> None:
    house.manage("PATCH", f"keys/{key.hash}", {"limit": 0}, at=at)


def member_removed(house: House, key: Key, at: int) -> None:
    (row,) = house.rows("SELECT member_id FROM api_keys WHERE hash = :hash", hash=key.hash)
    house.manage("DELETE", f"organization/members/{row['member_id']}", at=at)


WAYS = {disabled: 401, disabled_by_command: 401, deleted: 401, lowered: 402, member_removed: 401}
"""What is done, and what the clients are told from then on."""


@pytest.mark.parametrize("layout", [REPLICAS], ids=str)
async def test_nothing_is_admitted_after_the_acknowledgement(
    layout: Layout, tmp_path: Path, upstream: SimulatorProcess, postgres: Postgres, figures: Figures
) -> None:
    """Through whichever replica, in whatever way a key is taken away under load: what is asked afterwards is refused everywhere."""
    revoked = asked = late = 0
    with open_house(tmp_path, layout, upstream, postgres) as house:
        order = await house.measure(16)
        for place, (way, status) in enumerate(list(WAYS.items()) * ROUNDS):
            key = house.new_key(**mine(house, place))
            load = Load(house, key, order)
            at = place % len(house.servers)

            admitted = await load.run(lambda way=way, key=key, at=at: way(house, key, at))  # type: ignore[misc]

            assert {told for _, told in load.after} == {status}, way
            assert admitted_by(house, key) == admitted, way
            revoked, asked = revoked + 1, asked + sum(load.after.values())
            late += len(admitted_by(house, key) - admitted)
    figures.add(
        f"revocation, {layout}",
        {"revocations under load": revoked, "requests after the acknowledgement": asked, "admitted of these": late},
    )


def mine(house: House, number: int) -> dict[str, str]:
    """A key's owner."""
    member = house.manage(
        "POST", "organization/members", {"name": f"Member {number}", "email": f"m{number}@example.com"}
    )
    return {"creator_user_id": member["data"]["id"]}
