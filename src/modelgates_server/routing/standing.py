"""One provider's standing for one model: breaker, pauses, and the figures of the last day. Transitions only; time is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from modelgates_server.routing.verdict import FaultClass

FAILURES_OPEN: Final = 5
"""So many failures in a row open the breaker (reliability 1.2, Envoy's consecutive 5xx)."""

RATE_WINDOW_S: Final = 30.0
RATE_SAMPLES_MIN: Final = 10
RATE_FAILED_MIN: Final = 0.5
"""A provider that flaps never fails five times in a row: half of at least ten in half a minute open the breaker too."""

OPEN_S: Final = 30.0
OPEN_S_MAX: Final = 300.0
"""How long the breaker stays open, times how often in a row it has opened (reliability 1.2)."""

TRIAL_EVERY_S: Final = 1.0
"""Among requests that have somebody else to ask, one a second may try a provider that is out."""

TRIAL_S_MAX: Final = 150.0
"""Whoever is on trial at a provider whose breaker's time is over keeps everybody else away until it is known how it went. This is
longer than the usual limit for first content, so that only an attempt that nobody reports about is given up."""

UPTIME_SAMPLES_MIN: Final = 5
SAMPLES_KEPT: Final = 256
MINUTES_KEPT: Final = 1440
PERCENTILES: Final = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}


class Standing:
    """Times are seconds on a clock that never goes back."""

    __slots__ = (
        "_latencies", "_minutes", "_recent", "_speeds", "failures", "open_until_s", "open_why", "opened", "out_since_s", "pause_until_s",
        "pause_why", "pauses", "trial_until_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self.opened = 0  # how often the breaker opened since the last good answer
        self.open_until_s = 0.0
        self.open_why = ""
        self.pauses = 0  # in a row
        self.pause_until_s = 0.0
        self.pause_why = ""
        self.trial_until_s = 0.0
        self.out_since_s = 0.0  # when it was last put out of service
        self._recent: deque[tuple[float, bool]] = deque(maxlen=SAMPLES_KEPT)
        self._minutes: deque[list[int]] = deque(maxlen=MINUTES_KEPT)  # [minute, good, bad], only minutes with any
        self._latencies: deque[tuple[float, float]] = deque(maxlen=SAMPLES_KEPT)
        self._speeds: deque[tuple[float, float]] = deque(maxlen=SAMPLES_KEPT)

    @property
    def clear(self) -> bool:
        """Nothing stands against it: neither breaker nor pause, and none that is over but not proved over."""
        return not self.opened and not self.pauses

    def out_until(self, now_s: float) -> tuple[float, str]:
        """Until when it is out, and why; a time that is past says that it is not."""
        if self.open_until_s >= self.pause_until_s or self.pause_until_s <= now_s < self.open_until_s:
            return self.open_until_s, self.open_why
        return self.pause_until_s, self.pause_why

    def began(self, latency_ms: float, now_s: float) -> None:
        self._latencies.append((now_s, latency_ms))

    def completed(self, tokens_per_s: float | None, now_s: float) -> None:
        self.failures = 0
        self.count(now_s, ok=True)
        if tokens_per_s is not None:
            self._speeds.append((now_s, tokens_per_s))

    def fail(self, kind: FaultClass, now_s: float) -> None:
        """Count a failure; open the breaker when it is one too many."""
        self.failures += 1
        self.count(now_s, ok=False)
        recent = [ok for at_s, ok in self._recent if at_s > now_s - RATE_WINDOW_S]
        failed = recent.count(False)
        flapping = len(recent) >= RATE_SAMPLES_MIN and failed >= RATE_FAILED_MIN * len(recent)
        on_trial = self.opened > 0
        if not (self.failures >= FAILURES_OPEN or flapping or on_trial) or self.open_until_s > now_s:
            return
        self.opened += 1
        self.out_since_s = now_s
        self.open_until_s = now_s + min(OPEN_S * self.opened, OPEN_S_MAX)
        in_a_row = self.failures >= FAILURES_OPEN
        self.open_why = (
            f"{self.failures} failures in a row" if in_a_row else f"{failed} failures in {len(recent)} requests"
        )
        self.open_why += f" ({kind})"

    def pause(self, kind: FaultClass, now_s: float, pause_s: float) -> None:
        """Cool down: the deadline is the later of the old and the new (litellm#40130)."""
        if now_s >= self.pause_until_s:
            self.pauses += 1
        self.out_since_s = now_s
        if now_s + pause_s > self.pause_until_s:
            self.pause_until_s = now_s + pause_s
            self.pause_why = f"{kind}"

    def readmit(self) -> None:
        """It gave content: it is in service again, whatever was thought of it."""
        self.opened = self.pauses = 0
        self.open_until_s = self.pause_until_s = self.trial_until_s = 0.0
        self._recent.clear()

    def count(self, now_s: float, *, ok: bool) -> None:
        """Note a good or bad answer for the uptime and for the breaker's rate."""
        self._recent.append((now_s, ok))
        minute = int(now_s) // 60
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append([minute, 0, 0])
        self._minutes[-1][1 if ok else 2] += 1

    def uptime(self, now_s: float, minutes: int) -> float | None:
        since = int(now_s) // 60 - minutes
        good = bad = 0
        for minute, ok, failed in reversed(self._minutes):
            if minute <= since:
                break
            good, bad = good + ok, bad + failed
        return None if good + bad < UPTIME_SAMPLES_MIN else round(100 * good / (good + bad), 3)

    def fitness(self, since_s: float) -> tuple[dict[str, float] | None, dict[str, float] | None]:
        return _percentiles(self._latencies, since_s), _percentiles(self._speeds, since_s)


def _percentiles(samples: Iterable[tuple[float, float]], since_s: float) -> dict[str, float] | None:
    values = sorted(value for at_s, value in samples if at_s >= since_s)
    if not values:
        return None
    last = len(values) - 1
    return {name: round(values[round(share * last)], 3) for name, share in PERCENTILES.items()}
