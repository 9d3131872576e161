"""Somebody keeps one row locked: only who needs that row is refused (PostgreSQL)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import sqlalchemy as sa
from tests.support.gateway import Gateway, Told, ask, open_gateway, until


def dsn(url: str) -> str:
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def test_one_stuck_row_refuses_nobody_else(postgres_url: str, tmp_path: Path) -> None:
    """A session holds one key's meter: that key gets 503, another goes on; after the release all is well and nothing is held."""
    async with open_gateway(tmp_path / "g", database_url=postgres_url) as gateway:
        stuck, stuck_hash = gateway.new_key_row("stuck", limit_nusd=10**10)
        other, _ = gateway.new_key_row("other", limit_nusd=10**10)
        assert [(await gateway.send(ask(), key=key)).status for key in (stuck, other)] == [200, 200]
        running = await begun(gateway, stuck)
        async with await psycopg.AsyncConnection.connect(dsn(postgres_url)) as session:
            await session.execute("SELECT 1 FROM meters WHERE scope_id = %s FOR UPDATE", (stuck_hash,))
            blocked = [asyncio.ensure_future(gateway.send(ask(), key=stuck)) for _ in range(4)]
            told: list[Told] = []
            while not all(task.done() for task in blocked):
                told.append(await gateway.send(ask(), key=other))
            await running  # its settlement needs the row too: it stands in the journal, and its client has its answer
            told += [await gateway.send(ask(), key=other) for _ in range(10)]
            await session.rollback()
        await until(lambda: gateway.application.ledger.open_holds == 0, "the settlement did not reach the store")
        again = await gateway.send(ask(), key=stuck)
        await gateway.quiet()
        held = gateway.rows("SELECT SUM(held) AS held FROM meters")

        assert [task.result().status for task in blocked] == [503] * 4
        assert len(told) > 11
        assert {one.status for one in told} == {200}
        assert (running.result().status, again.status, held[0]["held"]) == (200, 200, 0)
        assert (gateway.problems(), gateway.overspent()) == ([], [])


async def begun(gateway: Gateway, key: str) -> asyncio.Task[Told]:
    """A request that its provider has begun to answer."""
    asked = len(gateway.simulator.log)
    task = asyncio.ensure_future(gateway.send(ask(), key=key, simulate={"delay_s": 0.4}))
    await until(lambda: len(gateway.simulator.log) > asked, "nothing was sent")
    return task
