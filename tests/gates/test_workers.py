"""`serve --workers N`: several processes behind one address, replaced when they die, stopped together."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.crash.load import body, headers
from tests.gates.house import TOML, WORKERS, House, Key, Order, ask, browser, message, open_house
from tests.support.postgres import Postgres, children
from tests.support.process import Ran, SimulatorProcess, Stand, environment, fetch

pytestmark = pytest.mark.slow

PATIENCE_S = 30.0
LONG = {"tokens": 40, "event_delay_s": 0.05}
"""Answers of two seconds."""

CREW = """
import os, signal, sys, time
from modelgates_server.clock import SystemClock
from modelgates_server.crew import Crew

def work(ready, alive):
    {work}

code = Crew(2, work, lambda: print("announced", flush=True), SystemClock()).run()
print("ended", flush=True)
sys.exit(code)
"""


@pytest.fixture
def house(tmp_path: Path, upstream: SimulatorProcess, postgres: Postgres) -> Iterator[House]:
    with open_house(tmp_path, WORKERS, upstream, postgres, TOML) as opened:
        yield opened


def until(true: Callable[[], bool], complaint: str) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up_s, complaint
        time.sleep(0.02)


def living(pid: int) -> bool:
    """Whether a process that is no child of ours runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def long_streams(house: House, count: int, act: Callable[[], object]) -> list[int]:
    """Start streams, act when the provider has all of them, and give their statuses."""
    key, order = Key(house.stands[0].key, ""), Order(message(100, "hello", stream=True), LONG, 0)
    async with browser() as session, asyncio.TaskGroup() as group:
        asked = []
        for _ in range(count):
            asked.append(group.create_task(ask(session, house.servers[0], key, order)))
            await asyncio.sleep(0.03)  # connections that come at once may all be taken by one worker
        async with asyncio.timeout(PATIENCE_S):
            while len(house.upstream.log_since()) < count:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        act()
    return [task.result().status for task in asked]


async def test_a_worker_that_dies_is_replaced(house: House) -> None:
    """The other one goes on, a new one takes its place, and whatever was open in the dead one is settled in time."""
    parent = house.servers[0].process.pid
    first, second = children(parent)

    statuses = await long_streams(house, 12, lambda: os.kill(first, signal.SIGKILL))
    until(lambda: len(children(parent)) == 2, "the worker was not replaced")
    key, order = Key(house.stands[0].key, ""), Order(message(16, "hello"), {}, 0)
    async with browser() as session:
        after = [(await ask(session, house.servers[0], key, order)).status for _ in range(20)]
    until(lambda: not house.rows("SELECT id FROM holds"), "the dead worker's holds were not settled")

    assert set(statuses) == {0, 200}
    assert second in children(parent)
    assert set(after) == {200}
    assert {row["outcome"] for row in house.rows("SELECT outcome FROM generations")} == {"completed", "lost"}


async def test_all_workers_stop_gracefully(house: House) -> None:
    """After SIGTERM to the parent every answer under way arrives whole; then nobody is left, and the exit is a success."""
    server = house.servers[0]
    workers = children(server.process.pid)

    statuses = await long_streams(house, 12, lambda: server.process.send_signal(signal.SIGTERM))
    rest = await asyncio.to_thread(server.process.communicate)

    assert statuses == [200] * 12
    assert (server.process.returncode, rest[0]) == (0, b"")  # it had announced itself once
    assert not any(map(living, workers))
    assert house.rows("SELECT id FROM holds") == []


async def test_interrupting_at_the_terminal_cuts_no_answer(house: House) -> None:
    """Ctrl-C reaches parent and workers alike: it is a graceful stop all the same."""
    server = house.servers[0]

    def press() -> None:
        for pid in (*children(server.process.pid), server.process.pid):
            os.kill(pid, signal.SIGINT)

    statuses = await long_streams(house, 8, press)

    assert statuses == [200] * 8
    assert await asyncio.to_thread(server.wait) == 0


async def test_workers_end_when_their_parent_dies(house: House) -> None:
    """They finish what they began, and leave the address free for the next."""
    server = house.servers[0]
    workers = children(server.process.pid)

    statuses = await long_streams(house, 6, server.process.kill)
    until(lambda: not any(map(living, workers)), "workers outlive their parent")
    house.restart(0)

    assert statuses == [200] * 6
    assert house.rows("SELECT id FROM holds") == []
    assert fetch(f"{house.servers[0].url}/readyz")


def test_both_workers_answer(house: House) -> None:
    """Connections are spread over the workers: after many, each has lives' worth of receipts under its own journal."""
    for _ in range(40):
        fetch(f"{house.servers[0].base_url}/v1/messages", headers(house.stands[0].key), body("hello", stream=False))
    batches = {fetch_metric(house) for _ in range(40)}

    assert len(batches) > 1


def fetch_metric(house: House) -> str:
    """A figure that each worker counts for itself."""
    told = fetch(f"{house.servers[0].url}/metrics").decode()
    return next(line for line in told.splitlines() if line.startswith("modelgates_store_units"))


def test_sqlite_takes_one_worker(tmp_path: Path) -> None:
    """Two processes cannot serve one SQLite file: that is said before anything is begun."""
    told = Stand(tmp_path / "gateway").cli("serve", "--port", "0", "--workers", "2")

    assert told.code == 2
    assert "PostgreSQL" in told.err


def run(work: str) -> Ran:
    command = [sys.executable, "-c", CREW.format(work=work)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def test_a_crew_that_cannot_start_gives_up(tmp_path: Path) -> None:
    """When a worker fails before all are ready nothing is announced, the others are stopped, and the exit code is the worker's."""
    lives = tmp_path / "lives"
    told = run(f"file = open({str(lives)!r}, 'ab', 0); file.write(b'.'); file.tell() > 1 or time.sleep(60); return 3")

    assert (told.code, told.out) == (3, "ended\n")


def test_a_crew_announces_itself_once(tmp_path: Path) -> None:
    """Also when workers die again and again; the fifth asks the parent to stop."""
    lives = tmp_path / "lives"
    told = run(
        f"file = open({str(lives)!r}, 'ab', 0); file.write(b'.'); ready(); time.sleep(0.2);"
        " file.tell() < 5 or os.kill(os.getppid(), signal.SIGTERM); return 4"
    )

    assert (told.code, told.out) == (0, "announced\nended\n")
    assert lives.stat().st_size >= 5
