"""The path of one request: admit, plan, hold, carry, settle. Read this first.

`Relay.answer` gives a committed answer or raises. Where a request may go is decided in `router.py`; how it is carried from endpoint
to endpoint is in `carry.py`; what happens after the commit point in `answers.py`; what is held and charged in `funds.py` and
`exchange.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from modelgates_server.accounts.values import Caller
from modelgates_server.activity.contents import Keeper
from modelgates_server.activity.generation import Generation, Origin
from modelgates_server.activity.metrics import Metrics
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.clock import Clock
from modelgates_server.dialects.values import Ask
from modelgates_server.errors import StoreUnavailable, UpstreamFailed
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.providers.base import Fault
from modelgates_server.relay.answers import Answer, StreamAnswer
from modelgates_server.relay.carry import Carrier
from modelgates_server.relay.exchange import Exchange
from modelgates_server.relay.failures import Failed, most_useful, told_by
from modelgates_server.relay.funds import STALE_TRIES_MAX, Funds, PolicyChanged, Reserved
from modelgates_server.relay.outgoing import outgoing
from modelgates_server.relay.own import Speakers
from modelgates_server.relay.report import attach
from modelgates_server.relay.router import Route, Router
from modelgates_server.relay.values import Incoming, Settings, Stopping
from modelgates_server.routing.health import State
from modelgates_server.routing.verdict import VERDICTS, FaultClass, Signal, classify


@dataclass(frozen=True, slots=True)
class Relay:
    """Carries requests to providers. Everything it needs is given to it; it keeps only the list of live exchanges."""

    catalogue: Catalogue
    router: Router
    speakers: Speakers
    carrier: Carrier
    ledger: Ledger
    funds: Funds
    metrics: Metrics
    clock: Clock
    settings: Settings
    live: dict[str, StreamAnswer]
    stopping: Stopping
    spawn: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]]
    keeper: Keeper

    @property
    def endpoints(self) -> Mapping[str, tuple[Endpoint, ...]]:
        """Every endpoint, by the model's slug."""
        return self.router.endpoints

    async def answer(self, caller: Caller, ask: Ask, incoming: Incoming) -> Answer:
        """Answer a Messages request: raises a refusal or UpstreamFailed, or gives an answer past its commit point."""
        caller, route, origin, reserved = await self._admitted(caller, ask, incoming)
        ask, plan = route.ask, route.plan
        if reserved.dear:
            plan = plan.without(reserved.dear, "the budget cannot pay what it may cost here")
        exchange = Exchange(
            ask, origin, route, plan, reserved.hold, self.ledger, self.catalogue, self.clock, incoming.received_s,
            self._finished, clamped=reserved.clamped, spawn=self.spawn,
        )  # fmt: skip
        if caller.keeping is not None:  # its workspace opted in
            exchange.record = self.keeper.begin(caller.keeping, ask, incoming.id)
        try:
            return await self.carrier.carry(exchange, incoming)
        except BaseException as error:
            if isinstance(error, UpstreamFailed) and incoming.report:
                attach(error, exchange)
            exchange.abandon(free=self.stopping.now)
            raise

    async def _admitted(self, caller: Caller, ask: Ask, incoming: Incoming) -> tuple[Caller, Route, Origin, Reserved]:
        """Plan and hold under one policy, that of the caller it gives: when it changes in between, plan again."""
        for _ in range(STALE_TRIES_MAX):
            route = await self.router.route(caller, ask, incoming)
            origin = self._origin(caller, route, incoming)
            exact = partial(self._exact, route, incoming, client_faults=False)
            try:
                reserved = await self.funds.reserve(caller, route.ask, route.plan.endpoints, origin, exact)
            except PolicyChanged as changed:
                caller = changed.caller
            else:
                return caller, route, origin, reserved
        raise StoreUnavailable

    async def count(self, caller: Caller, ask: Ask, incoming: Incoming) -> int:
        """Count a request's input tokens: by a provider, else by a high estimate. Costs nothing and holds nothing."""
        route = await self.router.route(caller, ask, incoming)
        exact = await self._exact(route, incoming, client_faults=True)
        return exact if exact is not None else estimated_tokens(ask)

    def progress(self) -> list[tuple[str, int]]:
        """Running streams and what they cost so far, in nano-USD, below zero on own keys: the next checkpoint."""
        return [(hold_id, answer.cost_so_far_nusd()) for hold_id, answer in self.live.items()]

    async def _exact(self, route: Route, incoming: Incoming, *, client_faults: bool) -> int | None:
        """Ask the plan's providers how many input tokens there are, those in service first; None when nobody can say."""
        steps = sorted(route.plan.steps, key=lambda step: self.router.condition(step.endpoint).state is State.OUT)
        for step in steps:
            endpoint = step.endpoint
            request = outgoing(route.ask, endpoint, step.adaptation, incoming, count=True)
            try:
                async with asyncio.timeout(self.settings.count_s):
                    return await self.speakers.find(endpoint, route.credentials).count(endpoint, request)
            except (Fault, TimeoutError) as error:
                if client_faults and isinstance(error, Fault) and error.trusted:
                    told = told_by(error)
                    kind = classify(Signal(error.signal), error.status, told.type, told.code, told.message)
                    if VERDICTS[kind].fail_over == "no":
                        failed = Failed(kind, told, error, None, endpoint.model.slug)
                        raise most_useful([failed], incoming.id) from error
        return None

    def _origin(self, caller: Caller, route: Route, incoming: Incoming) -> Origin:
        ask = route.ask
        return Origin(
            id=incoming.id,
            organization_id=caller.organization_id,
            workspace_id=caller.workspace_id,
            member_id=caller.member_id,
            key_hash=caller.key_hash,
            created_at_ms=int(self.clock.now_s() * 1000),
            requested_model=ask.model,
            model=route.resolved.model.slug,
            streamed=ask.stream,
            session_id=ask.session_id,
            external_user=ask.user,
            app=incoming.app,
            user_agent=incoming.user_agent,
        )

    def _finished(self, exchange: Exchange, generation: Generation) -> None:
        self.live.pop(exchange.origin.id, None)
        endpoint = exchange.endpoint
        if endpoint is not None and generation.outcome == "completed":
            self.router.completed(endpoint, _tokens_per_s(generation))
        elif endpoint is not None and generation.outcome == "broken":
            self.router.failed(endpoint, FaultClass.STREAM)
        self.metrics.seen(generation)


def estimated_tokens(ask: Ask) -> int:
    """Input tokens when nobody counts: on the high side, because clients decide by it when to compact (providers 11.6)."""
    return ask.shape.body_bytes * 10 // 25 + 300


def _tokens_per_s(generation: Generation) -> float | None:
    """Output tokens per second from the first content to the end; None when that was too short to measure."""
    if not generation.origin.streamed or generation.generation_ms is None or generation.latency_ms is None:
        return None
    ms = generation.generation_ms - generation.latency_ms
    return generation.usage.output_tokens * 1000 / ms if ms >= 50 else None
