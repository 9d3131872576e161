"""The gate before every page: sessions, roles, and who may send a form. Every route of the console is walked."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from tests.support.console import Person, new_member, signed_in
from tests.support.gateway import Gateway, open_gateway

from modelgates_server.console.pages import PAGES
from modelgates_server.console.routes import PageRoute
from modelgates_server.console.visits import ADMIN, OPEN

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORM = "application/x-www-form-urlencoded"

CROSS_SITE: dict[str, dict[str, str]] = {
    "cross-site form": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example", "Content-Type": FORM},
    "plain text": {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
    "no headers": {"Content-Type": FORM},
    "null origin": {"Origin": "null", "Content-Type": FORM},
    "sibling subdomain": {"Sec-Fetch-Site": "same-site", "Origin": "http://other.127.0.0.1", "Content-Type": FORM},
    "typed address": {"Sec-Fetch-Site": "none", "Content-Type": FORM},
    "other port": {"Origin": "http://127.0.0.1:1", "Content-Type": FORM},
}


def _address(route: PageRoute) -> str:
    """A path of a route, with something in the place of each parameter."""
    return "/".join("nothing" if part.startswith("{") else part for part in route.path.split("/"))


POSTS = sorted({_address(route) for route in PAGES if route.method == "POST"})
GETS = sorted({(_address(route), route.role) for route in PAGES if route.method == "GET"})


async def _raw(person: Person, path: str, headers: dict[str, str], data: bytes) -> int:
    async with person.http.post(person.url + path, data=data, headers=headers, allow_redirects=False) as response:
        return response.status


async def test_no_form_is_taken_from_another_site(gateway: Gateway) -> None:
    """Every form, sent in every way that another site can send it, with the cookie and even with the right token: refused."""
    async with signed_in(gateway) as admin:
        token = await admin.csrf()
        for path in POSTS:
            for name, headers in CROSS_SITE.items():
                status = await _raw(admin, path, headers, f"csrf={token}".encode())
                assert status == 403, (path, name)


async def test_a_form_needs_the_token_of_its_session(gateway: Gateway) -> None:
    """The token of another session, a wrong one and none at all are refused, also from our own origin."""
    member_id = new_member(gateway)
    async with signed_in(gateway) as admin, signed_in(gateway, member_id) as member:
        own = {"Origin": gateway.url, "Content-Type": FORM}
        for token in ("", "0" * 64, "%C3%A9", await member.csrf()):
            for path in POSTS:
                status = await _raw(admin, path, own, f"csrf={token}".encode())
                assert status == 403, (path, token)


async def test_strangers_see_the_sign_in_page(gateway: Gateway) -> None:
    """Without a session no page shows anything but how to sign in, and no form does anything."""
    async with aiohttp.ClientSession() as http:
        for path, role in GETS:
            async with http.get(gateway.url + path, allow_redirects=False) as response:
                assert role == OPEN or response.status == 401, path
        for route in PAGES:
            if route.method == "POST" and route.role != OPEN:
                headers = {"Origin": gateway.url, "Content-Type": FORM}
                async with http.post(gateway.url + _address(route), data=b"", headers=headers) as response:
                    assert response.status == 401, route.path


async def test_members_cannot_come_where_admins_may(gateway: Gateway) -> None:
    """Every page and form for administrators refuses a member, whatever the navigation shows."""
    async with signed_in(gateway, new_member(gateway)) as member:
        for route in PAGES:
            if route.role == ADMIN:
                send = member.get if route.method == "GET" else member.post
                shown = await send(_address(route))
                assert shown.status == 403, (route.method, route.path)


async def test_every_page_keeps_to_its_policy(gateway: Gateway) -> None:
    """No cache, no frame, no inline script; no element carries a style or a handler of its own."""
    async with signed_in(gateway) as admin:
        for path, _ in GETS:
            shown = await admin.get(path)
            assert shown.status < 500, (path, shown.text[:300])
            if not shown.headers.get("content-type", "").startswith("text/html"):
                continue
            assert "default-src 'none'" in shown.headers["content-security-policy"], path
            assert shown.headers["cache-control"] == "no-store", path
            for banned in (" style=", " onclick=", " onload=", "<script>", "javascript:"):
                assert banned not in shown.text, (path, banned)


@pytest.mark.parametrize(
    "cookie", ["", "mg_session=", "mg_session=x", "mg_session=" + "a" * 5000, 'mg_session="\\"', "=;;"]
)
async def test_broken_cookies_are_nobody(gateway: Gateway, cookie: str) -> None:
    """Whatever stands in the cookie: without a live session it is a stranger's."""
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.url}/keys", headers={"cookie": cookie}) as response:
        assert response.status in {401, 404}


async def test_api_keys_open_no_page(gateway: Gateway) -> None:
    """A key is for programs: it opens no page, and a session opens no API."""
    async with aiohttp.ClientSession() as http, signed_in(gateway) as admin:
        for key in (gateway.key, gateway.initialised.management_key or ""):
            async with http.get(f"{gateway.url}/", headers={"authorization": f"Bearer {key}"}) as response:
                assert response.status == 401
        assert (await admin.get("/api/v1/keys")).status == 401


async def test_forms_are_bounded(tmp_path: Path) -> None:
    """A form that is too long, of another kind, or not readable is refused in words."""
    async with open_gateway(tmp_path) as gateway, signed_in(gateway) as admin:
        own = {"Origin": gateway.url}
        assert await _raw(admin, "/sign-out", own | {"Content-Type": FORM}, b"a=" + b"x" * 300_000) == 413
        assert await _raw(admin, "/sign-out", own | {"Content-Type": "application/json"}, b"{}") == 400
        assert await _raw(admin, "/sign-out", own | {"Content-Type": FORM}, b"a=%ff") == 400
        assert await _raw(admin, "/sign-out", own | {"Content-Type": FORM}, b"a=%00") == 400


async def test_a_mistyped_address_is_a_page_for_people_only(gateway: Gateway) -> None:
    """A browser is told on a page that there is nothing; a program gets the error that it can read."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{gateway.url}/activty", headers={"accept": "text/html,*/*;q=0.8"}) as response:
            assert (response.status, response.content_type) == (404, "text/html")
            assert "There is no such page." in await response.text()
        async with http.get(f"{gateway.url}/activty") as response:
            assert (response.status, response.content_type) == (404, "application/json")
        async with http.post(f"{gateway.url}/activty", headers={"accept": "text/html"}) as response:
            assert (response.status, response.content_type) == (404, "application/json")
