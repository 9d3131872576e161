"""The request as each kind of provider gets it: the client's bytes, but for what that kind refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.routing.routing_samples import HAIKU, KINDS, OPUS, ask, endpoint

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.scan import scan_object
from modelgates_server.providers.base import Outgoing
from modelgates_server.relay.outgoing import FAST_BETA, LONG_CONTEXT_BETA, outgoing, with_betas
from modelgates_server.relay.values import Incoming
from modelgates_server.routing.fit import Adaptation, Fitter

EFFORT, SCOPE = "effort-2025-11-24", "prompt-caching-scope-2026-01-05"
ANTHROPIC, BEDROCK, VERTEX, INVOKE = (endpoint(kind) for kind in ("anthropic", "bedrock", "vertex", "bedrock-invoke"))


def sent(at: Endpoint, *betas: str, count: bool = False, **members: Any) -> Outgoing:
    """The request for an endpoint, adapted as its fit says."""
    request = ask(**members)
    fitter = Fitter(KINDS)
    fit = fitter.fit(fitter.needs(request, betas), at, 0.0)
    incoming = Incoming("gen-1", 0.0, betas=betas, fallbacks_beta=any("fallback" in beta for beta in betas))
    return outgoing(request, at, fit.adaptation, incoming, count=count)


def body(request: Outgoing) -> dict[str, Any]:
    return json.loads(request.body())


def test_the_first_party_gets_the_very_same_bytes() -> None:
    """Unknown fields, betas and all; nothing is copied when nothing changes."""
    request = sent(ANTHROPIC, EFFORT, "made-up-2031-01-01", weird=1, output_config={"effort": "low"}, speed="standard")

    assert request.body() is request.ask.body
    assert request.betas == (EFFORT, "made-up-2031-01-01")


def test_the_gateways_own_fields_stay_here() -> None:
    """Everywhere; `fallbacks` goes along only when its beta makes it the upstream's."""
    extras = {
        "provider": {"order": ["x"]},
        "models": [],
        "route": "fallback",
        "session_id": "s",
        "user": "u",
        "trace": {},
    }
    plain = body(sent(BEDROCK))

    assert body(sent(BEDROCK, **extras, fallbacks=[{"model": OPUS}])) == plain
    kept = body(sent(ANTHROPIC, "server-side-fallback-2026-07-01", **extras, fallbacks=[{"model": OPUS}]))
    assert kept.keys() - plain.keys() == {"fallbacks"}


FULL = {
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.9;"},
        {"type": "text", "text": "Be terse.", "cache_control": {"type": "ephemeral", "scope": "global"}},
    ],
    "speed": "fast",
    "service_tier": "auto",
    "diagnostics": {"cache": True},
    "output_config": {"effort": "low"},
    "metadata": {"user_id": "u"},
    "weird": 1.50,
}
PLAIN_SYSTEM = [{"type": "text", "text": "Be terse.", "cache_control": {"type": "ephemeral"}}]


@pytest.mark.parametrize(
    ("kind", "model", "gone", "adapted", "betas"),
    [
        ("anthropic", OPUS, set(), {}, (FAST_BETA, EFFORT, SCOPE, "x-2031-01-01")),
        ("claude-on-aws", OPUS, {"speed", "diagnostics"}, {}, (EFFORT, SCOPE, "x-2031-01-01")),
        ("bedrock", OPUS, {"speed", "service_tier", "diagnostics"}, {"system": PLAIN_SYSTEM}, (EFFORT,)),
        ("vertex", OPUS, {"speed", "service_tier", "diagnostics"}, {"system": PLAIN_SYSTEM}, ()),
        ("vertex", HAIKU, {"speed", "service_tier", "diagnostics", "output_config"}, {"system": PLAIN_SYSTEM}, ()),
        (
            "bedrock-invoke",
            OPUS,
            {"speed", "service_tier", "diagnostics", "weird"},
            {"system": PLAIN_SYSTEM},
            (EFFORT,),
        ),
        ("anthropic-compatible", OPUS, set(), {}, (FAST_BETA, EFFORT, SCOPE, "x-2031-01-01")),
    ],
)
def test_each_kind_gets_what_it_takes(
    kind: str, model: str, gone: set[str], adapted: dict[str, Any], betas: tuple[str, ...]
) -> None:
    """Fields with their betas, the scope of cache marks and the attribution block go where they are refused; all else stays."""
    at = endpoint(kind, model)
    request = sent(at, FAST_BETA, EFFORT, SCOPE, "x-2031-01-01", **FULL)
    wanted = {key: value for key, value in json.loads(request.ask.body).items() if key not in gone}

    assert body(request) == wanted | adapted | {"model": at.upstream_model}
    assert request.betas == betas


@pytest.mark.parametrize("kind", KINDS.kinds)
def test_a_fast_name_is_a_field_only_where_it_is_known(kind: str) -> None:
    """`…-fast` becomes `speed` with its beta where fast mode is offered, and neither where it is not."""
    at = endpoint(kind)
    plain = ask()
    request = type(plain)(**{name: getattr(plain, name) for name in plain.__struct_fields__} | {"speed": "fast"})
    betas = with_betas((), one_m=False, fast=True)
    fitter = Fitter(KINDS)
    adaptation = fitter.fit(fitter.needs(request, betas), at, 0.0).adaptation
    made = outgoing(request, at, adaptation, Incoming("gen-1", 0.0, betas=betas))

    offered = not at.traits.lacking("fast_mode", OPUS)
    assert ("speed" in body(made), made.betas) == (offered, (FAST_BETA,) * offered)


def test_members_of_members_are_cut() -> None:
    """Several of one member, the rest of it to the byte; an emptied one goes; what is to be dropped is dropped all the same."""
    cuts = (("output_config", "effort"), ("output_config", "x"), ("thinking", "block_binding"), ("absent", "y"))
    members = {"output_config": {"effort": "low", "format": {"a": 1}, "x": 2}, "thinking": {"block_binding": {}}}
    incoming = Incoming("gen-1", 0.0)

    made = outgoing(ask(**members), ANTHROPIC, Adaptation(cuts=cuts), incoming)
    assert body(made) == json.loads(ask(output_config={"format": {"a": 1}}).body)

    dropping = Adaptation(cuts=cuts, drop=frozenset({"output_config"}))
    assert body(outgoing(ask(**members), ANTHROPIC, dropping, incoming)) == json.loads(ask().body)


@pytest.mark.parametrize(
    ("asked", "clamped", "limit", "sent_tokens"),
    [(50, None, None, 50), (50, 20, None, 20), (50, None, 30, 30), (50, 20, 30, 20), (50, 40, 30, 30), (5, 40, 30, 30)],
)
def test_the_limit_is_the_least_of_all(asked: int, clamped: int | None, limit: int | None, sent_tokens: int) -> None:
    """What was asked for or what can be paid, at most what the endpoint is asked for."""
    at = endpoint("anthropic", max_output_tokens=limit)
    made = outgoing(ask(max_tokens=asked), at, Adaptation(), Incoming("gen-1", 0.0), clamped=clamped)

    assert body(made)["max_tokens"] == sent_tokens


def test_a_count_has_only_what_counting_takes() -> None:
    """No limit, no stream, no sampling; what changes the number of tokens stays (providers 3.1)."""
    made = sent(
        ANTHROPIC, count=True, stream=True, temperature=1, tools=[{"name": "t"}], metadata={}, user="u", weird=1
    )

    assert body(made).keys() == {"model", "messages", "tools"}
    assert not made.stream
    assert body(sent(BEDROCK, count=True, system=FULL["system"]))["system"] == PLAIN_SYSTEM


def test_long_context_is_asked_only_of_models_that_have_it() -> None:
    """Others would refuse the beta; it is added once for a name with `[1m]`."""
    betas = with_betas(("a", LONG_CONTEXT_BETA), one_m=True, fast=False)
    assert betas == ("a", LONG_CONTEXT_BETA)
    assert with_betas(("a",), one_m=True, fast=True) == ("a", LONG_CONTEXT_BETA, FAST_BETA)

    assert sent(ANTHROPIC, *betas).betas == betas
    assert sent(endpoint("anthropic", HAIKU), *betas).betas == ("a",)


def test_what_came_with_the_request_goes_along() -> None:
    """Headers, the beta query, whether it streams, and the endpoint's own name of the model."""
    incoming = Incoming("gen-1", 0.0, headers=(("user-agent", "claude-cli/3"),), beta_query=True)
    made = outgoing(ask(stream=True), INVOKE, Adaptation(), incoming)

    assert (made.header("user-agent"), made.beta_query, made.stream) == ("claude-cli/3", True, True)
    assert made.model == INVOKE.upstream_model == "global.anthropic.claude-opus-5-5"


MEMBERS = st.dictionaries(
    st.sampled_from(
        ["speed", "service_tier", "cache_control", "weird", "metadata", "output_config", "thinking", "user"]
    ),
    st.sampled_from([None, {"effort": "low", "format": 1}, {"block_binding": {}}, {"type": "ephemeral", "scope": "x"}]),
)


@given(MEMBERS, st.sampled_from(sorted(KINDS.kinds)))
def test_what_is_kept_keeps_its_bytes(members: dict[str, Any], kind: str) -> None:
    """Whatever a kind drops: the body is JSON, and messages and all untouched members are byte for byte the client's."""
    members = {
        key: value for key, value in members.items() if key not in {"speed", "service_tier", "user"} or value is None
    }
    request = sent(endpoint(kind), **members)
    written = request.body()
    before, after = scan_object(request.ask.body), scan_object(written)

    assert set(after) <= set(before)
    for name in after.keys() - {"model", "output_config", "thinking", "messages"}:
        assert written[slice(*after[name])] == request.ask.body[slice(*before[name])]
    assert json.loads(written[slice(*after["messages"])])[0]["role"] == "user"
