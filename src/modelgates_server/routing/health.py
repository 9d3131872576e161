"""How providers are doing: who is out of service, until when and why, and the figures of the last day. No I/O; time is given.

Every answer and fault is told to `Health`; the plan asks it. A provider is *out* while it cools (it asked for a pause, or only its operator
can mend it) or while its breaker is open (it failed again and again). When the breaker's time is over, one request at a time is
*on trial* there. Nothing is ever forbidden for good: when all candidates are out, the one that recovers first is tried
(design decision 3), the others once a second. All of it lives in the process and is rebuilt in seconds after a start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from modelgates_server.routing.standing import TRIAL_EVERY_S, TRIAL_S_MAX, Standing
from modelgates_server.routing.verdict import VERDICTS, FaultClass

RETRY_SHARE: Final = 0.2
"""Retries at doubtful providers may add this share to the requests of a model (reliability 1.2, Envoy's retry budget)."""

RETRIES_MIN: Final = 3.0
"""So many retries are there even when nothing else is asked; also the most that is saved up, times ten."""


class State(StrEnum):
    """Whether a provider is in service for a model."""

    OK = "ok"
    TRIAL = "trial"
    OUT = "out"


class Condition(NamedTuple):
    """How one provider is doing for one model; `why` is for people, `until_s` is on the clock that was given."""

    state: State
    why: str = ""
    until_s: float = 0.0


class Fitness(NamedTuple):
    """What the last half hour or so measured: milliseconds to the first content, output tokens per second."""

    latency_ms: dict[str, float] | None
    throughput: dict[str, float] | None


GOOD: Final = Condition(State.OK)
ON_TRIAL: Final = "on trial after"
"""How the reason of a trial begins."""


class Health:
    """The standing of every provider and of every model there. `spread` gives numbers from 0 to 1: pauses differ by it."""

    def __init__(self, spread: Callable[[], float], *, cool_s_max: float = 300.0) -> None:
        self._spread = spread
        self._cool_s_max = cool_s_max
        self._standings: dict[tuple[str, str], Standing] = {}
        self._retries: dict[str, float] = {}

    def forget(self) -> None:
        """Start anew, as after a restart: everybody is in service until they fail."""
        self._standings.clear()
        self._retries.clear()

    # What happened.

    def began(self, provider: str, model: str, latency_ms: float, now_s: float) -> None:
        """The provider gave its first content after `latency_ms`: whatever kept it out of service is over.

        An attempt that began before the provider was put out of service proves nothing about it.
        """
        started_s = now_s - latency_ms / 1000
        for key in ((provider, ""), (provider, model)):
            standing = self._standings.get(key)
            if standing is not None and not standing.clear and started_s >= standing.out_since_s:
                standing.readmit()
        self._at(provider, model).began(latency_ms, now_s)

    def completed(self, provider: str, model: str, tokens_per_s: float | None, now_s: float) -> None:
        """The provider answered to the end."""
        self._at(provider, model).completed(tokens_per_s, now_s)
        wide = self._standings.get((provider, ""))
        if wide is not None:
            wide.completed(None, now_s)

    def failed(
        self, provider: str, model: str, kind: FaultClass, now_s: float, *, retry_after_s: float | None = None
    ) -> None:
        """An attempt ended in a fault: count it, and pause the provider as its verdict says."""
        verdict = VERDICTS[kind]
        standing = self._at(provider, "" if verdict.wide else model)
        self.end_trial(provider, model, now_s)
        if verdict.counts:
            if verdict.wide:
                self._at(provider, model).count(now_s, ok=False)  # its uptime is told per model
            standing.fail(kind, now_s)
        if verdict.cool_s or (verdict.hinted and retry_after_s):
            before = standing.pauses - (standing.pause_until_s > now_s)  # the faults of one storm count once
            pause_s = min(verdict.cool_s * 2**before, verdict.cool_s_max) * (0.8 + 0.4 * self._spread())
            if verdict.hinted and retry_after_s is not None:
                pause_s = min(retry_after_s, self._cool_s_max)
            standing.pause(kind, now_s, min(pause_s, max(self._cool_s_max, verdict.cool_s)))

    # What follows.

    def condition(self, provider: str, model: str, now_s: float) -> Condition:
        """How a provider is doing for a model; the worse of its own standing and the model's there."""
        worst = GOOD
        for key in ((provider, ""), (provider, model)):
            standing = self._standings.get(key)
            if standing is None or standing.clear:
                continue
            until_s, why = standing.out_until(now_s)
            if until_s > now_s:
                if worst.state is not State.OUT or until_s > worst.until_s:
                    worst = Condition(State.OUT, why, until_s)
            elif standing.opened and worst.state is State.OK:
                held = standing.trial_until_s > now_s
                worst = Condition(State.OUT, "on trial by another request", standing.trial_until_s) if held else Condition(
                    State.TRIAL, f"{ON_TRIAL} {why}"
                )  # fmt: skip
        return worst

    def breaker(self, provider: str, model: str, now_s: float) -> Condition:
        """Whether a provider is out for everybody: it failed again and again. A pause is between it and one account."""
        for key in ((provider, ""), (provider, model)):
            standing = self._standings.get(key)
            if standing is not None and standing.open_until_s > now_s:
                return Condition(State.OUT, standing.open_why, standing.open_until_s)
        return GOOD

    def clear(self, provider: str, model: str) -> bool:
        """Whether nothing at all stands against a provider for a model."""
        for key in ((provider, ""), (provider, model)):
            standing = self._standings.get(key)
            if standing is not None and not standing.clear:
                return False
        return True

    def doubtful(self, provider: str, model: str, now_s: float) -> bool:
        """Whether trying it after another one failed could multiply a storm: it failed itself just now, or is out."""
        known = (self._standings.get((provider, name)) for name in ("", model))
        failing = any(standing is not None and standing.failures > 0 for standing in known)
        return failing or self.condition(provider, model, now_s).state is not State.OK

    def begin_trial(self, provider: str, model: str, now_s: float) -> bool:
        """Take the turn to try a provider that is out or on trial; false when another request has it."""
        mine = [
            standing
            for key in ((provider, ""), (provider, model))
            if (standing := self._standings.get(key)) is not None and not standing.clear
        ]
        if any(standing.trial_until_s > now_s for standing in mine):
            return False
        for standing in mine:
            out = standing.out_until(now_s)[0] > now_s
            standing.trial_until_s = now_s + (TRIAL_EVERY_S if out else TRIAL_S_MAX)
        return True

    def end_trial(self, provider: str, model: str, now_s: float) -> None:
        """Give the turn back: the attempt failed, or ended without a verdict. Where a provider is out, its second stands."""
        for key in ((provider, ""), (provider, model)):
            standing = self._standings.get(key)
            if standing is not None and standing.out_until(now_s)[0] <= now_s:
                standing.trial_until_s = 0.0

    def asked(self, model: str) -> None:
        """A request for a model came: it earns a share of a retry."""
        self._retries[model] = min(self._retries.get(model, RETRIES_MIN) + RETRY_SHARE, 10 * RETRIES_MIN)

    def may_retry(self, model: str) -> bool:
        """Take one retry from the model's budget, if there is one left."""
        left = self._retries.get(model, RETRIES_MIN)
        if left < 1:
            return False
        self._retries[model] = left - 1
        return True

    # Figures.

    def uptime(self, provider: str, model: str, now_s: float) -> dict[str, float | None]:
        """Percentages over 5 minutes, 30 minutes and 1 day; None below a handful of samples. Rate limits count on neither side."""
        standing = self._standings.get((provider, model))
        return {name: standing.uptime(now_s, minutes) if standing else None for name, minutes in UPTIMES.items()}

    def fitness(self, provider: str, model: str, now_s: float, window_s: float = 1800.0) -> Fitness:
        """Percentiles p50, p75, p90 and p99 over the last `window_s`; None where nothing was measured."""
        standing = self._standings.get((provider, model))
        return Fitness(*standing.fitness(now_s - window_s)) if standing else Fitness(None, None)

    def out_of_service(self, now_s: float) -> Iterable[tuple[str, str, Condition]]:
        """Every provider, with the model or an empty text for all of them, that is out now."""
        for provider, model in list(self._standings):
            standing = self._standings[provider, model]
            until_s, why = standing.out_until(now_s)
            if until_s > now_s:
                yield provider, model, Condition(State.OUT, why, until_s)

    def _at(self, provider: str, model: str) -> Standing:
        standing = self._standings.get((provider, model))
        if standing is None:
            standing = self._standings[provider, model] = Standing()
        return standing


UPTIMES: Final = {"uptime_last_5m": 5, "uptime_last_30m": 30, "uptime_last_1d": 1440}
"""Names and minutes (product-surface 2.5)."""
