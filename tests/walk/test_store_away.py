"""PostgreSQL goes away under a running gateway: what runs finishes and is booked, what comes is refused, nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway, until
from tests.support.postgres import Postgres
from tests.walk.test_protocol_answer import assert_envelope

SLOW = {"tokens": 40, "delay_s": 0.5, "event_delay_s": 0.1}


async def running(gateway: Gateway, *, stream: bool) -> asyncio.Task[Told]:
    """A request whose provider has begun to answer."""
    asked = len(gateway.simulator.log)
    task = asyncio.get_running_loop().create_task(gateway.send(ask(stream=stream, max_tokens=100), simulate=SLOW))
    await until(lambda: len(gateway.simulator.log) > asked, "nothing was sent")
    await asyncio.sleep(0.2)
    return task


async def refused(gateway: Gateway) -> Told:
    """The first answer that says that the store is away."""
    for _ in range(1_000):
        told = await gateway.send(ask())
        if told.status == 503:
            return told
        await asyncio.sleep(0.02)
    raise AssertionError("requests are admitted although the store is away")


@pytest.mark.parametrize("how", ["killed", "frozen"])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_runs_finishes_and_what_comes_is_refused(
    postgres: Postgres, postgres_url: str, tmp_path: Path, how: str, stream: bool
) -> None:
    """A whole answer arrives while the store is away; new requests, also to manage, get 503; afterwards every nano-dollar is booked."""
    async with open_gateway(tmp_path / "gateway", database_url=postgres_url) as gateway:
        before = await running(gateway, stream=stream)
        postgres.kill() if how == "killed" else postgres.pause()
        try:
            told = await refused(gateway)
            managed = await gateway.request("GET", "/api/v1/keys", manager(gateway))
            ready = await gateway.request("GET", "/readyz")
            finished = await before
        finally:
            postgres.start() if how == "killed" else postgres.resume()
        await until(lambda: gateway.application.ledger.open_holds == 0, "the settlement did not arrive", 20)
        await until(lambda: not gateway.application.writer.away, "the store is not taken up again", 20)
        after = await gateway.send(ask())
        await gateway.quiet()

        assert_envelope(told, 503, "api_error")
        assert (managed.status, ready.status, after.status) == (503, 503, 200)
        assert finished.status == 200
        assert not stream or finished.meaning[-1] == "message_stop"
        row = gateway.generation(finished.id)
        assert (row["outcome"], row["output_tokens"], row["estimated"]) == ("completed", 40, 0)
        assert gateway.problems() == []
        assert sum(entry.outcome == "completed" for entry in gateway.simulator.log) == 2


def manager(gateway: Gateway) -> dict[str, str]:
    return {"authorization": f"Bearer {gateway.initialised.management_key}"}
