"""What the tests of the clouds' wires share: signing as botocore does, reading frames as botocore does."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer
from tests.unit.simulator.simulator_caller import Answered, Caller
from yarl import URL

KEYS = {"AKIASIMULATED": "secret-of-the-simulated-account"}
ASK: dict[str, Any] = {"max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
VERSION = {"anthropic-version": "2023-06-01"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 6_000_000}}
URL_IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}


def said(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    """One user message of these blocks."""
    return [{"role": "user", "content": list(blocks)}]


def signed(
    url: str,
    body: bytes,
    service: str,
    *,
    secret: str | None = None,
    region: str = "us-east-1",
    key_id: str = "AKIASIMULATED",
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, str]:
    """Headers with a signature by botocore."""
    sent = {"content-type": "application/json", **(headers or {})}
    request = AWSRequest(method="POST", url=url, data=body, headers=sent)
    SigV4Auth(Credentials(key_id, secret or KEYS[key_id], token), service, region).add_auth(request)
    return dict(request.headers.items())


async def post(caller: Caller, path: str, body: Any, headers: dict[str, str]) -> Answered:
    """POST with exactly these headers, and the path as it is written."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json", **headers}
    url = URL(caller.url + path, encoded=True)
    async with caller.session.post(url, data=io.BytesIO(data), headers=sent) as response:
        read = b""
        broken = False
        try:
            async for chunk in response.content.iter_any():
                read += chunk
        except aiohttp.ClientError:
            broken = True
        return Answered(response.status, {k.lower(): v for k, v in response.headers.items()}, read, broken)


def frames(raw: bytes) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Every complete frame as (headers, payload), with the payload of chunks decoded. Raises on a wrong checksum."""
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    found = []
    for message in buffer:
        payload = json.loads(message.payload or b"{}")
        found.append((message.headers, json.loads(base64.b64decode(payload["bytes"])) if "p" in payload else payload))
    return found
