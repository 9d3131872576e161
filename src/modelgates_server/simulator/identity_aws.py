"""AWS: the machine's metadata server, version 2 only, and the containers' credentials endpoint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from modelgates_server.simulator.asking import Told

if TYPE_CHECKING:
    from modelgates_server.simulator.asking import Asked
    from modelgates_server.simulator.identity import TokenIssuer

SESSION: Final = "/latest/api/token"
ROLES: Final = "/latest/meta-data/iam/security-credentials/"
ZONES: Final = "/latest/meta-data/placement/availability-zone/"
CONTAINER: Final = "/creds"
"""Behind this server's URL, what AWS_CONTAINER_CREDENTIALS_FULL_URI must name."""

_TTL: Final = "x-aws-ec2-metadata-token-ttl-seconds"
_PROOF: Final = "x-aws-ec2-metadata-token"


def answer(issuer: TokenIssuer, asked: Asked) -> Told | None:
    """Answer if the path is AWS's; None if not."""
    if asked.path == SESSION:
        ttl_s = asked.headers.get(_TTL, "")
        if asked.method != "PUT" or not ttl_s.isdigit():
            return Told(400, "Bad Request")
        return Told(200, issuer.session(), [(_TTL.encode(), ttl_s.encode())])
    if asked.path.startswith("/latest/") and asked.method == "GET":
        if not issuer.valid_session(asked.headers.get(_PROOF, "")):
            return Told(401, "Unauthorized")
        return _metadata(issuer, asked.path)
    if asked.path == CONTAINER and asked.method == "GET":
        if issuer.container_token and asked.headers.get("authorization") != issuer.container_token:
            return Told(401, {"code": "AccessDenied", "message": "the authorization token is wrong"})
        arn = f"arn:aws:iam::123456789012:role/{issuer.role}"
        return Told(200, {"RoleArn": arn, **issuer.issue_aws()})
    return None


def _metadata(issuer: TokenIssuer, path: str) -> Told:
    if path.rstrip("/") == ROLES.rstrip("/"):
        return Told(200, issuer.role)
    if path.rstrip("/") == ZONES.rstrip("/"):
        return Told(200, "us-east-1a")
    if path == ROLES + issuer.role:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return Told(200, {"Code": "Success", "LastUpdated": now, "Type": "AWS-HMAC", **issuer.issue_aws()})
    return Told(404, "Not Found")
