"""Signing in at an identity provider: a real one of ours over real HTTP, and every lie that it could tell."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from tests.support.console import Person, Shown
from tests.support.gateway import Gateway, open_gateway
from tests.support.openid import (
    CLIENT_ID,
    CLIENT_SECRET,
    OpenIdProvider,
    confused,
    honest,
    new_key,
    open_provider,
    unsigned,
)

from modelgates_server.management.members import NewMember, add_member, remove_member

TOML = """
[sign_in]
oidc_issuer = "{issuer}"
oidc_client_id = "{client}"
oidc_client_secret = "file:client.secret"
oidc_join_domains = ["joins.example"]
oidc_name = "Example ID"
"""


@pytest.fixture
async def provider() -> AsyncIterator[OpenIdProvider]:
    async with open_provider() as opened:
        yield opened


@pytest.fixture
async def house(tmp_path: Path, provider: OpenIdProvider) -> AsyncIterator[Gateway]:
    """A gateway that knows the provider, with Ann in it."""
    (tmp_path / "client.secret").write_text(CLIENT_SECRET)
    async with open_gateway(tmp_path, toml=TOML.format(issuer=provider.url, client=CLIENT_ID)) as opened:
        add(opened)
        yield opened


def add(gateway: Gateway, name: str = "Ann", email: str = "ann@example.com") -> str:
    with gateway.engine() as (engine, now_s):
        return add_member(engine, gateway.initialised.organization_id, NewMember(name, email), "test", now_s).id


@asynccontextmanager
async def browser(gateway: Gateway) -> AsyncIterator[Person]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Person(http, gateway.url, "")


async def go(person: Person, path: str = "/sign-in/oidc") -> str:
    """Press the button and sign in there; where the provider sends the browser back to, as a path."""
    sent = await person.get(path)
    assert sent.status == 303, sent.text
    async with person.http.get(sent.headers["location"], allow_redirects=False) as there:
        assert there.status == 302, await there.text()
        back = urlsplit(there.headers["location"])
    assert back.path == "/sign-in/oidc/callback"
    return f"{back.path}?{back.query}"


async def come(person: Person, path: str = "/sign-in/oidc") -> Shown:
    return await person.get(await go(person, path))


async def is_in(person: Person) -> bool:
    return (await person.get("/profile")).status == 200


async def test_the_button_leads_there_and_back(house: Gateway, provider: OpenIdProvider) -> None:
    """To the page that was wanted, as the member whose verified address it is; the session is an ordinary one."""
    async with browser(house) as ann:
        assert "Sign in with Example ID" in (await ann.get("/sign-in")).text
        assert 'href="/sign-in/oidc?next=/profile"' in (await ann.get("/profile")).text
        back = await come(ann, "/sign-in/oidc?next=/profile")
        assert (back.status, back.headers["location"]) == (303, "/profile")
        shown = await ann.data("/profile")
        assert (shown["email"], shown["bound"], shown["provider"]) == ("ann@example.com", True, "Example ID")
    (asked,) = provider.asked
    assert asked["redirect_uri"].endswith("/sign-in/oidc/callback")
    assert asked["scope"] == "openid email profile"
    assert provider.log == ["/.well-known/openid-configuration", "/authorize", "/token", "/jwks"]


async def test_the_account_counts_and_not_the_address(house: Gateway, provider: OpenIdProvider) -> None:
    """Once bound, a changed address is the same person, and another account with the old address is not."""
    async with browser(house) as ann, browser(house) as successor:
        await come(ann)
        provider.person = replace(provider.person, email="ann.married@example.com")
        assert (await come(ann)).status == 303
        provider.person = replace(provider.person, sub="u-2", email="ann@example.com")
        refused = await come(successor)
        assert (refused.status, "another account" in refused.text) == (401, True)
        assert not await is_in(successor)


def changing(**changes: Any) -> Callable[[OpenIdProvider], None]:
    def lie(provider: OpenIdProvider) -> None:
        provider.change = lambda claims: claims | changes

    return lie


def writing(write: Callable[..., str]) -> Callable[[OpenIdProvider], None]:
    def lie(provider: OpenIdProvider) -> None:
        provider.write = write

    return lie


LIES: dict[str, Callable[[OpenIdProvider], None]] = {
    "wrong nonce": changing(nonce="another"),
    "wrong audience": changing(aud="another"),
    "another's audience too": changing(aud=[CLIENT_ID, "another"]),
    "authorised party": changing(azp="another"),
    "wrong issuer": changing(iss="https://evil.example"),
    "expired": changing(exp=int(time.time()) - 3600),
    "from the future": changing(iat=int(time.time()) + 3600),
    "old": changing(iat=int(time.time()) - 7200),
    "nobody": changing(sub=""),
    "other key of the same name": writing(lambda key, claims: honest(new_key(key.kid), claims)),
    "other key": writing(lambda _, claims: honest(new_key("k9"), claims)),
    "no signature": writing(unsigned),
    "public key as a secret": writing(confused),
    "no token": writing(lambda *_: "nonsense"),
    "address not verified": changing(email_verified=False),
    "address verified in words": changing(email_verified="no"),
    "no address": changing(email=7, email_verified=True),
    "a stranger": changing(email="stranger@evil.example"),
    "a domain that ends alike": changing(email="x@notjoins.example"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_no_lie_opens_a_session(house: Gateway, provider: OpenIdProvider, lie: str) -> None:
    """Each is told in words, with status 401 and without a cookie; when the provider speaks the truth again, it works."""
    LIES[lie](provider)
    async with browser(house) as ann:
        refused = await come(ann)
        assert (refused.status, 'role="alert"' in refused.text) == (401, True), refused.text
        assert "mg_session=" not in str(refused.headers.getall("set-cookie", []))
        assert not await is_in(ann)
        provider.change, provider.write = lambda claims: claims, honest
        assert (await come(ann)).status == 303


async def test_an_answer_is_for_the_browser_that_asked(house: Gateway, provider: OpenIdProvider) -> None:
    """Another browser, a changed state, none, or a code of one's own in somebody else's sign-in: refused."""
    async with browser(house) as ann, browser(house) as victim:
        back = await go(ann)
        assert (await victim.get(back)).status == 401
        await go(victim)
        assert (await victim.get(back)).status == 401  # login CSRF: the attacker's code and state
        state = parse_qs(urlsplit(back).query)["state"][0]
        for changed in (back.replace(state, "x"), back.replace(state, ""), back.replace("state=", "other=")):
            assert (await ann.get(changed)).status == 401
        assert not await is_in(victim)
        assert "/token" not in provider.log
        assert (await ann.get(back)).status == 303


async def test_an_answer_is_used_once(house: Gateway, provider: OpenIdProvider) -> None:
    """Also by who copied cookie and address, and even when the provider takes its code again."""
    provider.codes_again = True
    async with browser(house) as ann, browser(house) as thief:
        back = await go(ann)
        cookie = ann.http.cookie_jar.filter_cookies(aiohttp.client.URL(house.url))["mg_begun"].value
        assert (await ann.get(back)).status == 303
        thief.http.cookie_jar.update_cookies({"mg_begun": cookie}, aiohttp.client.URL(house.url))
        refused = await thief.get(back)
        assert (refused.status, "finished before" in refused.text) == (401, True)
        provider.codes_again = False
        assert (await thief.get(back)).status == 401


async def test_a_code_of_another_sign_in_is_refused(house: Gateway, provider: OpenIdProvider) -> None:
    """The verifier does not fit it (PKCE)."""
    async with browser(house) as ann, browser(house) as thief:
        theirs, mine = await go(ann), await go(thief)
        code, own = (parse_qs(urlsplit(one).query)["code"][0] for one in (theirs, mine))
        assert (await thief.get(mine.replace(own, code))).status == 401


async def test_what_the_provider_says_instead_of_a_code_is_told_in_our_words(house: Gateway) -> None:
    """Its own are not repeated: anybody can write them into an address."""
    async with browser(house) as ann:
        state = parse_qs(urlsplit((await ann.get("/sign-in/oidc")).headers["location"]).query)["state"][0]
        for error, words in (("access_denied", "does not let you in"), ("<b>Pay here</b>", "did not sign you in")):
            told = await ann.get(f"/sign-in/oidc/callback?error={error}&error_description=Pay+here&state={state}")
            assert (told.status, words in told.text, "Pay here" in told.text) == (401, True, False)
        assert (await ann.get(f"/sign-in/oidc/callback?state={state}")).status == 401
        assert (await ann.get("/sign-in/oidc/callback")).status == 401
        assert (await ann.get(f"/sign-in/oidc/callback?state={state}&code=c&iss=https://evil.example")).status == 401


async def test_colleagues_join_and_the_removed_do_not(house: Gateway, provider: OpenIdProvider) -> None:
    """A verified address of a domain that may join makes a member, who sees what a member sees."""
    provider.person = replace(provider.person, sub="u-7", email="Bob@Joins.Example", name="Bob <b>")
    async with browser(house) as bob:
        assert (await come(bob)).status == 303
        shown = await bob.data("/profile")
        assert (shown["name"], shown["email"], shown["role"]) == ("Bob <b>", "bob@joins.example", "member")
        assert (await bob.get("/members")).status == 403
        with house.engine() as (engine, now_s):
            remove_member(engine, house.initialised.organization_id, shown["id"], "test", now_s)
        assert not await is_in(bob)
        assert (await come(bob)).status == 401


async def test_addresses_may_come_from_user_info(house: Gateway, provider: OpenIdProvider) -> None:
    """Many providers tell them only when they are asked; what is said of somebody else is refused."""
    provider.claims_in_token = False
    async with browser(house) as ann:
        provider.userinfo = lambda told: told | {"sub": "u-9"}
        assert (await come(ann)).status == 401
        provider.userinfo = lambda told: told | {"email_verified": False}
        assert (await come(ann)).status == 401
        provider.userinfo = lambda told: told
        assert (await come(ann)).status == 303
        assert provider.log.count("/userinfo") == 3


@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA"])
async def test_other_signatures_are_taken_too(house: Gateway, provider: OpenIdProvider, alg: str) -> None:
    """Whatever of the allowed ones the provider's key is for."""
    provider.key = new_key("k2", alg)
    async with browser(house) as ann:
        assert (await come(ann)).status == 303


async def test_new_keys_are_learnt_and_not_asked_for_all_the_time(house: Gateway, provider: OpenIdProvider) -> None:
    """An unknown key makes us look again, but a liar cannot make us look every time."""
    async with browser(house) as ann:
        await come(ann)
        provider.write = lambda _, claims: honest(new_key("k9"), claims)
        for _ in range(3):
            assert (await come(ann)).status == 401
    assert provider.log.count("/jwks") == 1
    assert provider.log.count("/.well-known/openid-configuration") == 1


async def test_a_provider_that_is_away_is_told_of(house: Gateway, provider: OpenIdProvider) -> None:
    """With the other ways to sign in still on the page; it is not asked again at once."""
    provider.away = True
    async with browser(house) as ann:
        for _ in range(3):
            told = await ann.get("/sign-in/oidc")
            assert (told.status, "identity provider answered 503" in told.text) == (502, True)
            assert 'type="password"' in told.text
    assert provider.log == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "changes", [{"issuer": "https://evil.example"}, {"token_endpoint": "file:///x"}, {"jwks_uri": 7}]
)
async def test_a_description_that_does_not_fit_is_not_followed(
    house: Gateway, provider: OpenIdProvider, changes: dict[str, Any]
) -> None:
    """The browser is not sent anywhere."""
    provider.describe = lambda told: told | changes
    async with browser(house) as ann:
        assert (await ann.get("/sign-in/oidc")).status == 502


async def test_no_provider_no_button(tmp_path: Path) -> None:
    """And its pages do not exist."""
    async with open_gateway(tmp_path) as gateway, browser(gateway) as visitor:
        assert "/sign-in/oidc" not in (await visitor.get("/sign-in")).text
        for path in ("/sign-in/oidc", "/sign-in/oidc/callback?code=a&state=b"):
            assert (await visitor.get(path)).status == 404
