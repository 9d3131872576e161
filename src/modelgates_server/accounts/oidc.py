"""OpenID Connect, the pure part: what is asked of an identity provider, and when its answer may be believed.

Authorization code flow with PKCE. Sources: OpenID Connect Core 1.0 (3.1.2.1, 3.1.3.7, 5.3), Discovery 1.0, RFC 7636, RFC 9207,
RFC 8725. Signatures are checked by PyJWT with the keys that the provider publishes; the claims are checked here, at a time that is given.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from modelgates_server.errors import IdentityFailed, Unauthenticated
from modelgates_server.privacy import visible

ALGORITHMS: Final = ("RS256", "ES256", "PS256", "EdDSA")
"""Signatures with a public key only: with HS256 whoever knows the client's secret could write tokens, and none is no signature."""

BEGUN_S: Final = 600
"""How long somebody may take at the provider."""

LEEWAY_S: Final = 60
"""How far the provider's clock may be from ours."""

TOKEN_CHARACTERS_MAX: Final = 64 * 1024
KEYS_MAX: Final = 100
SUBJECT_CHARACTERS_MAX: Final = 255
NAME_CHARACTERS_MAX: Final = 100

_AGAIN: Final = "go back and sign in again"
_ASK: Final = "ask whoever runs this gateway to check [sign_in]"


@dataclass(frozen=True, slots=True)
class Client:
    """What the operator agreed with the identity provider. `name` is on the button.

    Whoever has a verified address in one of `join_domains` may join as a member.
    """

    issuer: str
    id: str
    secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    join_domains: tuple[str, ...] = ()
    name: str = "single sign-on"


@dataclass(frozen=True, slots=True)
class Provider:
    """Where an identity provider is, by its own discovery document. `token_auth` is basic, post or none."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    token_auth: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that somebody began: what comes back must fit it. `next` is the path that they wanted to see."""

    state: str
    nonce: str
    verifier: str
    next: str
    until_s: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, by the provider's word. `subject` is the issuer, a space, and their id there."""

    subject: str
    email: str | None
    email_verified: bool
    name: str | None


def load() -> None:
    """Import what checks signatures: whoever has no identity provider needs none of it, and a running loop should not wait for it."""
    import jwt  # noqa: F401, PLC0415


def begin(next_path: str, now_s: float) -> Begun:
    """Begin a sign-in: 256 random bits each for the state, the nonce and the verifier."""
    return Begun(
        secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32), next_path, int(now_s) + BEGUN_S
    )


def seal(secret: bytes, begun: Begun) -> str:
    """Write a sign-in down for the browser that began it, so that nobody changes it and nothing is stored here."""
    body = json.dumps([begun.state, begun.nonce, begun.verifier, begun.next, begun.until_s]).encode()
    text = base64.urlsafe_b64encode(body).decode().rstrip("=")
    return f"{text}.{_mac(secret, text)}"


def unseal(secret: bytes, sealed: str, now_s: float) -> Begun | None:
    """Read what `seal` wrote; None for anything else, and when it took too long."""
    text, _, mac = sealed.rpartition(".")
    if not sealed.isascii() or not hmac.compare_digest(_mac(secret, text), mac):
        return None
    begun = Begun(*json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    return begun if begun.until_s > now_s else None


def discovery_url(issuer: str) -> str:
    """Where a provider describes itself."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def read_provider(client: Client, document: bytes) -> Provider:
    """Read a discovery document. Raises IdentityFailed when it is not that of the client's issuer, or lacks something."""
    told = _object(document, "the identity provider's description")
    issuer = told.get("issuer")
    if not isinstance(issuer, str) or issuer.rstrip("/") != client.issuer.rstrip("/"):
        raise IdentityFailed(
            f"the identity provider calls itself {visible(str(issuer), 200)!r}, not {client.issuer!r}", remedy=_ASK
        )
    methods = told.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    way = "none" if client.secret is None else "basic"
    if client.secret is not None and isinstance(methods, list) and "client_secret_basic" not in methods:
        way = "post"
    userinfo = told.get("userinfo_endpoint")
    return Provider(
        issuer,
        _address(client, told, "authorization_endpoint"),
        _address(client, told, "token_endpoint"),
        _address(client, told, "jwks_uri"),
        None if userinfo is None else _address(client, told, "userinfo_endpoint"),
        way,
    )


def read_keys(document: bytes) -> tuple[Mapping[str, Any], ...]:
    """Read the provider's keys that may sign. Raises IdentityFailed."""
    keys = _object(document, "the identity provider's list of keys").get("keys")
    if not isinstance(keys, list):
        raise IdentityFailed("the identity provider's list of keys holds none")
    return tuple(key for key in keys[:KEYS_MAX] if isinstance(key, dict) and key.get("use", "sig") == "sig")


def authorization_url(client: Client, provider: Provider, begun: Begun, redirect_uri: str) -> str:
    """Where the browser is sent to sign in."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(client.scopes),
        "state": begun.state,
        "nonce": begun.nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    joint = "&" if urlsplit(provider.authorization_endpoint).query else "?"
    return f"{provider.authorization_endpoint}{joint}{urlencode(asked)}"


def token_request(
    client: Client, provider: Provider, code: str, begun: Begun, redirect_uri: str
) -> tuple[list[tuple[str, str]], bytes]:
    """The headers and the body with which a code is exchanged for tokens."""
    sent = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    sent |= {"code_verifier": begun.verifier}
    headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")]
    if provider.token_auth == "basic" and client.secret is not None:  # noqa: S105 - a way, not a password
        pair = f"{quote_plus(client.id)}:{quote_plus(client.secret)}"  # RFC 6749 2.3.1
        headers.append(("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"))
    else:
        sent["client_id"] = client.id
        if client.secret is not None:
            sent["client_secret"] = client.secret
    return headers, urlencode(sent).encode()


def read_tokens(document: bytes) -> tuple[str, str | None]:
    """Read the answer to `token_request`: the ID token, and the access token if there is one. Raises IdentityFailed."""
    told = _object(document, "the identity provider's answer")
    token, access = told.get("id_token"), told.get("access_token")
    if not isinstance(token, str):
        raise IdentityFailed("the identity provider gave no ID token", remedy="[sign_in] oidc_scopes must hold openid")
    return token, access if isinstance(access, str) else None


def key_id(token: str) -> str | None:
    """The id of the key that a token says it is signed with. Raises Unauthenticated when it is no token."""
    import jwt  # noqa: PLC0415 - see `load`

    try:
        found = jwt.get_unverified_header(token[:TOKEN_CHARACTERS_MAX]).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _bad("it is no token") from error
    return found if isinstance(found, str) else None


def read_id_token(
    token: str, keys: Sequence[Mapping[str, Any]], client: Client, provider: Provider, nonce: str, now_s: float
) -> Mapping[str, Any]:
    """Check an ID token and give its claims. Raises Unauthenticated with what is wrong with it."""
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise _bad("it is too long")
    claims = _signed(token, keys)
    if claims.get("iss") != provider.issuer:
        raise _bad("another issuer wrote it")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    if client.id not in audiences:
        raise _bad("it is meant for another application")
    if claims.get("azp", client.id if len(audiences) == 1 else None) != client.id:
        raise _bad("it was given to another application")
    _check_times(claims, now_s)
    told = claims.get("nonce")
    if not isinstance(told, str) or not hmac.compare_digest(told.encode(errors="replace"), nonce.encode()):
        raise _bad("it answers another sign-in")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX or not subject.isprintable():
        raise _bad("it names nobody")
    return claims


def is_complete(claims: Mapping[str, Any]) -> bool:
    """Whether claims hold an address, and say whether it is verified; if not, the provider may say it when it is asked."""
    return "email" in claims and _verified(claims) is not None


def read_identity(provider: Provider, claims: Mapping[str, Any], more: bytes | None = None) -> Identity:
    """Who the claims are about. `more` is what the provider says of them besides (UserInfo), if it was asked.

    Raises Unauthenticated when that is about somebody else.
    """
    told, besides = claims, {} if more is None else _object(more, "the identity provider's answer")
    if more is not None and besides.get("sub") != claims["sub"]:
        raise Unauthenticated("The identity provider spoke of two different people.", remedy=_AGAIN)
    if not is_complete(claims) and "email" in besides:
        told = besides  # an address and whether it is verified come from one place
    email, name = told.get("email"), told.get("name") or claims.get("name") or besides.get("name")
    verified = _verified(told)
    return Identity(
        f"{provider.issuer} {claims['sub']}",
        email.strip().lower() if isinstance(email, str) else None,
        verified in (True, "true", "1"),
        visible(name, NAME_CHARACTERS_MAX) if isinstance(name, str) else None,
    )


def _signed(token: str, keys: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The claims of a token that one of the keys signed. The key says what it is for; the token cannot choose that."""
    import jwt  # noqa: PLC0415 - see `load`

    named = key_id(token)
    algorithm = jwt.get_unverified_header(token).get("alg")
    if algorithm not in ALGORITHMS:
        raise _bad("it is not signed in a way that is taken here")
    fitting = [key for key in keys if named is None or key.get("kid") == named]
    if len(fitting) != 1:
        raise _bad("the provider does not know the key that it is signed with")
    if fitting[0].get("alg", algorithm) != algorithm:
        raise _bad("its key is for other signatures")
    try:
        key = jwt.PyJWK(dict(fitting[0]), algorithm)
        options: Any = {
            "verify_signature": True, "enforce_minimum_key_length": True, "verify_exp": False, "verify_nbf": False,
            "verify_iat": False, "verify_aud": False, "verify_iss": False, "verify_sub": False, "verify_jti": False,
        }  # fmt: skip
        claims: Mapping[str, Any] = jwt.decode(token, key, algorithms=[algorithm], options=options)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _bad("its signature is wrong") from error
    return claims


def _check_times(claims: Mapping[str, Any], now_s: float) -> None:
    expires, issued, begins = (_moment(claims.get(name)) for name in ("exp", "iat", "nbf"))
    if expires is None or expires <= now_s - LEEWAY_S:
        raise _bad("it has expired")
    if issued is None or not now_s - BEGUN_S - LEEWAY_S <= issued <= now_s + LEEWAY_S:
        raise _bad("it was not written just now; the provider's clock and ours may differ")
    if "nbf" in claims and (begins is None or begins > now_s + LEEWAY_S):
        raise _bad("it is not valid yet")


def _moment(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def _object(document: bytes, what: str) -> dict[str, Any]:
    try:
        told = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise IdentityFailed(f"{what} is no JSON") from error
    if not isinstance(told, dict):
        raise IdentityFailed(f"{what} is no JSON object")
    return told


def _address(client: Client, told: Mapping[str, Any], name: str) -> str:
    """An address of the provider; plain http only where the operator chose it for the issuer itself."""
    value = told.get(name)
    schemes = ("https", "http") if client.issuer.startswith("http://") else ("https",)
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        usable = parts.scheme in schemes and bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment
    except ValueError:
        usable = False
    if not usable or not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise IdentityFailed(f"the identity provider's {name} is no address that can be used", remedy=_ASK)
    return value


def _verified(claims: Mapping[str, Any]) -> Any:
    return claims.get("email_verified", claims.get("xms_edov"))  # the latter at Microsoft Entra


def _mac(secret: bytes, text: str) -> str:
    return hmac.new(secret, b"oidc:" + text.encode(), hashlib.sha256).hexdigest()


def _bad(reason: str) -> Unauthenticated:
    return Unauthenticated(f"The identity provider's token cannot be taken: {reason}.", remedy=_AGAIN)
