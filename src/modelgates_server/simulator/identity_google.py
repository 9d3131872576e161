"""Google: the OAuth token endpoint and the metadata server. google-auth judges assertions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from modelgates_server.simulator.asking import Told

if TYPE_CHECKING:
    from modelgates_server.simulator.asking import Asked
    from modelgates_server.simulator.identity import TokenIssuer

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_S_MAX: Final = 3600
"""Google takes no assertion that lives longer."""

_METADATA: Final = "/computeMetadata/v1/"
_FLAVOR: Final = [(b"metadata-flavor", b"Google"), (b"server", b"Metadata Server for VM")]


def answer(issuer: TokenIssuer, asked: Asked) -> Told | None:
    """Answer if the path is Google's; None if not."""
    if asked.path == "/token" and asked.method == "POST":
        return _token(issuer, asked)
    if asked.path in ("/", "/computeMetadata", "/computeMetadata/"):
        return Told(200, "computeMetadata/\n", _FLAVOR)  # how the library finds out whether it is at home
    if asked.path.startswith(_METADATA):
        if asked.headers.get("metadata-flavor") != "Google":
            return Told(403, "Missing Metadata-Flavor:Google header.", _FLAVOR)
        return _metadata(issuer, asked)
    return None


def _token(issuer: TokenIssuer, asked: Asked) -> Told:
    match asked.form.get("grant_type"):
        case grant if grant == JWT_BEARER:
            claims = _claims(issuer, asked.form.get("assertion", ""))
            if isinstance(claims, str):
                return Told(400, {"error": "invalid_grant", "error_description": claims})
            scope = claims.get("scope", "")
            if not scope:
                return Told(400, {"error": "invalid_scope", "error_description": "Empty or missing scope."})
        case "refresh_token":
            token = asked.form.get("refresh_token", "")
            known = token in issuer.refresh_tokens if issuer.refresh_tokens is not None else bool(token)
            if not known or not asked.form.get("client_id"):
                return Told(400, {"error": "invalid_grant", "error_description": "Bad Request"})
            scope = asked.form.get("scope", SCOPE)
        case other:
            return Told(400, {"error": "unsupported_grant_type", "error_description": f"Invalid grant_type: {other}"})
    return Told(200, {**_bearer(issuer, scope), "scope": scope})


def _bearer(issuer: TokenIssuer, scope: str) -> dict[str, Any]:
    return {"access_token": issuer.issue(scope), "expires_in": int(issuer.lifetime_s), "token_type": "Bearer"}


def _claims(issuer: TokenIssuer, assertion: str) -> dict[str, Any] | str:
    """Give the claims of a good assertion, or what is wrong with it."""
    jwt: Any = importlib.import_module("google.auth.jwt")
    errors: Any = importlib.import_module("google.auth.exceptions")
    try:
        unproven = jwt.decode(assertion, verify=False)
        key = issuer.trusted.get(str(unproven.get("iss")))
        if key is None:
            return "Invalid grant: account not found"
        if jwt.decode_header(assertion).get("alg") != "RS256":
            return "Invalid JWT: the algorithm must be RS256."
        claims: dict[str, Any] = jwt.decode(assertion, certs=key)
    except (ValueError, errors.GoogleAuthError) as error:
        return f"Invalid JWT Signature. {error}"
    if not str(claims.get("aud", "")).endswith("/token"):
        return "Invalid JWT: Failed audience check."
    if claims["exp"] - claims["iat"] > ASSERTION_S_MAX:
        return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    return claims


def _metadata(issuer: TokenIssuer, asked: Asked) -> Told:
    path = asked.path.removeprefix(_METADATA).rstrip("/")
    accounts, _, rest = path.partition("instance/service-accounts/")
    account, _, leaf = rest.partition("/")
    if not accounts and account in ("default", issuer.email):
        if leaf == "token":
            return Told(200, _bearer(issuer, asked.query.get("scopes", SCOPE)), _FLAVOR)
        about: Any = {"aliases": ["default"], "email": issuer.email, "scopes": [SCOPE]}
        if leaf == "email":
            return Told(200, issuer.email, _FLAVOR)
        return Told(200, about if not leaf else f"{SCOPE}\n", _FLAVOR)
    known = {
        "project/project-id": issuer.project,
        "project/numeric-project-id": "123456789012",
        "universe/universe-domain": "googleapis.com",
        "instance/zone": "projects/123456789012/zones/us-east1-b",
        "instance/service-accounts": f"default/\n{issuer.email}/\n",
        "instance": "service-accounts/\n",
    }
    return Told(200, known[path], _FLAVOR) if path in known else Told(404, "Not found", _FLAVOR)
