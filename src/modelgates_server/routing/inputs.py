"""What a plan was decided on, as receipts keep it: `inputs_of` writes it down, `question_of` asks again. Pure.

Nothing of the prompt is in it. What is not recorded: measured speeds (a wish for latency or throughput has nothing to rank by when
asked again), until when a provider was out, the names of a body's members (they matter to kinds that take only some), and the
organisation's own keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.values import NO_PREFERENCES, Preferences
from modelgates_server.routing.fit import Fitter, Needs
from modelgates_server.routing.health import GOOD, ON_TRIAL, Condition, State
from modelgates_server.routing.plan import Question
from modelgates_server.routing.wishes import Facts

_PUBLIC_BETA: Final = re.compile(r"[a-z0-9-]{1,60}-\d{4}-\d{2}-\d{2}")


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a plan was decided on: enough to decide again. `out` has a reason by ``provider model`` for who was not in service."""

    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    betas: tuple[str, ...] = ()
    body_bytes: int = 0
    max_tokens: int | None = None
    policy: dict[str, Any] = {}
    wishes: dict[str, Any] = {}
    sticky: str | None = None
    out: dict[str, str] = {}


def inputs_of(question: Question, needs: Needs, models: tuple[str, ...]) -> Inputs:
    """What to write down of a question about these models."""
    return Inputs(
        models=models,
        features=needs.features,
        betas=tuple(beta for beta in needs.betas if _PUBLIC_BETA.fullmatch(beta)),
        body_bytes=needs.body_bytes,
        max_tokens=question.max_tokens,
        policy=_said(question.policy),
        wishes=_said(question.wishes),
        sticky=question.sticky,
        out={
            f"{facts.endpoint.provider} {facts.endpoint.model.slug}": facts.condition.why
            for model in question.models
            for facts in model
            if facts.condition.state is not State.OK and facts.endpoint.own is None
        },
    )


def read_inputs(text: str | bytes) -> Inputs:
    """Inputs as they are stored. Raises msgspec.ValidationError."""
    return msgspec.json.decode(text, type=Inputs)


def question_of(
    inputs: Inputs, models: Sequence[Sequence[Endpoint]], fitter: Fitter, house_order: tuple[str, ...], when_s: float
) -> Question:
    """The same question over other endpoints. Raises msgspec.ValidationError when the preferences are of another version."""
    needs = Needs(inputs.features, inputs.betas, frozenset(), inputs.body_bytes)
    return Question(
        models=tuple(
            tuple(
                Facts(endpoint, fitter.fit(needs, endpoint, 0.0), _recorded(inputs.out, endpoint)) for endpoint in model
            )
            for model in models
        ),
        policy=_read(inputs.policy),
        wishes=_read(inputs.wishes),
        house_order=house_order,
        sticky=inputs.sticky,
        max_tokens=inputs.max_tokens,
        when_s=when_s,
    )


def _recorded(out: Mapping[str, str], endpoint: Endpoint) -> Condition:
    why = out.get(f"{endpoint.provider} {endpoint.model.slug}")
    if why is None:
        return GOOD
    return Condition(State.TRIAL if why.startswith(ON_TRIAL) else State.OUT, why)


def _said(preferences: Preferences) -> dict[str, Any]:
    if preferences is NO_PREFERENCES:
        return {}
    given = msgspec.to_builtins(preferences)
    return {name: value for name, value in given.items() if value is not None}


def _read(said: dict[str, Any]) -> Preferences:
    return msgspec.convert(said, Preferences) if said else NO_PREFERENCES
