"""Claude Platform on AWS, and Bedrock's Messages-shaped wire."""

from __future__ import annotations

import asyncio
import json

import anthropic
import pytest
from tests.unit.simulator.simulator_caller import calling
from tests.unit.simulator.wire_caller import ASK, IMAGE, KEYS, URL_IMAGE, VERSION, post, said, signed

from modelgates_server.simulator import Simulator

PLATFORM = "/v1/messages?beta=true"
MANTLE = "/anthropic/v1/messages"
WORKSPACE = {"anthropic-workspace-id": "wrkspc_1", **VERSION}
KEY = {"x-api-key": "key"}
BEARER = {"authorization": "Bearer key", **VERSION}
ASK_PLATFORM = {"model": "claude-opus-4-8", **ASK}
ASK_MANTLE = {"model": "anthropic.claude-opus-4-8", **ASK}


@pytest.fixture
async def platform():
    async with calling(Simulator({"key"}, wire="claude-on-aws", aws=KEYS)) as caller:
        yield caller


@pytest.fixture
async def mantle():
    async with calling(Simulator({"key"}, wire="bedrock", aws=KEYS)) as caller:
        yield caller


async def test_platform_takes_keys_and_signatures(platform):
    """Both ways in are good, and answers have both ids."""
    data = json.dumps(ASK_PLATFORM).encode()
    url = platform.url + PLATFORM
    by_signature = signed(url, data, "aws-external-anthropic", headers=WORKSPACE)
    answers = [await post(platform, PLATFORM, data, headers) for headers in (KEY | WORKSPACE, by_signature)]
    wrong = await post(platform, PLATFORM, data, signed(url, data, "bedrock", headers=WORKSPACE))
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].headers["request-id"] != answers[0].headers["x-amzn-requestid"]
    assert (wrong.status, wrong.json["error"]["type"]) == (401, "authentication_error")
    assert (await platform.call("GET", "/v1/models", headers=KEY | WORKSPACE)).status == 200


@pytest.mark.parametrize(
    ("fields", "headers", "message"),
    [
        ({}, {"anthropic-workspace-id": ""}, "anthropic-workspace-id: header is required"),
        ({"speed": "fast"}, {}, "speed: Extra inputs"),
        ({"speed": "fast"}, {"anthropic-beta": "fast-mode-2026-02-01"}, "Unexpected value(s) `fast-mode-2026-02-01`"),
        ({"fallbacks": []}, {}, "fallbacks: Extra inputs"),
        ({"diagnostics": {}}, {}, "diagnostics: Extra inputs"),
        ({"mcp_servers": []}, {}, "mcp_servers: Extra inputs"),
    ],
)
async def test_platform_refuses_what_it_has_not(platform, fields, headers, message):
    """It answers as Anthropic does, but has no fast mode, fallbacks or diagnostics."""
    answer = await post(platform, PLATFORM, {**ASK_PLATFORM, **fields}, {**KEY, **WORKSPACE, **headers})
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json["error"]["message"].startswith(message)


async def test_platform_passes_betas_that_nobody_listed(platform):
    """Anthropic runs it: what the table does not list is taken, and server tools are offered."""
    fields = {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    headers = {**KEY, **WORKSPACE, "anthropic-beta": "brand-new-2026-11-01, claude-code-20250219"}
    assert (await post(platform, PLATFORM, {**ASK_PLATFORM, **fields}, headers)).status == 200
    assert platform.entry.betas == ["brand-new-2026-11-01", "claude-code-20250219"]


async def test_mantle_answers_and_streams_without_pings(mantle):
    """Anthropic's events and bodies, AWS's ids."""
    whole = await post(mantle, MANTLE, ASK_MANTLE, BEARER)
    entry = mantle.entry
    stream = await post(mantle, MANTLE, {**ASK_MANTLE, "stream": True}, KEY | VERSION)
    count = await post(mantle, MANTLE + "/count_tokens", ASK_MANTLE, BEARER)
    assert (whole.status, whole.json["id"][:9], whole.json["model"]) == (200, "msg_bdrk_", "claude-opus-4-8")
    assert (entry.model, entry.upstream_model) == ("claude-opus-4-8", "anthropic.claude-opus-4-8")
    assert "x-amzn-requestid" in whole.headers
    assert "anthropic-ratelimit-requests-limit" not in whole.headers
    assert [name for name, _ in stream.events][:2] == ["message_start", "content_block_start"]
    assert count.json["input_tokens"] > 0


@pytest.mark.parametrize("service", ["bedrock-mantle", "bedrock"])
async def test_mantle_takes_either_service_name(mantle, service):
    """Signatures may be made for both names."""
    data = json.dumps(ASK_MANTLE).encode()
    headers = signed(mantle.url + MANTLE, data, service, headers=VERSION)
    assert (await post(mantle, MANTLE, data, headers)).status == 200


@pytest.mark.parametrize(
    ("fields", "headers", "message"),
    [
        ({"anthropic_version": "bedrock-2023-05-31"}, {}, "anthropic_version: Extra inputs"),
        ({"anthropic_beta": []}, {}, "anthropic_beta: Extra inputs"),
        ({}, {"anthropic-version": ""}, "anthropic-version: header is required"),
        ({}, {"anthropic-beta": "context-1m-2025-08-07,skills-2025-10-02"}, "invalid beta flag"),
        ({"output_config": {"format": {}}}, {}, "output_config.format: Extra inputs"),
        ({"tools": [{"type": "code_execution_20250825", "name": "x"}]}, {}, "tools.0: Input tag"),
        ({"mcp_servers": []}, {}, "mcp_servers: Extra inputs"),
        ({"container": "c"}, {}, "container: Extra inputs"),
        ({"inference_geo": "us"}, {}, "inference_geo: Extra inputs"),
        ({"speed": "fast"}, {}, "speed: Extra inputs"),
        ({"fallbacks": []}, {}, "fallbacks: Extra inputs"),
        ({"thinking": {"type": "adaptive", "block_binding": {}}}, {}, "thinking.block_binding: Extra inputs"),
        ({"messages": said(URL_IMAGE)}, {}, "messages.0.content.0.image.source: Input tag 'url'"),
        ({"messages": said(IMAGE)}, {}, "messages.0.content.0.image.source.base64: image exceeds 5 MB"),
        ({"model": "anthropic.claude-opus-4-6"}, {"anthropic-version": "2026-10-21"}, "anthropic-version: 2026-10-21"),
        (
            {"model": "anthropic.claude-haiku-4-5", "messages": said({"type": "text", "text": "x" * 900_000})},
            {},
            "prompt tokens (225",
        ),
    ],
)
async def test_mantle_refuses_in_anthropics_envelope(mantle, fields, headers, message):
    """Validation comes from the model, so it has Anthropic's shape."""
    answer = await post(mantle, MANTLE, {**ASK_MANTLE, **fields}, {**BEARER, **headers})
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json["error"]["message"].startswith(message)


async def test_mantle_knows_models_under_awss_names_only(mantle):
    """A bare Claude id is a 404; a region before the name is taken."""
    models = ["claude-opus-4-8", "us.anthropic.claude-opus-4-8", "anthropic.claude-3-opus"]
    answers = [await post(mantle, MANTLE, {**ASK_MANTLE, "model": model}, BEARER) for model in models]
    assert [answer.status for answer in answers] == [404, 200, 404]


async def test_mantles_front_speaks_as_aws(mantle):
    """Keys, quota, size and unknown paths are AWS's business; a type of Anthropic's can still be asked for."""
    mantle.simulator.script.extend([{"status": 429, "retry_after": 3}, {"error_type": "rate_limit_error"}])
    throttled = await post(mantle, MANTLE, ASK_MANTLE, BEARER)
    envelope = await post(mantle, MANTLE, ASK_MANTLE, BEARER)
    no_key = await post(mantle, MANTLE, ASK_MANTLE, BEARER | {"authorization": "Bearer no"})
    large = await post(mantle, MANTLE, b"x" * (20 * 1024 * 1024 + 1), BEARER)
    nowhere = await post(mantle, "/v1/messages", ASK_MANTLE, BEARER)
    answers = [throttled, no_key, large, nowhere]
    assert [answer.status for answer in answers] == [429, 403, 413, 404]
    assert all(list(answer.json) == ["message"] and "x-amzn-errortype" in answer.headers for answer in answers)
    assert throttled.headers["x-amzn-errortype"].startswith("ThrottlingException:")
    assert (throttled.headers["retry-after"], envelope.json["error"]["type"]) == ("3", "rate_limit_error")


async def test_lax_simulator_takes_what_is_not_known():
    """Without strictness only what is known to be refused is refused."""
    async with calling(Simulator(wire="bedrock", strict=False)) as caller:
        betas = ["brand-new-2026-11-01", "fast-mode-2026-02-01"]
        answers = [await post(caller, MANTLE, ASK_MANTLE, BEARER | {"anthropic-beta": beta}) for beta in betas]
    assert [answer.status for answer in answers] == [200, 400]


async def test_real_anthropic_client_reaches_mantle(mantle):
    """Anthropic's own client for it signs and is answered."""

    def use() -> str:
        made = {"aws_access_key": "AKIASIMULATED", "aws_secret_key": KEYS["AKIASIMULATED"], "aws_region": "us-east-1"}
        with anthropic.AnthropicBedrockMantle(base_url=mantle.url + "/anthropic", **made) as client:
            return client.messages.create(**ASK_MANTLE).id

    assert await asyncio.to_thread(use) == mantle.entry.message_id
