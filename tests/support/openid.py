"""An identity provider (OpenID Connect) that is not ours: real keys, real HTTP on loopback, and lies on demand. Imports nothing of ours.

Written from OpenID Connect Core and RFC 7636; tokens are signed by hand, so that no library of ours checks its own work.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlencode

from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

CLIENT_ID = "gate way"
CLIENT_SECRET = "s3cret/with+odd=chars"

Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8))


@dataclass(frozen=True)
class Key:
    """A signing key and how it is published."""

    kid: str
    alg: str
    private: Any

    @property
    def jwk(self) -> Json:
        public = self.private.public_key()
        named = {"kid": self.kid, "alg": self.alg, "use": "sig"}
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return named | {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        if isinstance(public, ec.EllipticCurvePublicKey):
            point = public.public_numbers()
            return named | {"kty": "EC", "crv": "P-256", "x": b64(point.x.to_bytes(32)), "y": b64(point.y.to_bytes(32))}
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return named | {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}

    def sign(self, data: bytes) -> bytes:
        if self.alg == "RS256":
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if self.alg == "PS256":
            return self.private.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        if self.alg == "ES256":
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)
        return self.private.sign(data)

    @property
    def public_pem(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form)


def new_key(kid: str = "k1", alg: str = "RS256") -> Key:
    if alg == "ES256":
        return Key(kid, alg, ec.generate_private_key(ec.SECP256R1()))
    if alg == "EdDSA":
        return Key(kid, alg, ed25519.Ed25519PrivateKey.generate())
    return Key(kid, alg, rsa.generate_private_key(65537, 2048))


def token(header: Json, claims: Json, sign: Callable[[bytes], bytes]) -> str:
    """A signed token, written by hand."""
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{text}.{b64(sign(text.encode()))}"


def honest(key: Key, claims: Json) -> str:
    return token({"alg": key.alg, "kid": key.kid, "typ": "JWT"}, claims, key.sign)


def unsigned(key: Key, claims: Json) -> str:
    """The oldest lie: no signature at all."""
    return token({"alg": "none", "kid": key.kid}, claims, lambda _: b"")


def confused(key: Key, claims: Json) -> str:
    """Signed with the public key as if that were a shared secret."""
    sign = lambda data: hmac.new(key.public_pem, data, hashlib.sha256).digest()  # noqa: E731
    return token({"alg": "HS256", "kid": key.kid}, claims, sign)


@dataclass
class Person:
    """Who is signed in at the provider."""

    sub: str = "u-1"
    email: str | None = "ann@example.com"
    email_verified: Any = True
    name: str | None = "Ann"

    def claims(self) -> Json:
        told = {"email": self.email, "email_verified": self.email_verified, "name": self.name}
        return {name: value for name, value in told.items() if value is not None}


@dataclass
class OpenIdProvider:
    """The provider. `change` rewrites the claims of ID tokens, `write` signs them; both are honest at first."""

    key: Key = field(default_factory=new_key)
    person: Person = field(default_factory=Person)
    change: Callable[[Json], Json] = lambda claims: claims
    write: Callable[[Key, Json], str] = honest
    claims_in_token: bool = True
    codes_again: bool = False
    describe: Callable[[Json], Json] = lambda told: told
    userinfo: Callable[[Json], Json] = lambda told: told
    url: str = ""
    log: list[str] = field(default_factory=list)
    asked: list[Json] = field(default_factory=list)
    away: bool = False
    _codes: dict[str, Json] = field(default_factory=dict)
    _access: set[str] = field(default_factory=set)
    _used: set[str] = field(default_factory=set)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/.well-known/openid-configuration", self._describe)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_get("/userinfo", self._userinfo)
        return app

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.log.append(request.path)
        if self.away:
            return web.Response(status=503)
        return await handler(request)

    async def _describe(self, _request: web.Request) -> web.Response:
        paths = {
            "authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks",
            "userinfo_endpoint": "userinfo",
        }  # fmt: skip
        told: Json = {"issuer": self.url} | {name: f"{self.url}/{path}" for name, path in paths.items()}
        return web.json_response(self.describe(told))

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [self.key.jwk]})

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        self.asked.append(asked)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"], "iss": self.url})
        raise web.HTTPFound(f"{asked['redirect_uri']}?{back}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        kind, _, pair = request.headers.get("authorization", "").partition(" ")
        given = base64.b64decode(pair).decode().split(":") if kind == "Basic" else []
        if [unquote_plus(part) for part in given] != [CLIENT_ID, CLIENT_SECRET]:
            return web.json_response({"error": "invalid_client"}, status=401)
        code = str(form["code"])
        asked = self._codes.get(code)
        if asked is None or (code in self._used and not self.codes_again):
            return web.json_response({"error": "invalid_grant"}, status=400)
        self._used.add(code)
        challenge = b64(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        if challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        access = secrets.token_urlsafe(16)
        self._access.add(access)
        return web.json_response(
            {"id_token": self.id_token(asked["nonce"]), "access_token": access, "token_type": "Bearer"}
        )

    async def _userinfo(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self._access:
            return web.Response(status=401)
        return web.json_response(self.userinfo({"sub": self.person.sub} | self.person.claims()))

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims: Json = {
            "iss": self.url, "sub": self.person.sub, "aud": CLIENT_ID, "exp": now + 300, "iat": now, "nonce": nonce,
        }  # fmt: skip
        if self.claims_in_token:
            claims |= self.person.claims()
        return self.write(self.key, self.change(claims))


@asynccontextmanager
async def open_provider() -> AsyncIterator[OpenIdProvider]:
    """A provider on a free port."""
    provider = OpenIdProvider()
    runner = web.AppRunner(provider.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    provider.url = f"http://{host}:{port}"
    try:
        yield provider
    finally:
        await runner.cleanup()
