"""The disk of a running server is full (reliability-security 3.3, row 63; gate R4): closed at once, nothing lost, back by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest
from tests.gates.house import Key, Order, Told, ask, browser, message
from tests.support.postgres import Postgres
from tests.support.process import Server, SimulatorProcess, Stand
from tests.support.shim import build, preloaded

pytestmark = pytest.mark.slow

PATIENCE_S = 30.0
STREAMS = 6
LONG = {"tokens": 40, "event_delay_s": 0.05}
"""Answers of two seconds."""

DISK_MB = 64


class Disk(Protocol):
    """Where the data lies: it can be filled, and freed again."""

    def fill(self) -> None: ...

    def free(self) -> None: ...


class SmallDisk:
    """A real disk that is really full."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            for size in (1024 * 1024, 4096, 1):
                with suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    def free(self) -> None:
        self._filler.unlink()


class FullWhile:
    """A disk that says that it is full while a file exists."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def fill(self) -> None:
        self._flag.touch()

    def free(self) -> None:
        self._flag.unlink()


Make = Callable[[Stand], AbstractContextManager[Disk]]


@contextmanager
def small_disk(stand: Stand) -> Iterator[Disk]:
    """A file system in memory; where that may not be mounted, one that pretends."""
    stand.data.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(stand.data)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        with pretending_disk(stand) as disk:
            yield disk
        return
    try:
        yield SmallDisk(stand.data)
    finally:
        subprocess.run(["umount", "--lazy", str(stand.data)], check=True)


@contextmanager
def pretending_disk(stand: Stand) -> Iterator[Disk]:
    flag = stand.folder / "full"
    library = build(stand.folder)
    stand.variables = preloaded(
        library, MODELGATES_SHIM_FOLDER=os.path.realpath(stand.data), MODELGATES_SHIM_FULL=str(flag)
    )
    yield FullWhile(flag)


@pytest.mark.parametrize("disk_of", [small_disk, pretending_disk])
async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path, upstream: SimulatorProcess, disk_of: Make) -> None:
    """While the disk is full new requests get 503, answers under way arrive whole and are booked; with space it goes on."""
    stand = Stand(tmp_path / "gateway", upstream=upstream.url)
    with disk_of(stand) as disk:
        server = stand.serve()
        try:
            await full_for_a_while(stand, server, upstream, disk.fill, disk.free)
            assert server.terminate() == 0
        finally:
            server.kill()
        assert stand.cli("db", "check").json["problems"] == []


async def test_a_full_disk_beside_a_dead_postgresql_loses_nothing(
    tmp_path: Path, upstream: SimulatorProcess, postgres: Postgres
) -> None:
    """The journal's space was taken beforehand: answers under way arrive whole, and are booked when PostgreSQL is back."""
    with postgres.database(empty=True) as url, ExitStack() as stack:
        stand = Stand(tmp_path / "gateway", upstream=upstream.url, database_url=url)
        disk = stack.enter_context(small_disk(stand))
        server = stand.serve()
        stack.callback(server.kill)

        def strike() -> None:
            disk.fill()
            postgres.kill()

        await full_for_a_while(stand, server, upstream, strike, postgres.start)
        assert stand.cli("db", "check").json["problems"] == []


async def full_for_a_while(
    stand: Stand, server: Server, upstream: SimulatorProcess, strike: Callable[[], None], heal: Callable[[], None]
) -> None:
    """Strike while answers are under way, look at what clients are told until these have arrived, heal, and compare."""
    key, small = Key(stand.key, ""), Order(message(16, "hello"), {"tokens": 4}, 0)
    async with browser() as session, asyncio.timeout(PATIENCE_S):
        long = Order(message(100, "hello", stream=True), LONG, 0)
        streams = [asyncio.ensure_future(ask(session, server, key, long)) for _ in range(STREAMS)]
        while sum(entry["events_sent"] > 2 for entry in upstream.log_since()) < STREAMS:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        await asyncio.to_thread(strike)
        told = set()
        while not all(stream.done() for stream in streams):
            told.add((await ask(session, server, key, small)).status)
        arrived: list[Told] = [stream.result() for stream in streams]
        after = (await ask(session, server, key, small)).status
        await asyncio.to_thread(heal)
        while (await ask(session, server, key, small)).status != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    rows = {row["id"]: row for row in stand.rows("SELECT * FROM generations")}

    assert 503 in told
    assert told <= {200, 503}
    assert after == 503
    assert {one.status for one in arrived} == {200}
    assert {one.id: rows[one.id]["cost_nusd"] for one in arrived} == {one.id: one.cost_nusd for one in arrived}
    assert stand.rows("SELECT id FROM holds") == []
