"""Signing in and out over a real port: links, passwords, guesses, sessions that end, and forms of other sites."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.support.console import Person, Shown, signed_in
from tests.support.gateway import Gateway, open_gateway

from modelgates_server.console.pages.sign_in import next_path
from modelgates_server.management.members import NewMember, add_member, remove_member, set_member_role
from modelgates_server.management.sign_in import new_link, sign_out_everywhere

GOOD, OTHER = "correct horse battery staple", "seven purple elephants dance"
ADMIN, INES = "admin@example.com", "ines.intern@example.com"
CSRF = re.compile(r'name="csrf" value="[0-9a-f]+"')


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def stranger(gateway: Gateway) -> AsyncIterator[Person]:
    """A browser without a session."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Person(http, gateway.url, "")


@asynccontextmanager
async def member(gateway: Gateway, password: str | None = GOOD) -> AsyncIterator[Person]:
    """Ines, signed in by link, with a password unless told otherwise."""
    async with signed_in(gateway, add(gateway, "Ines", INES)) as person:
        if password is not None:
            await choose(person, password)
        yield person


def add(gateway: Gateway, name: str, email: str) -> str:
    """Make a member; their id."""
    with acting(gateway) as (engine, org, now_s):
        return add_member(engine, org, NewMember(name, email), "test", now_s).id


async def choose(person: Person, password: str, current: str = "") -> Shown:
    return await person.post("/profile/password", {"current": current, "password": password, "again": password})


async def enter(person: Person, password: str = GOOD, email: str = INES, **more: str) -> Shown:
    return await person.post("/sign-in", {"email": email, "password": password} | more)


async def is_in(person: Person) -> bool:
    return (await person.get("/profile")).status == 200


@contextmanager
def acting(gateway: Gateway) -> Iterator[tuple[object, str, float]]:
    """Somebody else's change, from another connection, as another replica makes it."""
    with gateway.engine() as (engine, now_s):
        yield engine, gateway.initialised.organization_id, now_s


async def test_from_the_printed_link_to_a_password(house: Gateway) -> None:
    """The link opens a session; an address and a password are set; from then on these open one."""
    async with signed_in(house) as admin:
        refused = await choose(admin, GOOD)
        assert (refused.status, "mail address" in refused.text) == (400, True)
        assert (await admin.post("/profile", {"name": "Ada", "email": ADMIN})).status == 303
        assert (await admin.post("/profile/password", {"password": GOOD, "again": OTHER})).status == 400
        assert (await choose(admin, GOOD)).status == 303
        assert await is_in(admin)
        shown = await admin.data("/profile")
        assert (shown["name"], shown["email"], bool(shown["password_set_at_s"])) == ("Ada", ADMIN, True)
        assert (await admin.post("/sign-out")).headers["location"].startswith("/sign-in")
        assert not await is_in(admin)
        entered = await enter(admin, email=ADMIN.upper(), next="/profile")
        assert (entered.status, entered.headers["location"]) == (303, "/profile")
        cookie = entered.headers["set-cookie"]
        assert cookie.startswith("mg_session=")
        assert all(word in cookie for word in ("; Path=/", "; HttpOnly", "; SameSite=Lax", "; Max-Age=604800"))
        assert await is_in(admin)


async def test_a_link_is_used_by_opening_it_and_not_by_looking(house: Gateway) -> None:
    """HEAD, as link checkers send it, changes nothing; the first GET signs in and goes home; the second is told why not."""
    path = f"/sign-in?token={house.initialised.sign_in_token}"
    assert (await house.request("HEAD", path)).status == 200
    first = await house.request("GET", path)
    assert (first.status, first.headers["location"]) == (303, "/")
    assert "mg_session=" in first.headers["set-cookie"]
    again = await house.request("GET", path)
    assert (again.status, b"was used or is older" in again.body) == (401, True)
    assert "set-cookie" not in again.headers


async def test_every_wrong_pair_is_answered_alike(house: Gateway) -> None:
    """Unknown, without a password, wrong: the same page to the byte, but for what was typed."""
    add(house, "No Password", "no.password@example.com")
    async with member(house), stranger(house) as visitor:
        pages = set()
        for email in (INES, "no.password@example.com", "nobody@example.com"):
            told = await enter(visitor, OTHER, email)
            assert told.status == 401
            assert "set-cookie" not in told.headers
            pages.add(CSRF.sub("", told.text.replace(email, "")))
        assert len(pages) == 1
        assert "do not belong together" in pages.pop()


async def test_guesses_are_hardly_looked_at(house: Gateway) -> None:
    """Two hundred at once on one account: three are looked at. Then the right password waits too, a link does not."""
    async with member(house) as ines, stranger(house) as visitor:
        csrf = await visitor.csrf()
        form = {"email": INES, "password": OTHER, "csrf": csrf}

        async def guess() -> int:
            async with visitor.http.post(
                f"{house.url}/sign-in", data=form, headers={"Origin": house.url}, allow_redirects=False
            ) as told:
                return told.status

        statuses = [await guess() for _ in range(3)] + await asyncio.gather(*(guess() for _ in range(200)))
        assert statuses.count(401) == 3
        assert statuses.count(429) == 200
        told = await enter(visitor)
        assert (told.status, "Try again in" in told.text) == (429, True)
        unknown = [(await enter(visitor, OTHER, "nobody@example.com")).status for _ in range(4)]
        assert unknown == [401, 401, 401, 429]
        with acting(house) as (engine, org, now_s):
            link = new_link(engine, org, ines.member_id, "test", now_s)
        assert (await visitor.get(f"/sign-in?token={link}")).status == 303
        assert await is_in(visitor)


async def test_a_planted_session_is_not_taken_over(house: Gateway) -> None:
    """Whatever cookie the browser brings, signing in gives another, and the one that it brought is dead (fixation)."""
    async with member(house) as ines, stranger(house) as victim:
        planted = "planted-by-somebody-else"
        victim.http.cookie_jar.update_cookies({"mg_session": planted}, victim_url(house))
        assert not await is_in(victim)
        entered = await enter(victim)
        assert entered.status == 303
        assert planted not in entered.headers["set-cookie"]
        before = session_of(ines, house)
        assert (await ines.post("/sign-in", {"email": INES, "password": GOOD})).status == 303
        assert session_of(ines, house) != before
        async with stranger(house) as thief:
            thief.http.cookie_jar.update_cookies({"mg_session": before}, victim_url(house))
            assert not await is_in(thief)


def victim_url(gateway: Gateway) -> object:
    return aiohttp.client.URL(gateway.url)


def session_of(person: Person, gateway: Gateway) -> str:
    return person.http.cookie_jar.filter_cookies(victim_url(gateway))["mg_session"].value


async def test_sessions_end_with_what_they_rest_on(house: Gateway) -> None:
    """Signing out, a new password, a reset, a change of role, removal: each ends what is open elsewhere, at the next request."""
    async with member(house) as ines, stranger(house) as second:
        assert (await enter(second)).status == 303
        assert (await choose(ines, OTHER, current=GOOD)).status == 303
        assert (await is_in(ines), await is_in(second)) == (True, False)
        assert (await enter(second)).status == 401
        assert (await enter(second, OTHER)).status == 303
        assert (await ines.post("/profile/sign-out")).status == 303
        assert (await is_in(ines), await is_in(second)) == (False, False)
        assert (await enter(second, OTHER)).status == 303
        with acting(house) as (engine, org, now_s):
            set_member_role(engine, org, ines.member_id, "admin", "test", now_s)
        assert not await is_in(second)
        assert (await enter(second, OTHER)).status == 303
        with acting(house) as (engine, org, now_s):
            sign_out_everywhere(engine, org, ines.member_id, "test", now_s)
        assert not await is_in(second)
        assert (await enter(second, OTHER)).status == 303
        with acting(house) as (engine, org, now_s):
            remove_member(engine, org, ines.member_id, "test", now_s)
        assert not await is_in(second)
        assert (await enter(second, OTHER)).status == 401


async def test_one_session_is_ended_from_another(house: Gateway) -> None:
    """The profile lists them without their tokens; the button ends the one it stands beside."""
    async with member(house) as ines, stranger(house) as second:
        assert (await enter(second)).status == 303
        shown = await ines.data("/profile")
        assert sorted(row["current"] for row in shown["sessions"]) == [False, True]
        assert session_of(second, house) not in (await ines.get("/profile")).text
        (other,) = [row["id"] for row in shown["sessions"] if not row["current"]]
        assert (await ines.post("/profile/session", {"session": other})).status == 303
        assert (await is_in(ines), await is_in(second)) == (True, False)
        assert (await ines.post("/profile/session", {"session": other})).status == 404


async def test_a_link_for_another_device_is_shown_once(house: Gateway) -> None:
    """It opens a session of the same person there."""
    async with member(house) as ines, stranger(house) as phone:
        shown = await ines.post("/profile/link")
        found = re.search(r"/sign-in\?token=[\w-]+", shown.text)
        assert found is not None
        assert found[0] not in (await ines.get("/profile")).text
        assert (await phone.get(found[0])).status == 303
        assert (await phone.data("/profile"))["email"] == INES


async def test_a_member_does_not_choose_their_address(house: Gateway) -> None:
    """An address says who somebody is: members change their name, admins both."""
    async with member(house) as ines:
        sent = {"name": "Ines", "email": ADMIN, "role": "admin", "organization_id": "org-x", "password_hash": "x"}
        assert (await ines.post("/profile", sent)).status == 303
        shown = await ines.data("/profile")
        assert (shown["name"], shown["email"], shown["role"]) == ("Ines", INES, "member")


CROSS_SITE = {
    "cross-site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "same-site": {"Sec-Fetch-Site": "same-site"},
    "typed": {"Sec-Fetch-Site": "none"},
    "null": {"Origin": "null"},
    "other origin": {"Origin": "https://evil.example"},
    "nothing": {},
}


@pytest.mark.parametrize("headers", CROSS_SITE.values(), ids=CROSS_SITE)
async def test_no_other_site_signs_anybody_in_or_out(house: Gateway, headers: dict[str, str]) -> None:
    """Login CSRF included: the right pair in a form of another site opens nothing, and counts as no guess."""
    async with member(house) as ines, stranger(house) as visitor:
        form = {"email": INES, "password": GOOD, "csrf": await visitor.csrf()}
        for _ in range(4):
            async with visitor.http.post(
                f"{house.url}/sign-in", data=form, headers=headers, allow_redirects=False
            ) as told:
                assert (told.status, "set-cookie" in told.headers) == (403, False)
        async with ines.http.post(f"{house.url}/sign-out", data={"csrf": await ines.csrf()}, headers=headers) as told:
            assert told.status == 403
        assert await is_in(ines)
        assert (await enter(visitor)).status == 303


EVIL = (
    "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "\\evil.example", "https://evil.example",
    "http:evil.example", "javascript:alert(1)", "/javascript:alert(1)", "data:text/html,x", "/%2f%2fevil.example", "/%5cevil.example",
    "/.evil.example", "/@evil.example", "/\t/evil.example", "/\n/evil.example", "/keys\r\nset-cookie: a=b", "/keys//evil.example",
    "/logs/../..//evil.example/", "evil.example", "?next=//evil", "#//evil", "/sign-out", "/api/v1/keys", "//", "/keys?x=<script>",
    "/ключи", "", "/" + "a" * 3000, "/keys#//evil.example", "/keys;//evil.example", "/join?token=x", "/sign-in?token=x",
)  # fmt: skip


async def test_signing_in_leads_nowhere_else(house: Gateway) -> None:
    """Row 92: only a plain path of our own pages is followed, everything else goes home."""
    async with member(house) as ines:
        for evil in EVIL:
            entered = await enter(ines, next=evil)
            assert (entered.status, entered.headers["location"]) == (303, "/"), evil
            async with ines.http.get(f"{house.url}/sign-in", params={"next": evil}, allow_redirects=False) as told:
                assert (told.status, told.headers["location"]) == (303, "/"), evil


@pytest.mark.parametrize(
    "path", ["/keys", "/logs?model=a%2Fb&x=1", "/members/mem-1", "/logs/gen-1.2", "/activity?by=model"]
)
def test_pages_of_ours_are_gone_back_to(path: str) -> None:
    """With their queries."""
    assert next_path(path) == path


async def test_who_must_sign_in_first_comes_back_to_the_page(house: Gateway) -> None:
    """The form that stands in the place of a page leads to it."""
    async with member(house), stranger(house) as visitor:
        shown = await visitor.get("/profile?a=1")
        assert (shown.status, 'name="next" value="/profile?a=1"' in shown.text) == (401, True)


async def test_a_password_is_taken_as_it_is_typed(house: Gateway) -> None:
    """Spaces around it count, and one that is longer than any can be is simply wrong."""
    async with member(house) as ines, stranger(house) as visitor:
        assert (await choose(ines, f" {GOOD} ", GOOD)).status == 303
        for password in ("x" * 10_000, GOOD):
            assert (await enter(visitor, password)).status == 401
        assert (await enter(visitor, f" {GOOD} ")).status == 303


async def test_passwords_can_be_switched_off(tmp_path: Path) -> None:
    """Then there is no form for them, and one that is sent all the same is refused."""
    async with open_gateway(tmp_path, toml="[sign_in]\npassword = false\n") as gateway, stranger(gateway) as visitor:
        shown = await visitor.get("/sign-in")
        assert (shown.status, 'type="password"' in shown.text, "modelgates init" in shown.text) == (200, False, True)
        assert (await enter(visitor)).status == 403


async def test_proxies_are_believed_when_they_are_ours(tmp_path: Path) -> None:
    """Behind one, a network that guesses waits alone; without the setting all of them are one network."""
    toml = '[server]\ntrusted_proxies = ["127.0.0.0/8"]\n'
    async with open_gateway(tmp_path, toml=toml) as gateway, member(gateway), stranger(gateway) as visitor:
        for number in range(40):
            form = {"email": f"user{number}@example.com", "password": OTHER}
            last = await visitor.post("/sign-in", form, x_forwarded_for="6.6.6.6, 198.51.100.1")
        assert last.status == 429
        form = {"email": INES, "password": GOOD}
        assert (await visitor.post("/sign-in", form, x_forwarded_for="198.51.100.1, 203.0.113.5")).status == 303


async def test_a_session_is_ended_on_every_replica(tmp_path: Path, postgres_url: str) -> None:
    """Two servers over one database: what one of them ends is ended at the other at its next request."""
    async with (
        open_gateway(tmp_path, database_url=postgres_url) as first,
        open_gateway(tmp_path, database_url=postgres_url) as second,
        member(first) as ines,
    ):
        there = Person(ines.http, second.url, ines.member_id)  # cookies do not know ports
        assert await is_in(there)
        for _ in range(3):
            assert (await enter(there, OTHER)).status == 401
        async with stranger(first) as visitor:
            assert (await enter(visitor)).status == 429  # what was guessed at one counts at the other
        assert (await ines.post("/profile/sign-out")).status == 303
        assert not await is_in(there)
