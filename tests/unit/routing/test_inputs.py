"""What a plan was decided on: written down without the prompt, and enough to decide the same again."""

from __future__ import annotations

import msgspec
import pytest

from modelgates_server.catalogue.kinds import bundled_kinds, load_kinds
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.values import MaxPrice, Preferences, SortBy
from modelgates_server.routing.fit import Fitter, Needs
from modelgates_server.routing.health import GOOD, ON_TRIAL, Condition, State
from modelgates_server.routing.inputs import inputs_of, question_of, read_inputs
from modelgates_server.routing.plan import Question, make_plan
from modelgates_server.routing.wishes import Facts

KINDS = load_kinds(bundled_kinds())
CATALOGUE = load_catalogue(bundled())
OPUS = CATALOGUE.models["anthropic/claude-opus-4.8"]
ORDER = ("anthropic", "bedrock", "vertex")
NEEDS = Needs(("web_search", "effort"), ("effort-2025-11-24", "my secret words"), body_bytes=1_000)


def endpoint(kind: str) -> Endpoint:
    return Endpoint(kind, kind, OPUS, OPUS.id, CATALOGUE.modifiers, traits=KINDS.kinds[kind])


def question(conditions: dict[str, Condition], **said: object) -> Question:
    fitter = Fitter(KINDS)
    facts = tuple(
        Facts(one, fitter.fit(NEEDS, one, 0.0), conditions.get(one.provider, GOOD)) for one in map(endpoint, ORDER)
    )
    return Question((facts,), house_order=ORDER, max_tokens=100, when_s=1_800_000_000.0, **said)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"sticky": "vertex"},
        {"policy": Preferences(order=("vertex",), max_price=MaxPrice(prompt="5.5"))},
        {"wishes": Preferences(sort=SortBy("price"), ignore=("anthropic",), zdr=True)},
        {"wishes": Preferences(allow_fallbacks=False), "policy": Preferences(only=("anthropic", "vertex"))},
    ],
)
def test_the_same_question_has_the_same_plan(said: dict[str, object]) -> None:
    """Written to JSON, read and asked again, it gives the plan that it gave: order, reasons and exclusions."""
    first = question({"anthropic": Condition(State.OUT, "overloaded"), "vertex": GOOD}, **said)
    stored = msgspec.json.encode(inputs_of(first, NEEDS, (OPUS.slug,)))
    again = question_of(read_inputs(stored), [list(map(endpoint, ORDER))], Fitter(KINDS), ORDER, first.when_s)

    assert make_plan(again).story() == make_plan(first).story()


def test_out_and_on_trial_are_told_apart() -> None:
    """The reason says which it was; who was in service is not mentioned."""
    first = question({
        "anthropic": Condition(State.OUT, "on trial by another request"), "bedrock": Condition(State.TRIAL, f"{ON_TRIAL} x"),
    })  # fmt: skip
    inputs = inputs_of(first, NEEDS, (OPUS.slug,))
    again = question_of(inputs, [list(map(endpoint, ORDER))], Fitter(KINDS), ORDER, 0.0)

    assert list(inputs.out) == [f"anthropic {OPUS.slug}", f"bedrock {OPUS.slug}"]
    assert [facts.condition.state for facts in again.models[0]] == [State.OUT, State.TRIAL, State.OK]


def test_nothing_of_the_prompt_is_written() -> None:
    """Only betas that look like Anthropic's own are kept; what is empty takes no room."""
    stored = msgspec.json.encode(inputs_of(question({}), NEEDS, (OPUS.slug,)))

    assert b"secret" not in stored
    assert set(msgspec.json.decode(stored)) == {"models", "features", "betas", "body_bytes", "max_tokens"}
