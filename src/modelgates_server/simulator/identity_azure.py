"""Azure: managed identity of a machine and of App Service, and Entra's token endpoint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from modelgates_server.simulator.asking import Told

if TYPE_CHECKING:
    from modelgates_server.simulator.asking import Asked
    from modelgates_server.simulator.identity import TokenIssuer

MACHINE: Final = "/metadata/identity/oauth2/token"
"""IMDS: point AZURE_POD_IDENTITY_AUTHORITY_HOST at this server."""

APP_SERVICE: Final = "/msi/token"
"""What IDENTITY_ENDPOINT must name, behind this server's URL."""

_TOKEN: Final = "/oauth2/v2.0/token"  # noqa: S105 - a path
_CONFIGURATION: Final = "/v2.0/.well-known/openid-configuration"
_FEDERATED: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def answer(issuer: TokenIssuer, asked: Asked) -> Told | None:
    """Answer if the path is Azure's; None if not."""
    if asked.path == MACHINE and asked.method == "GET":
        if asked.headers.get("metadata", "").lower() != "true":
            return _refused("invalid_request", "Required metadata header not specified")
        return _managed(issuer, asked)
    if asked.path == APP_SERVICE and asked.method == "GET":
        secret = asked.headers.get("x-identity-header", "")
        if not secret or (issuer.identity_header and secret != issuer.identity_header):
            return Told(401, {"statusCode": 401, "message": "The X-IDENTITY-HEADER is missing or wrong."})
        return _managed(issuer, asked)
    if asked.path.endswith(_TOKEN) and asked.method == "POST":
        return _entra(issuer, asked)
    if asked.path.endswith(_CONFIGURATION):
        base = f"http://{asked.headers.get('host')}{asked.path.removesuffix(_CONFIGURATION)}"
        return Told(
            200,
            {
                "token_endpoint": base + _TOKEN,
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "issuer": f"{base}/v2.0",
            },
        )
    return None


def _managed(issuer: TokenIssuer, asked: Asked) -> Told:
    resource = asked.query.get("resource")
    if not resource or "api-version" not in asked.query:
        return _refused("invalid_request", "Required query variable 'resource' or 'api-version' is missing")
    ends_s = int(time.time() + issuer.lifetime_s)
    told = {
        "access_token": issuer.issue(resource),
        "client_id": asked.query.get("client_id", "00000000-0000-4000-8000-00000000c11e"),
        "expires_in": str(int(issuer.lifetime_s)),
        "expires_on": str(ends_s),
        "resource": resource,
        "token_type": "Bearer",
    }
    return Told(200, told)


def _entra(issuer: TokenIssuer, asked: Asked) -> Told:
    form = asked.form
    if form.get("grant_type") != "client_credentials":
        return _refused("unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
    if not form.get("scope", "").endswith("/.default"):
        return _refused("invalid_scope", "AADSTS1002012: The provided value for scope is not valid.")
    if not _proven(issuer, form):
        return Told(
            401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."}
        )
    lifetime_s = int(issuer.lifetime_s)
    told: dict[str, Any] = {"token_type": "Bearer", "expires_in": lifetime_s, "ext_expires_in": lifetime_s}
    return Told(200, {**told, "access_token": issuer.issue(form["scope"])})


def _proven(issuer: TokenIssuer, form: Any) -> bool:
    """Whether the client has shown its secret, or the token of a federated identity (whose content we trust)."""
    client, secret = form.get("client_id", ""), form.get("client_secret", "")
    if form.get("client_assertion_type") == _FEDERATED:
        return bool(client and form.get("client_assertion"))
    if issuer.clients is None:
        return bool(client and secret)
    return bool(secret) and issuer.clients.get(client) == secret


def _refused(error: str, description: str) -> Told:
    return Told(400, {"error": error, "error_description": description})
