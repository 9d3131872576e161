"""Which endpoints are tried, in which order, and why. Pure: a question with all its facts in, a plan out.

The order of decisions is policy, the request's wishes, capabilities, health, order; what a budget cannot pay is taken out later
(`without`). Every endpoint that was considered ends in the plan or has its reason: nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.values import NO_PREFERENCES, Percentiles, Preferences, SortBy
from modelgates_server.routing.fit import Adaptation
from modelgates_server.routing.health import State
from modelgates_server.routing.wishes import Facts, refusal_of

FIRST_PARTY: Final = "anthropic"

OWN_FIRST: Final = "the organization's own key, which comes before the operator's"
OWN_LAST: Final = "the organization's own key, kept as a fallback"

NO_ADAPTATION: Final = Adaptation()


class Question(msgspec.Struct, frozen=True):
    """Everything that a plan depends on.

    `models` holds the endpoints of each model that may answer, the client's choice first. `policy` is what the key, its workspace
    and its guardrails allow and prefer; `wishes` what the request says. `sticky` is the provider that holds the conversation.
    """

    models: tuple[tuple[Facts, ...], ...]
    policy: Preferences = NO_PREFERENCES
    wishes: Preferences = NO_PREFERENCES
    house_order: tuple[str, ...] = ()
    sticky: str | None = None
    max_tokens: int | None = None
    when_s: float = 0.0


class Considered(msgspec.Struct, frozen=True):
    """One endpoint and what became of it: its `place` in the plan, from 1, or None when it was left out; and why.

    `code` names the filter that left it out (product-surface 2.9); `adaptation` is what the request loses there.
    """

    endpoint: Endpoint
    place: int | None
    reason: str
    code: str = ""
    adaptation: Adaptation = NO_ADAPTATION


class Plan(msgspec.Struct, frozen=True):
    """Endpoints in the order of trying (`steps`), and those that were left out, each with its reason."""

    steps: tuple[Considered, ...]
    left: tuple[Considered, ...] = ()

    @property
    def considered(self) -> tuple[Considered, ...]:
        """All of them."""
        return self.steps + self.left

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple([step.endpoint for step in self.steps])

    def without(self, dear: Iterable[Endpoint], reason: str) -> Plan:
        """The plan without endpoints that cannot be paid."""
        gone = {id(endpoint) for endpoint in dear}
        kept = [step for step in self.steps if id(step.endpoint) not in gone]
        left = [
            msgspec.structs.replace(step, place=None, reason=reason, code="budget")
            for step in self.steps
            if id(step.endpoint) in gone
        ]
        placed = [msgspec.structs.replace(step, place=place) for place, step in enumerate(kept, 1)]
        return Plan(tuple(placed), (*left, *self.left))

    def story(self) -> list[dict[str, Any]]:
        """The plan as plain data, for receipts and the routing report."""
        told = []
        for entry in self.considered:
            line: dict[str, Any] = {
                "provider": entry.endpoint.provider,
                "model": entry.endpoint.model.slug,
                "place": entry.place,
                "reason": entry.reason,
            }
            if entry.endpoint.own is not None:
                line["own"] = entry.endpoint.own.id
            if entry.code:
                line["code"] = entry.code
            if entry.adaptation.told:
                line["without"] = list(entry.adaptation.told)
            told.append(line)
        return told


def make_plan(question: Question) -> Plan:
    """Decide. The endpoints of the first model come before those of its alternatives, unless ``partition`` says "none"."""
    kept: list[tuple[tuple[Any, ...], Facts]] = []
    left: list[Considered] = []
    order = _Order(question)
    for number, model in enumerate(question.models):
        for place, facts in enumerate(model):
            refusal = refusal_of(
                facts, question.policy, question.wishes, question.max_tokens, question.when_s, first=number == 0
            )
            if refusal is not None:
                left.append(Considered(facts.endpoint, None, refusal.reason, refusal.code))
            else:
                kept.append((order.rank(facts, number, place), facts))
    kept.sort(key=lambda entry: entry[0])
    steps = [facts for _, facts in kept]
    chosen = question.wishes.allow_fallbacks
    if (question.policy.allow_fallbacks if chosen is None else chosen) is False:
        steps, cut = _without_fallbacks(steps, order)
        left += [Considered(facts.endpoint, None, "allow_fallbacks is false", "allow_fallbacks") for facts in cut]
    placed = [
        Considered(facts.endpoint, place, order.reason(facts, place), adaptation=facts.fit.adaptation)
        for place, facts in enumerate(steps, 1)
    ]
    return Plan(tuple(placed), tuple(left))


def _without_fallbacks(steps: list[Facts], order: _Order) -> tuple[list[Facts], list[Facts]]:
    """With an order, only what it lists; without one, each model's first."""
    if order.listed:
        kept = [facts for facts in steps if order.place(facts.endpoint) < len(order.listed)]
    else:
        firsts = {facts.endpoint.model.slug: facts for facts in reversed(steps)}
        kept = [facts for facts in steps if firsts[facts.endpoint.model.slug] is facts]
    chosen = set(map(id, kept))
    return kept, [facts for facts in steps if id(facts) not in chosen]


class _Order:
    """Ranks endpoints that may all serve, and says why one stands where it stands."""

    def __init__(self, question: Question) -> None:
        wishes, policy = question.wishes, question.policy
        sort = wishes.sort or (None if wishes.order else policy.sort)
        self._sort = sort.by if isinstance(sort, SortBy) else sort
        self._merged = isinstance(sort, SortBy) and sort.partition == "none"
        self.listed: Sequence[str] = wishes.order or (() if wishes.sort else policy.order) or ()
        self._whose = "the request's" if wishes.order else "the policy's"
        self._house = question.house_order
        self._alone = sum(map(len, question.models)) == 1
        self._sticky = None if wishes.order or wishes.sort else question.sticky
        self._latency = wishes.preferred_max_latency or policy.preferred_max_latency
        self._throughput = wishes.preferred_min_throughput or policy.preferred_min_throughput
        self._when_s = question.when_s

    def rank(self, facts: Facts, model: int, place: int) -> tuple[Any, ...]:
        endpoint, condition = facts.endpoint, facts.condition
        out = condition.state is State.OUT
        return (
            out,
            0 if self._merged else model,
            condition.until_s if out else 0.0,  # the soonest to recover first
            _turn(endpoint),
            facts.fit.behind,
            self._missed(facts),
            endpoint.provider != self._sticky if self._sticky else False,
            self.place(endpoint),
            self._measure(facts),
            endpoint.own.sort_order if endpoint.own is not None else 0,
            self._house_place(endpoint),
            model,
            place,
        )

    def place(self, endpoint: Endpoint) -> int:
        """Where the order of the request or the key puts an endpoint; behind all when it does not name it."""
        return _place(endpoint, self.listed)

    def reason(self, facts: Facts, place: int) -> str:
        """Why it stands at this place, in words."""
        endpoint, condition = facts.endpoint, facts.condition
        if condition.state is State.OUT:
            return f"last resort: out of service ({condition.why})"
        notes = [condition.why] if condition.state is State.TRIAL else []
        if endpoint.own is not None:
            notes.insert(0, OWN_LAST if endpoint.own.is_fallback else OWN_FIRST)
        if facts.fit.behind:
            notes.append("behind those that have all it asks for")
        if self._missed(facts):
            notes.append("misses the preferred latency or throughput")
        return "; ".join([self._why(endpoint, place), *notes])

    def _why(self, endpoint: Endpoint, place: int) -> str:
        if self._sticky is not None and endpoint.provider == self._sticky:
            return "holds this conversation"
        at = self.place(endpoint)
        if at < len(self.listed):
            return f"number {at + 1} in {self._whose} provider order"
        if self._sort is not None and self._sort != "exacto":
            return f"number {place} by {self._sort}"
        at = self._house_place(endpoint)
        if at < len(self._house):
            first_party = endpoint.kind == FIRST_PARTY and at == 0
            return "the maker of the model comes first" if first_party else f"number {at + 1} in the routing order"
        return "the only provider configured for this model" if self._alone else "configured, but in no routing order"

    def _house_place(self, endpoint: Endpoint) -> int:
        return _place(endpoint, self._house)

    def _measure(self, facts: Facts) -> float:
        """What `sort` ranks by, smaller first; what was never measured comes last."""
        endpoint, fitness = facts.endpoint, facts.fitness
        if self._sort == "price":
            rates = endpoint.model.price(self._when_s).rates(0)
            return (rates.input + rates.output) * endpoint.multiplier_ppm
        if self._sort == "latency":
            return fitness.latency_ms["p50"] if fitness.latency_ms else float("inf")
        if self._sort == "throughput":
            return -fitness.throughput["p50"] if fitness.throughput else float("inf")
        return 0.0

    def _missed(self, facts: Facts) -> bool:
        """Whether a measured percentile misses a cutoff; what was not measured misses nothing."""
        latency, speed = facts.fitness.latency_ms, facts.fitness.throughput
        slow = latency is not None and any(latency[name] > most * 1000 for name, most in _cutoffs(self._latency))
        weak = speed is not None and any(speed[name] < least for name, least in _cutoffs(self._throughput))
        return slow or weak


def _turn(endpoint: Endpoint) -> int:
    """Own keys before shared capacity, whatever order is asked for, and own fallbacks after it (product-surface 4.2)."""
    if endpoint.own is None:
        return 1
    return 2 if endpoint.own.is_fallback else 0


def _place(endpoint: Endpoint, slugs: Sequence[str]) -> int:
    """Where a list of slugs names an endpoint: by its own slug if that is there, else by its kind; behind all if neither is."""
    if not slugs:
        return 0
    if endpoint.provider in slugs:
        return slugs.index(endpoint.provider)
    return next((at for at, slug in enumerate(slugs) if endpoint.named_by(slug)), len(slugs))


def _cutoffs(wish: float | Percentiles | None) -> Iterable[tuple[str, float]]:
    if wish is None:
        return ()
    given: Mapping[str, float | None] = msgspec.structs.asdict(wish) if isinstance(wish, Percentiles) else {"p50": wish}
    return [(name, value) for name, value in given.items() if value is not None]
