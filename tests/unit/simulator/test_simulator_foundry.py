"""Microsoft's wire, and the merely compatible one."""

from __future__ import annotations

import asyncio

import anthropic
import pytest
from tests.unit.simulator.simulator_caller import HEADERS, body, calling
from tests.unit.simulator.wire_caller import ASK, VERSION, post

from modelgates_server.simulator import Simulator, TokenIssuer

PATH = "/anthropic/v1/messages"
KEY = {"x-api-key": "key", **VERSION}
ASKED = {"model": "claude-opus-4-8", **ASK}


@pytest.fixture
async def caller():
    async with calling(Simulator({"key"}, wire="foundry", tokens=TokenIssuer())) as caller:
        yield caller


async def test_either_key_header_or_a_token_opens(caller):
    """Both names of the key header work, a token only if it was issued; Azure refuses in its own words."""
    token = caller.simulator._wire.settings.tokens.issue("https://ai.azure.com/.default")
    good = [KEY, {"api-key": "key"}, {"authorization": f"Bearer {token}"}]
    bad = [{}, {"api-key": "no"}, {"authorization": "Bearer key"}]
    answers = [await post(caller, PATH, ASKED, VERSION | headers) for headers in good + bad]
    assert [answer.status for answer in answers] == [200, 200, 200, 401, 401, 401]
    assert answers[-1].json["error"]["code"] == "401"
    assert answers[-1].json["error"]["message"].startswith("Access denied due to invalid subscription key")
    assert {"request-id", "apim-request-id"} <= answers[0].headers.keys()
    assert "key" not in [entry.headers.get("api-key") for entry in caller.simulator.log]


async def test_models_are_deployments():
    """Only deployments are known, under their names; the log has both names."""
    async with calling(Simulator(wire="foundry", deployments={"our-opus": "claude-opus-4-8"})) as caller:
        good = await post(caller, PATH, {**ASKED, "model": "our-opus"}, KEY)
        entry = caller.entry
        unknown = await post(caller, PATH, ASKED, KEY)
    assert (good.status, entry.model, entry.upstream_model) == (200, "claude-opus-4-8", "our-opus")
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "DeploymentNotFound")


@pytest.mark.parametrize(
    ("fields", "beta", "statuses"),
    [
        ({"output_config": {"format": {}}}, "", [200, 400]),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "", [200, 400]),
        ({"mcp_servers": []}, "mcp-client-2025-11-20", [200, 400]),
        ({"tools": [{"name": "a", "allowed_callers": []}]}, "tool-search-tool-2025-10-19", [200, 400]),
        ({}, "skills-2025-10-02", [200, 400]),
        ({}, "brand-new-2026-11-01", [200, 200]),
        ({}, "compact-2026-01-12", [400, 400]),
        ({"inference_geo": "us"}, "", [400, 400]),
        ({"speed": "fast"}, "", [400, 400]),
    ],
)
async def test_azure_offers_less_than_anthropic(fields, beta, statuses):
    """What a deployment takes depends on who hosts it."""
    got = []
    for hosting in ("anthropic", "azure"):
        async with calling(Simulator(wire="foundry", hosting=hosting)) as caller:
            headers = KEY | ({"anthropic-beta": beta} if beta else {})
            got.append((await post(caller, PATH, {**ASKED, **fields}, headers)).status)
    assert got == statuses


async def test_front_speaks_as_azure(caller):
    """Quota is Azure's business, an overloaded model Anthropic's; the list of models is nobody's."""
    caller.simulator.script.extend(
        [{"status": 429}, {"status": 529}, {"status": 404, "error_type": "api_not_supported"}]
    )
    limited, over, unsupported = [await post(caller, PATH, ASKED, KEY) for _ in range(3)]
    assert (limited.status, limited.json["error"]["code"]) == (429, "RateLimitReached")
    assert over.json["error"]["type"] == "overloaded_error"
    assert (unsupported.status, unsupported.json["error"]["code"]) == (404, "api_not_supported")
    assert (await caller.call("GET", "/anthropic/v1/models", headers=KEY)).status == 404


async def test_real_anthropic_client_reaches_foundry(caller):
    """Anthropic's own Foundry client is served."""

    def use() -> str:
        with anthropic.AnthropicFoundry(api_key="key", base_url=caller.url + "/anthropic/") as client:
            return client.messages.create(**ASKED).id

    assert await asyncio.to_thread(use) == caller.entry.message_id


async def test_compatible_endpoint_is_loose_about_form():
    """CRLF, no space after the colon, no pings, and nothing but messages."""
    async with calling(Simulator({"sk-test"}, wire="compatible")) as caller:
        stream = await caller.ask(stream=True)
        paths = [("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models")]
        answers = [await caller.call(method, path, body() if method == "POST" else None) for method, path in paths]
        assert stream.body.startswith(b"event:message_start\r\ndata:{")
        assert b"ping" not in stream.body
        assert stream.body.endswith(b'data:{"type":"message_stop"}\r\n\r\n')
        assert [answer.status for answer in answers] == [404, 404]
        assert (await caller.ask(model="other")).status == 404


async def test_lax_compatible_endpoint_takes_anything():
    """Without strictness it takes any model and no version, sends bare pings, and never says that it is done."""
    async with calling(Simulator(wire="compatible", strict=False)) as caller:
        answer = await caller.call("POST", "/v1/messages", body(model="glm-9", stream=True), {"x-api-key": "k"})
        assert (answer.status, caller.entry.model) == (200, "glm-9")
        assert b"event:ping\r\n\r\n" in answer.body
        assert b"message_stop" not in answer.body


async def test_anthropics_wire_takes_issued_tokens_only_if_told():
    """An issuer replaces the keys in Authorization; the other header stays as it is."""
    issuer = TokenIssuer()
    async with calling(Simulator({"sk-test"}, tokens=issuer)) as caller:
        headers = [
            HEADERS,
            VERSION | {"authorization": f"Bearer {issuer.issue()}"},
            VERSION | {"authorization": "Bearer x"},
        ]
        statuses = [(await caller.call("POST", "/v1/messages", body(), each)).status for each in headers]
    assert statuses == [200, 200, 401]


@pytest.mark.parametrize("wrong", [{"wire": "openai"}, {"wire": "foundry", "hosting": "moon"}])
def test_unknown_names_are_errors(wrong):
    """A wire or hosting that does not exist is refused at once."""
    with pytest.raises(ValueError, match="choose one of"):
        Simulator(**wrong)
