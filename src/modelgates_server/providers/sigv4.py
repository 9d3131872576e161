"""AWS Signature Version 4, by botocore (providers 12.2).

botocore signs the path as it will be sent, escaped once more: what counts is that exactly the signed URL and the signed
bytes go out, which `outbound` sees to. Only headers are signed that no proxy on the way has a reason to touch.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from modelgates_server.providers.tokens import Refreshing
from modelgates_server.providers.wire import Call, Headers

IN_THREAD_BYTES: Final = 1 << 20
"""A larger body is signed in a thread: 5 MB take 3 ms."""

_SIGNED: Final = ("anthropic-", "x-amz-")
_PROOF: Final = ("authorization", "x-amz-date", "x-amz-security-token")
_ACCESS_KEY: Final = re.compile(r"Credential=([^/]+)/")


class Keys(NamedTuple):
    """AWS credentials at one moment; `token` belongs to those that expire."""

    access_key: str
    secret_key: str
    token: str | None = None


Sign = Callable[[Call, Keys], Headers]


class SigV4Credential:
    """Signs each call with the keys of the moment."""

    def __init__(self, keys: Refreshing[Keys], sign: Sign) -> None:
        self._keys = keys
        self._sign = sign

    async def headers(self, call: Call) -> Headers:
        keys = await self._keys.get()
        if len(call.body) > IN_THREAD_BYTES:
            return await asyncio.to_thread(self._sign, call, keys)
        return self._sign(call, keys)

    async def renew(self, refused: Headers) -> bool:
        proof = dict(refused)
        signed = _ACCESS_KEY.search(proof.get("authorization", ""))
        was = (signed[1] if signed else "", proof.get("x-amz-security-token"))
        return await self._keys.renew(lambda keys: (keys.access_key, keys.token) == was)


def signer(service: str, region: str) -> Sign:
    """What signs calls to an AWS service. Raises ImportError when botocore is not installed."""
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - from an extra
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415

    def sign(call: Call, keys: Keys) -> Headers:
        headers = [(name, value) for name, value in call.headers if name == "content-type" or name.startswith(_SIGNED)]
        request: Any = AWSRequest(call.method, call.url, data=call.body)
        request.headers["host"] = urlsplit(call.url).netloc.rpartition("@")[2]  # as `outbound` says it
        for name, value in headers:
            request.headers[name] = value
        SigV4Auth(keys, service, region).add_auth(request)
        return [(name.lower(), value) for name, value in request.headers.items() if name.lower() in _PROOF]

    return sign
