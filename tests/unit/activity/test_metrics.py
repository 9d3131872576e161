"""Numbers per provider: every attempt, every move, who is in service, and money of unknown fate."""

from __future__ import annotations

from typing import Any

from tests.unit.console.planted import receipt

from modelgates_server.activity.generation import Attempt, Cost
from modelgates_server.activity.metrics import Metrics

OPUS, HAIKU = "anthropic/claude-opus-4.8", "anthropic/claude-haiku-4.5"


def tried(provider: str, fault: str | None = None, ms: int = 50, slug: str = OPUS) -> Attempt:
    return Attempt(provider, "upstream-name", 200 if fault is None else 529, fault, ms, slug=slug)


def value(metrics: Metrics, name: str, **labels: str) -> Any:
    return metrics.registry.get_sample_value(f"modelgates_{name}", labels)


def test_attempts_are_counted_by_provider_and_result() -> None:
    """Each attempt counts once, under our name of the model, with the class of its fault or as answered."""
    metrics = Metrics()
    for _ in range(2):
        metrics.seen(receipt(attempts=(tried("anthropic", "overloaded"), tried("backup"))))

    for provider, result in (("anthropic", "overloaded"), ("backup", "answered")):
        assert value(metrics, "attempts_total", provider=provider, model=OPUS, result=result) == 2
    assert value(metrics, "attempts_total", provider="anthropic", model=OPUS, result="answered") is None
    assert b"upstream-name" not in metrics.text()


def test_attempt_times_stand_by_provider() -> None:
    """A histogram for each provider holds the seconds of all its attempts."""
    metrics = Metrics()
    metrics.seen(receipt(attempts=(tried("anthropic", "timeout", 3_000), tried("backup", ms=400))))

    assert value(metrics, "attempt_seconds_sum", provider="anthropic") == 3.0
    assert value(metrics, "attempt_seconds_bucket", provider="backup", le="0.5") == 1
    assert value(metrics, "attempt_seconds_count", provider="backup") == 1


def test_a_failover_is_a_move() -> None:
    """Asking the same provider again is none; another provider or another model is one each."""
    metrics = Metrics()
    metrics.seen(receipt(attempts=(tried("anthropic"),)))
    metrics.seen(receipt(attempts=(tried("anthropic", "overloaded"), tried("anthropic"))))
    assert value(metrics, "failovers_total", model=OPUS) is None
    metrics.seen(receipt(attempts=(tried("a", "reset"), tried("b", "upstream"), tried("b", slug=HAIKU))))

    assert value(metrics, "failovers_total", model=OPUS) == 2


def test_who_is_in_service_is_asked_when_somebody_looks() -> None:
    """A provider that is out for one model or for all shows 0; nothing is remembered."""
    metrics, out = Metrics(), ["backup", "backup"]
    metrics.watch_providers(["anthropic", "backup"], lambda: out)

    assert value(metrics, "provider_in_service", provider="anthropic") == 1
    assert value(metrics, "provider_in_service", provider="backup") == 0
    out.clear()
    assert value(metrics, "provider_in_service", provider="backup") == 1


def test_money_of_unknown_fate_is_counted_apart() -> None:
    """What an attempt of unknown fate may cost is neither charged nor lost: it has its own counter."""
    metrics = Metrics()
    metrics.seen(receipt(cost=Cost(1_000, 1_000, uncertain_nusd=2_000_000_000)))

    assert value(metrics, "operator_uncertain_usd_total") == 2.0
    assert value(metrics, "operator_loss_usd_total") == 0
