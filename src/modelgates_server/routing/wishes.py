"""What a request or a policy says about providers, and whether an endpoint is left out by it (product-surface 1.2 and 4.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.values import NO_PREFERENCES, MaxPrice, Preferences
from modelgates_server.routing.fit import Fit
from modelgates_server.routing.health import GOOD, Condition, Fitness

PUSD_PER_USD_PER_MILLION: Final = 10**6
PPM: Final = 10**6

QUANTIZATION: Final = "unknown"
"""Of every Claude endpoint: nobody publishes it."""


class Facts(NamedTuple):
    """What is known about one endpoint at the moment of planning."""

    endpoint: Endpoint
    fit: Fit
    condition: Condition = GOOD
    fitness: Fitness = Fitness(None, None)


class Refusal(NamedTuple):
    """Why an endpoint is left out: in words, and as the filter's name (product-surface 2.9)."""

    reason: str
    code: str


def merged(outer: Preferences, inner: Preferences) -> Preferences:
    """A workspace's preferences with a key's on top: allow-lists narrow, ignore-lists add up, promises stay, the rest is replaced."""
    if outer == NO_PREFERENCES:
        return inner
    if inner == NO_PREFERENCES:
        return outer
    chosen = {
        name: getattr(inner, name) if getattr(inner, name) is not None else getattr(outer, name)
        for name in Preferences.__struct_fields__
    }
    if outer.only is not None and inner.only is not None:
        chosen["within"] = (*(outer.within or ()), *(inner.within or ()), outer.only)
    chosen["ignore"] = (*(outer.ignore or ()), *(inner.ignore or ())) or None
    chosen["max_price"] = _lower(outer.max_price, inner.max_price)
    chosen["zdr"] = True if outer.zdr or inner.zdr else None
    chosen["data_collection"] = "deny" if "deny" in (outer.data_collection, inner.data_collection) else None
    return Preferences(**chosen)


def _lower(outer: MaxPrice | None, inner: MaxPrice | None) -> MaxPrice | None:
    """The lower cap of each kind: a key cannot raise its workspace's."""
    if outer is None or inner is None:
        return outer or inner
    caps = {}
    for name in MaxPrice.__struct_fields__:
        given = [cap for cap in (getattr(outer, name), getattr(inner, name)) if cap is not None]
        caps[name] = min(given, key=lambda cap: Decimal(str(cap)), default=None)
    return MaxPrice(**caps)


def read_preferences(text: bytes) -> Preferences:
    """Preferences as they are stored. Raises msgspec.ValidationError."""
    return msgspec.json.decode(text, type=Preferences)


def refusal_of(
    facts: Facts, policy: Preferences, wishes: Preferences, max_tokens: int | None, when_s: float, *, first: bool
) -> Refusal | None:
    """Why an endpoint cannot be in the plan; None when it can. `first` says that it serves the model that the client named."""
    endpoint, fit = facts.endpoint, facts.fit
    for whose, said in (("the key's policy", policy), ("the request", wishes)):
        if said is not NO_PREFERENCES and (refusal := _unwanted(endpoint, said, whose, when_s)) is not None:
            return refusal
    if fit.missing:
        return Refusal(f"{endpoint.traits.name or endpoint.kind} cannot do {fit.missing}", fit.code)
    if (wishes.require_parameters or policy.require_parameters) and fit.adaptation.told:
        return Refusal(f"it would answer without {', '.join(fit.adaptation.told)}", "require_parameters")
    if not first and max_tokens is not None and max_tokens > endpoint.model.max_output_tokens:
        return Refusal(
            f"{endpoint.model.id} gives at most {endpoint.model.max_output_tokens:,} tokens", "context_length"
        )
    return None


def _unwanted(endpoint: Endpoint, said: Preferences, whose: str, when_s: float) -> Refusal | None:
    for allowed in (said.only, *(said.within or ())):
        if allowed is not None and not _named(endpoint, allowed):
            return Refusal(f"{whose} allows only {', '.join(allowed) or 'nobody'}", "allowed_providers")
    if said.ignore is not None and _named(endpoint, said.ignore):
        return Refusal(f"{whose} leaves {endpoint.provider} out", "ignored_providers")
    if said.zdr and not endpoint.zdr:
        return Refusal(f"{whose} asks for zero data retention", "data_policy:zdr")
    if said.data_collection == "deny" and endpoint.collects:
        return Refusal(f"{whose} forbids providers that keep prompts", "data_policy:training")
    if said.quantizations is not None and QUANTIZATION not in said.quantizations:
        return Refusal(f"{whose} asks for {', '.join(said.quantizations)}", "quantization")
    if said.max_price is not None and (dear := _too_dear(endpoint, said.max_price, when_s)):
        return Refusal(f"{whose} caps the price: {dear}", "max_price")
    return None


def _named(endpoint: Endpoint, slugs: Sequence[str]) -> bool:
    return any(endpoint.named_by(slug) for slug in slugs)


def _too_dear(endpoint: Endpoint, cap: MaxPrice, when_s: float) -> str:
    rates = endpoint.model.price(when_s).rates(0)
    for name, most, pusd in (("prompt", cap.prompt, rates.input), ("completion", cap.completion, rates.output)):
        if most is None:
            continue
        price = Decimal(pusd * endpoint.multiplier_ppm) / (PPM * PUSD_PER_USD_PER_MILLION)
        if price > Decimal(str(most)):
            return f"{name} costs {price.normalize():f} USD a million here"
    return ""
