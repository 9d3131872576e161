"""Each adapter over real HTTP against a stand-in for its provider: streams, whole answers, counts, faults and refused credentials."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.unit.providers.google_account import service_account
from tests.unit.providers.provider_samples import ASK, endpoint, kind, outgoing, setup

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.sse import EventSplitter
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers.base import Fault, Outgoing, Provider, Reply
from modelgates_server.providers.kinds import BUILDERS
from modelgates_server.simulator import Simulator, TokenIssuer, serve, serve_identity

pytestmark = pytest.mark.filterwarnings("ignore")

WIRES = {
    "anthropic": "anthropic",
    "claude-on-aws": "claude-on-aws",
    "bedrock": "bedrock",
    "bedrock-invoke": "bedrock-invoke",
    "vertex": "vertex",
    "foundry": "foundry",
    "foundry@azure": "foundry",
    "anthropic-compatible": "compatible",
}
WAYS = [(word, way) for word in WIRES for way in kind(word).auth]
SETTINGS = {
    "region": "us-east-1",
    "workspace_id": "wrkspc_1",
    "resource": "r",
    "project": "p",
    "inference_profile": "global.",
}
BASE = {"bedrock": "/anthropic", "foundry": "/anthropic", "foundry@azure": "/anthropic"}
STREAMED = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
]


class Place(NamedTuple):
    """A provider, what stands in for it, and an endpoint of it."""

    provider: Provider
    simulator: Simulator
    endpoint: Endpoint

    def request(self, body: dict[str, Any] | None = None, **fields: Any) -> Outgoing:
        fields.setdefault("betas", ("context-1m-2025-08-07",))
        return outgoing(self.endpoint, body, **fields)


@pytest.fixture
async def issuer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[TokenIssuer]:
    """Who gives credentials: AWS's metadata server, Azure's App Service, and Google for a service account."""
    issuer = TokenIssuer()
    served = await serve_identity(issuer)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", served.url)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{served.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", service_account(issuer, served.url, tmp_path))
    yield issuer
    await served.stop()


@asynccontextmanager
async def place(word: str, issuer: TokenIssuer, *, api_key: str | None = None, **fields: Any) -> AsyncIterator[Place]:
    """A provider of a kind, with a key or with the credentials of where it runs."""
    hosting = "azure" if word.endswith("@azure") else "anthropic"
    deployments = {"claude-opus-5-5": "claude-opus-5-5"} if word.startswith("foundry") else None
    simulator = Simulator(
        {"the-key"}, wire=WIRES[word], keep_bodies=True, aws=issuer.aws_keys,
        tokens=None if api_key else issuer, hosting=hosting,
        deployments=fields.pop("deployments", deployments),
    )  # fmt: skip
    served = await serve(simulator, "127.0.0.1", 0)
    outbound = Outbound(connect_s=2)
    settings = {**SETTINGS, **({"region": "global"} if word == "vertex" else {}), **fields.pop("settings", {})}
    try:
        configured = setup(word, served.url + BASE.get(word, ""), api_key=api_key, settings=settings)
        provider = BUILDERS[configured.kind.word](configured, outbound)
        yield Place(provider, simulator, endpoint(word, inference_profile=settings["inference_profile"]))
    finally:
        await outbound.close()
        await served.stop()


async def told(reply: Reply, parts: list[bytes] | None = None) -> bytes:
    """All of an answer; `parts` has what came even when it breaks."""
    parts = [] if parts is None else parts
    while part := await reply.read():
        parts.append(part)
    reply.close()
    return b"".join(parts)


def names(stream: bytes, *, foreign: bool) -> list[str]:
    splitter = EventSplitter()
    found = [event.name.decode() for event in splitter.feed(stream)]
    assert splitter.finish() == b""
    found = [name for name in found if name != "ping" and not (foreign and name == "vertex_event")]
    return [name for at, name in enumerate(found) if at == 0 or name != found[at - 1]]


@pytest.fixture(params=WAYS, ids="-".join)
async def here(request: pytest.FixtureRequest, issuer: TokenIssuer) -> AsyncIterator[Place]:
    """Every kind, with a key and with the cloud's credentials where it knows them."""
    word, way = request.param
    async with place(word, issuer, api_key="the-key" if way == "key" else None) as found:
        yield found


async def test_a_stream_comes_in_the_messages_dialect(here: Place) -> None:
    """Whatever the wire is, the events are Anthropic's, and what was sent is what the provider counted."""
    reply = await here.provider.open(here.endpoint, here.request({**ASK, "stream": True}, stream=True))
    stream = await told(reply)

    assert names(stream, foreign=reply.foreign_events) == STREAMED
    assert reply.content_type.startswith("text/event-stream")
    assert b"invocationMetrics" not in stream
    (entry,) = here.simulator.log
    assert (entry.model, entry.outcome, entry.stream) == ("claude-opus-5-5", "completed", True)
    assert entry.upstream_model == here.endpoint.upstream_model
    assert entry.betas == ["context-1m-2025-08-07"]


async def test_a_whole_answer_is_a_message(here: Place) -> None:
    """With the name that the provider gave the request, where it gives one."""
    reply = await here.provider.open(here.endpoint, here.request())
    message = json.loads(await told(reply))
    (entry,) = here.simulator.log

    assert (message["type"], message["usage"]["output_tokens"]) == ("message", entry.usage["output_tokens"])
    assert entry.outcome == "completed"
    if here.endpoint.kind not in {"vertex", "anthropic-compatible"}:
        assert reply.request_id == entry.request_id


async def test_a_count_is_a_number_or_says_that_there_is_none(here: Place) -> None:
    """Bedrock Invoke cannot count a model that needs an inference profile, and compatible servers often cannot at all."""
    request = here.request(drop=frozenset({"max_tokens"}))
    if here.endpoint.kind in {"bedrock-invoke", "anthropic-compatible"}:
        with pytest.raises(Fault) as refused:
            await here.provider.count(here.endpoint, request)
        assert refused.value.status in {404, 405, 501}
    else:
        assert await here.provider.count(here.endpoint, request) > 0


async def test_a_refusal_has_its_status_and_its_words(here: Place) -> None:
    """In whatever shape; only Anthropic's own words are to be trusted."""
    here.simulator.script.append({"status": 429, "retry_after": 7})
    with pytest.raises(Fault) as refused:
        await here.provider.open(here.endpoint, here.request())

    fault = refused.value
    assert (fault.signal, fault.status, fault.retry_after) == ("status", 429, "7")
    assert fault.trusted == (
        here.endpoint.traits.operator == "anthropic" or here.endpoint.kind == "anthropic-compatible"
    )
    assert fault.body


async def test_an_error_within_a_stream_is_an_event(here: Place) -> None:
    """As Anthropic tells it, also where the provider breaks off with an exception of its own."""
    here.simulator.script.append({"error_type": "overloaded_error", "error_at_event": 3})
    reply = await here.provider.open(here.endpoint, here.request({**ASK, "stream": True}, stream=True))
    events = EventSplitter().feed(await told(reply))

    assert events[-1].name == b"error"
    assert json.loads(events[-1].data)["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("word", ["claude-on-aws", "bedrock", "bedrock-invoke", "vertex", "foundry"])
async def test_an_expired_credential_is_replaced_within_the_request(word: str, issuer: TokenIssuer) -> None:
    """The provider refuses it once; a fresh one is fetched, once for all who were refused, and nobody notices."""
    async with place(word, issuer) as found:
        await told(await found.provider.open(found.endpoint, found.request()))
        issuer.expire()
        replies = await asyncio.gather(*(found.provider.open(found.endpoint, found.request()) for _ in range(8)))
        for reply in replies:
            assert b'"message"' in await told(reply)

    assert issuer.issued == 2


async def test_a_credential_that_stays_refused_is_tried_twice(issuer: TokenIssuer) -> None:
    """The refusal is told; the next requests do not ask for tokens again and again."""
    async with place("vertex", issuer) as found:
        other = Simulator(wire="vertex", tokens=TokenIssuer())
        served = await serve(other, "127.0.0.1", 0)
        outbound = Outbound(connect_s=2)
        provider = BUILDERS["vertex"](
            setup("vertex", served.url, settings={"region": "global", "project": "p"}), outbound
        )
        for _ in range(5):
            with pytest.raises(Fault) as refused:
                await provider.open(found.endpoint, found.request())
            assert refused.value.status == 401
        await outbound.close()
        await served.stop()

    assert len(other.log) == 6
    assert issuer.issued == 2


async def test_a_broken_frame_is_told_after_what_came_before(issuer: TokenIssuer) -> None:
    """Bedrock's frames have checksums: a wrong one ends the answer as unreadable, and the events before it were given."""
    async with place("bedrock-invoke", issuer, api_key="the-key") as found:
        found.simulator.script.append({"malformed_at_event": 3})
        reply = await found.provider.open(found.endpoint, found.request({**ASK, "stream": True}, stream=True))
        given: list[bytes] = []
        with pytest.raises(Fault) as broken:
            await told(reply, given)
        reply.close()

    assert broken.value.signal == "unreadable"
    assert names(b"".join(given), foreign=False) == STREAMED[:3]


async def test_an_own_profile_is_called_by_its_arn(issuer: TokenIssuer) -> None:
    """Its slash and its colons survive client, signature and path."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2"
    async with place("bedrock-invoke", issuer, deployments={arn: "claude-opus-5-5"}) as found:
        reply = await found.provider.open(found.endpoint, found.request(model=arn))
        assert json.loads(await told(reply))["type"] == "message"
        assert found.simulator.log[0].upstream_model == arn


async def test_a_model_without_profile_is_counted_by_invoke(issuer: TokenIssuer) -> None:
    """A count names no limit of tokens, which Invoke wants all the same."""
    async with place("bedrock-invoke", issuer, settings={"inference_profile": ""}) as found:
        request = found.request({"model": "claude-opus-5-5", "max_tokens": 9, "messages": ASK["messages"]},
                                drop=frozenset({"max_tokens"}))  # fmt: skip
        assert await found.provider.count(found.endpoint, request) > 0


async def test_large_bodies_arrive_as_they_were_signed(issuer: TokenIssuer) -> None:
    """Three megabytes, signed in a thread and sent as they are."""
    body = {**ASK, "messages": [{"role": "user", "content": "word " * 600_000}]}
    async with place("claude-on-aws", issuer) as found:
        request = found.request(body)
        assert json.loads(await told(await found.provider.open(found.endpoint, request)))["type"] == "message"
        assert found.simulator.log[0].body == request.body()
