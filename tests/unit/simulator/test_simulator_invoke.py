"""Bedrock Invoke: paths, bodies, frames, signatures."""

from __future__ import annotations

import asyncio
import base64
import json

import anthropic
import boto3
import pytest
from botocore.eventstream import ChecksumMismatch
from tests.unit.simulator.simulator_caller import calling
from tests.unit.simulator.wire_caller import ASK, IMAGE, KEYS, URL_IMAGE, frames, post, said, signed

from modelgates_server.simulator import Simulator

BODY = {"anthropic_version": "bedrock-2023-05-31", **ASK}
BEARER = {"authorization": "Bearer key"}
MODEL = "us.anthropic.claude-opus-4-8"
INVOKE = f"/model/{MODEL}/invoke"
STREAM = f"/model/{MODEL}/invoke-with-response-stream"


@pytest.fixture
async def caller():
    async with calling(Simulator({"key"}, wire="bedrock-invoke", aws=KEYS, keep_bodies=True)) as caller:
        yield caller


async def test_answer_has_awss_headers_and_the_log_the_bare_id(caller):
    """A whole answer counts its tokens in headers; the entry knows both names of the model, and the betas."""
    beta = "context-1m-2025-08-07"
    answer = await post(caller, INVOKE, {**BODY, "anthropic_beta": [beta]}, BEARER)
    entry = caller.entry
    assert (answer.status, answer.json["model"], answer.json["id"][:9]) == (200, "claude-opus-4-8", "msg_bdrk_")
    assert int(answer.headers["x-amzn-bedrock-output-token-count"]) == entry.usage["output_tokens"]
    assert answer.headers["x-amzn-requestid"] == entry.request_id
    assert (entry.wire, entry.model, entry.upstream_model) == ("bedrock-invoke", "claude-opus-4-8", MODEL)
    assert entry.betas == [beta]


async def test_stream_is_frames_without_pings_and_ends_with_metrics(caller):
    """Botocore reads every frame; the last one counts the tokens."""
    answer = await post(caller, STREAM, BODY, BEARER)
    read = frames(answer.body)
    events = [data for _, data in read]
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert {headers[":event-type"] for headers, _ in read} == {"chunk"}
    assert "ping" not in [event["type"] for event in events]
    metrics = events[-1]["amazon-bedrock-invocationMetrics"]
    usage = caller.entry.usage
    counts = (metrics["inputTokenCount"], metrics["outputTokenCount"])
    assert counts == (usage["input_tokens"], usage["output_tokens"])
    assert (caller.entry.stream, caller.entry.events_sent) == (True, len(read))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anthropic_version": None}, "anthropic_version: Field required"),
        ({"model": "x"}, "Malformed input request: #: extraneous key [model] is not permitted"),
        ({"stream": True}, "Malformed input request: #: extraneous key [stream] is not permitted"),
        ({"cache_control": {"type": "ephemeral"}}, "Malformed input request: #: extraneous key [cache_control]"),
        ({"anthropic_beta": ["claude-code-20250219"]}, "invalid beta flag"),
        ({"anthropic_beta": ["never-heard-of"]}, "invalid beta flag"),
        ({"anthropic_beta": "x"}, "anthropic_beta: Input should be a valid list"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0: Input tag"),
        ({"tools": [{"name": "a", "defer_loading": True}]}, "tools.0.defer_loading: Extra inputs"),
        ({"tools": [{"name": "a", "custom": {}}]}, "tools.0.custom: Extra inputs"),
        ({"messages": said(URL_IMAGE)}, "messages.0.content.0.image.source: Input tag 'url'"),
        ({"messages": said(IMAGE)}, "messages.0.content.0.image.source.base64: image exceeds 5 MB maximum"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format: Extra inputs"),
        ({"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}, "context_management.edits.0"),
        ({"context_management": {"edits": []}}, "context_management: Extra inputs"),
        ({"anthropic_version": "2026-10-21", "temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "scope": "global"}}]},
         "system.0.cache_control.scope: Extra inputs"),
    ],
)  # fmt: skip
async def test_refusals_are_validation_exceptions(caller, fields, message):
    """What Invoke does not know is a 400 in AWS's shape."""
    answer = await post(caller, INVOKE, {**BODY, **fields}, BEARER)
    assert (answer.status, answer.headers["x-amzn-errortype"].split(":")[0]) == (400, "ValidationException")
    assert answer.json["message"].startswith(message)
    assert caller.entry.outcome == "refused"


async def test_ttl_and_paired_betas_are_taken(caller):
    """One-hour marks pass, and fields whose beta came along."""
    mark = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    tools = [{"name": "a", "input_schema": {}, "defer_loading": True}]
    edits = {"edits": [{"type": "compact_20260112"}]}
    betas = ["tool-search-tool-2025-10-19", "compact-2026-01-12"]
    fields = {"system": [mark], "tools": tools, "context_management": edits, "anthropic_beta": betas}
    assert (await post(caller, INVOKE, {**BODY, **fields}, BEARER)).status == 200


@pytest.mark.parametrize(
    ("path_id", "status", "model"),
    [
        ("global.anthropic.claude-opus-5-5", 200, "claude-opus-5-5"),
        ("eu.anthropic.claude-haiku-4-5-20251001-v1%3A0", 200, "claude-haiku-4-5-20251001"),
        ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", 200, "claude-haiku-4-5-20251001"),
        ("us.anthropic.claude-opus-4-6-v1", 200, "claude-opus-4-6"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile%2Fus.anthropic.claude-opus-4-7", 200, "claude-opus-4-7"),
        ("arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fab12", 200, "claude-opus-4-8"),
        ("anthropic.claude-opus-4-7", 400, "anthropic.claude-opus-4-7"),
        ("us.anthropic.claude-opus-4-6", 404, "us.anthropic.claude-opus-4-6"),
        ("us.anthropic.claude-haiku-4-5", 404, "us.anthropic.claude-haiku-4-5"),
        ("xx.anthropic.claude-opus-4-7", 404, "xx.anthropic.claude-opus-4-7"),
        ("nonsense", 400, "nonsense"),
    ],
)
async def test_models_have_awss_names(caller, path_id, status, model):
    """Profiles and ARNs are served, also percent-encoded; bare ids want a profile."""
    url = f"/model/{path_id}/invoke"
    data = json.dumps(BODY).encode()
    answer = await post(caller, url, data, signed(caller.url + url, data, "bedrock"))
    assert (answer.status, caller.entry.model) == (status, model)
    if status == 400 and "claude" in model:
        assert "on-demand throughput isn't supported" in answer.json["message"]


async def test_count_takes_base_ids_only(caller):
    """CountTokens unwraps the body; profiles cannot be counted with."""
    inner = base64.b64encode(json.dumps(BODY).encode()).decode()
    body = {"input": {"invokeModel": {"body": inner}}}
    good = await post(caller, "/model/anthropic.claude-opus-4-8/count-tokens", body, BEARER)
    regional = await post(caller, f"/model/{MODEL}/count-tokens", body, BEARER)
    broken = await post(caller, "/model/anthropic.claude-opus-4-8/count-tokens", {"input": {}}, BEARER)
    assert (good.status, good.json["inputTokens"] > 0) == (200, True)
    assert [regional.status, broken.status] == [400, 400]
    assert "doesn't support counting tokens" in regional.json["message"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"region": "eu-west-1"}, "InvalidSignatureException"),
        ({"service": "s3"}, "InvalidSignatureException"),
        ({"key_id": "AKIAUNKNOWN", "secret": "x"}, "UnrecognizedClientException"),
    ],
)
async def test_wrong_signatures_are_403(caller, changed, code):
    """A signature that botocore would not make is refused with AWS's word."""
    data = json.dumps(BODY).encode()
    headers = signed(caller.url + INVOKE, data, **{"service": "bedrock", **changed})
    answer = await post(caller, INVOKE, data, headers)
    assert (answer.status, answer.headers["x-amzn-errortype"].split(":")[0]) == (403, code)


async def test_signature_covers_the_body_and_names_the_signer(caller):
    """Another body than the signed one is refused; a good one books who signed."""
    data = json.dumps(BODY).encode()
    headers = signed(caller.url + INVOKE, data, "bedrock", token="any-session")
    changed = await post(caller, INVOKE, data + b" ", headers)
    good = await post(caller, INVOKE, data, headers)
    assert [changed.status, good.status] == [403, 200]
    assert (caller.entry.access_key_id, caller.entry.key_header) == ("AKIASIMULATED", "authorization")
    assert "any-session" not in str(caller.entry.headers)


async def test_model_faults_and_the_header_work_in_the_path_too(caller):
    """A simulated model is named as any other, and the control header is read."""
    limited = await post(caller, "/model/us.anthropic.claude-sim-ratelimited/invoke", BODY, BEARER)
    told = await post(caller, INVOKE, BODY, BEARER | {"anthropic-simulate": '{"tokens": 3}'})
    assert (limited.status, limited.headers["retry-after"]) == (429, "1")
    assert told.json["usage"]["output_tokens"] == 3


async def test_keys_are_403_without_and_with_a_wrong_one(caller):
    """Bearer keys are the other way in."""
    answers = [await post(caller, INVOKE, BODY, headers) for headers in ({}, {"authorization": "Bearer no"}, BEARER)]
    codes = [answer.headers.get("x-amzn-errortype", "").split(":")[0] for answer in answers]
    assert [answer.status for answer in answers] == [403, 403, 200]
    assert codes == ["MissingAuthenticationTokenException", "AccessDeniedException", ""]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"status": 429}, 429, "ThrottlingException"),
        ({"status": 503}, 503, "ServiceUnavailableException"),
        ({"status": 500}, 500, "InternalServerException"),
        ({"error_type": "ModelNotReadyException"}, 429, "ModelNotReadyException"),
        ({"error_type": "overloaded_error"}, 529, "ServiceUnavailableException"),
        ({"status": 400, "error_type": "ServiceQuotaExceededException"}, 400, "ServiceQuotaExceededException"),
    ],
)
async def test_asked_errors_have_awss_shape(caller, fault, status, code):
    """A status or a code that is asked for comes as AWS says it."""
    caller.simulator.script.append(fault)
    answer = await post(caller, STREAM, BODY, BEARER)
    assert (answer.status, answer.headers["x-amzn-errortype"].split(":")[0]) == (status, code)
    assert list(answer.json) == ["message"]


@pytest.mark.parametrize(
    ("fault", "kind", "name"),
    [
        ({"error_type": "rate_limit_error"}, ":exception-type", "throttlingException"),
        ({}, ":exception-type", "serviceUnavailableException"),
        ({"error_type": "modelStreamErrorException"}, ":exception-type", "modelStreamErrorException"),
        ({"error_type": "InternalFailure"}, ":error-code", "InternalFailure"),
    ],
)
async def test_streams_break_with_exception_frames(caller, fault, kind, name):
    """An error in a stream is a frame of its own kind."""
    caller.simulator.script.append({"error_at_event": 3, **fault})
    read = frames((await post(caller, STREAM, BODY, BEARER)).body)
    assert (len(read), read[-1][0][kind]) == (4, name)
    assert await caller.outcome() == "faulted"


async def test_frames_can_be_cut_and_broken(caller):
    """Cuts end within a frame, and a malformed frame has a wrong checksum."""
    caller.simulator.script.extend([{"cut_at_byte": 700}, {"malformed_at_event": 2}, {"unknown_event_at": 1}])
    cut = await post(caller, STREAM, BODY, BEARER)
    bad = await post(caller, STREAM, BODY, BEARER)
    odd = await post(caller, STREAM, BODY, BEARER)
    assert (cut.broken, len(cut.body)) == (True, 700)
    with pytest.raises(ChecksumMismatch):
        frames(bad.body)
    assert frames(odd.body)[1][1]["type"] == "content_weather"


async def test_real_boto3_invokes_and_streams(caller):
    """The vendor's client signs, percent-encodes and reads what it gets."""

    def use() -> tuple[bytes, list[dict]]:
        made = {"aws_access_key_id": "AKIASIMULATED", "aws_secret_access_key": KEYS["AKIASIMULATED"]}
        client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=caller.url, **made)
        asked = {"modelId": "us.anthropic.claude-haiku-4-5-20251001-v1:0", "body": json.dumps(BODY)}
        whole = client.invoke_model(**asked)["body"].read()
        stream = client.invoke_model_with_response_stream(**asked)["body"]
        return whole, [json.loads(event["chunk"]["bytes"]) for event in stream]

    whole, events = await asyncio.to_thread(use)
    assert json.loads(whole)["type"] == "message"
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]


async def test_real_anthropic_client_streams(caller):
    """Anthropic's own Bedrock client is served too."""

    def use() -> str:
        made = {"aws_access_key": "AKIASIMULATED", "aws_secret_key": KEYS["AKIASIMULATED"], "aws_region": "us-east-1"}
        with (
            anthropic.AnthropicBedrock(base_url=caller.url, **made) as client,
            client.messages.stream(model=MODEL, **ASK) as stream,
        ):
            return stream.get_final_message().id

    assert await asyncio.to_thread(use) == caller.entry.message_id
