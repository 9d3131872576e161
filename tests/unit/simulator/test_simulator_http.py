"""Routes, validation and headers."""

from __future__ import annotations

import hashlib
import json

import pytest
from tests.unit.simulator.simulator_caller import HEADERS, body, calling

from modelgates_server.simulator import Simulator


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": ...}, 400, "model: Field required"),
        ({"messages": ...}, 400, "messages: Field required"),
        ({"max_tokens": ...}, 400, "max_tokens: Field required"),
        ({"max_tokens": "1"}, 400, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 128_001}, 400, "max_tokens: 128001 > 128000, which is the maximum"),
        ({"messages": []}, 400, "messages: at least one message is required"),
        ({"messages": 5}, 400, "messages: Input should be a valid list"),
        ({"messages": [5]}, 400, "messages.0: Input should be a valid dictionary"),
        ({"stream": "yes"}, 400, "stream: Input should be a valid boolean"),
        ({"thinking": {"type": "enabled", "budget_tokens": 400}}, 400, "`max_tokens` must be greater than"),
        ({"model": "claude-3-opus"}, 404, "model: claude-3-opus"),
        ({"tools": 5, "messages": [{"role": "user", "content": "[[tool:a {}]]"}]}, 400, "The request body"),
    ],
)
async def test_refusals_have_the_words_of_anthropic(caller, fields, status, message):
    """An invalid body is refused in an envelope with Anthropic's wording, and booked as refused."""
    answer = await caller.ask(**fields)
    assert answer.status == status
    assert answer.json["error"]["message"].startswith(message)
    assert answer.json["request_id"] == answer.headers["request-id"] == caller.entry.request_id
    assert caller.entry.outcome == "refused"


@pytest.mark.parametrize("payload", [b"{", b"", b"[]", b'{"model": "\xff"}', b"[" * 100_000])
async def test_body_that_is_no_json_object_is_refused(caller, payload):
    """Anything but a JSON object is a 400."""
    answer = await caller.call("POST", "/v1/messages", payload)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


async def test_version_header_decides_about_sampling(caller):
    """The version header is needed, and the new version refuses what the old one accepts."""
    missing = await caller.call("POST", "/v1/messages", body(), {"x-api-key": "k"})
    new = await caller.ask(headers={"anthropic-version": "2026-10-21"}, temperature=0.5)
    old = await caller.ask(temperature=0.5)
    assert missing.json["error"]["message"] == "anthropic-version: header is required"
    assert new.json["error"]["message"] == "temperature: Extra inputs are not permitted"
    assert old.status == 200


async def test_only_known_keys_are_accepted_in_either_header():
    """With a key list, both headers work with a listed key and nothing else does."""
    keys = [{"x-api-key": "good"}, {"authorization": "Bearer good"}, {"x-api-key": "bad"}, {"x-api-key": ""}, {}]
    version = {"anthropic-version": "2023-06-01"}
    async with calling(Simulator({"good"})) as caller:
        answers = [await caller.call("POST", "/v1/messages", body(), version | key) for key in keys]
    assert [answer.status for answer in answers] == [200, 200, 401, 401, 401]
    assert answers[-1].json["error"]["type"] == "authentication_error"


async def test_entry_has_what_was_received(caller):
    """The truth log keeps headers, digest, bytes, user and model, but never the key."""
    payload = json.dumps(body(metadata={"user_id": "u-1"})).encode()
    await caller.call("POST", "/v1/messages", payload, HEADERS | {"Anthropic-Beta": "a,b"})
    entry = caller.entry
    assert entry.body == payload
    assert entry.body_sha256 == hashlib.sha256(payload).hexdigest()
    assert (entry.user_id, entry.model, entry.headers["anthropic-beta"]) == ("u-1", "claude-opus-5-5", "a,b")
    assert (entry.wire, entry.upstream_model, entry.betas) == ("anthropic", "claude-opus-5-5", ["a", "b"])
    assert (entry.key_header, entry.headers["x-api-key"][:7]) == ("x-api-key", "sha256:")
    assert "sk-test" not in str(entry)


async def test_log_is_served_from_a_sequence_on_and_can_be_reset(caller):
    """The log over HTTP gives the entries after a number, without bodies; a reset empties it."""
    first, second = await caller.ask("1"), await caller.ask("2")
    shown = (await caller.call("GET", f"/__sim/log?since={caller.simulator.log[0].sequence}")).json["entries"]
    assert [entry["message_id"] for entry in shown] == [second.json["id"]] != [first.json["id"]]
    assert shown[0]["usage"] == second.json["usage"]
    assert "body" not in shown[0]
    await caller.call("POST", "/__sim/reset")
    assert (await caller.call("GET", "/__sim/log")).json == {"entries": [], "side": []}


async def test_models_are_listed_in_pages(caller):
    """The model list pages as Anthropic's does, and each model can be fetched."""
    first = (await caller.call("GET", "/v1/models?limit=2")).json
    rest = (await caller.call("GET", f"/v1/models?limit=1000&after_id={first['last_id']}")).json
    assert (len(first["data"]), first["has_more"], rest["has_more"]) == (2, True, False)
    assert first["last_id"] not in [model["id"] for model in rest["data"]]
    one = await caller.call("GET", "/v1/models/claude-haiku-4-5")
    assert one.json["max_tokens"] == 64_000
    assert (await caller.call("GET", "/v1/models/claude-2")).status == 404


async def test_answers_carry_the_headers_that_a_gateway_must_strip(caller):
    """Organisation and rate-limit headers are on every answer."""
    for stream in (True, False):
        headers = (await caller.ask(stream=stream)).headers
        assert headers["anthropic-organization-id"]
        assert headers["anthropic-ratelimit-input-tokens-remaining"]
        assert headers["content-type"] == ("text/event-stream; charset=utf-8" if stream else "application/json")


async def test_unknown_paths_and_methods_are_refused_quickly(caller):
    """Anything else is a 404 or 405 in the envelope."""
    assert (await caller.call("GET", "/api/hello")).status == 404
    assert (await caller.call("GET", "/v1/messages")).status == 405


async def test_body_beyond_the_limit_is_413(caller):
    """More than 32 MiB is refused as too large."""
    answer = await caller.ask("x" * (32 * 1024 * 1024))
    assert (answer.status, answer.json["error"]["type"]) == (413, "request_too_large")
