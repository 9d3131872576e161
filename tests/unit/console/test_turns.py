"""How many pages of one person are made at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from starlette.concurrency import iterate_in_threadpool

from modelgates_server.accounts.sessions import Member
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.clock import SystemClock
from modelgates_server.console.app import AT_ONCE_MAX, Place, Turns
from modelgates_server.console.house import House
from modelgates_server.console.routes import PageRoute
from modelgates_server.console.visits import OPEN, Download, Visit
from modelgates_server.storage.engine import database_of, open_engine

ANN, BEN = (Member(id_, "org", id_, None, "admin") for id_ in ("ann", "ben"))


async def test_one_person_waits_for_their_own_pages_only() -> None:
    """Of many pages of Ann's a few are made at once; Ben's and a stranger's come in between, and all of Ann's come in the end."""
    turns, go_on, inside = Turns(), asyncio.Event(), 0

    async def page(whose: Member | None) -> None:
        nonlocal inside
        async with turns.one(whose):
            inside += 1
            if whose is ANN:
                await go_on.wait()

    pages = [asyncio.create_task(page(ANN)) for _ in range(5 * AT_ONCE_MAX)]
    await asyncio.gather(page(BEN), page(None))
    assert inside == AT_ONCE_MAX + 2
    go_on.set()
    await asyncio.gather(*pages)
    assert inside == 5 * AT_ONCE_MAX + 2


async def test_somebody_who_goes_away_gives_their_turn_back() -> None:
    """Turns of pages that were given up are free again."""
    turns = Turns()

    async def stuck() -> None:
        async with turns.one(ANN):
            await asyncio.Event().wait()

    pages = [asyncio.create_task(stuck()) for _ in range(3 * AT_ONCE_MAX)]
    await asyncio.sleep(0)
    for one in pages:
        one.cancel()
    await asyncio.gather(*pages, return_exceptions=True)
    async with asyncio.timeout(5), turns.one(ANN):
        pass


async def test_files_of_one_person_take_few_threads() -> None:
    """Many long files of Ann's at once: their pieces come a few at a time, and whoever stops reading holds nobody up."""
    turns, busy, most, changed = Turns(), 0, 0, threading.Condition()

    def file() -> Iterator[bytes]:
        nonlocal busy, most
        for _ in range(4):
            with changed:
                busy += 1
                most = max(most, busy)
                changed.wait(0.002)  # a piece takes its thread for a moment
                busy -= 1
            yield b"piece"

    def of_ann() -> AsyncIterator[Any]:
        return turns.each(ANN, iterate_in_threadpool(file()))

    stalled = [of_ann() for _ in range(2 * AT_ONCE_MAX)]
    for one in stalled:
        await anext(one)

    async def read() -> int:
        return len([piece async for piece in of_ann()])

    assert await asyncio.gather(*(read() for _ in range(5 * AT_ONCE_MAX))) == [4] * 5 * AT_ONCE_MAX
    assert 1 <= most <= AT_ONCE_MAX


async def test_nothing_of_a_file_is_read_for_its_headers(tmp_path: Path) -> None:
    """HEAD on an export of ten million lines is answered at once, and reads none of them."""
    read = []

    def file(_visit: Visit) -> Download:
        return Download("long.csv", "text/csv", (read.append(number) or b"x" * 40_000 for number in range(1_000)))

    engine = open_engine(database_of(f"sqlite:///{tmp_path / 'none.db'}"))
    house = House(
        engine, b"s" * 32, SystemClock(), load_catalogue(bundled(), None), "http://a.example", "http://a.example"
    )
    place, sent = Place(house, Turns(), {"GET": PageRoute("GET", "/long.csv", file, OPEN)}), []

    async def receive() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "HEAD",
        "path": "/long.csv",
        "query_string": b"",
        "headers": [],
        "path_params": {},
    }
    await place(scope, receive, send)

    assert read == []
    assert sent[0]["status"] == 200
    assert b"".join(message.get("body", b"") for message in sent[1:]) == b""
    await place({**scope, "method": "GET"}, receive, send)
    assert len(read) == 1_000
