"""Where a request may go: names to models, models to endpoints, and the plan over what is known at this moment.

`Router` is the relay's memory of providers: their health, who holds which conversation, what refusals taught. Planning itself is
pure (`routing/plan.py`); here its question is put together, and what came of it is told to health and stickiness.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgspec

from modelgates_server.accounts.values import Caller, CredentialRef, maker_of
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.catalogue.names import Resolved
from modelgates_server.clock import Clock
from modelgates_server.dialects.adapt import opening
from modelgates_server.dialects.values import NO_PREFERENCES, Ask, Preferences
from modelgates_server.errors import NoEndpoint, NotPermitted, TooLarge
from modelgates_server.relay.outgoing import with_betas
from modelgates_server.relay.own import with_own
from modelgates_server.relay.values import Incoming
from modelgates_server.routing.fit import Fitter, Needs
from modelgates_server.routing.health import Condition, Fitness, Health, State
from modelgates_server.routing.inputs import Inputs, inputs_of
from modelgates_server.routing.plan import Plan, Question, make_plan
from modelgates_server.routing.stick import STICK_S, Stickiness, conversation_id
from modelgates_server.routing.verdict import VERDICTS, FaultClass
from modelgates_server.routing.wishes import Facts, merged, read_preferences

log = logging.getLogger(__name__)

SORTS: Final = {"nitro": "throughput", "floor": "price"}
"""What a variant suffix of the model's name asks for (product-surface 1.2)."""

_UNKNOWN_FITNESS: Final = Fitness(None, None)


class Route(msgspec.Struct, frozen=True):
    """A planned request.

    What was asked, the model that its name means, the plan, what it was decided on, its conversation if there is a choice, and the
    organisation's own keys that the plan may use.
    """

    ask: Ask
    resolved: Resolved
    plan: Plan
    needs: Needs
    inputs: Inputs
    conversation: str | None
    credentials: tuple[CredentialRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Router:
    """`endpoints` by model slug; `order` is the house's; `recall(conversation, since_ms)` asks the receipts who served it last.

    `secret` is the installation's: conversations are named with it. `memory` keeps the plans of usual requests, those without
    preferences while everybody is in service.
    """

    catalogue: Catalogue
    endpoints: Mapping[str, tuple[Endpoint, ...]]
    fitter: Fitter
    health: Health
    stickiness: Stickiness
    clock: Clock
    order: tuple[str, ...]
    recall: Callable[[str, int], Awaitable[str | None]]
    secret: bytes = field(repr=False)
    memory: dict[object, Plan] = field(default_factory=dict)

    async def route(self, caller: Caller, ask: Ask, incoming: Incoming) -> Route:
        """Plan a request. Raises UnknownModel, NotPermitted, NoEndpoint with every reason, or TooLarge."""
        names = dict.fromkeys((ask.model, *ask.models)) if ask.models else (ask.model,)
        found = [self.admit(caller, ask, name) for name in names]
        resolved = found[0]
        models = list({one.model.slug: self.endpoints[one.model.slug] for one in found}.values())
        if caller.credentials:
            models = list(with_own(models, caller.credentials))
        if resolved.fast:
            ask = msgspec.structs.replace(ask, speed="fast")
        betas = with_betas(incoming.betas, one_m=resolved.one_m, fast=ask.speed == "fast")
        needs = self.fitter.needs(ask, betas)
        wishes = _wished(ask.provider, resolved.variant)
        policy = policy_of(caller.routing, keeps_nothing=_keeps_nothing(caller, found))
        choice = len(models) > 1 or len(models[0]) > 1
        conversation = self._conversation(caller, ask, resolved) if choice else None
        sticky = await self._holder(conversation) if conversation is not None else None
        plain = wishes is NO_PREFERENCES and policy is NO_PREFERENCES
        key = (resolved.model.slug, sticky, needs.features, needs.betas, needs.members)
        usual = plain and len(models) == 1 and not caller.credentials
        usual = usual and self.fitter.settled(needs) and all(map(self._clear, models[0]))
        plan = self.memory.get(key) if usual else None
        question = Question((), policy, wishes, self.order, sticky, ask.max_tokens, self.clock.now_s())
        if plan is None:
            question = msgspec.structs.replace(question, models=self._candidates(models, needs, measured=not plain))
            plan = make_plan(question)
            if not plan.steps:
                raise _nothing_left(ask, plan)
            if usual:
                if len(self.memory) >= PLANS_MAX:
                    self.memory.clear()
                self.memory[key] = plan
        inputs = inputs_of(question, needs, tuple([one.model.slug for one in found]))
        return Route(ask, resolved, plan, needs, inputs, conversation, caller.credentials)

    def admit(self, caller: Caller, ask: Ask, name: str) -> Resolved:
        """The model that a name means, if the caller may use it and somebody serves it."""
        resolved = self.catalogue.resolve(name)
        slug = resolved.model.slug
        if not caller.may_use(slug):
            raise NotPermitted(
                f"model: {name} is not among the models that this key may use; GET /v1/models lists them"
            )
        if not self.endpoints.get(slug):
            raise NoEndpoint(f"model: {name} is known, but no configured provider serves it")
        if resolved.variant == "free":
            raise NoEndpoint(f"model: {name}: nobody serves {ask.model.removesuffix(':free')} for free")
        return resolved

    # What came of it.

    def began(self, endpoint: Endpoint, conversation: str | None, latency_ms: float) -> None:
        """An endpoint gave its first content."""
        now_s = self.clock.monotonic_s()
        self.health.began(endpoint.account, endpoint.model.slug, latency_ms, now_s)
        if conversation is not None:
            self.stickiness.keep(conversation, endpoint.provider, now_s)

    def completed(self, endpoint: Endpoint, tokens_per_s: float | None) -> None:
        """An endpoint answered to the end."""
        self.health.completed(endpoint.account, endpoint.model.slug, tokens_per_s, self.clock.monotonic_s())

    def failed(self, endpoint: Endpoint, kind: FaultClass, retry_after_s: float | None = None) -> None:
        """An attempt at an endpoint ended in a fault. What takes a provider out of service is logged, once."""
        now_s = self.clock.monotonic_s()
        account, model, own = endpoint.account, endpoint.model.slug, endpoint.own
        before = self.health.condition(account, model, now_s).state
        self.health.failed(account, model, kind, now_s, retry_after_s=retry_after_s)
        after = self.health.condition(account, model, now_s)
        if after.state is State.OUT and before is not State.OUT:
            level = logging.ERROR if VERDICTS[kind].alert and own is None else logging.WARNING
            facts: dict[str, object] = {"provider": endpoint.provider, "model": model, "reason": after.why}
            facts |= {"seconds": round(after.until_s - now_s)} | ({"credential": own.id} if own is not None else {})
            log.log(level, "provider_out_of_service", extra=facts)

    def left(self, endpoint: Endpoint) -> None:
        """An attempt at an endpoint ended without a verdict: somebody else may try it."""
        self.health.end_trial(endpoint.account, endpoint.model.slug, self.clock.monotonic_s())

    def learn(self, endpoint: Endpoint, needs: Needs, ask: Ask, message: str) -> str | None:
        """A provider refused a capability: remember what; its name when the request can be asked again there without it."""
        refused = self.fitter.refused(message, needs, ask)
        if refused is None or endpoint.traits.rank >= FIRST_PARTY_RANK:
            return None  # the first party knows its own interface: there it is the client's mistake
        now_s = self.clock.monotonic_s()
        before = self.fitter.fit(needs, endpoint, now_s)
        self.fitter.learn(endpoint, refused, now_s)
        after = self.fitter.fit(needs, endpoint, now_s)
        facts = {"provider": endpoint.provider, "model": endpoint.model.slug, "refused": refused}
        log.warning("capability_learnt", extra=facts)
        return refused if not after.missing and after != before else None

    def condition(self, endpoint: Endpoint) -> Condition:
        """How an endpoint is doing right now.

        An own key has a standing of its own, and nothing of it is the operator's; but where the provider failed the operator again
        and again, own keys need not find that out anew.
        """
        return self._condition(endpoint, self.clock.monotonic_s())

    def _condition(self, endpoint: Endpoint, now_s: float) -> Condition:
        found = self.health.condition(endpoint.account, endpoint.model.slug, now_s)
        if endpoint.own is None or found.state is State.OUT:
            return found
        shared = self.health.breaker(endpoint.provider, endpoint.model.slug, now_s)
        return shared if shared.state is State.OUT else found

    def _clear(self, endpoint: Endpoint) -> bool:
        return self.health.clear(endpoint.provider, endpoint.model.slug)

    def _candidates(
        self, models: Sequence[Sequence[Endpoint]], needs: Needs, *, measured: bool
    ) -> tuple[tuple[Facts, ...], ...]:
        """Everything that is known about each endpoint now; speeds only where somebody may ask for them."""
        now_s = self.clock.monotonic_s()
        return tuple(
            tuple(
                Facts(
                    endpoint,
                    self.fitter.fit(needs, endpoint, now_s),
                    self._condition(endpoint, now_s),
                    self.health.fitness(endpoint.account, endpoint.model.slug, now_s, MEASURED_S)
                    if measured
                    else _UNKNOWN_FITNESS,
                )
                for endpoint in model
            )
            for model in models
        )

    def _conversation(self, caller: Caller, ask: Ask, resolved: Resolved) -> str:
        session = ask.session_id or f"{caller.key_hash}\0{opening(ask)}"
        return conversation_id(self.secret, caller.organization_id, resolved.model.slug, session)

    async def _holder(self, conversation: str) -> str | None:
        now_s = self.clock.monotonic_s()
        known, provider = self.stickiness.find(conversation, now_s)
        if not known:
            provider = await self.recall(conversation, int((self.clock.now_s() - STICK_S) * 1000))
            self.stickiness.keep(conversation, provider, now_s)
        return provider


FIRST_PARTY_RANK: Final = 3
PLANS_MAX: Final = 1000
MEASURED_S: Final = 300.0
"""Preferences by speed look at five minutes (product-surface 4.6)."""


@lru_cache(maxsize=1024)
def policy_of(stored: tuple[bytes, ...], *, keeps_nothing: bool = False) -> Preferences:
    """The preferences of guardrails, workspace and key, merged; with `keeps_nothing` only where nothing is kept.

    Raises msgspec.ValidationError: a policy is never passed over.
    """
    found = Preferences(zdr=True) if keeps_nothing else NO_PREFERENCES
    for text in stored:
        found = merged(found, read_preferences(text))
    return found


def _keeps_nothing(caller: Caller, found: Sequence[Resolved]) -> bool:
    """Whether a guardrail wants one of the models only where nothing is kept (product-surface 2.8, `enforce_zdr_…`)."""
    makers = caller.retention_free
    return bool(makers) and any(maker_of(one.model.slug) in makers for one in found)


def _wished(asked: Preferences, variant: str | None) -> Preferences:
    if variant in SORTS and asked.sort is None and asked.order is None:
        return msgspec.structs.replace(asked, sort=SORTS[variant])
    return asked


def _nothing_left(ask: Ask, plan: Plan) -> NoEndpoint | TooLarge:
    """Nobody can serve the request: every reason is named."""
    reasons = list(dict.fromkeys(f"{entry.endpoint.provider}: {entry.reason}" for entry in plan.considered))
    if all(entry.code == "request_size" for entry in plan.considered):
        return TooLarge(f"No provider takes a request of this size ({'; '.join(reasons)}).")
    return NoEndpoint(f"model: no provider can serve this request for {ask.model}: {'; '.join(reasons)}")
