"""One request's course through the plan: what failed so far, what that rules out, and how the request was mended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.adapt import bind_thinking, without_thinking
from modelgates_server.relay.exchange import Exchange
from modelgates_server.relay.failures import Failed
from modelgates_server.relay.router import Router
from modelgates_server.relay.values import Incoming
from modelgates_server.routing.fit import Adaptation
from modelgates_server.routing.plan import Considered
from modelgates_server.routing.verdict import FaultClass, Verdict

BINDING_BETA: Final = "thinking-binding-controls-2026-08-01"


@dataclass(slots=True)
class Course:
    """What is known in the middle of carrying one request. `tried` and `again` hold the identities of steps."""

    exchange: Exchange
    incoming: Incoming
    failed: list[Failed] = field(default_factory=list)
    tried: set[int] = field(default_factory=set)
    unknown_fates: int = 0
    closed_models: set[str] = field(default_factory=set)
    rank_above: dict[str, int] = field(default_factory=dict)
    bytes_least: dict[str, int] = field(default_factory=dict)
    adapted: dict[int, Adaptation] = field(default_factory=dict)
    again: set[tuple[int, str]] = field(default_factory=set)
    extra_betas: tuple[str, ...] = ()
    mended: str = ""

    @property
    def budget(self) -> str:
        """Whose retries these are: those of the model that the client named, alternatives included."""
        return self.exchange.route.resolved.model.slug

    def admits(self, endpoint: Endpoint) -> bool:
        """Whether what went wrong so far leaves an endpoint a chance."""
        slug, traits = endpoint.model.slug, endpoint.traits
        return (
            slug not in self.closed_models
            and traits.rank > self.rank_above.get(slug, -1)
            and traits.body_bytes_max >= self.bytes_least.get(slug, 0)
        )

    def closed_by(self, endpoint: Endpoint, verdict: Verdict) -> None:
        """Note what a fault rules out. An alternative model may still answer what this one cannot (product-surface 4.3)."""
        slug = endpoint.model.slug
        if verdict.fail_over == "no":
            self.closed_models.add(slug)
        elif verdict.fail_over == "abler":
            self.rank_above[slug] = max(self.rank_above.get(slug, -1), endpoint.traits.rank)
        elif verdict.fail_over == "larger":
            self.bytes_least[slug] = max(self.bytes_least.get(slug, 0), endpoint.traits.body_bytes_max)

    def adaptation(self, step: Considered) -> Adaptation:
        found = self.adapted.get(id(step), step.adaptation)
        if not self.extra_betas:
            return found
        return replace(found, betas=tuple(dict.fromkeys((*found.betas, *self.extra_betas))))

    def mend(self, router: Router, step: Considered, failed: Failed) -> bool:
        """Change the request so that this provider can take it: without a refused extra, or without stale thinking (providers 5)."""
        exchange, endpoint = self.exchange, step.endpoint
        if failed.kind is FaultClass.CAPABILITY:
            refused = router.learn(endpoint, exchange.route.needs, exchange.ask, failed.told.message)
            if refused is None:
                return False
            now_s = exchange.clock.monotonic_s()
            self.adapted[id(step)] = router.fitter.fit(exchange.route.needs, endpoint, now_s).adaptation
            self.mended = f"asked again without {refused.rpartition(':')[2].replace('_', ' ')}"
            return True
        if exchange.healed:
            return False
        exchange.healed = True
        binds = not endpoint.traits.lacking("thinking_binding", endpoint.model.id)
        bound = "different conversation" in failed.told.message
        mended = bind_thinking(exchange.ask) if bound else without_thinking(exchange.ask)
        if bound and (mended is None or not binds):
            mended = without_thinking(exchange.ask) if mended is not exchange.ask else None
        elif bound:
            self.extra_betas = (BINDING_BETA,)
        if mended is None or mended is exchange.ask:
            return False
        exchange.ask = mended
        self.mended = "thinking of another place was dropped"
        return True

    def mended_how(self) -> str:
        """What was mended since the last attempt, in words, once."""
        told, self.mended = self.mended, ""
        return told
