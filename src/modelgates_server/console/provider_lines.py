"""Providers as an administrator sees them: in the order of trying, with their health, their last day and their credentials."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

from modelgates_server.accounts.values import Caller
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.console.house import House, ProviderLine
from modelgates_server.console.uptime import LastDay, last_days
from modelgates_server.management.credentials import CredentialRow
from modelgates_server.routing.fit import Adaptation, Fit
from modelgates_server.routing.plan import Considered, Question, make_plan
from modelgates_server.routing.wishes import Facts, read_preferences

CLOUDS: Final = {
    "aws": "AWS credentials of the gateway's machine",
    "google": "Google credentials of the gateway's machine",
    "azure": "Entra credentials of the gateway's machine",
}


@dataclass(frozen=True, slots=True)
class Outage:
    """What this process keeps out of service, why, and for how long yet. `model` is empty when it is the whole provider."""

    model: str
    why: str
    for_s: int


@dataclass(frozen=True, slots=True)
class ShownProvider:
    """A provider. `place` is None when the workspace's preferences leave it out, as `reason` says; `ask` is its cheapest model."""

    slug: str
    kind: str
    host: str
    place: int | None
    reason: str
    models: int
    ask: str
    credential: str
    own_keys: int
    state: str
    outages: tuple[Outage, ...]
    day: LastDay


def shown_providers(
    house: House, organization_id: str, routing: str | None, own: Iterable[CredentialRow], now_s: float
) -> tuple[ShownProvider, ...]:
    """Every configured provider: first those that are tried, in their order."""
    plan, served, outages = _plan(house, routing, now_s), _served(house), outages_here(house)
    days = last_days(house.engine, organization_id, [one.slug for one in house.providers], now_s)
    keys = Counter(row.provider for row in own if not row.disabled)
    lines = []
    for provider in house.providers:
        slug, endpoints = provider.slug, served.get(provider.slug, [])
        considered, out = plan.get(slug), outages.get(slug, ())
        line = ShownProvider(
            slug=slug,
            kind=endpoints[0].traits.name or provider.kind if endpoints else provider.kind,
            host=urlsplit(provider.base_url).netloc,
            place=None if considered is None else considered.place,
            reason="it serves no model" if considered is None else considered.reason,
            models=len(endpoints),
            ask=_cheapest(endpoints, now_s),
            credential=_credential(provider, endpoints),
            own_keys=keys[slug],
            state=_state(out),
            outages=out,
            day=days[slug],
        )
        lines.append(line)
    return tuple(sorted(lines, key=lambda line: (line.place is None, line.place or 0)))


def cheapest_model(house: House, slug: str, caller: Caller, now_s: float) -> str:
    """The model whose question costs a key least at a provider; empty when it may use none there."""
    endpoints = _served(house).get(slug, [])
    return _cheapest((endpoint for endpoint in endpoints if caller.may_use(endpoint.model.slug)), now_s)


def others_than(house: House, slug: str) -> tuple[str, ...]:
    """The slugs that name every provider but this one: a slug that is also the word of a kind names all of that kind."""
    own = _served(house).get(slug, [])
    slugs = (provider.slug for provider in house.providers)
    return tuple(other for other in slugs if not any(endpoint.named_by(other) for endpoint in own))


def outages_here(house: House) -> dict[str, tuple[Outage, ...]]:
    """What this process keeps out of service now, by account: a provider's slug, or an own key's id and version."""
    found: dict[str, list[Outage]] = defaultdict(list)
    if house.health is not None:
        now_s = house.clock.monotonic_s()
        for account, model, condition in house.health.out_of_service(now_s):
            found[account].append(Outage(model, condition.why, max(0, round(condition.until_s - now_s))))
    return {account: tuple(sorted(outages, key=lambda one: one.model)) for account, outages in found.items()}


def _served(house: House) -> dict[str, list[Endpoint]]:
    found: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoints in house.endpoints.values():
        for endpoint in endpoints:
            found[endpoint.provider].append(endpoint)
    return found


def _plan(house: House, routing: str | None, now_s: float) -> dict[str, Considered]:
    """What preferences make of the providers for an ordinary request, with everybody in service.

    Of each provider one endpoint stands for all: of the model that most of them serve, if it serves that.
    """
    ranked = sorted(house.endpoints.values(), key=len, reverse=True)
    chosen: dict[str, Endpoint] = {}
    for endpoints in ranked:
        for endpoint in endpoints:
            chosen.setdefault(endpoint.provider, endpoint)
    configured = [chosen[provider.slug] for provider in house.providers if provider.slug in chosen]
    facts = tuple(Facts(endpoint, Fit(Adaptation())) for endpoint in configured)
    question = Question((facts,), house_order=house.order, when_s=now_s)
    if routing:
        question = msgspec.structs.replace(question, policy=read_preferences(routing.encode()))
    return {entry.endpoint.provider: entry for entry in make_plan(question).considered}


def _cheapest(endpoints: Iterable[Endpoint], now_s: float) -> str:
    rates = {endpoint.model.id: endpoint.model.price(now_s).rates(0) for endpoint in endpoints}
    return min(rates, key=lambda name: (rates[name].output, rates[name].input), default="")


def _credential(provider: ProviderLine, endpoints: list[Endpoint]) -> str:
    """How the operator proves to it who asks."""
    if provider.is_sandbox:
        return "needs none"
    if provider.has_key:
        return "the operator's key"
    ways = endpoints[0].traits.auth if endpoints else ()
    return next((CLOUDS[way] for way in ways if way in CLOUDS), "none of the operator's")


def _state(outages: tuple[Outage, ...]) -> str:
    if not outages:
        return "in service"
    return "out of service" if any(not outage.model for outage in outages) else "partly out of service"
