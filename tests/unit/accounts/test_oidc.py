"""What an identity provider says, and when it is believed. The provider's side is written independently (tests/support/openid.py)."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.openid import Key, confused, honest, new_key, token, unsigned

from modelgates_server.accounts import oidc
from modelgates_server.accounts.oidc import Client
from modelgates_server.errors import IdentityFailed, Unauthenticated

NOW_S = int(time.time())
CLIENT = Client("https://login.example.com", "gate", "secret")
SECRET = bytes(32)
NONCE = "n-0123456789"
Json = dict[str, Any]


def described(**changes: Any) -> bytes:
    told: Json = {"issuer": CLIENT.issuer, "authorization_endpoint": f"{CLIENT.issuer}/a?tenant=1"}
    told |= {"token_endpoint": f"{CLIENT.issuer}/t", "jwks_uri": f"{CLIENT.issuer}/k"}
    return json.dumps({name: value for name, value in (told | changes).items() if value is not None}).encode()


PROVIDER = oidc.read_provider(CLIENT, described())
KEYS = {alg: new_key("k1", alg) for alg in oidc.ALGORITHMS}
RSA = KEYS["RS256"]


def claims(**changes: Any) -> Json:
    told: Json = {"iss": CLIENT.issuer, "sub": "u1", "aud": "gate", "exp": NOW_S + 300, "iat": NOW_S, "nonce": NONCE}
    return {name: value for name, value in (told | changes).items() if value is not None}


def read(text: str, keys: Sequence[Key] = (RSA,)) -> Any:
    published = oidc.read_keys(json.dumps({"keys": [key.jwk for key in keys]}).encode())
    return oidc.read_id_token(text, published, CLIENT, PROVIDER, NONCE, NOW_S)


@pytest.mark.parametrize("alg", oidc.ALGORITHMS)
def test_an_honest_token_is_believed(alg: str) -> None:
    """With each of the signatures that are taken."""
    key = KEYS[alg]
    assert read(honest(key, claims()), (key,))["sub"] == "u1"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "other"}, "another application"),
        ({"aud": None}, "another application"),
        ({"aud": {"gate": 1}}, "another application"),
        ({"aud": ["gate", "other"]}, "given to another application"),
        ({"aud": ["gate", "other"], "azp": "other"}, "given to another application"),
        ({"azp": "other"}, "given to another application"),
        ({"exp": NOW_S - 61}, "expired"),
        ({"exp": None}, "expired"),
        ({"exp": "never"}, "expired"),
        ({"exp": float("nan")}, "expired"),
        ({"exp": True}, "expired"),
        ({"iat": NOW_S + 120}, "not written just now"),
        ({"iat": NOW_S - 3600}, "not written just now"),
        ({"iat": None}, "not written just now"),
        ({"nbf": NOW_S + 120}, "not valid yet"),
        ({"nonce": "another"}, "another sign-in"),
        ({"nonce": None}, "another sign-in"),
        ({"nonce": [NONCE]}, "another sign-in"),
        ({"sub": ""}, "names nobody"),
        ({"sub": 7}, "names nobody"),
        ({"sub": "a\nb"}, "names nobody"),
        ({"sub": "x" * 256}, "names nobody"),
    ],
)
def test_claims_that_do_not_fit_are_refused(changes: Json, told: str) -> None:
    """Each with its reason; the signature is right in all of them."""
    with pytest.raises(Unauthenticated, match=told):
        read(honest(RSA, claims(**changes)))


def test_clocks_may_differ_by_a_minute() -> None:
    """In either direction."""
    assert read(honest(RSA, claims(exp=NOW_S - 59, iat=NOW_S - 300)))
    assert read(honest(RSA, claims(iat=NOW_S + 59)))
    assert read(honest(RSA, claims(aud=["gate", "other"], azp="gate")))


LIES: dict[str, Callable[[], str]] = {
    "none": lambda: unsigned(RSA, claims()),
    "None": lambda: token({"alg": "None", "kid": "k1"}, claims(), lambda _: b""),
    "no algorithm": lambda: token({"kid": "k1"}, claims(), RSA.sign),
    "public key as secret": lambda: confused(RSA, claims()),
    "other key of that name": lambda: honest(new_key("k1"), claims()),
    "unknown key": lambda: honest(new_key("k9"), claims()),
    "RS384": lambda: token({"alg": "RS384", "kid": "k1"}, claims(), RSA.sign),
    "other algorithm than its key's": lambda: token({"alg": "PS256", "kid": "k1"}, claims(), KEYS["PS256"].sign),
    "changed after signing": lambda: ".".join(
        (*honest(RSA, claims()).split(".")[:1], honest(RSA, claims(sub="root")).split(".")[1], honest(RSA, claims()).split(".")[2])
    ),
    "its own key in the header": lambda: token({"alg": "RS256", "jwk": new_key().jwk, "kid": "k2"}, claims(), new_key().sign),
    "empty": lambda: "",
    "no token": lambda: "a.b.c",
    "deep": lambda: token({"alg": "RS256", "kid": "k1"}, {}, RSA.sign).split(".")[0] + "." + "W1tb" * 9000 + ".AA",
    "too long": lambda: honest(RSA, claims(more="x" * 70_000)),
    "no object": lambda: token({"alg": "RS256", "kid": "k1"}, [1], RSA.sign),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_about_the_signature_is_believed(lie: str) -> None:
    """The key says what it is for; the token cannot choose."""
    with pytest.raises(Unauthenticated):
        read(LIES[lie]())


def test_a_token_without_key_id_needs_a_single_key() -> None:
    """With several it cannot be told which is meant."""
    plain = token({"alg": "RS256"}, claims(), RSA.sign)
    assert read(plain)
    with pytest.raises(Unauthenticated):
        read(plain, (RSA, dataclasses.replace(KEYS["ES256"], kid="k2")))


def test_keys_for_encryption_sign_nothing() -> None:
    """Nor does what is no key."""
    published = json.dumps({"keys": [RSA.jwk | {"use": "enc"}, "x", {"kty": "oct", "k": "AAAA", "kid": "k1"}]}).encode()
    with pytest.raises(Unauthenticated):
        oidc.read_id_token(honest(RSA, claims()), oidc.read_keys(published), CLIENT, PROVIDER, NONCE, NOW_S)


@pytest.mark.parametrize(
    "document",
    [
        b"", b"[]", b"nothing", b"[" * 100_000, described(issuer="https://evil.example"), described(issuer=None),
        described(token_endpoint="http://login.example.com/t"), described(jwks_uri="file:///etc/passwd"),
        described(authorization_endpoint="https://u:p@login.example.com/a"), described(authorization_endpoint=None),
        described(userinfo_endpoint="javascript:1"), described(token_endpoint="https://x.example/a b"),
        described(token_endpoint="https://x.example/a\r\nb"), described(token_endpoint=7),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be_used_is_refused(document: bytes) -> None:
    """Another issuer's, without https, or no description at all."""
    with pytest.raises(IdentityFailed):
        oidc.read_provider(CLIENT, document)


def test_a_slash_at_the_end_makes_no_other_issuer() -> None:
    """What the provider itself writes is what its tokens are compared with."""
    assert oidc.read_provider(CLIENT, described(issuer=f"{CLIENT.issuer}/")).issuer == f"{CLIENT.issuer}/"
    assert oidc.discovery_url("https://a.example/b/") == "https://a.example/b/.well-known/openid-configuration"


def test_the_browser_is_sent_with_a_challenge_and_not_with_the_verifier() -> None:
    """State, nonce and challenge go along; what the endpoint's address holds already stays."""
    begun = oidc.begin("/logs", NOW_S)
    asked = parse_qs(urlsplit(oidc.authorization_url(CLIENT, PROVIDER, begun, "https://g.example/cb")).query)
    assert (asked["tenant"], asked["state"], asked["nonce"]) == (["1"], [begun.state], [begun.nonce])
    assert asked["code_challenge_method"] == ["S256"]
    assert begun.verifier not in str(asked)
    assert len({begun.state, begun.nonce, begun.verifier}) == 3


@pytest.mark.parametrize(
    ("secret", "methods", "basic", "in_body"),
    [
        ("s", None, True, False),
        ("s", ["client_secret_post"], False, True),
        ("s", ["client_secret_post", "client_secret_basic"], True, False),
        (None, ["client_secret_basic"], False, False),
    ],
)
def test_the_client_proves_itself_as_the_provider_wants(
    secret: str | None, methods: list[str] | None, basic: bool, in_body: bool
) -> None:
    """In the header unless the provider takes it in the body only; a public client has its verifier alone."""
    client = dataclasses.replace(CLIENT, secret=secret)
    provider = oidc.read_provider(client, described(token_endpoint_auth_methods_supported=methods))
    headers, body = oidc.token_request(client, provider, "c", oidc.begin("/", NOW_S), "https://g.example/cb")
    assert ("authorization" in dict(headers), b"client_secret=s" in body) == (basic, in_body)
    assert b"code_verifier=" in body


def test_a_begun_sign_in_is_sealed() -> None:
    """Nobody changes it, it ends after ten minutes, and another gateway's means nothing."""
    begun = oidc.begin("/logs?a=1", NOW_S)
    sealed = oidc.seal(SECRET, begun)
    assert oidc.unseal(SECRET, sealed, NOW_S) == begun
    assert oidc.unseal(SECRET, sealed, NOW_S + oidc.BEGUN_S) is None
    assert oidc.unseal(bytes(31) + b"x", sealed, NOW_S) is None
    for odd in ("", ".", "é", sealed[1:], sealed[:-1], "A" + sealed, sealed + "é"):
        assert oidc.unseal(SECRET, odd, NOW_S) is None


@pytest.mark.parametrize(
    ("told", "more", "email", "verified"),
    [
        ({"email": "Ann@X.de", "email_verified": True}, None, "ann@x.de", True),
        ({"email": "a@x.de", "email_verified": "true"}, None, "a@x.de", True),
        ({"email": "a@x.de", "email_verified": False}, {"email": "a@x.de", "email_verified": True}, "a@x.de", False),
        ({"email": "a@x.de", "email_verified": "false"}, None, "a@x.de", False),
        ({"email": "a@x.de", "xms_edov": True}, None, "a@x.de", True),
        ({"email": "a@x.de"}, None, "a@x.de", False),
        ({"email": "a@x.de"}, {"email": "b@x.de", "email_verified": True}, "b@x.de", True),
        ({}, {"email": "b@x.de", "email_verified": True}, "b@x.de", True),
        ({}, {"email": "b@x.de"}, "b@x.de", False),
        ({"email": ["a@x.de"], "email_verified": True}, None, None, True),
        ({"email_verified": True}, {"name": "x"}, None, True),
    ],
)
def test_an_address_and_its_verification_come_from_one_place(
    told: Json, more: Json | None, email: str | None, verified: bool
) -> None:
    """The token's word about its address counts first; what is said elsewhere is about the address that is said there."""
    besides = None if more is None else json.dumps({"sub": "u1"} | more).encode()
    found = oidc.read_identity(PROVIDER, {"sub": "u1"} | told, besides)
    assert (found.subject, found.email, found.email_verified) == (f"{CLIENT.issuer} u1", email, verified)


def test_user_info_about_somebody_else_is_refused() -> None:
    """It must have the token's subject."""
    with pytest.raises(Unauthenticated, match="two different people"):
        oidc.read_identity(PROVIDER, {"sub": "u1"}, b'{"sub": "u2", "email": "b@x.de", "email_verified": true}')


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"id_token": 1}', b'["id_token"]', b"id_token=a"])
def test_an_answer_without_token_is_the_providers_fault(answer: bytes) -> None:
    """Nobody signs in, and the operator is told."""
    with pytest.raises(IdentityFailed):
        oidc.read_tokens(answer)
