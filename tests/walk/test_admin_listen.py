"""Two planes at two addresses: every route there is, asked at both. It is at the address where it belongs, and at the other it is not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from starlette.routing import Route as Path_
from tests.support.console import Person, signed_in
from tests.support.gateway import Gateway, Told, ask, events, open_gateway
from tests.support.process import Server, Stand, fetch

from modelgates_server.api.app import OPENAPI_PATH, PREFIX, ROUTERS
from modelgates_server.console import assets
from modelgates_server.console.pages import PAGES
from modelgates_server.docsite import app as docs
from modelgates_server.edge.server import HEALTH_ROUTES, METRICS_ROUTES, PREFIXES, ROOT_ROUTES, ROUTES, _spellings
from modelgates_server.simulator import Simulator
from modelgates_server.simulator import serve as serve_simulator

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOML = '[server]\nport = 0\nadmin_listen = "127.0.0.1:0"\n'
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NOWHERE = (b"There is nothing at ", b"There is no such page.")
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FILLED = {"page": "quickstart", "name": "docs.css"}


class Place(NamedTuple):
    """A path that is served, with a method; and at which addresses."""

    method: str
    path: str
    for_clients: bool
    for_admins: bool


def _filled(path: str) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: FILLED.get(found[1], "nothing"), path)


def places() -> Iterator[Place]:
    """Everything that the gateway serves, from the tables that it is made of."""
    for path, route in _spellings(PREFIXES).items():
        yield from (Place(method, path, True, False) for method in route.methods)
    for prefix in PREFIXES:
        for path in ("/v1/models/claude-opus-4-8", "/v1/models/claude-opus-4-8/endpoints", "/v1/model/claude-opus-4-8"):
            yield Place("GET", prefix + path, True, False)
    for path, route in HEALTH_ROUTES.items():
        yield from (Place(method, path, True, True) for method in route.methods)
    for path, route in METRICS_ROUTES.items():
        yield from (Place(method, path, False, True) for method in route.methods)
    for router in ROUTERS:
        for one in router.routes:
            assert isinstance(one, Path_)
            for prefix in (PREFIX, "/v1", "/api/v1/v1", "/anthropic/v1"):
                yield from (Place(method, prefix + _filled(one.path), False, True) for method in one.methods or ())
    yield Place("GET", OPENAPI_PATH, False, True)
    yield from (Place(page.method, _filled(page.path), False, True) for page in PAGES)
    yield from (Place("GET", _filled(path), True, True) for path in (*docs.PAGES, docs.MCP_PATH))
    yield from (Place("GET", assets.PREFIX + name, name in assets.SHARED, True) for name in assets.assets().by_name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def apart(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path_factory.mktemp("apart") / "gateway", toml=TOML) as running:
        yield running


async def _ask(gateway: Gateway, url: str, method: str, path: str, headers: dict[str, str] | None = None) -> Told:
    data = b"{}" if method in {"POST", "PUT", "PATCH"} else None
    sent = {"content-type": "application/json"} | (headers or {})
    async with gateway.http.request(method, url + path, headers=sent, data=data, allow_redirects=False) as response:
        return Told(response.status, response.headers, await response.read())


def _is_nothing(told: Told) -> bool:
    return told.status == 404 and (not told.body or any(words in told.body for words in NOWHERE))


async def test_each_path_is_where_it_belongs_and_nowhere_else(apart: Gateway) -> None:
    """At the right address something answers, at the other it is as if the path had never been; nothing names the other address."""
    assert {**ROUTES, **ROOT_ROUTES}.keys() <= {place.path for place in places()}
    management = {"authorization": f"Bearer {apart.initialised.management_key}"}
    for place in places():
        for url, belongs in ((apart.url, place.for_clients), (apart.admin_url, place.for_admins)):
            told = await _ask(apart, url, place.method, place.path)
            assert _is_nothing(told) is not belongs, (url == apart.url, place, told.status, told.body[:200])
            if not belongs:
                for key in (management, {"x-api-key": apart.key}):
                    assert _is_nothing(await _ask(apart, url, place.method, place.path, key)), place
                assert apart.admin_url.encode() not in told.body


async def test_what_is_elsewhere_is_told_like_what_never_was(apart: Gateway) -> None:
    """Same status, same words, same headers but for the path and the request's number; with any method, and with a good key."""
    keys = {"authorization": f"Bearer {apart.initialised.management_key}", "x-api-key": apart.key}
    for url, path, never in (
        (apart.url, "/keys", "/kays"),
        (apart.url, "/metrics", "/matrics"),
        (apart.url, "/sign-in", "/sagn-in"),
        (apart.url, "/api/v1/keys", "/api/v1/kays"),
        (apart.url, "/api/openapi.json", "/api/apenapi.json"),
        (apart.url, "/assets/console.js", "/assets/cansole.js"),
        (apart.admin_url, "/api/v1/messages", "/api/v1/massages"),
        (apart.admin_url, "/api/v1/models/claude-opus-4-8", "/api/v1/madels/claude-opus-4-8"),
        (apart.admin_url, "/hello", "/hallo"),
    ):
        for method in METHODS:
            for more in ({}, BROWSER):
                there, nowhere = [await _ask(apart, url, method, one, {**keys, **more}) for one in (path, never)]
                assert _plain(there, path) == _plain(nowhere, never), (method, path, there.body)


def _plain(told: Told, path: str) -> tuple[int, list[tuple[str, str]], str]:
    """An answer without the path, the request's number, and the time."""
    number = told.headers["request-id"]
    headers = sorted((name, text) for name, text in told.headers.items() if name.lower() not in {"date", "request-id"})
    return told.status, headers, told.body.decode().replace(number, "N").replace(path, "P")


async def test_a_browser_at_the_clients_address_sees_no_page(apart: Gateway) -> None:
    """No console page says that there is none; the docs are there, whole, and lead to no console."""
    async with apart.http.get(apart.url + "/", headers=BROWSER) as response:
        assert (response.status, response.content_type) == (404, "application/json")
    async with apart.http.get(apart.url + "/docs", headers=BROWSER) as response:
        page = await response.text()
    assert ">Console</a>" not in page
    for linked in set(re.findall(r'(?:href|src)="(/[^"#]*)', page)):
        assert (await _ask(apart, apart.url, "GET", linked.replace("&amp;", "&"))).status == 200, linked


async def test_links_lead_people_to_one_and_clients_to_the_other(apart: Gateway) -> None:
    """Set-up, new keys, docs and doctor tell clients the main address; invitations and sign-in links lead to the console's."""
    here = replace(apart, url=apart.admin_url)
    _, key_hash = apart.new_key_row()
    async with signed_in(here) as admin:
        for client in ("", "/desktop", "/code", "/sdk"):
            assert (await admin.data(f"/setup{client}"))["base_url"] == f"{apart.url}/api"
        doctor = await _json(admin, "/setup/doctor", {"client": "code", "key_hash": key_hash})
        assert (doctor["examination"]["address"], doctor["examination"]["well"]) == (apart.url, True)
        made = await admin.post("/keys", {"name": "for a client"})
        assert f"{apart.url}/api" in made.text
        assert apart.admin_url not in made.text
        invited = await admin.post("/members", {"name": "Ina", "email": "ina@example.com", "role": "member"})
        assert f"{apart.admin_url}/join?token=" in invited.text, invited.text[:2000]
        installation = (await admin.data("/settings"))["installation"]
        assert (installation["origin"], installation["base_url"]) == (apart.admin_url, f"{apart.url}/api")
    told = await _ask(apart, apart.admin_url, "GET", "/docs/llms.txt")
    assert f"{apart.url}/docs/_mcp/server" in told.body.decode()
    assert apart.admin_url not in told.body.decode()


async def _json(person: Person, path: str, fields: dict[str, str]) -> dict[str, object]:
    shown = await person.post(path, fields, accept="application/json")
    assert shown.status == 200, shown.text
    return dict(shown.data)


async def test_a_name_of_the_console_is_its_own(tmp_path: Path) -> None:
    """`admin_url` is where links lead and whence forms may come; `public_url` stays the clients'."""
    names = 'public_url = "https://gates.example.com"\nadmin_url = "http://console.example.com"\n'
    async with open_gateway(tmp_path / "gateway", toml=TOML + names) as gateway:
        here = replace(gateway, url=gateway.admin_url)
        async with signed_in(here) as admin:
            assert (await admin.data("/setup/code"))["base_url"] == "https://gates.example.com/api"
            fields = {"name": "Ina", "email": "ina@example.com", "role": "member"}
            invited = await admin.post("/members", fields, origin="http://console.example.com")
            refused = await admin.post("/members", fields, origin="https://gates.example.com")
        mcp = await _ask(gateway, gateway.admin_url, "GET", "/docs/_mcp/server", {"host": "console.example.com"})
    assert "http://console.example.com/join?token=" in invited.text
    assert refused.status == 403
    assert (mcp.status, b"https://gates.example.com/docs/_mcp/server" in mcp.body) == (405, True)


async def _enter(server: Server, link: str) -> str:
    """Sign in as a person would; what the set-up page then gives clients as their base URL."""
    assert link.startswith(server.facts["admin_url"]), link
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.get(link) as entered:
            assert entered.status == 200
        async with http.get(f"{server.facts['admin_url']}/setup/code", headers={"accept": "application/json"}) as shown:
            return str((await shown.json())["data"]["base_url"])


@pytest.mark.slow
async def test_the_real_process_serves_both_and_stops_well(tmp_path: Path) -> None:
    """The printed link and that of `init` open the console; a stop in the middle of a stream with the console open ends well."""
    served = await serve_simulator(Simulator())
    stand = Stand(tmp_path / "stand", upstream=served.url, toml='[server]\nadmin_listen = "127.0.0.1:0"\n')
    server = await asyncio.to_thread(stand.serve)
    again = await asyncio.to_thread(stand.cli, "init")
    bases = [await _enter(server, link) for link in (server.facts["sign_in_url"], again.json["sign_in_url"])]
    headers = {"x-api-key": stand.key, "anthropic-simulate": json.dumps({"event_delay_s": 0.05, "tokens": 20})}
    admin_url = server.facts["admin_url"]
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{admin_url}/metrics") as told:  # the connection stays open
            assert "modelgates_" in await told.text()
        async with http.post(f"{server.url}/api/v1/messages", json=ask(stream=True), headers=headers) as response:
            body = await response.content.readany()
            ending = asyncio.get_running_loop().create_task(asyncio.to_thread(server.terminate))
            body += await response.content.read()
        code = await ending
    await served.stop()

    assert bases == [server.base_url] * 2
    assert (code, events(body)[-1][0]) == (0, "message_stop")
    with pytest.raises(OSError, match="refused"):
        fetch(f"{admin_url}/livez")


@pytest.mark.slow
async def test_several_workers_share_both(tmp_path: Path, postgres_url: str) -> None:
    """Each of two processes serves both planes, and both end together."""
    stand = Stand(tmp_path / "stand", toml='[server]\nadmin_listen = "127.0.0.1:0"\n', database_url=postgres_url)
    server = await asyncio.to_thread(stand.serve, "--workers", "2")
    base = await _enter(server, server.facts["sign_in_url"])
    for _ in range(8):  # each on a connection of its own
        assert await asyncio.to_thread(fetch, f"{server.facts['admin_url']}/metrics")
        assert await asyncio.to_thread(fetch, f"{server.url}/livez")
        with pytest.raises(OSError, match="404"):
            await asyncio.to_thread(fetch, f"{server.url}/metrics")
    code = await asyncio.to_thread(server.terminate)
    assert (base, code) == (server.base_url, 0)
