"""What clients send, and what of it reaches the provider (client-protocol sections 1 to 5).

| rows | test |
|---|---|
| E-1, E-7, E-8, E-9 | test_every_spelling_of_the_path_answers_without_a_redirect |
| E-2, E-3, M-1, M-6 | test_the_model_list_… in test_protocol_answer |
| E-4, E-5 | test_token_counts_… |
| E-6, E-12, X-2 | test_protocol_answer |
| E-10 | test_a_body_may_come_in_chunks |
| A-1 to A-3 | test_either_key_header_opens_the_door, test_two_different_keys_… |
| A-4, H-4 | test_only_the_providers_key_and_chosen_headers_travel |
| H-1, H-2, H-3, H-5, H-6 | test_betas_…, test_versions_…, test_strange_headers_…, test_streaming_is_decided_by_the_body |
| B-1 to B-10, B-13 | test_bodies_reach_the_provider_byte_for_byte |
| B-12, hostile bodies | test_hostile_bodies |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.gateway import MODEL, UPSTREAM_KEY, Gateway, ask

from modelgates_server.dialects.edit import GATEWAY_EXTRAS
from modelgates_server.simulator.truth import key_digest

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIXES = ["", "/api", "/anthropic", "/api/anthropic"]
PATHS = [
    prefix + path + slash for prefix in PREFIXES for path in ("/v1/messages", "/v1/v1/messages") for slash in ("", "/")
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["", "?beta=true", "?beta=true&x=%2F"])
async def test_every_spelling_of_the_path_answers_without_a_redirect(gateway: Gateway, path: str, query: str) -> None:
    """Prefixes, a doubled /v1, a final slash and any query lead to the same 200."""
    told = await gateway.send(ask(max_tokens=5), path=path + query)

    assert told.status == 200
    assert told.json["type"] == "message"
    assert gateway.simulator.log[-1].path == "/v1/messages"


@pytest.mark.parametrize("form", ["x-api-key", "bearer", "BEARER", "both"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/messages"), ("POST", "/api/v1/messages/count_tokens"), ("GET", "/api/v1/models?limit=1000"),
     ("GET", "/api/v1/key")],
)  # fmt: skip
async def test_either_key_header_opens_the_door(gateway: Gateway, form: str, method: str, path: str) -> None:
    """A key is taken from x-api-key, from Authorization, or from both at once, on every endpoint."""
    bearer = {"authorization": f"{'BEARER' if form == 'BEARER' else 'Bearer'} {gateway.key}"}
    headers = {"x-api-key": {"x-api-key": gateway.key}, "both": {"x-api-key": gateway.key} | bearer}.get(form, bearer)

    told = await gateway.request(method, path, headers, json.dumps(ask(max_tokens=5)) if method == "POST" else None)

    assert told.status == 200


@pytest.mark.parametrize("good", ["x-api-key", "authorization"])
async def test_two_different_keys_are_matched_either_way(gateway: Gateway, good: str) -> None:
    """When one of two headers carries a stranger's key, the other one counts."""
    foreign = "sk-ant-api03-somebody-else"
    keys = {"x-api-key": foreign, "authorization": f"Bearer {foreign}"}
    keys[good] = gateway.key if good == "x-api-key" else f"Bearer {gateway.key}"

    told = await gateway.request("POST", "/api/v1/messages", keys, json.dumps(ask(max_tokens=5)))

    assert told.status == 200


@pytest.mark.parametrize("key", ["", "sk-mg-v1-wrong", "sk-ant-api03-x", "é" * 10, "x" * 5000])
async def test_a_dead_key_is_told_once_and_not_retried(gateway: Gateway, key: str) -> None:
    """Without a live key there is a 401 in the envelope that forbids retries, and nothing goes upstream."""
    before = len(gateway.simulator.log)

    told = await gateway.request("POST", "/api/v1/messages", {"x-api-key": key}, json.dumps(ask()))

    assert (told.status, told.error["type"]) == (401, "authentication_error")
    assert told.headers["x-should-retry"] == "false"
    assert key not in told.error["message"] or not key
    assert len(gateway.simulator.log) == before


async def test_only_the_providers_key_and_chosen_headers_travel(gateway: Gateway) -> None:
    """Upstream sees our key in one header, the client's anthropic-* and agent, and nothing else of the client."""
    strange = {"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "x-secret": "s", "x-claude-code-session-id": "s1"}
    named = {
        "anthropic-organization-id": "o",
        "anthropic-workspace-id": "w",
        "user-agent": "claude-cli/2",
        "x-app": "c",
    }

    await gateway.request(
        "POST",
        "/api/v1/messages",
        gateway.headers() | strange | named | {"authorization": f"Bearer {gateway.key}"},
        json.dumps(ask(max_tokens=5)),
    )

    seen = gateway.simulator.log[-1]
    assert (seen.key_header, seen.headers["x-api-key"]) == ("x-api-key", key_digest(UPSTREAM_KEY.encode()))
    assert seen.headers["user-agent"] == "claude-cli/2"
    assert seen.headers["accept-encoding"] == "identity"
    hidden = {*strange, "authorization", "anthropic-organization-id", "anthropic-workspace-id", "x-app"}
    assert hidden.isdisjoint(seen.headers)


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21", None])
async def test_versions_pass_and_one_is_added_only_if_missing(gateway: Gateway, version: str | None) -> None:
    """The client's anthropic-version reaches the provider unchanged; the old one stands in when there is none."""
    headers = {"x-api-key": gateway.key} | ({"anthropic-version": version} if version else {})

    told = await gateway.request("POST", "/api/v1/messages", headers, json.dumps(ask(max_tokens=5)))

    assert told.status == 200
    assert gateway.simulator.log[-1].headers["anthropic-version"] == (version or "2023-06-01")


async def test_betas_pass_verbatim_from_one_header_or_several(gateway: Gateway) -> None:
    """Known and unknown betas arrive in order, whether the client listed them in one header or in two."""
    headers = [*gateway.headers().items(), ("anthropic-beta", "effort-2025-11-24,never-seen-2031-01-01"),
               ("anthropic-beta", "context-1m-2025-08-07")]  # fmt: skip
    async with gateway.http.post(gateway.messages_url, json=ask(max_tokens=5), headers=headers) as response:
        assert response.status == 200

    seen = gateway.simulator.log[-1].headers["anthropic-beta"]
    assert seen == "effort-2025-11-24,never-seen-2031-01-01,context-1m-2025-08-07"


async def test_strange_headers_are_no_reason_to_refuse(gateway: Gateway) -> None:
    """Whatever else a client sends along, it is answered (H-3)."""
    strange = {
        "x-stainless-retry-count": "0",
        "x-claude-code-agent-id": "a",
        "anthropic-new-thing": "1",
        "x-ünknown": "?",
    }
    names = {name.encode("ascii", "ignore").decode(): value for name, value in strange.items()}

    told = await gateway.send(ask(max_tokens=5), **names)

    assert told.status == 200
    assert gateway.simulator.log[-1].headers["anthropic-new-thing"] == "1"


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "*/*"])
@pytest.mark.parametrize("stream", [True, False])
async def test_streaming_is_decided_by_the_body(gateway: Gateway, accept: str, stream: bool) -> None:
    """`Accept` says nothing about streaming: the body's `stream` does (H-5)."""
    told = await gateway.send(ask(max_tokens=5, stream=stream), accept=accept)

    kind = "text/event-stream; charset=utf-8" if stream else "application/json"
    assert told.headers["content-type"] == kind


HEAD = f'{{"model":"{MODEL}","max_tokens":5,'
USER = '{"role":"user","content":"x"}'
MARK = '"cache_control":{"type":"ephemeral","ttl":"1h"}'
BILLING = '{"type":"text","text":"x-anthropic-billing-header: cc_version=2; cc_entrypoint=cli;"}'
SCHEMA = '{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}'
SYSTEM = f'{{"role":"system","content":[{{"type":"text","text":"b",{MARK}}}],"output_config":{{"effort":"low"}}}}'
THOUGHT = '{"type":"thinking","thinking":"","signature":"AbC=="},{"type":"redacted_thinking","data":"ZZ"}'
PROMPT = "<script>alert(1)</script> rm -rf / ; DROP TABLE users; ../../etc/passwd"
WISHES = '"context_management":{"edits":[]},"safeguards":{},"tags":["a"],"service_tier":"auto","stop_sequences":["q"]'

PASSING = {
    "order and white space": f'{{ "max_tokens" :\t5 ,\r\n"messages":[ {{"content":"hi" , "role":"user"}} ],"model":"{MODEL}" }}\n',
    "unicode and escapes": HEAD + r'"messages":[{"role":"user","content":"\u00e9é\ud83d\ude00😀\/"}]}',
    "unknown fields": HEAD + '"zzz":{"b":1,"a":[1.0,1e3,null]},"messages":[{"role":"user","content":"x","new":1}]}',
    "system role in messages": f'{HEAD}"messages":[{USER},{SYSTEM}]}}',
    "attribution and cache marks": f'{HEAD}"system":[{BILLING},{{"type":"text","text":"s",{MARK}}}],"messages":[{USER}]}}',
    "deferred tools": f'{HEAD}"tools":[{{"name":"t","input_schema":{SCHEMA},"defer_loading":true}}],"messages":[{USER}]}}',
    "thinking echoed": f'{HEAD}"messages":[{USER},{{"role":"assistant","content":[{THOUGHT}]}},{USER}]}}',
    "keys repeated below the top": HEAD + '"messages":[{"role":"user","role":"user","content":"x"}]}',
    "shell, html and sql": f'{HEAD}"messages":[{{"role":"user","content":"{PROMPT}"}}]}}',
    "stream and wishes": f'{HEAD}"stream":true,{WISHES},"metadata":{{"user_id":"{{}}"}},"messages":[{USER}]}}',
}


@pytest.mark.parametrize("name", PASSING)
async def test_bodies_reach_the_provider_byte_for_byte(gateway: Gateway, name: str) -> None:
    """Nothing is re-serialised: the provider gets the very bytes that the client sent (B-1 to B-10, B-13)."""
    body = PASSING[name].encode()

    told = await gateway.send(body)

    assert told.status == 200
    assert gateway.simulator.log[-1].body == body


async def test_the_gateways_own_extras_are_cut_out_and_nothing_else(gateway: Gateway) -> None:
    """Every extra of ours is gone, the bytes between are the client's; an alias becomes the provider's name."""
    extras: dict[str, Any] = dict.fromkeys(GATEWAY_EXTRAS, "x") | {
        "provider": {}, "models": [], "plugins": [], "fallbacks": [], "trace": {}, "stop_server_tools_when": []
    }  # fmt: skip
    members = "".join(f', "{name}" : {json.dumps(value)}' for name, value in extras.items())
    tail = ' , "max_tokens":5, "messages" : [{"role":"user","content":"é  x"}] , "zzz" :1 }'

    told = await gateway.send(f'{{ "model" : "anthropic/claude-opus-4.8"{members}{tail}'.encode())

    assert told.status == 200
    assert gateway.simulator.log[-1].body == f'{{ "model" : "{MODEL}"{tail}'.encode()


async def test_fallbacks_stay_when_their_beta_makes_them_the_providers(gateway: Gateway) -> None:
    """With the server-side-fallback beta, `fallbacks` is Anthropic's own field and travels."""
    body = json.dumps(ask(max_tokens=5, fallbacks=[{"model": "claude-sonnet-5"}])).encode()

    await gateway.send(body, anthropic_beta="server-side-fallback-2026-06-01")
    kept = gateway.simulator.log[-1].body
    await gateway.send(body)

    assert kept == body
    assert b"fallbacks" not in (gateway.simulator.log[-1].body or b"fallbacks")


async def test_a_body_may_come_in_chunks(gateway: Gateway) -> None:
    """A chunked request of any cut is the same request."""
    body = json.dumps(ask("é" * 50_000, max_tokens=5), ensure_ascii=False).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 7_001):
            yield body[at : at + 7_001]

    told = await gateway.request("POST", "/api/v1/messages", gateway.headers(), pieces())

    assert told.status == 200
    assert gateway.simulator.log[-1].body == body


async def test_token_counts_answer_a_burst_and_cost_nothing(gateway: Gateway) -> None:
    """25 counts at once are all answered, leave no receipt, hit no rate, and need no max_tokens (E-4)."""
    key, key_hash = gateway.new_key_row(requests_per_minute=1)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 400}], "tools": []}

    told = await asyncio.gather(
        *(gateway.send(body, key=key, path="/api/v1/messages/count_tokens?beta=true") for _ in range(25))
    )

    assert [answer.status for answer in told] == [200] * 25
    assert {tuple(answer.json) for answer in told} == {("input_tokens",)}
    assert all(answer.json["input_tokens"] > 100 for answer in told)
    assert gateway.rows("SELECT id FROM generations WHERE key_hash = :key", key=key_hash) == []


@pytest.mark.parametrize("status", [404, 500, 501])
async def test_token_counts_survive_a_provider_that_cannot_count(gateway: Gateway, status: int) -> None:
    """When no provider counts, a high estimate answers, never an error and never a small number (E-5)."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 4000}]}

    told = await gateway.send(body, path="/v1/messages/count_tokens", simulate={"status": status})

    assert told.status == 200
    assert told.json["input_tokens"] >= 1000


@pytest.mark.parametrize(
    "name",
    ["claude-opus-4-8", "claude-opus-4-8[1m]", "anthropic/claude-opus-4.8", "claude-opus-4.8", "claude-haiku-4-5"],
)
async def test_every_spelling_of_a_model_routes(gateway: Gateway, name: str) -> None:
    """Bare ids, slugs and the [1m] suffix lead to the model; the suffix becomes its beta (M-6)."""
    told = await gateway.send(ask(max_tokens=5, model=name))

    seen = gateway.simulator.log[-1]
    assert told.status == 200
    assert seen.model in {"claude-opus-4-8", "claude-haiku-4-5"}
    assert ("context-1m-2025-08-07" in seen.headers.get("anthropic-beta", "")) == name.endswith("[1m]")


async def test_the_desktop_probe_is_answered_past_every_rate_limit(gateway: Gateway) -> None:
    """The 1-token probe passes when the key's rate is used up, and is paid for like anything else (D-2)."""
    key = gateway.new_key(requests_per_minute=1)
    probe = {"model": "claude-haiku-4-5", "max_tokens": 1, "messages": [{"role": "user", "content": "."}]}

    first, second = [await gateway.send(ask(max_tokens=5), key=key) for _ in range(2)]
    probes = [await gateway.send(probe, key=key) for _ in range(3)]

    assert (first.status, second.status, second.error["type"]) == (200, 429, "rate_limit_error")
    assert 1 <= int(second.headers["retry-after"]) <= 60
    assert [told.status for told in probes] == [200] * 3
    assert gateway.generation(probes[-1].id)["cost_nusd"] > 0
