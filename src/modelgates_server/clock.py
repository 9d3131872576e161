"""Time and time-ordered ids. The only place that reads the wall clock or asks the machine for randomness in an id."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Protocol

_ID_BYTES = 10


class Clock(Protocol):
    """What the rest of the system may know about time."""

    def now_s(self) -> float:
        """Unix seconds, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that tests move by hand."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s

    def monotonic_s(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        self._now_s += seconds


JUMP_S_MAX = 300.0
"""A clock that says that more than five minutes passed in a moment is wrong (reliability row 70)."""


class SteadyClock:
    """Time as the store tells it, so that all replicas agree in which day a request falls; carried on by the monotonic clock.

    It never goes back, and does not follow a jump: a machine's clock that is set to next month must not open next month's budgets,
    and one that is set back must not open yesterday's once more.
    """

    def __init__(self, clock: Clock, now_s: float | None = None) -> None:
        self._clock = clock
        self._origin_s = (clock.now_s() if now_s is None else now_s) - clock.monotonic_s()
        self._latest_s = 0.0

    def now_s(self) -> float:
        now_s = self._origin_s + self._clock.monotonic_s()
        if now_s < self._latest_s:
            return self._latest_s
        self._latest_s = now_s
        return now_s

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def observe(self, told_s: float) -> bool:
        """Follow what the store says the time is; False, and nothing is changed, when that is too far from what it can be."""
        origin_s = told_s - self._clock.monotonic_s()
        if abs(origin_s - self._origin_s) > JUMP_S_MAX:
            return False
        self._origin_s = origin_s
        return True


def new_id(prefix: str, now_s: float) -> str:
    """Make ``<prefix>-<unix seconds>-<microseconds and 80 random bits, in hexadecimal>``: unique, and in the order of time.

    The order matters to the database: rows that are made one after the other lie beside each other, so a commit writes few pages.
    """
    return _write_id(prefix, now_s, secrets.token_bytes(_ID_BYTES))


def _write_id(prefix: str, now_s: float, random: bytes) -> str:
    micros = int(now_s * 1_000_000)
    return f"{prefix}-{micros // 1_000_000:010d}-{micros % 1_000_000:05x}{random.hex()}"


class Ids:
    """Makes ids for the hot path: the machine is asked for randomness once for 256 of them."""

    __slots__ = ("_at", "_clock", "_pool")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pool = b""
        self._at = 0

    def new(self, prefix: str) -> str:
        """An id in the form of `new_id`."""
        if self._at >= len(self._pool):
            self._pool, self._at = secrets.token_bytes(_ID_BYTES * 256), 0
        start, self._at = self._at, self._at + _ID_BYTES
        return _write_id(prefix, self._clock.now_s(), self._pool[start : self._at])


class IdleWatch:
    """Calls `expired` when `limit_s` pass without a `touch`, again and again until stopped.

    Touching costs one read of the clock: the timer is re-armed only when it fires, not on every touch.
    """

    __slots__ = ("_expired", "_handle", "_last_s", "_limit_s", "_loop")

    def __init__(self, limit_s: float, expired: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_s = limit_s
        self._expired = expired
        self._last_s = self._loop.time()
        self._handle: asyncio.TimerHandle | None = self._loop.call_later(limit_s, self._check)

    def touch(self) -> None:
        """Something happened just now."""
        self._last_s = self._loop.time()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _check(self) -> None:
        left_s = self._last_s + self._limit_s - self._loop.time()
        if left_s <= 0.001:
            self._last_s = self._loop.time()
            left_s = self._limit_s
            self._handle = self._loop.call_later(left_s, self._check)
            self._expired()
        else:
            self._handle = self._loop.call_later(left_s, self._check)
