"""The load generator, a process of its own: `python load.py JSON` runs one load and prints one JSON object.

It sends prepared bytes and parses as little as tells a good answer from a bad one. It reads the CPU time of the measured
processes itself, at the edges of the very interval it counts in.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from process import cpu_s, rss_bytes

EVENT = b"event: content_block_delta"
FIRST = b"text_delta"
LAST = b"event: message_stop"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

STUCK_S = 30.0
"""A load that has not moved for this long past its time is broken: give up and say so."""

RSS_PAUSE_S = 0.25


class Whole(asyncio.Protocol):
    """Sends the request again as soon as its answer is complete."""

    def __init__(self, request: bytes, done: Callable[[], bool], failed: Callable[[bytes], None]) -> None:
        self._request = request
        self._done = done
        self._failed = failed
        self._missing = 0
        self._head = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._head + data
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._head = data
                return
            self._head = b""
            length = _LENGTH.search(data, 0, end)
            if not data.startswith(b"HTTP/1.1 200") or length is None:
                self._failed(data)
                return
            self._missing = end + int(length[1]) - len(data)
        if self._missing == 0 and self._done():
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._failed(repr(exc).encode())


class Counter:
    """Counts answers inside the measured interval."""

    def __init__(self) -> None:
        self.counting = self.stopped = False
        self.answers = 0
        self.failures: list[bytes] = []

    def done(self) -> bool:
        self.answers += self.counting
        return not self.stopped

    def failed(self, what: bytes) -> None:
        if not self.stopped:
            self.failures.append(what[:500])


async def whole(order: dict[str, Any]) -> dict[str, Any]:
    """`connections` requests always in flight for `warm_s`, then for `seconds`, which are measured."""
    loop, counter = asyncio.get_running_loop(), Counter()
    request = _bytes(order["request"])
    for _ in range(order["connections"]):
        await loop.create_connection(lambda: Whole(request, counter.done, counter.failed), "127.0.0.1", order["port"])
    await asyncio.sleep(order["warm_s"])
    counter.counting = True
    used_s, own_s, started_s = cpu_s(order["pids"]), cpu_s(order["bench_pids"]), time.perf_counter()
    await asyncio.sleep(order["seconds"])
    counter.counting = False
    used_s, own_s = cpu_s(order["pids"]) - used_s, cpu_s(order["bench_pids"]) - own_s
    seconds = time.perf_counter() - started_s
    counter.stopped = True
    return {
        "requests": counter.answers,
        "seconds": seconds,
        "cpu_s": used_s,
        "upstream_cpu_s": own_s,
        "load_cpu_s": time.process_time(),
        "failures": [failure.decode("latin-1") for failure in counter.failures[:3]],
    }


class Streamed(asyncio.Protocol):
    """Reads streams; `first_s` is when the first text came, `ended` when the last answer was complete, `good` whether it was."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tail = b""
        self.events = 0
        self.first_s = 0.0
        self.good = False
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[None]:
        self.events, self.first_s, self.good, self._tail = 0, 0.0, False, b""
        self.ended = self._loop.create_future()
        self._transport.write(request)
        return self.ended

    def data_received(self, data: bytes) -> None:
        if not self._tail and not data.startswith(b"HTTP/1.1 200"):
            self._transport.close()  # which ends it, and not well
            return
        data = self._tail + data  # the edge of a read may cut a marker
        if not self.first_s and FIRST in data:
            self.first_s = time.perf_counter()
        self.events += data.count(EVENT)
        self.good = self.good or LAST in data
        if data.endswith(b"0\r\n\r\n"):
            self._finish()
        self._tail = data[1 - len(EVENT) :]  # shorter than the marker that is counted, so that none counts twice

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's own signature
        self._finish()

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def streams(order: dict[str, Any]) -> dict[str, Any]:
    """Open `streams` streams over `ramp_s` and read all to the end; CPU over the whole time, memory while all are open."""
    loop = asyncio.get_running_loop()
    request = _bytes(order["request"])
    used_s, started_s = cpu_s(order["pids"]), time.perf_counter()
    opened: list[Streamed] = []
    for number in range(order["streams"]):
        _, stream = await loop.create_connection(lambda: Streamed(loop), "127.0.0.1", order["port"])
        stream.ask(request)
        opened.append(stream)
        await asyncio.sleep(max(0.0, started_s + number * order["ramp_s"] / order["streams"] - time.perf_counter()))
    rss = await _watch(opened, order)
    used_s = cpu_s(order["pids"]) - used_s
    complete = sum(stream.good and stream.events == order["events"] for stream in opened)
    return {
        "events": sum(stream.events for stream in opened),
        "cpu_s": used_s,
        "seconds": time.perf_counter() - started_s,
        "dropped": len(opened) - complete,
        "rss_bytes": rss,
        "load_cpu_s": time.process_time(),
    }


async def _watch(opened: list[Streamed], order: dict[str, Any]) -> int:
    """Wait for all streams to end; the largest resident memory seen while every one of them had begun and none had ended."""
    largest = 0
    deadline_s = time.perf_counter() + order["limit_s"] + STUCK_S
    while not all(stream.ended.done() for stream in opened) and time.perf_counter() < deadline_s:
        if all(stream.first_s for stream in opened) and not any(stream.ended.done() for stream in opened):
            largest = max(largest, rss_bytes(order["pids"]))
        await asyncio.sleep(RSS_PAUSE_S)
    return largest


async def first(order: dict[str, Any]) -> dict[str, Any]:
    """Streamed requests one after the other, each target in turn: milliseconds to the first text, by target."""
    if not order.get("guesses"):
        return await _first(order)
    async with asyncio.TaskGroup() as group:  # a guess that fails ends the load
        guessing = group.create_task(_guess(group, **order["guesses"]))
        found = await _first(order)
        guessing.cancel()
    return found


async def _first(order: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(order.get("after_s", 0))
    connected = []
    for target in order["targets"]:
        _, stream = await loop.create_connection(lambda: Streamed(loop), "127.0.0.1", target["port"])
        connected.append((stream, _bytes(target["request"]), list[float]()))
    for turn in range(order["warm"] + order["count"]):
        for stream, request, times_ms in connected:
            started_s = time.perf_counter()
            async with asyncio.timeout(STUCK_S):
                await stream.ask(request)
            if not stream.good:
                raise SystemExit("a stream failed")
            if turn >= order["warm"]:
                times_ms.append((stream.first_s - started_s) * 1000)
    return {target["name"]: times_ms for target, (_, _, times_ms) in zip(order["targets"], connected, strict=True)}


async def _guess(group: asyncio.TaskGroup, port: int, per_s: float, account: str) -> None:
    """Guess at one account's password, each time from another address."""
    for number in itertools.count():
        group.create_task(_one_guess(port, number, account))
        await asyncio.sleep(1 / per_s)


async def _one_guess(port: int, number: int, account: str) -> None:
    form = f"email={account}&password=guess-{number}&next=/"
    address = f"127.0.{number // 250 % 4 + 1}.{number % 250 + 1}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    writer.write(
        f"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\nConnection: close\r\n\r\n{form}".encode()
    )
    answer = await reader.read()
    writer.close()
    if not answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 429")):
        raise RuntimeError(f"a guess was answered {answer[:200]!r}")


def _bytes(file: str) -> bytes:
    return Path(file).read_bytes()


LOADS = {"whole": whole, "streams": streams, "first": first}


def main() -> None:
    order = json.loads(sys.argv[1])
    gc.disable()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(uvloop.run(LOADS[order["load"]](order))))


if __name__ == "__main__":
    main()
