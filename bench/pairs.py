"""Hold and settle, again and again, as a serving process does: `python bench/pairs.py URL FOLDER PAIRS IN_FLIGHT`. Prints JSON.

The same meters as a key with a limit, a workspace's budget and two rates has, and a whole receipt with every settlement.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

from modelgates_server.activity import generation
from modelgates_server.activity.generation import Attempt, Cost, Generation, Origin
from modelgates_server.app import GC_OBJECTS, SWITCH_INTERVAL_S
from modelgates_server.clock import SystemClock
from modelgates_server.ledger import credit
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.ledger.owner import register
from modelgates_server.ledger.units import TABLES
from modelgates_server.ledger.values import Bill, Hold, HoldRequest
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.listener import loop_factory
from modelgates_server.storage.engine import database_of
from modelgates_server.storage.opening import open_store
from modelgates_server.tasks import Tasks

ORG, KEY, ENOUGH = "org-bench", "key-bench", 10**14
METERS = (
    MeterRef(Scope.KEY, KEY, Unit.TOKENS, Window.MINUTE, 10**12),
    MeterRef(Scope.WORKSPACE, "ws-bench", Unit.NUSD, Window.MONTH, ENOUGH),
    MeterRef(Scope.KEY, KEY, Unit.NUSD, Window.DAY, ENOUGH),
    MeterRef(Scope.KEY, KEY, Unit.NUSD, Window.LIFE),
    credit.credit_meter(ORG),
)
HOLD_NUSD, COST_NUSD = 20_000_000, 7_000_000
PLAN = ({"endpoint": "anthropic", "place": 1, "reason": "first in the order"},)
ATTEMPTS = (Attempt("anthropic", "claude-opus-4-8", 200, None, 900, "req-bench", "", "anthropic/claude-opus-4.8"),)


async def run(url: str, folder: Path, pairs: int, in_flight: int) -> dict[str, float]:
    database, tasks = database_of(url), Tasks()
    async with open_store(database, TABLES, folder, SystemClock(), tasks.spawn) as store:
        epoch = await register(store.writer, store.reader, store.name, store.clock.now_s())
        ledger = Ledger(store.writer, store.clock, epoch, name=store.name, distributed=database.distributed)
        done = iter(range(pairs))
        began_at_s, began_s, cpu_s = time.time(), time.perf_counter(), time.process_time()

        async def seat() -> None:
            for number in done:
                await pair(ledger, f"gen-{store.name}-{number:08d}", store.clock.now_s())

        await asyncio.gather(*(seat() for _ in range(in_flight)))
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        writer = store.writer
        found = {
            "pairs_per_s": pairs / took_s,
            "cpu_us": cpu_s / pairs * 1e6,
            "per_batch": writer.units / writer.batches,
            "began_s": began_at_s,
            "ended_s": time.time(),
        }
    await tasks.close()
    return found


async def pair(ledger: Ledger, identity: str, now_s: float) -> None:
    origin = Origin(
        identity, ORG, "ws-bench", None, KEY, int(now_s * 1000), "claude-opus-4-8", "anthropic/claude-opus-4.8",
        streamed=False, app="bench", user_agent="bench/1.0",
    )  # fmt: skip
    context = generation.context(origin, "anthropic", "2026-11-01")
    hold = await ledger.hold(HoldRequest(identity, ORG, 1, METERS, HOLD_NUSD, HOLD_NUSD // 4, 500, context, now_s))
    if not isinstance(hold, Hold):
        raise TypeError(f"refused: {hold}")
    cost = Cost(COST_NUSD, COST_NUSD, 0, HOLD_NUSD, "2026-11-01")
    receipt = Generation(origin, "completed", cost=cost, provider="anthropic", plan=PLAN, attempts=ATTEMPTS)
    await ledger.settle(hold, Bill(COST_NUSD, tokens=900, provider="anthropic"), generation.rows(receipt))


def as_served() -> None:
    """Set the interpreter as `serve` does."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 20, 50)


def main() -> None:
    as_served()
    url, folder, pairs, in_flight = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        print(json.dumps(runner.run(run(url, Path(folder), int(pairs), int(in_flight)))))


if __name__ == "__main__":
    main()
