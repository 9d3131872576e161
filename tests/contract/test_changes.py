"""What people change, on SQLite and on PostgreSQL: one after the other, beside the requests that run, and never in a circle."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from tests.support.busy import one_request
from tests.support.gateway import until
from tests.support.postgres import Postgres
from tests.support.store import USD, open_branch
from tests.unit.accounts.house import House, open_house

from modelgates_server import management
from modelgates_server.errors import Unauthenticated
from modelgates_server.ledger.credit import standing
from modelgates_server.limits import Scope, Window
from modelgates_server.management import Budget, NewKey
from modelgates_server.management.change import Note, change
from modelgates_server.management.setup import initialise
from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, open_engine, reading
from modelgates_server.storage.maintenance import check, upgrade

PEPPER = bytes(range(32))


def test_changes_come_one_after_the_other(house: House) -> None:
    """Eight at a time, from several connections: every one raises the version, and the audit rows form one chain."""

    def work(number: int) -> None:
        with change(house.engine, number) as changing:
            changing.bump_policy()
            changing.note(Note(house.made.organization_id, "test", "change", str(number)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(64)))
    with reading(house.engine) as connection:
        assert connection.execute(sa.select(schema.policy.c.version)).scalar_one() == 65
    assert check(house.database) == []


async def test_changes_and_requests_lock_in_one_order(house: House, tmp_path: Path) -> None:
    """Budgets are set and keys switched while requests post to the same meters: nobody waits in a circle, every sum agrees."""
    org, chance = house.made.organization_id, random.Random(3)
    secret, key = management.create_key(
        house.engine, house.pepper, org, NewKey("busy", limit_nusd=900 * USD), "t", 1.8e9
    )
    with reading(house.engine) as connection:
        workspace = connection.execute(sa.select(schema.workspaces.c.id)).scalar_one()

    def people() -> None:
        for number in range(30):
            windows = chance.choice([Window.DAY, Window.WEEK, Window.MONTH])
            limit = (10 - [Window.DAY, Window.WEEK, Window.MONTH].index(windows)) * 1000
            management.set_budget(house.engine, org, Budget(Scope.ORGANIZATION, org, windows, limit * USD), "t", 1.8e9)
            management.set_key_disabled(house.engine, org, key.hash, bool(number % 2), "t", 1.8e9)
        management.set_budget(house.engine, org, Budget(Scope.WORKSPACE, workspace, Window.MONTH, None), "t", 1.8e9)
        management.set_key_disabled(house.engine, org, key.hash, False, "t", 1.8e9)

    async def requests(first: int) -> int:
        done = 0
        async with open_branch(house.database.url, tmp_path, clock=house.clock) as bank:
            while not changed.done() or done < 10:
                try:
                    await one_request(
                        house, bank, secret if done % 2 else house.made.api_key or "", first + done, chance, USD // 100
                    )
                except (AssertionError, Unauthenticated):
                    await asyncio.sleep(0.002)  # the key is off, or the policy changed in between
                done += 1
        return done

    changed = asyncio.ensure_future(asyncio.to_thread(people))
    branches = 2 if house.database.distributed else 1
    served = await asyncio.gather(*(requests(number * 1_000_000) for number in range(branches)))
    await changed
    assert min(served) >= 10
    assert check(house.database) == []


async def test_a_change_locks_meters_from_the_lowest_id(postgres: Postgres, postgres_url: str, tmp_path: Path) -> None:
    """As every batch of requests does. While it waits for the first, it holds none of the others."""
    with open_house(database_of(postgres_url)) as house:
        await _use_key(house, tmp_path)
        with reading(house.engine) as connection:
            query = sa.select(schema.meters.c.id).where(schema.meters.c.scope == "key").order_by(schema.meters.c.id)
            lowest, *_, highest = connection.execute(query).scalars()
        with psycopg.connect(house.database.conninfo) as one, ThreadPoolExecutor(1) as pool:
            one.execute("SELECT 1 FROM meters WHERE id = %s FOR UPDATE", (lowest,))
            org, key = house.made.organization_id, lowest.split(":")[1]
            switched = pool.submit(management.set_key_disabled, house.engine, org, key, True, "test", 1.8e9)
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await until(lambda: bool(postgres.execute(waiting)), "the change does not wait")
            one.execute("SELECT 1 FROM meters WHERE id = %s FOR UPDATE NOWAIT", (highest,))
            one.rollback()
            assert switched.result().disabled


async def _use_key(house: House, folder: Path) -> None:
    """A request of a key with a limit of its own: several meters are the key's."""
    org = house.made.organization_id
    wanted = NewKey("k", limit_nusd=900 * USD, limit_reset="daily")
    secret, _ = management.create_key(house.engine, house.pepper, org, wanted, "test", 1.8e9)
    async with open_branch(house.database.url, folder, clock=house.clock) as bank:
        await one_request(house, bank, secret, 1, random.Random(1))


def start(url: str, barrier: Any, told: Any) -> None:
    """What a replica does when it starts."""
    barrier.wait(30)
    database = database_of(url)
    upgrade(database)
    engine = open_engine(database)
    made = initialise(engine, PEPPER, 100 * 10**9, 1_800_000_000)
    engine.dispose()
    told.put((made.organization_id, made.api_key, made.management_key, made.already))


def test_replicas_that_start_together_make_one_grant_and_one_key(empty_url: str) -> None:
    """Of four on an empty database one makes and fills it; all serve the same organisation."""
    spawn = multiprocessing.get_context("spawn")
    barrier, told = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=start, args=(empty_url, barrier, told)) for _ in range(4)]
    for process in processes:
        process.start()
    made = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert len({organization for organization, *_ in made}) == 1
    assert sorted(already for *_, already in made) == [False, True, True, True]
    assert sum(key is not None for _, key, *_ in made) == 1
    engine = open_engine(database_of(empty_url))
    with reading(engine) as connection:
        assert standing(connection, made[0][0]).granted_nusd == 100 * 10**9
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.api_keys)).scalar_one() == 2
    engine.dispose()
    assert check(database_of(empty_url)) == []
