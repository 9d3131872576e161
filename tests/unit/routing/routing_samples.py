"""Endpoints of the real catalogue and kinds, requests, and facts about both, for the tests of routing and of the relay's parts."""

from __future__ import annotations

import json
from typing import Any

from modelgates_server.catalogue.kinds import bundled_kinds, load_kinds
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.ask import read_ask
from modelgates_server.dialects.values import Ask
from modelgates_server.routing.fit import Adaptation, Fit
from modelgates_server.routing.health import GOOD, Condition, Fitness
from modelgates_server.routing.plan import Plan, Question, make_plan
from modelgates_server.routing.wishes import Facts

CATALOGUE = load_catalogue(bundled())
KINDS = load_kinds(bundled_kinds())
MODELS = {model.id: model for model in CATALOGUE.models.values()}
FITS = Fit(Adaptation())
OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"


def endpoint(kind: str, model: str = OPUS, *, provider: str | None = None, **fields: Any) -> Endpoint:
    """A model at a provider of a kind; the provider's slug is the kind's word unless another is given."""
    traits = KINDS.kinds[kind]
    name = traits.upstream_name(model, {"inference_profile": "global."})
    fields = {"zdr": traits.zdr, "collects": traits.collects} | fields
    return Endpoint(
        provider or traits.word, traits.word, MODELS[model], name, CATALOGUE.modifiers, traits=traits, **fields
    )


def ask(**members: Any) -> Ask:
    """A read request; a member that is `...` is left out."""
    whole = {"model": OPUS, "max_tokens": 50, "messages": [{"role": "user", "content": "Hëllo"}]} | members
    return read_ask(json.dumps({key: value for key, value in whole.items() if value is not ...}).encode())


def facts(
    at: Endpoint,
    *,
    fit: Fit = FITS,
    condition: Condition = GOOD,
    latency_ms: float | None = None,
    speed: float | None = None,
) -> Facts:
    """What is known about an endpoint; one latency or speed stands for all its percentiles."""
    names = ("p50", "p75", "p90", "p99")
    measured = [None if value is None else dict.fromkeys(names, value) for value in (latency_ms, speed)]
    return Facts(at, fit, condition, Fitness(*measured))


def plan_of(*known: Facts | Endpoint, **question: Any) -> Plan:
    """The plan for one model's endpoints, first party first."""
    model = tuple(one if isinstance(one, Facts) else facts(one) for one in known)
    return make_plan(Question(**({"models": (model,), "house_order": ("anthropic",)} | question)))


def providers(plan: Plan) -> list[str]:
    """The providers of a plan, in order."""
    return [at.provider for at in plan.endpoints]
