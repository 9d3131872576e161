"""How often somebody may do what reaches out of this house: in this process, in the last minute."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Final

from modelgates_server.errors import RateRefused

MINUTE_S: Final = 60.0
PEOPLE_MAX: Final = 10_000


class Pace:
    """At most so many times a minute, for each member."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = Lock()
        self._done: dict[str, deque[float]] = {}

    def count(self, member_id: str, now_s: float) -> None:
        """Count one; `now_s` is of a clock that never goes back. Raises RateRefused when there were enough within a minute."""
        with self._lock:
            if len(self._done) >= PEOPLE_MAX:
                self._done = {one: done for one, done in self._done.items() if done and done[-1] > now_s - MINUTE_S}
            done = self._done.setdefault(member_id, deque())
            while done and done[0] <= now_s - MINUTE_S:
                done.popleft()
            if len(done) >= self._per_minute:
                wait_s = int(done[0] + MINUTE_S - now_s) + 1
                message = f"That can be done {self._per_minute} times a minute. Try again in {wait_s} s."
                raise RateRefused(message, scope="member", retry_after_s=wait_s)
            done.append(now_s)
