"""What somebody with a session, or without one, could do to others through the console. Each of these was possible once."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import sqlalchemy as sa
from tests.support.console import Person, new_member, signed_in
from tests.support.gateway import Gateway, open_gateway
from tests.walk.furnished import MAIL, Furnished, furnish

from modelgates_server.accounts import sessions
from modelgates_server.management.members import change_member
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASSWORD = "correct horse battery staple"
OTHERS_COOKIES = (
    'prefs={"a": 1}', "a b=c", "x[0]=1", 'theme="dark', "a@b=1", 'x=a"b', "Path=/x", "expires=never", "a=1;;b", "\xe9=1", "=x", ";",
)  # fmt: skip
"""What other programs on the same host leave in a browser, which sends it along."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Furnished]:
    async with open_gateway(tmp_path_factory.mktemp("attacks") / "gateway", toml=MAIL) as gateway:
        yield await furnish(gateway)


def a_link(gateway: Gateway, member_id: str) -> str:
    with gateway.engine() as (engine, now_s), transaction(engine) as connection:
        return sessions.create_link(connection, member_id, now_s)


async def follow(person: Person, token: str, site: str) -> tuple[int, str]:
    """Open a sign-in link that somewhere led to; gives the status, and whether a session was given."""
    path, headers = f"{person.url}/sign-in?token={token}", {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    async with person.http.get(path, headers=headers, allow_redirects=False) as response:
        return response.status, response.headers.get("set-cookie", "")


async def test_a_member_cannot_undo_what_an_admin_switched_off(scene: Furnished) -> None:
    """Switching off a key that is off already does not make it the member's own doing, which they may undo."""
    gateway, member_id = scene.gateway, new_member(scene.gateway)
    _, key_hash = gateway.new_key_row(member_id=member_id)
    async with signed_in(gateway) as admin, signed_in(gateway, member_id) as member:
        assert (await admin.post(f"/keys/{key_hash}/disable")).status == 303
        await member.post(f"/keys/{key_hash}/disable")
        assert (await member.post(f"/keys/{key_hash}/enable")).status == 403
        assert (await admin.data(f"/keys/{key_hash}"))["state"] == "disabled"
        assert (await admin.post(f"/keys/{key_hash}/enable")).status == 303
        assert (await member.post(f"/keys/{key_hash}/disable")).status == 303
        assert (await member.post(f"/keys/{key_hash}/enable")).status == 303


async def test_credit_moves_once_however_often_a_form_is_sent(store_url: str, tmp_path: Path) -> None:
    """A double click, a reload, and coming back to the page: one grant; the second answer is the first one's."""
    async with open_gateway(tmp_path / "gateway", database_url=store_url) as gateway, signed_in(gateway) as admin:
        before = (await admin.data("/credits"))["granted_nusd"]
        found = re.search(
            r'action="/credits/grants">.*?name="once" value="([\w-]+)"', (await admin.get("/credits")).text, re.DOTALL
        )
        assert found is not None
        form = {"amount": "5", "note": "x", "once": found[1]}
        answers = await asyncio.gather(*(admin.post("/credits/grants", form) for _ in range(4)))
        assert {(one.status, one.headers["location"]) for one in answers} == {(303, "/credits?said=credit-added")}
        assert (await admin.data("/credits"))["granted_nusd"] - before == 5 * 10**9
        changed = await admin.post("/credits/grants", form | {"amount": "50"})
        assert (changed.status, "something else in it" in changed.text) == (400, True)
        for path, fields in (
            ("/credits/grants", {"amount": "5"}),
            ("/credits/adjustments", {"adjustment": "5", "reason": "x"}),
            ("/credits/refunds", {"generation_id": "gen-x"}),
        ):
            assert (await admin.post(path, {**fields, "once": ""})).status == 400, path
        down = {"adjustment": "1", "direction": "down", "reason": "x", "once": "once-and-no-more-than-that"}
        assert [(await admin.post("/credits/adjustments", down)).status for _ in range(2)] == [303, 303]
        assert (await admin.data("/credits"))["granted_nusd"] - before == 4 * 10**9


async def test_a_refused_form_may_be_sent_again(scene: Furnished) -> None:
    """What was refused is not done, so the same form corrected is not the second one."""
    async with signed_in(scene.gateway) as admin:
        form = {"amount": "0", "once": "a-form-that-is-corrected"}
        assert (await admin.post("/credits/grants", form)).status == 400
        assert (await admin.post("/credits/grants", form | {"amount": "1"})).status == 303


async def test_a_new_password_ends_links_that_somebody_made_before(scene: Furnished) -> None:
    """Whoever sat at an open session may have made a link for later: it dies with the sessions."""
    async with signed_in(scene.gateway, scene.ids["member"]) as member:
        found = re.search(r"sign-in\?token=([\w-]+)", (await member.post("/profile/link")).text)
        assert found is not None
        set_ = await member.post("/profile/password", {"password": PASSWORD, "again": PASSWORD})
        assert set_.status == 303
    async with aiohttp.ClientSession() as http:
        assert (await follow(Person(http, scene.gateway.url, ""), found[1], "none"))[0] == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_signs_nobody_in_as_somebody_else(scene: Furnished, site: str) -> None:
    """A link that a foreign page opens changes nothing before its button is pressed: nobody works in an account that is not theirs."""
    gateway, token = scene.gateway, a_link(scene.gateway, scene.ids["member"])
    async with signed_in(gateway) as admin:
        status, cookie = await follow(admin, token, site)
        assert (status, cookie) == (200, "")
        assert (await admin.data("/profile"))["role"] == "admin"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        stranger = Person(http, gateway.url, scene.ids["member"])
        assert await follow(stranger, token, site) == (200, "")
        entered = await stranger.post("/sign-in", {"token": token})
        assert (entered.status, entered.headers["location"]) == (303, "/")
        assert (await stranger.data("/profile"))["id"] == scene.ids["member"]


async def test_a_link_takes_nobody_out_of_their_session_unasked(scene: Furnished) -> None:
    """Also where the browser says nothing: whoever is signed in as somebody else is asked first, whom they see by name."""
    token = a_link(scene.gateway, scene.ids["member"])
    async with signed_in(scene.gateway) as admin:
        shown = await admin.get(f"/sign-in?token={token}")
        assert (shown.status, "set-cookie" in shown.headers) == (200, False)
        assert "canary9c1e member" in shown.text
        assert "who is signed in here now" in shown.text


async def test_cookies_of_others_sign_nobody_out(scene: Furnished) -> None:
    """A browser sends what any other program on the host has set; the session is found beside it, before and after."""
    async with signed_in(scene.gateway) as admin, aiohttp.ClientSession() as http:
        token = next(cookie.value for cookie in admin.http.cookie_jar if cookie.key == "mg_session")
        for other in OTHERS_COOKIES:
            for cookie in (f"{other}; mg_session={token}", f"mg_session={token}; {other}"):
                async with http.get(f"{scene.gateway.url}/keys", headers={"cookie": cookie}) as response:
                    assert response.status == 200, cookie


@pytest.mark.parametrize("last_day", ["9999-12-31", "2999-01-01"])
async def test_no_key_ends_where_time_cannot_be_written(scene: Furnished, last_day: str) -> None:
    """A member's key that ends in the year 10000 would take the audit log and the API's list of keys from every admin."""
    gateway, management_key = scene.gateway, scene.gateway.initialised.management_key
    async with signed_in(gateway) as admin, signed_in(gateway, scene.ids["member"]) as member:
        made = await member.post("/keys", {"name": "far", "expires": last_day})
        assert (made.status, "hundred years" in made.text) == (400, True)
        changed = await admin.post(f"/keys/{scene.ids['key']}", {"name": "far", "expires": last_day})
        assert changed.status == 400
        headers = {"authorization": f"Bearer {management_key}", "content-type": "application/json"}
        body = json.dumps({"name": "far", "expires_at": f"{last_day}T23:59:59-12:00"}).encode()
        assert (await gateway.request("POST", "/api/v1/keys", headers, body)).status == 400
        assert (await gateway.request("GET", "/api/v1/keys", headers)).status == 200
        assert (await admin.get("/audit")).status == 200


@pytest.mark.parametrize(
    "share", ["1e999999", "1e9999990", "-1e999999", "1e999990", "NaN", "inf", "100.1", "-1", "1" * 5000, ""]
)
async def test_a_share_of_prompts_is_a_small_number(scene: Furnished, share: str) -> None:
    """A number with a million digits stopped the whole process for minutes."""
    async with signed_in(scene.gateway) as admin, asyncio.timeout(10):
        refused = await admin.post(f"/privacy/{scene.ids['workspace']}", {"keeps": "on", "share": share})
        assert refused.status == 400


async def test_a_long_search_is_refused(scene: Furnished) -> None:
    """SQLite takes no pattern of fifty thousand characters, and no name is that long."""
    async with signed_in(scene.gateway) as admin:
        for text in ("a" * 101, "a" * 50_001, "%25" * 20_000):
            assert (await admin.get(f"/keys?q={text}")).status == 400


async def test_older_forms_do_not_put_old_values_back(scene: Furnished) -> None:
    """Two admins open a key. One sets a low limit; the other renames it: the limit stays until they have seen it."""
    gateway = scene.gateway
    _, key_hash = gateway.new_key_row("shared", limit_nusd=100 * 10**9)
    rail = (await scene.made("/guardrails", {"name": "rail", "limit_usd": 50, "reset_interval": "daily"}))["id"]
    async with signed_in(gateway) as first, signed_in(gateway) as second:
        opened = await first.data(f"/keys/{key_hash}")
        form = {"name": "shared", "workspace_id": opened["fields"]["workspace_id"], "shown": opened["shown"]}
        assert (await second.post(f"/keys/{key_hash}", form | {"limit": "1"})).status == 303
        refused = await first.post(f"/keys/{key_hash}", form | {"limit": "100", "name": "renamed"})
        assert (refused.status, "Somebody changed this key" in refused.text) == (400, True)
        now = await first.data(f"/keys/{key_hash}")
        assert now["fields"]["limit"] == "1"
        assert (await first.post(f"/keys/{key_hash}", form | {"limit": "2", "shown": now["shown"]})).status == 303

        old = (await first.data(f"/guardrails/{rail}"))["shown"]
        lower = {"name": "rail", "limit": "1", "reset_interval": "daily", "shown": old}
        assert (await second.post(f"/guardrails/{rail}", lower)).status == 303
        assert (await first.post(f"/guardrails/{rail}", lower | {"limit": "50", "name": "x"})).status == 400


async def test_a_password_of_ones_own_forgives_no_guesses_at_others(scene: Furnished) -> None:
    """An admin elsewhere gives a member of theirs somebody's address: signing in there in between does not make guessing free."""
    gateway, stranger = scene.gateway, scene.stranger
    victim = new_member(gateway, "Vera Victim")
    email = gateway.rows("SELECT email FROM members WHERE id = :id", id=victim)[0]["email"]
    with gateway.engine() as (engine, now_s):
        change_member(engine, stranger.organization.id, stranger.admin.id, {"email": email}, "test", now_s)
    for member_id, password in ((victim, PASSWORD), (stranger.admin.id, PASSWORD + " of mine")):
        async with signed_in(gateway, member_id) as person:
            assert (await person.post("/profile/password", {"password": password, "again": password})).status == 303
    statuses = []
    for guess in [*[f"a wrong guess {number}" for number in range(2)], PASSWORD + " of mine"] * 4:
        async with aiohttp.ClientSession() as http:
            sent = {"email": email, "password": guess}
            statuses.append((await Person(http, gateway.url, "").post("/sign-in", sent)).status)
    assert statuses.count(401) <= 4
    assert 429 in statuses


async def test_slow_downloads_hold_no_connection(store_url: str, tmp_path: Path) -> None:
    """Somebody begins sixteen downloads of the audit log and reads none: everybody else's pages and the API go on."""
    async with open_gateway(tmp_path / "gateway", database_url=store_url) as gateway, signed_in(gateway) as admin:
        plant_audit(gateway, 6_000)
        cookie = next(iter(admin.http.cookie_jar)).value
        host, port = gateway.url.removeprefix("http://").split(":")
        readers = [socket.socket() for _ in range(16)]
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            reader.connect((host, int(port)))
            reader.sendall(f"GET /audit.jsonl HTTP/1.1\r\nHost: {host}\r\nCookie: mg_session={cookie}\r\n\r\n".encode())
        await asyncio.to_thread(lambda: [reader.recv(1) for reader in readers])
        headers = {"authorization": f"Bearer {gateway.initialised.management_key}"}
        for _ in range(3):
            assert (await admin.get("/profile")).status == 200
            assert (await gateway.request("GET", "/api/v1/keys", headers)).status == 200
        for reader in readers:
            reader.close()


def plant_audit(gateway: Gateway, count: int) -> None:
    """Rows that make the audit log longer than what sockets hold."""
    row: dict[str, Any] = {
        "organization_id": gateway.initialised.organization_id, "created_at_s": 1, "actor": "x", "action": "x", "target": "x",
        "details": json.dumps({"a": "y" * 4_000}), "previous": "p",
    }  # fmt: skip
    with gateway.engine() as (engine, _), engine.begin() as connection:
        connection.execute(sa.insert(schema.audit), [row | {"digest": f"d{number}"} for number in range(count)])


async def test_nobody_takes_every_thread_of_the_pages(tmp_path: Path) -> None:
    """The mail server stands still, and an admin tries the channel sixty times: others' pages and the docs come at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as hole:
        toml = f'[alerts]\nsmtp_url = "smtp://127.0.0.1:{hole.getsockname()[1]}"\nemail_from = "g@example.com"\n'
        async with (
            open_gateway(tmp_path / "gateway", toml=toml) as gateway,
            signed_in(gateway) as admin,
            signed_in(gateway, new_member(gateway)) as other,
        ):
            added = {"channel_kind": "email", "channel_target": "x@example.com"}
            assert (await admin.post("/settings/channels", added)).status == 303
            path = f"/settings/channels/{gateway.rows('SELECT id FROM alert_channels')[0]['id']}/test"
            tries = [asyncio.create_task(admin.post(path)) for _ in range(60)]
            waiting, _ = await asyncio.to_thread(hole.accept)  # a test has begun, and gets no answer
            async with asyncio.timeout(10):
                assert (await other.get("/profile")).status == 200
                assert (await gateway.request("GET", "/docs")).status == 200
            for task in tries:
                task.cancel()
            waiting.close()
            hole.close()
