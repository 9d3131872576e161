"""AWS signatures, recomputed by botocore from what arrived: the vendor's own code is the judge (providers 12.2)."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from modelgates_server.simulator.request import Refused

if TYPE_CHECKING:
    from modelgates_server.simulator.call import Call

SKEW_S_MAX: Final = 300
"""AWS refuses a signature that is more than five minutes old or early."""

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{64})\s*$"
)
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class AwsKeys(dict[str, str]):
    """Access key ids with their secrets; temporary ones also with their session token and the end of their life."""

    def __init__(self) -> None:
        super().__init__()
        self.session: dict[str, tuple[str, float]] = {}
        """Access key id -> session token and Unix seconds of its end."""


def refuse(code: str, message: str) -> Refused:
    """A credential that AWS does not accept."""
    return Refused(403, "authentication_error", message, code)


class _Claim(NamedTuple):
    """What the Authorization header says."""

    key_id: str
    day: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str


class Judge:
    """Verifies signatures for one region and some names of one service. Raises RuntimeError without botocore."""

    def __init__(self, keys: Mapping[str, str], region: str, services: frozenset[str]) -> None:
        self._keys = keys
        self._region = region
        self._services = services
        self._auth = _botocore("auth")
        self._request = _botocore("awsrequest")
        self._credentials = _botocore("credentials")

    def verify(self, call: Call, body: bytes) -> str:
        """Give the access key id of a good signature; raise Refused for any other."""
        claim = _read(call.header(b"authorization"))
        secret = self._keys.get(claim.key_id)
        if secret is None:
            raise refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
        self._check_scope(claim)
        stamp = _check_date(call.header(b"x-amz-date"), claim.day)
        self._check_session(claim.key_id, call.header(b"x-amz-security-token"))
        told = call.header(b"x-amz-content-sha256")
        if told and told not in (hashlib.sha256(body).hexdigest(), "UNSIGNED-PAYLOAD"):
            raise refuse("InvalidSignatureException", _MISMATCH)
        _check_coverage(call, claim)
        if not hmac.compare_digest(self._sign(call, claim, secret, stamp, body), claim.signature):
            raise refuse("InvalidSignatureException", _MISMATCH)
        return claim.key_id

    def _sign(self, call: Call, claim: _Claim, secret: str, stamp: str, body: bytes) -> str:
        scope = call.scope
        query = scope["query_string"].decode("latin-1")
        path = scope["raw_path"].decode("latin-1")
        url = f"http://{call.header(b'host')}{path}{'?' + query if query else ''}"
        request: Any = self._request.AWSRequest(method=scope["method"], url=url, data=body)
        for name, value in scope["headers"]:
            if name.decode("latin-1") in claim.signed:
                request.headers.add_header(name.decode("latin-1"), value.decode("latin-1"))
        request.context["timestamp"] = stamp
        credentials = self._credentials.Credentials(claim.key_id, secret)
        signer: Any = self._auth.SigV4Auth(credentials, claim.service, claim.region)
        canonical = signer.canonical_request(request)
        return str(signer.signature(signer.string_to_sign(request, canonical), request))

    def _check_scope(self, claim: _Claim) -> None:
        if claim.region != self._region:
            message = f"Credential should be scoped to a valid region, not '{claim.region}'."
            raise refuse("InvalidSignatureException", message)
        if claim.service not in self._services:
            message = f"Credential should be scoped to correct service: '{min(self._services)}'."
            raise refuse("InvalidSignatureException", message)

    def _check_session(self, key_id: str, token: str) -> None:
        session = self._keys.session.get(key_id) if isinstance(self._keys, AwsKeys) else None
        if session is None:
            return  # a standing key: a session token beside it is tolerated
        expected, until_s = session
        if not hmac.compare_digest(token.encode(), expected.encode()):
            raise refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
        if time.time() >= until_s:
            raise refuse("ExpiredTokenException", "The security token included in the request is expired")


def _botocore(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"botocore.{name}")
    except ImportError as error:
        raise RuntimeError("Simulator(aws=...) verifies signatures with botocore: pip install botocore") from error


def _read(authorization: str) -> _Claim:
    found = _AUTHORIZATION.match(authorization)
    parts = found[1].split("/") if found else []
    if found is None or len(parts) != 5 or parts[4] != "aws4_request":
        message = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters."
        raise refuse("IncompleteSignatureException", message)
    key_id, day, region, service, _ = parts
    return _Claim(key_id, day, region, service, tuple(found[2].split(";")), found[3])


def _check_date(stamp: str, day: str) -> str:
    try:
        signed_s = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        message = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        raise refuse("IncompleteSignatureException", message) from error
    if stamp[:8] != day:
        message = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
        raise refuse("InvalidSignatureException", message)
    if abs(time.time() - signed_s) > SKEW_S_MAX:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        raise refuse("InvalidSignatureException", f"Signature expired: {stamp} is now earlier than {now} (5 min.)")
    return stamp


def _check_coverage(call: Call, claim: _Claim) -> None:
    """AWS wants the host and its own headers to be signed."""
    sent = {name.decode("latin-1") for name, _ in call.scope["headers"]}
    needed = {"host", *(name for name in sent if name.startswith("x-amz-"))}
    if not needed <= set(claim.signed) or not set(claim.signed) <= sent:
        raise refuse("InvalidSignatureException", _MISMATCH)
