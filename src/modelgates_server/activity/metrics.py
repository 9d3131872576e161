"""Numbers for a monitoring system, in Prometheus form. Labels are bounded: providers and models come from configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modelgates_server.activity.generation import Attempt, Generation
from modelgates_server.money import NUSD_PER_USD

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

ANSWERED: Final = "answered"
"""The result of an attempt that did not end in a fault."""

_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)
"""The last is a little more than the usual wait for a provider's first content."""


class _Series(NamedTuple):
    """The series that one kind of request counts in: looked up once, not on every request."""

    requests: Counter
    input: Counter
    output: Counter
    cache_read: Counter
    cache_write: Counter
    cost: Counter
    latency: Histogram


class _Tries(NamedTuple):
    """The same for one kind of attempt."""

    counted: Counter
    seconds: Histogram


class _InService(Collector):
    """Asks who is out of service when somebody asks for the numbers, not before."""

    def __init__(self, providers: Iterable[str], out: Callable[[], Iterable[str]]) -> None:
        self._providers = tuple(providers)
        self._out = out

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(
            "modelgates_provider_in_service",
            "0 while a provider is out, for all its models or for one",
            labels=["provider"],
        )
        out = set(self._out())
        for provider in self._providers:
            gauge.add_metric([provider], 0 if provider in out else 1)
        yield gauge


class Metrics:
    """One registry per application; nothing is global."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._tries: dict[tuple[str, str, str | None], _Tries] = {}
        self._requests = Counter(
            "modelgates_requests", "Finished requests", ("provider", "model", "outcome"), registry=registry
        )
        self._attempts = Counter(
            "modelgates_attempts", "Tries at providers by result", ("provider", "model", "result"), registry=registry
        )
        self._attempt_s = Histogram(
            "modelgates_attempt_seconds",
            "Time from an attempt's start to its first content or its fault",
            ("provider",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._failovers = Counter(
            "modelgates_failovers", "Moves of a request to another provider or model", ("model",), registry=registry
        )
        self._tokens = Counter("modelgates_tokens", "Tokens by kind", ("model", "kind"), registry=registry)
        self._cost = Counter("modelgates_cost_usd", "USD charged to budgets", ("provider", "model"), registry=registry)
        self._loss = Counter(
            "modelgates_operator_loss_usd", "USD owed to providers that no budget paid", registry=registry
        )
        self._uncertain = Counter(
            "modelgates_operator_uncertain_usd", "USD that attempts of unknown fate may cost at most", registry=registry
        )
        self._latency = Histogram(
            "modelgates_first_content_seconds",
            "Time from the request to its first content",
            ("provider",),
            buckets=_SECONDS[:-1],
            registry=registry,
        )
        self.refusals = Counter(
            "modelgates_refusals", "Requests refused before dispatch", ("reason",), registry=registry
        )
        self.open_requests = 0
        self.watch("open_requests", "Requests in flight", lambda: self.open_requests)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a number that somebody else counts, under the name ``modelgates_<name>``."""
        Gauge(f"modelgates_{name}", text, registry=self.registry).set_function(value)

    def watch_providers(self, providers: Iterable[str], out: Callable[[], Iterable[str]]) -> None:
        """Show which providers are in service; `out` names those that are not, a name for each model that is out there."""
        self.registry.register(_InService(providers, out))

    def seen(self, generation: Generation) -> None:
        """Count a finished request."""
        provider, model, usage, cost = (
            generation.provider or "none",
            generation.origin.model,
            generation.usage,
            generation.cost,
        )
        series = self._series.get((provider, model, generation.outcome))
        if series is None:
            series = self._series[provider, model, generation.outcome] = self._make(provider, model, generation.outcome)
        series.requests.inc()
        series.input.inc(usage.input_tokens)
        series.output.inc(usage.output_tokens)
        if usage.cache_read_tokens:
            series.cache_read.inc(usage.cache_read_tokens)
        if written := usage.cache_write_5m_tokens + usage.cache_write_1h_tokens:
            series.cache_write.inc(written)
        series.cost.inc(cost.charged_nusd / NUSD_PER_USD)
        if cost.upstream_nusd > cost.charged_nusd:
            self._loss.inc((cost.upstream_nusd - cost.charged_nusd) / NUSD_PER_USD)
        if cost.uncertain_nusd:
            self._uncertain.inc(cost.uncertain_nusd / NUSD_PER_USD)
        if generation.latency_ms is not None:
            series.latency.observe(generation.latency_ms / 1000)
        self._tried(generation.attempts, model)

    def _tried(self, attempts: tuple[Attempt, ...], model: str) -> None:
        for attempt in attempts:
            key = (attempt.provider, attempt.slug or model, attempt.fault)
            tries = self._tries.get(key)
            if tries is None:
                tries = self._tries[key] = _Tries(
                    self._attempts.labels(key[0], key[1], attempt.fault or ANSWERED),
                    self._attempt_s.labels(attempt.provider),
                )
            tries.counted.inc()
            tries.seconds.observe(attempt.ms / 1000)
        if len(attempts) > 1:
            moved = sum((one.provider, one.slug) != (next_.provider, next_.slug) for one, next_ in pairwise(attempts))
            if moved:
                self._failovers.labels(attempts[0].slug or model).inc(moved)

    def _make(self, provider: str, model: str, outcome: str) -> _Series:
        tokens = self._tokens
        return _Series(
            self._requests.labels(provider, model, outcome),
            tokens.labels(model, "input"),
            tokens.labels(model, "output"),
            tokens.labels(model, "cache_read"),
            tokens.labels(model, "cache_write"),
            self._cost.labels(provider, model),
            self._latency.labels(provider),
        )

    def text(self) -> bytes:
        """The exposition that `/metrics` answers."""
        return generate_latest(self.registry)
