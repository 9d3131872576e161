"""The plan: who is tried, in which order and why; and the wishes and policies that leave somebody out."""

from __future__ import annotations

import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.routing.routing_samples import FITS, HAIKU, KINDS, OPUS, SONNET, endpoint, facts, plan_of, providers

from modelgates_server.dialects.values import MaxPrice, Percentiles, Preferences, SortBy
from modelgates_server.routing.fit import Adaptation, Fit
from modelgates_server.routing.health import Condition, State
from modelgates_server.routing.plan import Plan, Question, make_plan
from modelgates_server.routing.wishes import Facts, merged, read_preferences

ANTHROPIC, BEDROCK, VERTEX, FOUNDRY = (endpoint(kind) for kind in ("anthropic", "bedrock", "vertex", "foundry"))
VERTEX_EAST = endpoint("vertex", provider="vertex-two", region="us-east5")
OUT = Condition(State.OUT, "5 failures in a row (upstream)", 90.0)
LOSSY = Fit(Adaptation(told=("effort",)))
BEHIND = Fit(Adaptation(told=("fast mode",)), behind=True)


def codes(plan: Plan) -> dict[str, str]:
    """Those that were left out, with the names of the filters."""
    return {entry.endpoint.provider: entry.code for entry in plan.considered if entry.place is None}


def prefer(**fields: Any) -> Preferences:
    return Preferences(**fields)


# The order.


def test_first_party_comes_first_by_default() -> None:
    """Anthropic leads the house's order; the others follow as they are configured, and each says why it stands there."""
    plan = plan_of(BEDROCK, ANTHROPIC, VERTEX)

    assert providers(plan) == ["anthropic", "bedrock", "vertex"]
    assert [step.reason for step in plan.steps] == [
        "the maker of the model comes first",
        *["configured, but in no routing order"] * 2,
    ]
    assert plan_of(BEDROCK).steps[0].reason == "the only provider configured for this model"


def test_the_house_order_rules_where_nobody_says_otherwise() -> None:
    """Slugs, kinds and aliases all name a provider in it, with or without a region."""
    plan = plan_of(ANTHROPIC, BEDROCK, VERTEX, VERTEX_EAST, house_order=("vertex/us-east5", "amazon-bedrock", "vertex"))

    assert providers(plan) == ["vertex-two", "bedrock", "vertex", "anthropic"]
    assert [step.reason for step in plan.steps][:2] == [
        "number 1 in the routing order",
        "number 2 in the routing order",
    ]


def test_the_keys_order_beats_the_houses_and_the_requests_beats_both() -> None:
    """Who is not in the order follows in the order that would hold without it."""
    key, request = prefer(order=("vertex",)), prefer(order=("google", "nobody", "amazon-bedrock"))

    assert providers(plan_of(ANTHROPIC, BEDROCK, VERTEX, policy=key)) == ["vertex", "anthropic", "bedrock"]
    plan = plan_of(ANTHROPIC, BEDROCK, VERTEX, policy=prefer(order=("bedrock",)), wishes=request)
    assert providers(plan) == ["vertex", "bedrock", "anthropic"]
    assert [step.reason for step in plan.steps][:2] == [
        "number 1 in the request's provider order",
        "number 3 in the request's provider order",
    ]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("price", ["foundry", "bedrock", "anthropic"]),
        ("latency", ["bedrock", "anthropic", "foundry"]),
        ("throughput", ["anthropic", "foundry", "bedrock"]),
        ("exacto", ["anthropic", "bedrock", "foundry"]),
    ],
)
def test_sorting_ranks_strictly(sort: str, order: list[str]) -> None:
    """By price, latency or speed; what was never measured comes last, and a key's sort yields to the request's."""
    known = (
        facts(endpoint("anthropic", multiplier_ppm=1_200_000), latency_ms=900, speed=80),
        facts(endpoint("bedrock"), latency_ms=300),
        facts(endpoint("foundry", multiplier_ppm=900_000), speed=50),
    )
    by_key = prefer(sort="price" if sort != "price" else "latency")

    for wish in (sort, SortBy(sort), SortBy(sort, "none")):
        assert providers(plan_of(*known, wishes=prefer(sort=wish), policy=by_key)) == order
    assert providers(plan_of(*known, policy=prefer(sort=sort))) == order


def test_a_request_that_orders_is_not_sorted_by_the_key() -> None:
    """Nor is a request that sorts ordered by the key."""
    cheap = endpoint("foundry", multiplier_ppm=900_000)
    plan = plan_of(ANTHROPIC, cheap, VERTEX, policy=prefer(sort="price"), wishes=prefer(order=("vertex",)))
    assert providers(plan) == ["vertex", "anthropic", "foundry"]

    plan = plan_of(ANTHROPIC, cheap, VERTEX, policy=prefer(order=("vertex",)), wishes=prefer(sort="price"))
    assert providers(plan) == ["foundry", "anthropic", "vertex"]


def test_a_conversation_stays_where_it_is() -> None:
    """The holder comes first, also against the key's order, and says so."""
    for policy in (prefer(), prefer(order=("vertex",)), prefer(sort="price")):
        plan = plan_of(ANTHROPIC, BEDROCK, VERTEX, sticky="bedrock", policy=policy)
        assert providers(plan)[0] == "bedrock"
        assert plan.steps[0].reason == "holds this conversation"


@pytest.mark.parametrize("wishes", [prefer(order=("vertex",)), prefer(sort="latency"), prefer(sort=SortBy("price"))])
def test_an_ordered_or_sorted_request_does_not_stick(wishes: Preferences) -> None:
    """Who says where to go means it (product-surface 4.5)."""
    plan = plan_of(ANTHROPIC, BEDROCK, VERTEX, sticky="bedrock", wishes=wishes)

    assert providers(plan)[0] != "bedrock"


def test_a_holder_that_is_out_or_left_out_does_not_lead() -> None:
    """Stickiness is a preference: health and policy come before it."""
    known = (ANTHROPIC, facts(BEDROCK, condition=OUT), VERTEX)
    assert providers(plan_of(*known, sticky="bedrock")) == ["anthropic", "vertex", "bedrock"]

    plan = plan_of(ANTHROPIC, BEDROCK, policy=prefer(ignore=("bedrock",)), sticky="bedrock")
    assert providers(plan) == ["anthropic"]


def test_those_that_are_out_come_last_soonest_first() -> None:
    """They stay in the plan as last resorts, with the reason; who is on trial keeps its place."""
    later = facts(ANTHROPIC, condition=Condition(State.OUT, "rate_limit", 500.0))
    trial = facts(VERTEX, condition=Condition(State.TRIAL, "on trial after 5 failures in a row (reset)"))
    plan = plan_of(later, facts(BEDROCK, condition=OUT), trial, FOUNDRY)

    assert providers(plan) == ["vertex", "foundry", "bedrock", "anthropic"]
    reasons = [step.reason for step in plan.steps]
    assert reasons[0].endswith("; on trial after 5 failures in a row (reset)")
    assert reasons[2] == "last resort: out of service (5 failures in a row (upstream))"


def test_who_lacks_fast_mode_stands_behind() -> None:
    """A provider that serves without what was preferred comes after those that have it, before those that are out."""
    known = (facts(ANTHROPIC, fit=BEHIND), facts(VERTEX, condition=OUT), BEDROCK)
    plan = plan_of(*known, sticky="anthropic", policy=prefer(order=("anthropic",)))

    assert providers(plan) == ["bedrock", "anthropic", "vertex"]
    assert "behind those that have all it asks for" in plan.steps[1].reason


# Models.

SONNET_AT_ANTHROPIC, HAIKU_AT_ANTHROPIC = endpoint("anthropic", SONNET), endpoint("anthropic", HAIKU)


def test_alternatives_follow_the_first_model() -> None:
    """All of the first model's endpoints come first, but for those that are out."""
    models = ((facts(ANTHROPIC), facts(BEDROCK), facts(VERTEX, condition=OUT)), (facts(SONNET_AT_ANTHROPIC),))
    plan = plan_of(models=models)

    assert plan.endpoints == (ANTHROPIC, BEDROCK, SONNET_AT_ANTHROPIC, VERTEX)


@pytest.mark.parametrize(("partition", "first"), [("none", HAIKU_AT_ANTHROPIC), ("model", ANTHROPIC)])
def test_models_are_ranked_together_when_asked(partition: Any, first: Any) -> None:
    """With `partition` "none" the cheapest of all models leads; usually the first model does."""
    models = ((facts(ANTHROPIC), facts(BEDROCK)), (facts(HAIKU_AT_ANTHROPIC),))
    plan = plan_of(models=models, wishes=prefer(sort=SortBy("price", partition)))

    assert plan.endpoints[0] is first


def test_alternatives_that_write_too_little_are_left_out() -> None:
    """The first model's own limit is the upstream's business; an alternative must be able to write what was asked for."""
    models = ((facts(HAIKU_AT_ANTHROPIC),), (facts(endpoint("bedrock", HAIKU)), facts(SONNET_AT_ANTHROPIC)))

    plan = plan_of(models=models, max_tokens=100_000)
    assert codes(plan) == {"bedrock": "context_length"}
    assert len(plan_of(models=models, max_tokens=64_000).endpoints) == 3
    assert len(plan_of(models=models).endpoints) == 3


@pytest.mark.parametrize(
    ("policy", "wishes", "kept"),
    [
        ({}, {"allow_fallbacks": False}, ["anthropic", "anthropic"]),
        ({"allow_fallbacks": False}, {}, ["anthropic", "anthropic"]),
        ({"allow_fallbacks": False}, {"allow_fallbacks": True}, ["anthropic", "bedrock", "vertex", "anthropic"]),
        ({}, {"allow_fallbacks": False, "order": ("vertex", "bedrock")}, ["vertex", "bedrock"]),
        ({"order": ("vertex",)}, {"allow_fallbacks": False}, ["vertex"]),
        ({}, {"allow_fallbacks": False, "sort": "price"}, ["anthropic", "anthropic"]),
        ({}, {"allow_fallbacks": False, "order": ("nobody",)}, []),
    ],
)
def test_without_fallbacks(policy: dict[str, Any], wishes: dict[str, Any], kept: list[str]) -> None:
    """Only those in the order, or without one the first of each model; the others say which wish left them out."""
    models = ((facts(ANTHROPIC), facts(BEDROCK), facts(VERTEX)), (facts(SONNET_AT_ANTHROPIC),))
    plan = plan_of(models=models, policy=prefer(**policy), wishes=prefer(**wishes))

    assert providers(plan) == kept
    assert set(codes(plan).values()) <= {"allow_fallbacks"}
    assert len(plan.considered) == 4


# Who is left out.


@pytest.mark.parametrize(
    ("only", "ignore", "kept"),
    [
        (("bedrock",), None, ["bedrock"]),
        (("amazon-bedrock", "GOOGLE-vertex"), None, ["bedrock", "vertex", "vertex-two"]),
        (("vertex/us-east5",), None, ["vertex-two"]),
        (("vertex/eu",), None, []),
        ((), None, []),
        (None, ("anthropic", "vertex"), ["bedrock"]),
        (None, ("vertex/us-east5", "bedrock"), ["anthropic", "vertex"]),
        (("vertex", "bedrock"), ("google/us-east5",), ["bedrock", "vertex"]),
    ],
)
def test_only_and_ignore_name_providers(only: Any, ignore: Any, kept: list[str]) -> None:
    """By slug, kind, alias and region, in any case; a request and a policy are read alike."""
    said = prefer(only=only, ignore=ignore)

    for question in ({"wishes": said}, {"policy": said}):
        plan = plan_of(ANTHROPIC, BEDROCK, VERTEX, VERTEX_EAST, **question)
        assert providers(plan) == kept
        assert set(codes(plan).values()) <= {"allowed_providers", "ignored_providers"}


def test_a_request_narrows_what_the_policy_allows() -> None:
    """Allow-lists of policy and request must both hold; either's ignore-list is enough (product-surface 1.2)."""
    known = (ANTHROPIC, BEDROCK, VERTEX)
    policy = prefer(only=("anthropic", "bedrock"), ignore=("vertex",))

    assert providers(plan_of(*known, policy=policy, wishes=prefer(only=("bedrock", "vertex")))) == ["bedrock"]
    assert providers(plan_of(*known, policy=policy, wishes=prefer(ignore=("anthropic",)))) == ["bedrock"]
    plan = plan_of(*known, policy=policy, wishes=prefer(only=("vertex",)))
    assert [entry.reason for entry in plan.considered] == [
        "the request allows only vertex",
        "the request allows only vertex",
        "the key's policy allows only anthropic, bedrock",
    ]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ({"zdr": True}, {"anthropic": "data_policy:zdr", "house": "data_policy:zdr"}),
        ({"zdr": False}, {}),
        ({"data_collection": "deny"}, {"house": "data_policy:training"}),
        ({"data_collection": "allow"}, {}),
        ({"quantizations": ("fp8",)}, dict.fromkeys(("anthropic", "bedrock", "house"), "quantization")),
        ({"quantizations": ("fp8", "unknown")}, {}),
        ({"require_parameters": True}, {"bedrock": "require_parameters"}),
        ({"require_parameters": False}, {}),
        ({"max_price": MaxPrice(prompt=4)}, {"house": "max_price"}),
        ({"max_price": MaxPrice(prompt="3.99")}, dict.fromkeys(("anthropic", "bedrock", "house"), "max_price")),
        ({"max_price": MaxPrice(completion=20.0)}, {"house": "max_price"}),
        ({"max_price": MaxPrice(prompt=100, completion=100, image=0)}, {}),
    ],
)
def test_promises_and_prices_leave_out(said: dict[str, Any], left: dict[str, str]) -> None:
    """Each filter names itself; the policy's and the request's are the same (product-surface 1.2)."""
    house = endpoint("anthropic-compatible", "claude-opus-5-5", provider="house", multiplier_ppm=1_000_001)
    known = (ANTHROPIC, facts(BEDROCK, fit=LOSSY), house)

    for question in ({"wishes": prefer(**said)}, {"policy": prefer(**said)}):
        assert codes(plan_of(*known, **question)) == left


def test_what_a_provider_cannot_do_leaves_it_out() -> None:
    """The reason names the provider in words and what is missing."""
    plan = plan_of(ANTHROPIC, facts(BEDROCK, fit=Fit(Adaptation(), "web search", "require_parameters")))

    assert codes(plan) == {"bedrock": "require_parameters"}
    assert plan.considered[-1].reason == "Amazon Bedrock cannot do web search"


@pytest.mark.parametrize(
    "wish",
    [
        {"preferred_max_latency": 0.5},
        {"preferred_max_latency": Percentiles(p50=2.0, p99=0.5)},
        {"preferred_min_throughput": 60},
        {"preferred_min_throughput": Percentiles(p90=60)},
        {"preferred_min_throughput": 20, "preferred_max_latency": Percentiles(p90=0.999)},
    ],
)
def test_preferred_speeds_move_back_and_exclude_nobody(wish: dict[str, Any]) -> None:
    """Who misses a cutoff goes behind, also behind who was never measured; with all of them slow, all stay."""
    slow, quick = facts(ANTHROPIC, latency_ms=1000, speed=30), facts(BEDROCK, latency_ms=400, speed=90)

    for question in ({"wishes": prefer(**wish)}, {"policy": prefer(**wish)}):
        plan = plan_of(slow, quick, VERTEX, sticky="anthropic", **question)
        assert providers(plan) == ["bedrock", "vertex", "anthropic"]
        assert plan.steps[-1].reason.endswith("misses the preferred latency or throughput")
        assert providers(plan_of(slow, **question)) == ["anthropic"]


# A workspace's preferences and a key's.


def test_preferences_of_workspace_and_key_are_merged() -> None:
    """Allow-lists narrow, ignore-lists add up, promises stay, and what the key says replaces the rest."""
    outer = prefer(only=("anthropic", "bedrock"), ignore=("vertex",), zdr=True, sort="price", require_parameters=True)
    inner = prefer(only=("bedrock", "foundry"), ignore=("google",), zdr=False, sort="latency", data_collection="deny")
    both = merged(outer, inner)

    assert (both.only, both.within) == (("bedrock", "foundry"), (("anthropic", "bedrock"),))
    assert both.ignore == ("vertex", "google")
    assert (both.zdr, both.data_collection, both.sort, both.require_parameters) == (True, "deny", "latency", True)
    assert merged(outer, prefer()) is outer
    assert merged(prefer(), inner) is inner


@pytest.mark.parametrize(
    ("outer", "inner", "kept"),
    [
        (("vertex",), ("vertex/us-east5",), ["vertex-two"]),
        (("vertex/us-east5",), ("vertex",), ["vertex-two"]),
        (("bedrock",), ("amazon-bedrock",), ["bedrock"]),
        (("Bedrock", "vertex"), ("bedrock",), ["bedrock"]),
        (("anthropic",), ("bedrock",), []),
    ],
)
def test_allow_lists_narrow_however_they_are_spelled(outer: Any, inner: Any, kept: list[str]) -> None:
    """A region within a provider, or the provider's other name, is in the list."""
    policy = merged(prefer(only=outer), prefer(only=inner))

    assert providers(plan_of(ANTHROPIC, BEDROCK, VERTEX, VERTEX_EAST, policy=policy)) == kept


def test_preferences_are_stored_as_they_are() -> None:
    """What is written is read again, long forms too."""
    said = prefer(order=("a",), sort=SortBy("price", "none"), max_price=MaxPrice("1.5"), zdr=True)

    assert read_preferences(msgspec.json.encode(said)) == said


# The plan as a value.


def test_what_cannot_be_paid_leaves_the_plan() -> None:
    """The others move up; who is gone says why, and what was left out before stays so."""
    plan = plan_of(ANTHROPIC, BEDROCK, VERTEX, FOUNDRY, wishes=prefer(ignore=("foundry",)))
    left = plan.without([ANTHROPIC, VERTEX], "above what the budget has left")

    assert [(entry.endpoint.provider, entry.place, entry.code) for entry in left.considered] == [
        ("bedrock", 1, ""),
        ("anthropic", None, "budget"),
        ("vertex", None, "budget"),
        ("foundry", None, "ignored_providers"),
    ]
    assert plan.without([], "") == plan


def test_the_story_is_plain_data() -> None:
    """For receipts: provider, model, place and reason; the filter and the losses where there are any."""
    plan = plan_of(ANTHROPIC, facts(BEDROCK, fit=LOSSY), VERTEX, wishes=prefer(ignore=("vertex",)))
    first, lossy, left = plan.story()

    assert first == {
        "provider": "anthropic",
        "model": ANTHROPIC.model.slug,
        "place": 1,
        "reason": "the maker of the model comes first",
    }
    assert lossy["without"] == ["effort"]
    assert (left["place"], left["code"]) == (None, "ignored_providers")


def test_twins_are_both_accounted_for() -> None:
    """Two providers that are alike in everything are still two: one in the plan, one left out."""
    twins = (facts(endpoint("bedrock")), facts(endpoint("bedrock")))

    assert len(plan_of(*twins, wishes=prefer(allow_fallbacks=False)).considered) == 2


# Any plan.

SLUGS = st.sampled_from(["anthropic", "bedrock", "amazon-bedrock", "vertex", "vertex/eu", "google/us-east5", "x", "az"])
NAMES = st.lists(SLUGS, max_size=3).map(tuple)
SPEEDS = st.none() | st.sampled_from([0.5, 20, 900])
FITTING = st.sampled_from([FITS, FITS, LOSSY, BEHIND, Fit(Adaptation(), "web search", "require_parameters")])
CONDITIONS = st.sampled_from([Condition(State.OK), OUT, OUT._replace(until_s=9.0), Condition(State.TRIAL, "on trial")])
PREFERENCES = st.builds(
    Preferences,
    order=st.none() | NAMES,
    only=st.none() | st.none() | NAMES,
    ignore=st.none() | NAMES,
    allow_fallbacks=st.none() | st.booleans(),
    sort=st.none()
    | st.sampled_from(["price", "latency", "throughput", "exacto"])
    | st.builds(SortBy, st.sampled_from(["price", "latency"]), st.sampled_from(["model", "none"])),
    max_price=st.none() | st.builds(MaxPrice, SPEEDS, SPEEDS),
    require_parameters=st.none() | st.booleans(),
    data_collection=st.sampled_from([None, "allow", "deny"]),
    zdr=st.sampled_from([None, None, False, True]),
    preferred_min_throughput=SPEEDS | st.builds(Percentiles, p50=SPEEDS, p99=SPEEDS),
    preferred_max_latency=SPEEDS,
)


@st.composite
def candidates(draw: st.DrawFn, model: str) -> tuple[Facts, ...]:
    known = []
    for kind in draw(st.lists(st.sampled_from(sorted(KINDS.kinds)), max_size=5)):
        slug = draw(st.sampled_from([kind.partition("@")[0], *string.ascii_lowercase[:4]]))
        at = endpoint(
            kind,
            model,
            provider=slug,
            region=draw(st.sampled_from(["", "eu", "us-east5"])),
            zdr=draw(st.booleans()),
            collects=draw(st.booleans()),
            multiplier_ppm=draw(st.sampled_from([900_000, 1_000_000])),
        )
        known.append(
            facts(at, fit=draw(FITTING), condition=draw(CONDITIONS), latency_ms=draw(SPEEDS), speed=draw(SPEEDS))
        )
    return tuple(known)


QUESTIONS = st.builds(
    Question,
    models=st.tuples(candidates(OPUS), candidates(HAIKU)),
    policy=PREFERENCES | st.just(Preferences()),
    wishes=PREFERENCES | st.just(Preferences()),
    house_order=NAMES,
    sticky=st.none() | SLUGS,
    max_tokens=st.sampled_from([None, 10, 100_000]),
)


@given(QUESTIONS)
def test_nothing_is_dropped_in_silence(question: Question) -> None:
    """Every candidate has a place, from 1 on and each once, or a reason and a filter's name; the same question, the same plan."""
    plan = make_plan(question)
    asked = [known.endpoint for model in question.models for known in model]

    assert sorted(map(id, asked)) == sorted(id(entry.endpoint) for entry in plan.considered)
    assert [entry.place for entry in plan.steps] == list(range(1, len(plan.endpoints) + 1))
    assert all(entry.reason for entry in plan.considered)
    assert all(bool(entry.code) == (entry.place is None) for entry in plan.considered)
    again = msgspec.structs.replace(question, models=tuple(tuple(model) for model in question.models))
    assert make_plan(again) == plan


@given(QUESTIONS)
def test_no_plan_breaks_a_promise(question: Question) -> None:
    """Nobody in it is ignored, outside an allow-list, without the retention or the price that was asked for, or unable."""
    fits = {id(known.endpoint): known.fit for model in question.models for known in model}
    for at in make_plan(question).endpoints:
        assert not fits[id(at)].missing
        for said in (question.policy, question.wishes):
            assert said.only is None or any(at.named_by(slug) for slug in said.only)
            assert not any(at.named_by(slug) for slug in said.ignore or ())
            assert at.zdr or not said.zdr
            assert not (at.collects and said.data_collection == "deny")
            assert not (said.require_parameters and fits[id(at)].adaptation.told)


@given(QUESTIONS)
def test_health_and_models_come_before_taste(question: Question) -> None:
    """Who is out stands behind everybody, and an alternative behind the first model unless they are ranked together."""
    known = {id(fact.endpoint): fact for model in question.models for fact in model}
    steps = [known[id(at)] for at in make_plan(question).endpoints]
    out = [fact.condition.state is State.OUT for fact in steps]
    sorts = (question.wishes.sort, question.policy.sort)

    assert out == sorted(out)
    if not any(isinstance(sort, SortBy) and sort.partition == "none" for sort in sorts):
        alternatives = [fact.endpoint.model.id == HAIKU for fact in steps if fact.condition.state is not State.OUT]
        assert alternatives == sorted(alternatives)
