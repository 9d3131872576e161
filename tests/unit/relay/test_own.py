"""What an organisation's own keys add to a plan, and where they stand in it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.routing.routing_samples import HAIKU, OPUS, SONNET, endpoint, facts, plan_of

from modelgates_server.accounts.values import CredentialRef
from modelgates_server.catalogue.models import Endpoint, Own
from modelgates_server.dialects.values import Preferences
from modelgates_server.providers.base import Fault
from modelgates_server.relay.own import Speakers, owned, with_own
from modelgates_server.routing.health import Condition, Health, State
from modelgates_server.routing.plan import Plan
from modelgates_server.routing.verdict import FaultClass

OUT = Condition(State.OUT, "5 failures in a row (upstream)", 90.0)
ANTHROPIC, BEDROCK = endpoint("anthropic"), endpoint("bedrock")


def ref(provider: str = "anthropic", **fields: Any) -> CredentialRef:
    known = {
        "id": "byok-1",
        "organization_id": "org",
        "base_url": "u",
        "sealed": "s",
        "kek_id": "1",
        "salt": b"",
        "version": "v",
    }
    return CredentialRef(**known | {"provider": provider} | fields)


def mine(at: Endpoint, name: str = "own", **fields: Any) -> Endpoint:
    return owned(at, ref(at.provider, id=name, **fields))


def order(plan: Plan) -> list[str]:
    return [at.own.id if at.own else at.provider for at in plan.endpoints]


def test_every_fitting_credential_is_one_more_endpoint() -> None:
    """Of each model that it may serve, at its provider; the operator's own stay as they are, the very same objects."""
    models = [[endpoint("anthropic", model), endpoint("bedrock", model)] for model in (OPUS, SONNET, HAIKU)]
    haiku = models[2][0].model.slug
    found = with_own(
        models, [ref(id="all"), ref("bedrock", id="haiku", models=frozenset({haiku})), ref("vertex", id="none")]
    )

    assert [[at.own.id for at in model if at.own] for model in found] == [["all"], ["all"], ["all", "haiku"]]
    assert [model[:2] for model in found] == [tuple(model) for model in models]
    assert all(
        one is other
        for model, before in zip(found, models, strict=True)
        for one, other in zip(model, before, strict=False)
    )


def test_the_operators_terms_do_not_hold_on_another_account() -> None:
    """Neither its rebate nor what it was promised about retention; what goes for everybody there stays."""
    agreed = endpoint("anthropic", zdr=True, multiplier_ppm=500_000)
    public = endpoint("bedrock", zdr=True)
    denied = endpoint("bedrock", zdr=False)
    training = endpoint("anthropic-compatible", provider="x", collects=False)

    assert (mine(agreed).zdr, mine(agreed).multiplier_ppm) == (False, 1_000_000)
    assert (mine(public).zdr, mine(denied).zdr, mine(training).collects) == (True, False, True)


def test_own_keys_come_first_then_shared_ones_then_fallbacks() -> None:
    """Whatever the order says; it counts within each of the three."""
    first, second = mine(BEDROCK, "one", sort_order=1), mine(ANTHROPIC, "two", sort_order=2)
    known = [ANTHROPIC, BEDROCK, mine(ANTHROPIC, "last", is_fallback=True), second, first]

    assert order(plan_of(*known)) == ["one", "two", "anthropic", "bedrock", "last"]
    assert order(plan_of(*known, wishes=Preferences(order=("bedrock",)))) == [
        "one",
        "two",
        "bedrock",
        "anthropic",
        "last",
    ]
    assert order(plan_of(*known, wishes=Preferences(order=("anthropic",)))) == [
        "two",
        "one",
        "anthropic",
        "bedrock",
        "last",
    ]
    assert order(plan_of(*known, wishes=Preferences(ignore=("bedrock",)))) == ["two", "anthropic", "last"]


def test_the_provider_that_holds_the_conversation_leads_among_equals() -> None:
    """Its cache is worth more than the order of the keys, but never the operator's money."""
    known = [ANTHROPIC, BEDROCK, mine(ANTHROPIC, "one", sort_order=1), mine(BEDROCK, "two", sort_order=2)]

    assert order(plan_of(*known, sticky="bedrock")) == ["two", "one", "bedrock", "anthropic"]


def test_an_own_key_that_is_out_of_service_comes_last() -> None:
    """Like everybody; nothing is ever forbidden for good."""
    plan = plan_of(facts(mine(ANTHROPIC), condition=OUT), ANTHROPIC, BEDROCK)

    assert order(plan) == ["anthropic", "bedrock", "own"]
    assert plan.steps[2].reason.startswith("last resort")


def test_a_plan_says_whose_key_stands_where() -> None:
    """In the story that receipts keep: the credential's id, and why."""
    story = plan_of(ANTHROPIC, mine(ANTHROPIC), mine(BEDROCK, "late", is_fallback=True)).story()

    assert [line.get("own") for line in story] == ["own", None, "late"]
    assert "own key, which comes before" in story[0]["reason"]
    assert "kept as a fallback" in story[2]["reason"]


def test_without_fallbacks_the_own_key_stands_alone() -> None:
    """`allow_fallbacks: false` keeps the first, and that is the own key."""
    assert order(plan_of(ANTHROPIC, mine(ANTHROPIC), wishes=Preferences(allow_fallbacks=False))) == ["own"]


def test_a_speaker_is_found_for_every_endpoint() -> None:
    """The operator's adapters by slug, an own key's by its reference; one that cannot be opened is a fault of that attempt."""
    shared: Any = {"anthropic": "the operator's"}
    made: list[str] = []

    def open_(credential: CredentialRef) -> Any:
        made.append(credential.id)
        if credential.id == "broken":
            raise Fault("credential")
        return f"with {credential.id}"

    speakers, credentials = Speakers(shared, open_), [ref(id="own"), ref(id="broken")]

    assert speakers.find(ANTHROPIC, credentials) == "the operator's"
    assert made == []
    assert speakers.find(mine(ANTHROPIC), credentials) == "with own"
    with pytest.raises(Fault):
        speakers.find(mine(ANTHROPIC, "broken"), credentials)


def test_a_new_key_has_a_new_standing() -> None:
    """An account is known by credential and key: who replaces a key that was refused need not wait."""
    old, new = (mine(ANTHROPIC, version=version) for version in ("a", "b"))

    assert old.account != new.account
    assert (old.place, ANTHROPIC.account, ANTHROPIC.own) == (new.place, "anthropic", None)
    assert old.own == Own("own", version="a")


def test_a_breaker_is_told_from_a_pause() -> None:
    """What fails everybody at a place is a breaker; what one account is told is a pause."""
    health = Health(lambda: 0.5)
    health.failed("anthropic", "m", FaultClass.ACCOUNT, 0.0)
    paused = health.breaker("anthropic", "m", 1.0)
    for _ in range(5):
        health.failed("anthropic", "m", FaultClass.UPSTREAM, 2.0)

    assert (paused.state, health.breaker("anthropic", "m", 3.0).state) == (State.OK, State.OUT)
    assert health.breaker("anthropic", "m", 1000.0).state is State.OK
