"""Google's wire."""

from __future__ import annotations

import asyncio

import anthropic
import pytest
from tests.unit.simulator.simulator_caller import calling
from tests.unit.simulator.wire_caller import ASK, IMAGE, URL_IMAGE, post, said

from modelgates_server.simulator import Simulator, TokenIssuer

BASE = "/v1/projects/p/locations/global/publishers/anthropic/models/"
PREDICT = BASE + "claude-opus-4-8:rawPredict"
STREAM = BASE + "claude-opus-4-8:streamRawPredict"
BODY = {"anthropic_version": "vertex-2023-10-16", **ASK}
BEARER = {"authorization": "Bearer key"}


@pytest.fixture
async def caller():
    async with calling(Simulator({"key"}, wire="vertex")) as caller:
        yield caller


async def test_answer_and_count(caller):
    """The model stands in the path, for counting in the body."""
    answer = await post(caller, PREDICT, BODY, BEARER | {"anthropic-beta": "context-1m-2025-08-07"})
    entry = caller.entry
    count = await post(caller, BASE + "count-tokens:rawPredict", {**BODY, "model": "claude-opus-4-8"}, BEARER)
    dated = await post(caller, BASE + "claude-haiku-4-5%4020251001%3ArawPredict", BODY, BEARER)
    assert (answer.status, answer.json["id"][:9], answer.json["model"]) == (200, "msg_vrtx_", "claude-opus-4-8")
    assert (entry.wire, entry.betas, entry.stream) == ("vertex", ["context-1m-2025-08-07"], False)
    assert count.json["input_tokens"] > 0
    assert (dated.status, caller.entry.model) == (200, "claude-haiku-4-5-20251001")
    assert caller.entry.upstream_model == "claude-haiku-4-5@20251001"


async def test_stream_has_googles_own_events(caller):
    """Anthropic's events with two of Google's between them, and pings."""
    answer = await post(caller, STREAM, {**BODY, "stream": True}, BEARER)
    names = [name for name, _ in answer.events]
    assert names[:3] == ["message_start", "vertex_event", "ping"]
    assert names[-3:] == ["message_delta", "vertex_event", "message_stop"]


@pytest.mark.parametrize(
    ("fields", "headers", "message"),
    [
        ({"anthropic_version": None}, {}, "anthropic_version: Field required"),
        ({"anthropic_version": "2023-06-01"}, {}, "anthropic_version: Input should be"),
        ({}, {"anthropic-version": "2023-06-01"}, "anthropic-version: the header is not supported"),
        ({"model": "claude-opus-4-8"}, {}, "model: Extra inputs"),
        ({}, {"anthropic-beta": "effort-2025-11-24"}, "Unexpected value(s) `effort-2025-11-24`"),
        ({}, {"anthropic-beta": "files-api-2025-04-14"}, "Unexpected value(s)"),
        ({"output_format": {}}, {}, "output_format: Extra inputs"),
        ({"tools": [{"type": "web_fetch_20250910", "name": "x"}]}, {}, "tools.0: Input tag"),
        ({"messages": said(URL_IMAGE)}, {}, "messages.0.content.0.image.source: Input tag 'url'"),
        ({"messages": said(IMAGE)}, {}, "messages.0.content.0.image.source.base64: image exceeds 5 MB"),
    ],
)
async def test_refusals_come_from_the_model(caller, fields, headers, message):
    """Validation has Anthropic's envelope."""
    answer = await post(caller, PREDICT, {**BODY, **fields}, {**BEARER, **headers})
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json["error"]["message"].startswith(message)


async def test_search_and_structured_outputs_are_offered(caller):
    """What Google has is taken."""
    fields = {"tools": [{"type": "web_search_20250305", "name": "w"}], "output_config": {"format": {}}}
    headers = BEARER | {"anthropic-beta": "web-search-2025-03-05"}
    assert (await post(caller, PREDICT, {**BODY, **fields}, headers)).status == 200


@pytest.mark.parametrize(
    ("model", "place", "status", "code"),
    [
        ("claude-opus-4-8", "us-east5", 400, "FAILED_PRECONDITION"),
        ("claude-opus-4-8", "eu", 200, None),
        ("claude-sonnet-4-6", "us-east5", 200, None),
        ("claude-haiku-4-5@20251001", "us-east5", 200, None),
        ("claude-haiku-4-5", "us-east5", 404, "NOT_FOUND"),
        ("claude-opus-4-8@20260501", "global", 404, "NOT_FOUND"),
        ("claude-3-opus", "global", 404, "NOT_FOUND"),
    ],
)
async def test_models_live_where_google_has_them(caller, model, place, status, code):
    """Newer models are in multi-regions only; unknown names and places are answered in Google's shape."""
    path = f"/v1/projects/p/locations/{place}/publishers/anthropic/models/{model}:rawPredict"
    answer = await post(caller, path, BODY, BEARER)
    assert (answer.status, answer.json.get("error", {}).get("status")) == (status, code)


async def test_front_speaks_as_google(caller):
    """Quota and size are Google's business, in a list for streams; an overloaded model speaks for itself."""
    caller.simulator.script.extend([{"status": 429}, {"status": 429}, {"status": 503}, {"status": 529}])
    whole, stream, down, over = [await post(caller, path, BODY, BEARER) for path in (PREDICT, STREAM, PREDICT, PREDICT)]
    assert (whole.json["error"]["status"], down.json["error"]["status"]) == ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
    assert stream.json[0]["error"]["code"] == 429
    assert over.json["error"]["type"] == "overloaded_error"
    nowhere = await post(caller, "/v1/messages", BODY, BEARER)
    assert (nowhere.status, nowhere.json["error"]["status"]) == (404, "NOT_FOUND")


async def test_only_issued_tokens_are_accepted_until_they_expire():
    """With an issuer, other bearers are 401, and so are its tokens when their time is over."""
    issuer = TokenIssuer()
    async with calling(Simulator(wire="vertex", tokens=issuer)) as caller:
        token = {"authorization": f"Bearer {issuer.issue('cloud-platform')}"}
        good = await post(caller, PREDICT, BODY, token)
        foreign = await post(caller, PREDICT, BODY, BEARER)
        issuer.expire()
        late = await post(caller, PREDICT, BODY, token)
    assert [good.status, foreign.status, late.status] == [200, 401, 401]
    assert late.json["error"]["status"] == "UNAUTHENTICATED"
    assert issuer.issued == 1


async def test_real_anthropic_client_streams(caller):
    """Anthropic's own Vertex client is served."""
    made = {"project_id": "p", "region": "global", "access_token": "key", "base_url": caller.url + "/v1"}

    def use() -> str:
        with (
            anthropic.AnthropicVertex(**made) as client,
            client.messages.stream(model="claude-opus-4-8", **ASK) as stream,
        ):
            return stream.get_final_message().id

    assert await asyncio.to_thread(use) == caller.entry.message_id
