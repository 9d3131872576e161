"""Everybody is overloaded and the clients keep coming (reliability row 27 and R9): the storm is not multiplied, and it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

RATE, SECONDS = 300, 3
REQUESTS = RATE * SECONDS
ATTEMPTS_MAX = 1.25
"""Upstream attempts for each request: the retry budget's fifth, and what it has saved up."""


async def storm(gateway: Gateway) -> tuple[list[Told], list[float], float]:
    """Send REQUESTS at their due times whether or not answers come; the answers, their seconds, and the rate that was reached."""
    loop = asyncio.get_running_loop()
    took_s: list[float] = []

    async def one(number: int) -> Told:
        begun_s = loop.time()
        told = await gateway.send(ask(f"hello {uuid4()}", stream=number % 2 == 0))
        took_s.append(loop.time() - begun_s)
        return told

    start_s = loop.time()
    tasks: list[asyncio.Task[Told]] = []
    for number in range(REQUESTS):
        await asyncio.sleep(max(0.0, start_s + number / RATE - loop.time()))
        tasks.append(loop.create_task(one(number)))
    sent_s = loop.time() - start_s
    return list(await asyncio.gather(*tasks)), took_s, REQUESTS / sent_s


@pytest.mark.parametrize("hint", [{}, {"retry_after": 3}], ids=["without a hint", "with a hint"])
async def test_a_storm_is_not_multiplied_and_leaves_nothing(tmp_path: Path, hint: dict[str, int]) -> None:
    """Every request is refused with a pause, attempts stay within the budget, and the first request afterwards is answered."""
    async with open_gateway(tmp_path / "g", simulators=2, routing={"retry_pause_s": 0.01}) as gateway:
        for simulator in gateway.simulators:
            simulator.script.extend([{"status": 529, **hint}] * 3 * REQUESTS)
        told, took_s, rate = await storm(gateway)
        attempts = sum(len(simulator.log) for simulator in gateway.simulators)
        for simulator in gateway.simulators:
            simulator.script.clear()
        after = await gateway.send(ask(f"hello {uuid4()}"))
        await gateway.quiet()
        problems = gateway.problems()
        charged = gateway.rows("SELECT SUM(cost_nusd) AS sum FROM generations WHERE outcome = 'failed'")

    p50_s, p99_s = (quantiles(took_s, n=100)[at] for at in (49, 98))
    print(f"\n{rate:.0f}/s, {attempts / REQUESTS:.3f} attempts a request, refused in {p50_s:.4f} s, p99 {p99_s:.4f} s")
    assert {one.status for one in told} == {529}
    assert all(1 <= int(one.headers["retry-after"]) <= 60 for one in told)
    assert REQUESTS <= attempts <= ATTEMPTS_MAX * REQUESTS
    assert after.status == 200
    assert (problems, charged) == ([], [{"sum": 0}])
