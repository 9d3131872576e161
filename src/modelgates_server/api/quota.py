"""How often a key may ask for what is dear, and how much of it runs at once. Each process counts for itself.

Product-surface 2.7: 64 questions to analytics in a minute. The serving process shares its cores with the inference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Final

from modelgates_server.errors import RateRefused

MINUTE_S: Final = 60.0
AT_ONCE: Final = 4
PATIENCE_S: Final = 2.0
"""Pages ask for several charts at once: they wait a little for each other before anybody is sent away."""

KEYS_MAX: Final = 10_000
"""Beyond this many counts those of keys that have not asked for a minute are dropped."""


class Quotas:
    """Counts of what was asked in the last minute, by subject and key."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asked: dict[tuple[str, str], deque[float]] = {}
        self._running = BoundedSemaphore(AT_ONCE)

    @contextmanager
    def spend(self, subject: str, key_hash: str, per_minute: int, now_s: float) -> Iterator[None]:
        """Count one, and run it; `now_s` is of a clock that never goes back.

        Raises RateRefused when the key asked so often within a minute, or when all places stay taken.
        """
        self._count(subject, key_hash, per_minute, now_s)
        if not self._running.acquire(timeout=PATIENCE_S):
            raise RateRefused("Too many reports are running. Try again in a second.", scope="key", retry_after_s=1)
        try:
            yield
        finally:
            self._running.release()

    def _count(self, subject: str, key_hash: str, per_minute: int, now_s: float) -> None:
        with self._lock:
            if len(self._asked) >= KEYS_MAX:
                self._forget(now_s)
            asked = self._asked.setdefault((subject, key_hash), deque())
            while asked and asked[0] <= now_s - MINUTE_S:
                asked.popleft()
            if len(asked) >= per_minute:
                wait_s = int(asked[0] + MINUTE_S - now_s) + 1
                raise RateRefused(
                    f"A key may ask {per_minute} times a minute for {subject}. Try again in {wait_s} s.",
                    scope="key",
                    retry_after_s=wait_s,
                )
            asked.append(now_s)

    def _forget(self, now_s: float) -> None:
        self._asked = {key: asked for key, asked in self._asked.items() if asked and asked[-1] > now_s - MINUTE_S}
