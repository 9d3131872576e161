"""What a request needs, what each kind of provider makes of it, and what refusals teach (providers 2, 4 and 6.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.routing.routing_samples import HAIKU, KINDS, OPUS, SONNET, ask, endpoint

from modelgates_server.catalogue.kinds import bundled_kinds, load_kinds
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.values import Ask
from modelgates_server.relay.outgoing import with_betas
from modelgates_server.routing.fit import LEARNED_S, Fit, Fitter, Needs

FAST = "fast-mode-2026-02-01"
EFFORT = "effort-2025-11-24"
BINDING = "thinking-binding-controls-2026-08-01"
SCOPE = "prompt-caching-scope-2026-01-05"
ADVANCED, SEARCH, EXAMPLES = "advanced-tool-use-2025-11-20", "tool-search-tool-2025-10-19", "tool-examples-2025-10-29"
ALWAYS = {"cache_scope", "turn_control", "attribution"}
"""Looked for in every request, at places where they are not welcome."""

ANTHROPIC, BEDROCK, VERTEX = (endpoint(kind) for kind in ("anthropic", "bedrock", "vertex"))


def content(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def needs(*betas: str, **members: Any) -> Needs:
    return Fitter(KINDS).needs(ask(**members), betas)


def fit(at: Endpoint, *betas: str, **members: Any) -> Fit:
    return Fitter(KINDS).fit(needs(*betas, **members), at, 0.0)


# What a request uses.

BY_URL = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}
BY_ID = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}


@pytest.mark.parametrize(
    ("members", "feature"),
    [
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "structured_outputs"),
        ({"output_format": {"type": "json_schema"}}, "structured_outputs"),
        ({"output_config": {"effort": "low"}}, "effort"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}, "web_fetch"),
        ({"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}, "code_execution"),
        ({"container": "container_1"}, "container"),
        ({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}, "mcp"),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, "mcp"),
        ({"messages": content(BY_ID)}, "files"),
        ({"messages": content({"type": "container_upload", "file_id": "file_1"})}, "files"),
        ({"messages": content({"type": "tool_result", "tool_use_id": "t", "content": [BY_ID]})}, "files"),
        ({"messages": content(BY_URL)}, "url_sources"),
        ({"messages": content({"type": "tool_result", "tool_use_id": "t", "content": [BY_URL]})}, "url_sources"),
        ({"tools": [{"name": "t", "allowed_callers": ["code_execution_20250825"]}]}, "programmatic_tools"),
        ({"tools": [{"type": "advisor_20260301", "name": "advisor"}]}, "advisor"),
        ({"tools": [{"type": "computer_toolset_20260901", "name": "c"}]}, "desktop_tools"),
        ({"tools": [{"type": "browser_20260901", "name": "b"}]}, "desktop_tools"),
        ({"thread": "thread_1"}, "threads"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"speed": "fast"}, "fast_mode"),
        ({"cache_control": {"type": "ephemeral"}}, "automatic_caching"),
        ({"diagnostics": {"cache": True}}, "diagnostics"),
        ({"thinking": {"type": "adaptive", "block_binding": {}}}, "thinking_binding"),
        ({"service_tier": "auto"}, "service_tier"),
        ({"billing_policy": "x"}, "billing_policy"),
        ({"fallback_credit_token": "x"}, "billing_policy"),
    ],
)
def test_a_feature_is_seen_where_it_is_used(members: dict[str, Any], feature: str) -> None:
    """By a member, a member's member, a tool's type or a source in the messages; and nothing else is seen in it."""
    assert set(needs(**members).features) == ALWAYS | {feature}


TOOL_INPUT = {"type": "url", "file": "a", "source": {"type": "file"}}


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"output_config": {}},
        {"output_config": {"format": None, "effort": None}},
        {"output_config": None, "container": None, "mcp_servers": None, "inference_geo": None, "thinking": None},
        {"output_config": "loud"},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"speed": "standard"},
        {"tools": [{"name": "web_search_mine"}, {"type": "custom", "name": "advisor_mine"}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "computer_20250124", "name": "computer"}]},
        {"tools": [{"name": "t", "allowed_callers": None}]},
        {"messages": content({"type": "tool_use", "id": "t", "name": "n", "input": TOOL_INPUT})},
        {"messages": content({"type": "text", "text": '{"type":"url"} {"type": "file"}'})},
        {"fallbacks": [{"model": SONNET}], "provider": {"order": ["x"]}, "user": "u"},
    ],
)
def test_plain_requests_use_nothing(members: dict[str, Any]) -> None:
    """Null, empty and plain say nothing; words in text and tool inputs are no sources."""
    assert set(needs(**members).features) == ALWAYS


def test_betas_alone_use_nothing() -> None:
    """Clients send them by habit: they are named, once each, and decide nothing."""
    named = [beta for feature in KINDS.features.values() for beta in feature.betas]
    used = needs(*named, "made-up-2031-01-01", named[0])

    assert set(used.features) == ALWAYS
    assert used.betas == (*named, "made-up-2031-01-01")


@pytest.mark.parametrize(("beta", "used"), [("server-side-fallback-2026-07-01", True), ("effort-2025-11-24", False)])
def test_fallbacks_are_the_upstreams_only_with_their_beta(beta: str, *, used: bool) -> None:
    """Without it the field is ours, and every provider can do it."""
    assert ("server_fallbacks" in needs(beta, fallbacks=[{"model": SONNET}]).features) is used


def test_a_fast_name_asks_for_fast_mode() -> None:
    """`claude-opus-5-5-fast` means the same as `speed`: who lacks it stands behind and is not sent the field."""
    named = Ask(**{name: getattr(ask(), name) for name in Ask.__struct_fields__} | {"speed": "fast"})
    fitter = Fitter(KINDS)
    used = fitter.needs(named, with_betas((), one_m=False, fast=True))

    assert "fast_mode" in used.features
    at_bedrock = fitter.fit(used, BEDROCK, 0.0)
    assert (at_bedrock.behind, at_bedrock.adaptation.betas) == (True, ())
    assert "speed" in at_bedrock.adaptation.drop


def test_features_stand_in_the_files_order() -> None:
    """So that receipts and reasons read the same in every process."""
    used = needs(service_tier="auto", inference_geo="us", container="c", thread="t", diagnostics={}, speed="fast")

    assert list(used.features) == [name for name in KINDS.features if name in used.features]


# What each kind makes of it.


@pytest.mark.parametrize("kind", KINDS.kinds)
@pytest.mark.parametrize("feature", [entry for entry in KINDS.features.values() if entry.effect == "answer"])
def test_what_changes_the_answer_is_never_stripped(kind: str, feature: Any) -> None:
    """Where a feature is lacking, the provider is skipped and the reason names it; elsewhere nothing is missing."""
    for model in (OPUS, HAIKU):
        at = endpoint(kind, model)
        found = Fitter(KINDS).fit(Needs((feature.id,)), at, 0.0)
        lacking = at.traits.lacking(feature.id, model)
        assert (found.missing, found.code) == ((feature.what, "require_parameters") if lacking else ("", ""))


@pytest.mark.parametrize("kind", KINDS.kinds)
@pytest.mark.parametrize("feature", [entry for entry in KINDS.features.values() if entry.effect != "answer"])
def test_what_is_taken_out_is_taken_out_whole(kind: str, feature: Any) -> None:
    """Fields, inner fields and betas of an advisory feature go together and the loss is told; where it is offered, all stays."""
    at = endpoint(kind)
    found = Fitter(KINDS).fit(Needs((feature.id,), (*feature.betas, "x-2031-01-01")), at, 0.0)
    gone = {".".join(cut) for cut in found.adaptation.cuts} | found.adaptation.drop

    if at.traits.lacking(feature.id, OPUS):
        assert gone == set(feature.fields)
        assert not set(feature.betas).intersection(found.adaptation.betas)
        assert found.adaptation.inside == ((feature.inside,) if feature.inside else ())
        assert found.adaptation.told == (() if feature.inside else (feature.what,))
        assert found.behind is (feature.effect == "prefer")
    else:
        assert not gone
        assert not found.adaptation.told


@pytest.mark.parametrize("kind", KINDS.kinds)
def test_a_dropped_beta_takes_its_fields_along(kind: str) -> None:
    """A field without its beta is refused like the beta: each kind keeps both or neither. Newer models need none for effort."""
    traits = KINDS.kinds[kind]
    dropped = [
        (feature, beta) for feature in KINDS.features.values() for beta in feature.betas if not traits.betas.sent(beta)
    ]
    torn = [
        (beta, model)
        for feature, beta in dropped
        for model in (OPUS, HAIKU, "claude-opus-4-5")
        if not traits.lacking(feature.id, model) and not (feature.id == "effort" and model == OPUS)
    ]

    assert torn == []


# Betas: = passes, - is dropped (providers 4). In the order: anthropic, claude-on-aws, foundry, bedrock, bedrock-invoke, vertex.
BETAS = {
    "claude-code-20250219": "====--",
    "interleaved-thinking-2025-05-14": "====-=",
    "context-1m-2025-08-07": "======",
    "context-management-2025-06-27": "======",
    "compact-2026-01-12": "==-===",
    EFFORT: "=====-",
    SEARCH: "======",
    "fine-grained-tool-streaming-2025-05-14": "==-==-",
    "token-efficient-tools-2025-02-19": "==-=--",
    "output-128k-2025-02-19": "==-=--",
    "computer-use-2025-11-24": "======",
    "dangerous-tool-use-2026-09-03": "======",
    BINDING: "======",
    "thinking-display-updates-2026-08-18": "======",
    "per-turn-control-2026-07-01": "====-=",
    SCOPE: "===---",
    "advisor-tool-2026-03-01": "==----",
    FAST: "=-----",
    "files-api-2025-04-14": "===---",
    "made-up-2031-01-01": "===---",
}


@pytest.mark.parametrize(("beta", "row"), BETAS.items())
def test_betas_pass_or_are_dropped(beta: str, row: str) -> None:
    """As the table of providers 4 says; unknown ones pass where Anthropic itself answers and are dropped at AWS and Google."""
    kinds = ("anthropic", "claude-on-aws", "foundry", "bedrock", "bedrock-invoke", "vertex")
    passed = "".join("=" if fit(endpoint(kind), beta).adaptation.betas == (beta,) else "-" for kind in kinds)

    assert passed == row


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("anthropic", (ADVANCED, SEARCH)), ("bedrock", (SEARCH, EXAMPLES)), ("bedrock-invoke", (SEARCH, EXAMPLES)),
        ("vertex", (SEARCH,)), ("foundry", (ADVANCED, SEARCH)),
    ],
)  # fmt: skip
def test_betas_have_other_names_elsewhere(kind: str, sent: tuple[str, ...]) -> None:
    """One beta of Anthropic's is two at AWS; each is sent once."""
    assert fit(endpoint(kind), ADVANCED, SEARCH).adaptation.betas == sent


def test_fast_mode_stands_behind_where_it_is_not_offered() -> None:
    """The field and its beta are taken out there; Anthropic gets both."""
    at_anthropic, at_aws = (fit(at, FAST, speed="fast") for at in (ANTHROPIC, endpoint("claude-on-aws")))

    assert (at_anthropic.behind, at_anthropic.adaptation.betas, at_anthropic.adaptation.drop) == (
        False,
        (FAST,),
        frozenset(),
    )
    assert (at_aws.behind, at_aws.adaptation.betas, at_aws.adaptation.drop) == (True, (), frozenset({"speed"}))
    assert at_aws.adaptation.told == ("fast mode",)


def test_invoke_takes_only_the_fields_it_knows() -> None:
    """Everything else is dropped and told; what the adapter moves elsewhere and what is the gateway's own is not."""
    found = fit(endpoint("bedrock-invoke"), stream=True, metadata={}, weird=1, provider={}, user="u", temperature=1)

    assert found.adaptation.drop == {"weird"}
    assert found.adaptation.told == ("weird",)
    assert fit(BEDROCK, weird=1).adaptation.drop == frozenset()


def test_invoke_never_drops_what_changes_the_answer() -> None:
    """Such a field is a reason to go elsewhere, or stays for the adapter to move; it is not dropped like an unknown one."""
    invoke = endpoint("bedrock-invoke", "claude-opus-4-6")
    for feature in KINDS.features.values():
        for field in feature.fields if feature.effect == "answer" else ():
            found = fit(
                invoke,
                "server-side-fallback-2026-07-01",
                **{field.partition(".")[0]: {"fallbacks": [], "inference_geo": "us"}.get(field, {"format": {}})},
            )
            assert found.missing or not found.adaptation.drop


def test_a_request_that_is_too_large_says_how_large() -> None:
    """AWS takes 20 MB, Google 30, Anthropic 32 (providers 2)."""
    large = Needs(body_bytes=21 << 20)
    fits = [Fitter(KINDS).fit(large, at, 0.0) for at in (ANTHROPIC, VERTEX, BEDROCK)]

    assert [(found.missing, found.code) for found in fits] == [
        ("", ""),
        ("", ""),
        ("a request of 22,020,096 bytes, above its 20,971,520", "request_size"),
    ]
    assert needs().body_bytes == len(ask().body)


def test_models_differ_within_a_kind() -> None:
    """Effort is dropped for Haiku at Vertex; Invoke has structured outputs for older models only."""
    assert fit(endpoint("vertex", HAIKU), EFFORT, output_config={"effort": "low"}).adaptation.cuts == (
        ("output_config", "effort"),
    )
    schema = {"format": {"type": "json_schema"}}
    assert fit(endpoint("bedrock-invoke", OPUS), output_config=schema).missing == "structured outputs"
    assert not fit(endpoint("bedrock-invoke", HAIKU), output_config=schema).missing


# What refusals teach.


@pytest.mark.parametrize(
    ("message", "members", "betas", "refused"),
    [
        ("diagnostics: Extra inputs are not permitted", {"diagnostics": {}}, (), "diagnostics"),
        ("output_config.effort: Extra inputs are not permitted", {"output_config": {"effort": "low"}}, (), "effort"),
        ("thinking.block_binding: Extra inputs are not permitted", {"thinking": {"block_binding": {}}}, (), "thinking_binding"),
        ("Malformed input request: #: extraneous key [weird] is not permitted", {"weird": 1}, (), "field:weird"),
        ("weird: Extra inputs are not permitted", {"weird": 1}, (), "field:weird"),
        ("`weird`: Extra inputs are not permitted", {"weird": 1}, (), "field:weird"),
        ("weird: Extra inputs are not permitted", {}, (), None),
        ("messages.0.content.0.weird: Extra inputs are not permitted", {"weird": 1}, (), None),
        ("tools.0.custom.defer_loading: Extra inputs are not permitted", {"tools": [{"name": "t"}]}, (), None),
        ("messages: this is not supported", {}, (), None),
        (f"Unexpected value(s) `{FAST}` for the `anthropic-beta` header.", {}, (EFFORT, FAST), f"beta:{FAST}"),
        ("invalid beta flag", {}, (EFFORT,), None),
        (f"invalid beta flag: {EFFORT}", {}, (EFFORT,), f"beta:{EFFORT}"),
        ("This model does not support the effort parameter.", {"output_config": {"effort": "low"}}, (), "effort"),
        ("This model does not support the effort parameter.", {}, (), None),
        ("structured outputs are not supported", {"output_config": {"format": {}}}, (), "structured_outputs"),
        ("MCP servers are not supported", {"mcp_servers": [{}]}, (), "mcp"),
        ("Inference profiles do not support this", {"messages": content(BY_ID)}, (), None),
    ],
)  # fmt: skip
def test_refusals_are_understood(message: str, members: dict[str, Any], betas: tuple[str, ...], refused: str) -> None:
    """Real sentences name a beta, a field or a feature; only what the request has can be meant."""
    fitter = Fitter(KINDS)
    request = ask(**members)

    assert fitter.refused(message, fitter.needs(request, betas), request) == refused


def test_a_refused_beta_is_not_sent_for_an_hour() -> None:
    """Only there and only for that model; after an hour it is tried again."""
    fitter, used = Fitter(KINDS), needs("compact-2026-01-12")
    fitter.learn(BEDROCK, "beta:compact-2026-01-12", 100.0)

    def sent(at: Endpoint, now_s: float) -> tuple[str, ...]:
        return fitter.fit(used, at, now_s).adaptation.betas

    assert sent(BEDROCK, 100.0) == sent(BEDROCK, 99.0 + LEARNED_S) == ()
    assert sent(BEDROCK, 100.0 + LEARNED_S) == ("compact-2026-01-12",)
    assert sent(VERTEX, 100.0) == sent(endpoint("bedrock", HAIKU), 100.0) == ("compact-2026-01-12",)


def test_a_refused_beta_takes_its_fields_along() -> None:
    """A provider that does not know the beta does not know its field either (providers 4, paired fields)."""
    fitter, used = Fitter(KINDS), needs(EFFORT, output_config={"effort": "low"})
    fitter.learn(BEDROCK, f"beta:{EFFORT}", 0.0)
    adaptation = fitter.fit(used, BEDROCK, 0.0).adaptation

    assert (adaptation.betas, adaptation.cuts) == ((), (("output_config", "effort"),))


def test_a_refused_beta_is_not_sent_under_its_other_name() -> None:
    """What a renamed beta became is refused by that name."""
    fitter, used = Fitter(KINDS), needs(ADVANCED, SEARCH)
    fitter.learn(BEDROCK, f"beta:{SEARCH}", 0.0)

    assert fitter.fit(used, BEDROCK, 0.0).adaptation.betas == (EXAMPLES,)


def test_a_refused_field_is_dropped_for_an_hour() -> None:
    """Told, where the request has it; a request without it loses nothing."""
    fitter = Fitter(KINDS)
    fitter.learn(VERTEX, "field:weird", 0.0)

    found = fitter.fit(needs(weird=1), VERTEX, 10.0)
    assert (found.adaptation.drop, found.adaptation.told) == ({"weird"}, ("weird",))
    assert fitter.fit(needs(), VERTEX, 10.0).adaptation.told == ()
    assert fitter.fit(needs(weird=1), VERTEX, LEARNED_S).adaptation.drop == frozenset()


@pytest.mark.parametrize(
    ("feature", "members", "missing"),
    [
        ("web_search", {"tools": [{"type": "web_search_20250305", "name": "w"}]}, "web search"),
        ("effort", {"output_config": {"effort": "low"}}, ""),
    ],
)
def test_a_refused_feature_is_lacking_for_an_hour(feature: str, members: dict[str, Any], missing: str) -> None:
    """One that changes the answer makes others serve; an advisory one is taken out; only in requests that use it."""
    fitter, used = Fitter(KINDS), needs(**members)
    fitter.learn(VERTEX, feature, 0.0)

    assert fitter.fit(used, VERTEX, 1.0).missing == missing
    assert fitter.fit(used, VERTEX, 1.0) != fitter.fit(used, VERTEX, LEARNED_S)
    assert fitter.fit(needs(), VERTEX, 1.0) == fitter.fit(needs(), VERTEX, LEARNED_S)


def test_little_is_remembered() -> None:
    """A provider that refuses a thousand things does not fill the memory, and the newest is kept."""
    fitter = Fitter(KINDS)
    for number in range(3000):
        fitter.learn(VERTEX, f"field:f{number}", 0.0)

    assert fitter.fit(needs(f2999=1), VERTEX, 1.0).adaptation.drop == {"f2999"}
    assert fitter.fit(needs(f0=1), VERTEX, 1.0).adaptation.drop == frozenset()


# What an operator says.


def test_an_operators_file_decides() -> None:
    """A kind that lacks less, a beta that passes and a feature of another effect are a file away."""
    over = {
        "version": "ours",
        "features": [{"id": "inference_geo", "effect": "advisory"}],
        "kinds": {
            "bedrock": {"lacks": ["inference_geo"], "betas": {"rename": {"made-up-2031-01-01": ["x-2031-01-01"]}}},
        },
    }
    fitter = Fitter(load_kinds(bundled_kinds(), json.dumps(over).encode()))
    kinds = load_kinds(bundled_kinds(), json.dumps(over).encode())
    at = Endpoint("bedrock", "bedrock", BEDROCK.model, "x", BEDROCK.modifiers, traits=kinds.kinds["bedrock"])
    request = ask(inference_geo="us", tools=[{"type": "web_search_20250305", "name": "w"}])
    found = fitter.fit(fitter.needs(request, ("made-up-2031-01-01", ADVANCED, EFFORT)), at, 0.0)

    assert (found.missing, found.adaptation.drop) == ("", {"inference_geo"})
    assert found.adaptation.betas == ("x-2031-01-01", SEARCH, EXAMPLES, EFFORT)
