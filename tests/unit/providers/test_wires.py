"""What each wire sends: address, headers and body, for streams, whole answers and counts (providers 3)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.unit.providers.provider_samples import ASK, endpoint, outgoing

from modelgates_server.providers.anthropic import AnthropicWire
from modelgates_server.providers.bedrock import BedrockWire
from modelgates_server.providers.bedrock_invoke import InvokeWire, known_edits
from modelgates_server.providers.vertex import VertexWire
from modelgates_server.providers.wire import Call, Wire

ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2"
BETAS = ("context-1m-2025-08-07", "effort-2025-11-24")
NEW = {"anthropic-version": "2026-10-21"}


def invoke() -> InvokeWire:
    return InvokeWire("https://runtime")


def vertex(project: str = "acme", region: str = "global") -> VertexWire:
    return VertexWire("https://vertex", project, region)


def sent(
    wire: Wire, word: str, body: dict[str, Any] | None = None, *, model: str = "claude-opus-5-5", **fields: Any
) -> Call:
    at = endpoint(word, model)
    return wire.messages(at, outgoing(at, body, **fields))


def counted(wire: Wire, word: str, body: dict[str, Any] | None = None, **fields: Any) -> Call | None:
    at = endpoint(word)
    return wire.count(at, outgoing(at, body, **fields))


def header(call: Call, name: str) -> str | None:
    found = [value for key, value in call.headers if key == name]
    assert len(found) <= 1
    return found[0] if found else None


def test_anthropic_gets_the_clients_own_bytes() -> None:
    """Nothing is edited, so the body is the very same object; version, betas and the query travel."""
    at = endpoint("anthropic")
    request = outgoing(at, betas=BETAS, beta_query=True, headers={"user-agent": "x", **NEW})
    call = AnthropicWire("https://a").messages(at, request)

    assert call.url == "https://a/v1/messages?beta=true"
    assert call.body is request.ask.body
    assert (header(call, "anthropic-version"), header(call, "anthropic-beta")) == ("2026-10-21", ",".join(BETAS))


def test_a_version_is_added_but_never_raised() -> None:
    """A client that names none wrote for the first one."""
    call = AnthropicWire("https://a", extra=[("anthropic-workspace-id", "w")]).messages(
        endpoint("anthropic"), outgoing(endpoint("anthropic"))
    )
    assert header(call, "anthropic-version") == "2023-06-01"
    assert header(call, "anthropic-workspace-id") == "w"


@pytest.mark.parametrize("fields", [{}, {"stream": True}])
def test_bedrock_is_the_same_under_its_own_name(fields: dict[str, Any]) -> None:
    """The model has a prefix; version and betas stand in headers, and not in the body."""
    body = {**ASK, "stream": bool(fields), "anthropic_version": "bedrock-2023-05-31"}
    call = sent(BedrockWire("https://mantle/anthropic"), "bedrock", body, betas=BETAS, **fields)

    assert call.url == "https://mantle/anthropic/v1/messages"
    assert json.loads(call.body) == {**ASK, "stream": bool(fields), "model": "anthropic.claude-opus-5-5"}
    assert header(call, "anthropic-beta") == ",".join(BETAS)


@pytest.mark.parametrize(
    ("model", "version"),
    [("claude-opus-4-6", "2023-06-01"), ("claude-opus-4-7", "2026-10-21"), ("claude-haiku-4-5", "2023-06-01"),
     ("claude-sonnet-5", "2026-10-21"), ("claude-opus-5-5", "2026-10-21")],
)  # fmt: skip
def test_bedrock_knows_the_new_version_from_4_7_on(model: str, version: str) -> None:
    """For older models a client that writes for the new version is understood under the old one."""
    call = sent(BedrockWire("https://b"), "bedrock", model=model, headers=dict(NEW))
    assert header(call, "anthropic-version") == version


@pytest.mark.parametrize("act", ["messages", "count"])
def test_bedrock_reads_the_users_profile_from_the_body(act: str) -> None:
    """The header moves, for messages and for counts; a profile that the body names already stays."""
    wire, at = BedrockWire("https://b"), endpoint("bedrock")
    headers = {"anthropic-user-profile-id": "uprof_1"}
    moved: Call = getattr(wire, act)(at, outgoing(at, headers=headers))
    kept: Call = getattr(wire, act)(at, outgoing(at, {**ASK, "user_profile_id": "uprof_2"}, headers=headers))

    assert header(moved, "anthropic-user-profile-id") is None
    assert json.loads(moved.body)["user_profile_id"] == "uprof_1"
    assert json.loads(kept.body)["user_profile_id"] == "uprof_2"


@pytest.mark.parametrize("stream", [False, True])
def test_invoke_has_the_model_in_the_path_and_the_rest_in_the_body(stream: bool) -> None:
    """No header of Anthropic's travels, nor what the client accepts: it would be taken for the inner type."""
    headers = {"user-agent": "x", "accept": "text/event-stream", **NEW, "anthropic-other": "y"}
    call = sent(invoke(), "bedrock-invoke", {**ASK, "stream": stream}, betas=BETAS, headers=headers, stream=stream)

    act = "invoke-with-response-stream" if stream else "invoke"
    assert call.url == f"https://runtime/model/global.anthropic.claude-opus-5-5/{act}"
    assert json.loads(call.body) == {
        "max_tokens": 50, "messages": ASK["messages"], "anthropic_version": "2026-10-21", "anthropic_beta": list(BETAS),
    }  # fmt: skip
    assert [name for name, _ in call.headers if name.startswith("anthropic")] == []
    assert (header(call, "accept"), header(call, "user-agent")) == ("application/json", "x")


def test_invoke_says_the_old_version_in_its_own_words() -> None:
    """To older models, and when the client did not ask for the new one; without betas there is no list."""
    for body in (
        sent(invoke(), "bedrock-invoke").body,
        sent(invoke(), "bedrock-invoke", model="claude-opus-4-6", headers=dict(NEW)).body,
    ):
        read = json.loads(body)
        assert read["anthropic_version"] == "bedrock-2023-05-31"
        assert "anthropic_beta" not in read


def test_an_arn_is_one_part_of_the_path() -> None:
    """As botocore writes it: its slash and its colons are escaped."""
    at = endpoint("bedrock-invoke")
    call = invoke().messages(at, outgoing(at, model=ARN))
    escaped = ARN.replace(":", "%3A").replace("/", "%2F")
    assert call.url == f"https://runtime/model/{escaped}/invoke"


def test_the_clients_text_is_not_written_anew() -> None:
    """The bytes of messages, with their spaces and their letters, are the same on every wire."""
    at = endpoint("bedrock-invoke")
    request = outgoing(at, betas=BETAS)
    start, end = request.ask.spans["messages"]
    for wire in (invoke(), vertex(), BedrockWire("https://b")):
        assert request.ask.body[start:end] in wire.messages(at, request).body


def test_invoke_is_sent_only_the_edits_that_it_knows() -> None:
    """One that it does not know would be a 400 for the whole request; without any, the member goes."""
    known = {"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 3}}
    both = {"edits": [{"type": "clear_thinking_20251015"}, known], "other": 1}
    call = sent(invoke(), "bedrock-invoke", {**ASK, "context_management": both})
    none = sent(invoke(), "bedrock-invoke", {**ASK, "context_management": {"edits": both["edits"][:1]}})

    assert json.loads(call.body)["context_management"] == {"edits": [known], "other": 1}
    assert "context_management" not in json.loads(none.body)
    for value in (b'{"edits":[{"type":"compact_20260112"}]}', b'{"edits":3}', b"[]", b"{}", b'{"edits":[1]}'):
        assert known_edits(value) is value


def test_invoke_counts_models_that_need_no_profile() -> None:
    """The body is wrapped, with the token limit that Invoke wants; a profile's name and an ARN cannot be counted."""
    at = endpoint("bedrock-invoke", inference_profile="")
    call = invoke().count(at, outgoing(at, ASK, drop=frozenset({"max_tokens"}), max_tokens=20))

    assert call is not None
    assert call.url == "https://runtime/model/anthropic.claude-opus-5-5/count-tokens"
    inner = json.loads(base64.b64decode(json.loads(call.body)["input"]["invokeModel"]["body"]))
    assert inner == {"max_tokens": 50, "messages": ASK["messages"], "anthropic_version": "bedrock-2023-05-31"}
    assert invoke().counted(b'{"inputTokens":12}') == 12
    assert counted(invoke(), "bedrock-invoke") is None
    assert counted(invoke(), "bedrock-invoke", model=ARN) is None


@pytest.mark.parametrize("stream", [False, True])
def test_vertex_has_the_model_in_the_path_and_the_version_in_the_body(stream: bool) -> None:
    """Betas stay in the header, the version does not; `stream` stays in the body."""
    headers = {"user-agent": "x", "anthropic-version": "2023-06-01"}
    call = sent(
        vertex(), "vertex", {**ASK, "stream": stream}, betas=BETAS, headers=headers, stream=stream, beta_query=True
    )

    act = "streamRawPredict" if stream else "rawPredict"
    assert (
        call.url
        == f"https://vertex/v1/projects/acme/locations/global/publishers/anthropic/models/claude-opus-5-5:{act}"
    )
    assert json.loads(call.body) == {
        "max_tokens": 50, "messages": ASK["messages"], "stream": stream, "anthropic_version": "vertex-2023-10-16",
    }  # fmt: skip
    assert (header(call, "anthropic-version"), header(call, "anthropic-beta")) == (None, ",".join(BETAS))


def test_vertex_takes_the_new_version_literally() -> None:
    """It has no name of its own for it."""
    body = sent(vertex(), "vertex", headers=dict(NEW)).body
    assert json.loads(body)["anthropic_version"] == "2026-10-21"


def test_what_a_path_would_misread_is_escaped() -> None:
    """A dated model keeps its sign, a semicolon does not; a project may hold a domain."""
    at = endpoint("vertex", "claude-haiku-4-5")
    call = vertex("example.com:acme", "us").messages(at, outgoing(at))
    strange = vertex().messages(at, outgoing(at, model="a;b/c"))

    assert call.url.endswith(
        "/projects/example.com:acme/locations/us/publishers/anthropic/models/claude-haiku-4-5@20251001:rawPredict"
    )
    assert strange.url.endswith("/models/a%3Bb%2Fc:rawPredict")


def test_vertex_counts_with_the_model_in_the_body() -> None:
    """At an address of its own, and without the endings that only a path may have."""
    call = counted(vertex(), "vertex", betas=BETAS, model="claude-opus-5-5@default")

    assert call is not None
    assert call.url.endswith("/publishers/anthropic/models/count-tokens:rawPredict")
    assert json.loads(call.body) == {**ASK, "anthropic_version": "vertex-2023-10-16"}
    assert header(call, "anthropic-beta") == ",".join(BETAS)


FORMAT = {"type": "json_schema", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"format": FORMAT}),
        ({"output_config": {"effort": "low"}}, {"effort": "low", "format": FORMAT}),
        ({"output_config": {"format": {"type": "newer"}}}, {"format": FORMAT}),
    ],
)
@pytest.mark.parametrize(("wire", "word"), [(vertex(), "vertex"), (invoke(), "bedrock-invoke")])
def test_the_older_way_to_ask_for_structure_is_moved(wire: Wire, word: str, config: Any, expected: Any) -> None:
    """`output_format` is unknown there; what else the client configured stays."""
    body = json.loads(sent(wire, word, {**ASK, **config, "output_format": FORMAT}, model="claude-opus-4-6").body)

    assert "output_format" not in body
    assert body["output_config"] == expected


def test_what_the_relay_took_out_or_put_in_is_respected() -> None:
    """An adapter edits what it is given, not what the client sent."""
    body = {**ASK, "output_config": {"effort": "max"}, "output_format": FORMAT, "speed": "fast"}
    for drop, put in ((frozenset({"output_config", "speed"}), {}), (frozenset({"speed"}), {"output_config": b"{}"})):
        read = json.loads(sent(vertex(), "vertex", body, drop=drop, put=put).body)
        assert read["output_config"] == {"format": FORMAT}
        assert "speed" not in read
