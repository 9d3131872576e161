"""How often a key or a person may ask for what is dear, and how much of it runs at once. Each process counts for itself.

Product-surface 2.7: 64 questions to analytics in a minute. The serving process shares its cores with the inference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Final, NamedTuple

from modelgates_server.errors import RateRefused

MINUTE_S: Final = 60.0
AT_ONCE: Final = 4
PATIENCE_S: Final = 2.0
"""Pages ask for several charts at once: they wait a little for each other before anybody is sent away."""

KEYS_MAX: Final = 10_000
"""Beyond this many counts those of whoever has not asked for a minute are dropped."""


class Quota(NamedTuple):
    """What is asked for, as refusals call it, and how often it may be within a minute."""

    subject: str
    per_minute: int


ANALYTICS: Final = Quota("questions to analytics", 64)
AUDIT_CHECKS: Final = Quota("checks of the audit log", 10)
"""Each walks the whole log."""

CHANNEL_TESTS: Final = Quota("tests of channels", 10)
"""Each is a mail or a call to somebody who did not ask for it."""


class Quotas:
    """Counts of what was asked in the last minute, by subject and by who asked: a key's hash, a member's id."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asked: dict[tuple[str, str], deque[float]] = {}
        self._running = BoundedSemaphore(AT_ONCE)

    @contextmanager
    def spend(self, quota: Quota, who: str, now_s: float) -> Iterator[None]:
        """Count one, and run it; `now_s` is of a clock that never goes back.

        Raises RateRefused when they asked so often within a minute, or when all places stay taken.
        """
        self.count(quota, who, now_s)
        if not self._running.acquire(timeout=PATIENCE_S):
            raise RateRefused("Too many reports are running. Try again in a second.", scope="key", retry_after_s=1)
        try:
            yield
        finally:
            self._running.release()

    def count(self, quota: Quota, who: str, now_s: float) -> None:
        """Count one that is run elsewhere. Raises RateRefused like `spend`."""
        with self._lock:
            if len(self._asked) >= KEYS_MAX:
                self._forget(now_s)
            asked = self._asked.setdefault((quota.subject, who), deque())
            while asked and asked[0] <= now_s - MINUTE_S:
                asked.popleft()
            if len(asked) >= quota.per_minute:
                wait_s = int(asked[0] + MINUTE_S - now_s) + 1
                raise RateRefused(
                    f"There may be {quota.per_minute} {quota.subject} a minute. Try again in {wait_s} s.",
                    scope="key",
                    retry_after_s=wait_s,
                    limit=quota.per_minute,
                )
            asked.append(now_s)

    def _forget(self, now_s: float) -> None:
        self._asked = {key: asked for key, asked in self._asked.items() if asked and asked[-1] > now_s - MINUTE_S}
