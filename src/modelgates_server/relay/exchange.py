"""One request between its hold and its receipt: attempts, usage, and the settlement that happens exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from modelgates_server.activity.contents import Record
from modelgates_server.activity.generation import Attempt, Cost, Generation, Origin, rows
from modelgates_server.catalogue import price
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.clock import Clock
from modelgates_server.dialects.values import Ask, Usage
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.ledger.values import Bill, Hold, Settled
from modelgates_server.money import usd_text
from modelgates_server.relay.router import Route
from modelgates_server.routing.plan import Plan


@dataclass(slots=True)
class Exchange:
    """The state of one request. `settle` and `abandon` are synchronous: no cancellation can come between.

    `uncertain` are attempts whose fate is unknown, with what they cost at most. While `draining`, a task of the application reads
    on for a client that left, because its provider bills the whole answer; it settles. `record` is there when prompt and answer are
    kept.
    """

    ask: Ask
    origin: Origin
    route: Route
    plan: Plan
    hold: Hold
    ledger: Ledger
    catalogue: Catalogue
    clock: Clock
    started_s: float
    finished: Callable[[Exchange, Generation], None]
    endpoint: Endpoint | None = None
    attempts: list[Attempt] = field(default_factory=list)
    spawn: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]] | None = None
    clamped: int | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    uncertain: list[tuple[str, int]] = field(default_factory=list)
    draining: bool = False
    healed: bool = False
    latency_ms: int | None = None
    request_id: str | None = None
    upstream_id: str | None = None
    dispatched: bool = False
    settled: asyncio.Future[Settled] | None = None
    charged_nusd: int = 0
    own_nusd: int = 0
    note: str = ""
    record: Record | None = None

    def since_ms(self, start_s: float) -> int:
        """Milliseconds since `start_s` on the monotonic clock."""
        return int((self.clock.monotonic_s() - start_s) * 1000)

    @property
    def input_estimate(self) -> int:
        """Input tokens when nobody counted them: a token each four bytes."""
        return min(self.ask.shape.body_bytes // 4, self.plan.endpoints[0].model.context_tokens)

    def price(self, usage: Usage) -> int:
        """What `usage` costs at the endpoint that serves, in nano-USD."""
        if self.endpoint is None:
            return 0
        return price.charge(usage, self.endpoint, self.catalogue, self.origin.created_at_ms / 1000).nusd

    def settle(self, outcome: str, usage: Usage, stop_reason: str | None) -> asyncio.Future[Settled]:
        """Close the hold at what `usage` costs and write the receipt. A second call gives the first one's future."""
        if self.settled is not None:
            return self.settled
        if self.note and self.attempts:
            self.attempts[-1] = replace(self.attempts[-1], detail=self.note)
        cost, bill = self._bill(outcome, usage, stop_reason)
        generation = Generation(
            origin=self._served_origin(),
            outcome=outcome,
            usage=usage,
            cost=cost,
            provider=self.endpoint.provider if self.endpoint else None,
            upstream_model=self.endpoint.upstream_model if self.endpoint else None,
            upstream_id=self.upstream_id,
            upstream_request_id=self.request_id,
            finish_reason=stop_reason,
            latency_ms=self.latency_ms,
            generation_ms=self.since_ms(self.started_s),
            plan=self.story(),
            attempts=tuple(self.attempts),
            conversation=self.route.conversation,
            inputs=msgspec.json.encode(self.route.inputs),
        )
        self.charged_nusd, self.own_nusd = cost.charged_nusd, cost.byok_nusd
        if self.record is None:
            self.settled = self.ledger.settle(self.hold, bill, rows(generation))
        else:
            kept = self.record.rows(self.origin)
            size_bytes = sum(len(row["sealed"]) for _, row in kept)
            self.settled = self.ledger.settle(self.hold, bill, [*rows(generation), *kept], size_bytes=size_bytes)
        self.finished(self, generation)
        return self.settled

    def abandon(self, *, free: bool = False) -> None:
        """Nobody reads on and no usage is known: charge the input if it was sent, else nothing."""
        if self.draining:
            return
        if free or not self.dispatched:
            self.settle("failed", Usage(), None)
            return
        self.settle("cancelled", Usage(input_tokens=self.input_estimate, estimated=True), None)

    @property
    def cost_text(self) -> str:
        """What `usage.cost` says; of an own key besides that it was one, and what is asked there (product-surface 2.1)."""
        if not self.own_nusd:
            return usd_text(self.charged_nusd)
        details = f'"cost_details":{{"upstream_inference_cost":{usd_text(self.own_nusd)}}}'
        return f'{usd_text(self.charged_nusd)},"is_byok":true,{details}'

    @property
    def shown_model(self) -> str | None:
        """The model's name for the client, when the upstream's own is not one of Anthropic's; None leaves what it says."""
        endpoint = self.endpoint
        if endpoint is None or (endpoint.upstream_model.startswith("claude-") and "@" not in endpoint.upstream_model):
            return None
        return endpoint.model.id

    def story(self) -> list[dict[str, Any]]:
        """The plan as plain data, with what was passed over while the request ran."""
        told = self.plan.story()
        for line in told:
            if why := self.skipped.get(f"{line.get('own') or line['provider']} {line['model']}"):
                line["skipped"] = why
        return told

    def _served_origin(self) -> Origin:
        """Who asked, with the model that answered: an alternative is reported and billed as what it is."""
        if self.endpoint is None or self.endpoint.model.slug == self.origin.model:
            return self.origin
        return replace(self.origin, model=self.endpoint.model.slug)

    def _bill(self, outcome: str, usage: Usage, stop_reason: str | None) -> tuple[Cost, Bill]:
        uncertain_nusd = sum(amount_nusd for _, amount_nusd in self.uncertain)
        if self.endpoint is None or outcome == "failed":
            cost = Cost(
                held_nusd=self.hold.amount_nusd, price_version=self.catalogue.version, uncertain_nusd=uncertain_nusd
            )
            return cost, Bill(uncertain=tuple(self.uncertain))
        charge = price.charge(usage, self.endpoint, self.catalogue, self.origin.created_at_ms / 1000)
        charged, overrun, own = self._shares(charge.nusd, outcome, usage, stop_reason)
        cost = Cost(
            charged,
            charged + overrun,
            charge.cache_discount_nusd,
            self.hold.amount_nusd,
            charge.price_version,
            tuple({"name": part.name, "quantity": part.tokens, "pusd": part.pusd} for part in charge.parts),
            uncertain_nusd,
            own,
        )
        tokens = usage.input_tokens + usage.output_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        return cost, Bill(charged, overrun, tokens, self.endpoint.provider, tuple(self.uncertain), own)

    def _shares(self, asked_nusd: int, outcome: str, usage: Usage, stop_reason: str | None) -> tuple[int, int, int]:
        """Who bears what a provider asks: the budgets, the operator, and the organisation's own account there."""
        billable = price.billable(usage, stop_reason, outcome)
        asked_nusd = asked_nusd if billable or stop_reason != "refusal" else 0
        if self.endpoint is not None and self.endpoint.own is not None:
            return 0, 0, asked_nusd
        if not billable:
            return 0, asked_nusd, 0  # the provider asks for it, the customer does not pay for a failure
        return *self.hold.split(asked_nusd), 0
