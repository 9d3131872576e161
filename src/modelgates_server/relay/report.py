"""The routing report that `X-ModelGates-Metadata: enabled` asks for (product-surface 2.13)."""

from __future__ import annotations

from typing import Any

import msgspec

from modelgates_server.activity.generation import Attempt
from modelgates_server.errors import UpstreamFailed
from modelgates_server.relay.exchange import Exchange


def report(exchange: Exchange) -> bytes:
    """The report as JSON: the plan, each attempt with status, class and time, what was skipped and why."""
    return msgspec.json.encode(_told(exchange))


def attach(error: UpstreamFailed, exchange: Exchange) -> None:
    """Give a failure its report: on errors it stands beside `error`."""
    error.report = report(exchange)


def _told(exchange: Exchange) -> dict[str, Any]:
    places = exchange.story()
    served = exchange.endpoint if not exchange.attempts or exchange.attempts[-1].fault is None else None
    name = exchange.ask.model
    return {
        "requested": name,
        "strategy": _strategy(exchange),
        "region": (served.region or None) if served else None,
        "summary": _summary(exchange),
        "attempt": len(exchange.attempts),
        "is_byok": served is not None and served.own is not None,
        "endpoints": {
            "total": len(places),
            "available": [
                place
                | {
                    "selected": served is not None
                    and f"{place.get('own') or place['provider']} {place['model']}" == served.place
                }
                for place in places
            ],
        },
        "attempts": [_attempt(attempt) for attempt in exchange.attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    """An attempt without the provider's own words: they may be about the operator's account."""
    told: dict[str, Any] = msgspec.to_builtins(attempt)
    del told["detail"]
    return told


def _strategy(exchange: Exchange) -> str:
    name, resolved = exchange.ask.model.lower(), exchange.route.resolved
    if exchange.endpoint is not None and exchange.endpoint.model is not resolved.model:
        return "fallback"
    if name.startswith("~") or "latest" in name:
        return "latest"
    return "direct" if resolved.model.id in name or resolved.model.slug in name else "alias"


def _summary(exchange: Exchange) -> str:
    failed = [attempt for attempt in exchange.attempts if attempt.fault is not None]
    told = ", ".join(f"{attempt.provider} failed ({attempt.fault})" for attempt in failed)
    if exchange.attempts and exchange.attempts[-1].fault is None:
        answered = f"{exchange.attempts[-1].provider} answered"
        return f"{told}, {answered}" if told else answered
    return told or "nobody was asked"
