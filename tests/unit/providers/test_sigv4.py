"""Signatures against a computation of our own from what goes over the wire, and against what botocore's client sends."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.session import Session
from tests.unit.providers.provider_samples import endpoint, outgoing

from modelgates_server.providers.bedrock_invoke import InvokeWire
from modelgates_server.providers.sigv4 import IN_THREAD_BYTES, Keys, SigV4Credential, signer
from modelgates_server.providers.tokens import Granted, Refreshing
from modelgates_server.providers.wire import Call

KEYS = Keys("AKIAEXAMPLE", "secret/with+signs")
SESSION = Keys("ASIAEXAMPLE", "another", "session-token==")
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2"
HEADERS = [
    ("user-agent", "x"),
    ("content-type", "application/json"),
    ("accept", "*/*"),
    ("accept-encoding", "identity"),
]
BODY = '{"messages":"Ünï"}'.encode()


def judged(url: str, headers: dict[str, str], body: bytes, secret: str) -> bool:
    """Whether a POST is signed rightly, as a server sees it: its path escaped once more (providers 12.2)."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=\w+/((\d{8})/([\w-]+)/([\w-]+)/aws4_request), "
        r"SignedHeaders=([\w;-]+), Signature=([0-9a-f]{64})", headers["authorization"],
    )  # fmt: skip
    assert found is not None
    parts = urlsplit(url)
    lines = [f"{name}:{' '.join(headers[name].split())}\n" for name in found[5].split(";")]
    query = "&".join(sorted(pair if "=" in pair else f"{pair}=" for pair in parts.query.split("&") if pair))
    path = quote(parts.path, safe="/~")
    request = "\n".join(["POST", path, query, "".join(lines), found[5], hashlib.sha256(body).hexdigest()])
    text = "\n".join(
        ["AWS4-HMAC-SHA256", headers["x-amz-date"], found[1], hashlib.sha256(request.encode()).hexdigest()]
    )
    key = f"AWS4{secret}".encode()
    for part in (found[2], found[3], found[4], "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest() == found[6]


def received(call: Call, proof: list[tuple[str, str]]) -> dict[str, str]:
    return {"host": urlsplit(call.url).netloc, **dict(call.headers), **dict(proof)}


@pytest.mark.parametrize("keys", [KEYS, SESSION])
@pytest.mark.parametrize(
    "url",
    [
        "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages",
        "https://aws-external-anthropic.us-east-1.api.aws/v1/messages?beta=true",
        "https://h/v1/messages?b=2&a=1&a=0&c",
        f"https://h/model/{quote(ARN, safe='')}/invoke",
        "https://h/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/invoke-with-response-stream",
        "https://h/model/us.anthropic.claude-haiku-4-5-20251001-v1:0/invoke",
        "https://h/model/a%20b%2Fc~d/invoke",
        "http://127.0.0.1:8080/model/x/invoke",
        "https://h:443/v1/messages",
    ],
)
@pytest.mark.parametrize("body", [BODY, b"{}"])
def test_what_is_signed_is_what_goes_out(url: str, keys: Keys, body: bytes) -> None:
    """Queries, escapes, ports and session tokens: a server that knows the secret agrees."""
    call = Call("POST", url, [*HEADERS, ("anthropic-workspace-id", "w")], body)
    proof = signer("bedrock", "us-east-1")(call, keys)

    assert judged(url, received(call, proof), body, keys.secret_key)
    assert not judged(url, received(call, proof), body + b" ", keys.secret_key)
    assert dict(proof).get("x-amz-security-token") == keys.token


def test_only_what_no_proxy_touches_is_signed() -> None:
    """A proxy may change the user agent or the encoding; nothing of that may break the signature."""
    more = [("anthropic-version", "2023-06-01"), ("anthropic-beta", "a,b"), ("x-app", "cli"), ("traceparent", "00")]
    proof = dict(signer("s", "r")(Call("POST", "https://h/", [*HEADERS, *more], BODY), KEYS))

    signed = re.search(r"SignedHeaders=([^,]+)", proof["authorization"])
    assert signed is not None
    assert signed[1] == "anthropic-beta;anthropic-version;content-type;host;x-amz-date"


@pytest.mark.parametrize(
    "model", [ARN, "us.anthropic.claude-haiku-4-5-20251001-v1:0", "global.anthropic.claude-opus-5-5"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_address_is_the_one_that_botocores_client_uses(model: str, stream: bool) -> None:
    """The vendor's whole client, stopped before it sends: the same address, and its signature passes the same judge."""
    session = Session()
    session.set_credentials(SESSION.access_key, SESSION.secret_key, SESSION.token)
    client: Any = session.create_client("bedrock-runtime", region_name="us-east-1")
    seen: list[Any] = []

    def stop(request: Any, **_: Any) -> Any:
        seen.append(request)
        raise ConnectionAbortedError

    client.meta.events.register("before-send.bedrock-runtime", stop)
    act = client.invoke_model_with_response_stream if stream else client.invoke_model
    with pytest.raises(ConnectionAbortedError):
        act(modelId=model, body=BODY, contentType="application/json")
    theirs = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in seen[0].headers.items()
    }

    at = endpoint("bedrock-invoke")
    ours = InvokeWire("https://bedrock-runtime.us-east-1.amazonaws.com").messages(
        at, outgoing(at, model=model, stream=stream)
    )
    proof = signer("bedrock", "us-east-1")(ours, SESSION)

    assert ours.url == seen[0].url
    host = {"host": urlsplit(ours.url).netloc}
    assert judged(seen[0].url, {**host, **theirs}, seen[0].body, SESSION.secret_key)
    assert judged(ours.url, received(ours, proof), ours.body, SESSION.secret_key)


async def test_large_bodies_are_signed_in_a_thread() -> None:
    """Five megabytes take milliseconds: the loop goes on meanwhile, and the signature is the same."""
    threads: list[bool] = []
    loop = asyncio.get_running_loop()
    sign = signer("bedrock", "us-east-1")

    def noting(call: Call, keys: Keys) -> list[tuple[str, str]]:
        try:
            threads.append(asyncio.get_running_loop() is not loop)
        except RuntimeError:
            threads.append(True)
        return sign(call, keys)

    credential = SigV4Credential(Refreshing("keys", lambda _: Granted(KEYS, float("inf"))), noting)
    for body in (b"x" * IN_THREAD_BYTES, b"x" * (5 << 20)):
        call = Call("POST", "https://h/", HEADERS, body)
        assert judged(call.url, received(call, await credential.headers(call)), body, KEYS.secret_key)
    assert threads == [False, True]


async def test_refused_keys_are_replaced_once() -> None:
    """Another key, or another session of the same key, is reason to try again; the same one is not."""
    given = [KEYS, SESSION, Keys(*SESSION[:2], "renewed")]
    credential = SigV4Credential(Refreshing("keys", lambda _: Granted(given.pop(0), float("inf"))), signer("s", "r"))
    call = Call("POST", "https://h/", HEADERS, BODY)
    first = await credential.headers(call)

    assert await credential.renew(first)
    second = await credential.headers(call)
    assert dict(second)["x-amz-security-token"] == SESSION.token
    assert await credential.renew(first)  # somebody else's late refusal: there is something newer already
    assert not await credential.renew(second)  # too soon for another
