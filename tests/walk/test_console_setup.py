"""Set-up pages: real values, a key made on the spot, files delivered once, and the doctor. As an administrator and as a member."""

from __future__ import annotations

import asyncio
import json
import plistlib
import re
from pathlib import Path

import pytest
from tests.support.console import Person, new_member, signed_in
from tests.support.gateway import Gateway, ask, open_gateway

from modelgates_server.accounts import keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.console.recipes import code

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = re.compile(keys.PATTERN)


async def made_key(person: Person, client: str = "desktop", **fields: str) -> str:
    """Press the button that makes a key; its text."""
    shown = await person.post("/setup/key", {"client": client, "name": "Mine", **fields})
    assert shown.status == 200, shown.text
    found = KEY.search(shown.text)
    assert found, shown.text
    return found[0]


@pytest.mark.parametrize("path", ["/setup", "/setup/desktop", "/setup/code", "/setup/sdk"])
async def test_every_page_shows_this_gateways_address(gateway: Gateway, path: str) -> None:
    """A member and an administrator see the base URL by which they came, as HTML and as JSON, and no key."""
    for member_id in (None, new_member(gateway)):
        async with signed_in(gateway, member_id) as person:
            shown = await person.get(path)
            assert (shown.status, KEY.search(shown.text)) == (200, None)
            assert f"{gateway.url}/api" in shown.text
            assert (await person.data(path))["base_url"] == f"{gateway.url}/api"


async def test_a_new_colleague_gets_a_key_and_an_answer(gateway: Gateway) -> None:
    """The button makes a key of the member's own, the page carries it, and the key asks a model at the address of the page."""
    member_id = new_member(gateway)
    async with signed_in(gateway, member_id) as member:
        page = (await member.post("/setup/key", {"client": "code", "name": "Claude Code of Ines"})).text
    block = re.search(r'<pre id="text-sh"[^>]*><code>(.*?)</code>', page, re.DOTALL)
    assert block is not None
    lines = dict(re.findall(r"export (\w+)=(\S*)", block[1]))
    told = await gateway.send(ask("hello"), key=lines["ANTHROPIC_AUTH_TOKEN"])

    assert lines["ANTHROPIC_BASE_URL"] == f"{gateway.url}/api"
    assert told.status == 200
    assert gateway.generation(told.id)["member_id"] == member_id


async def test_a_key_made_here_has_its_limit(gateway: Gateway) -> None:
    """The limit that was typed stands in the key's row, and what is no amount is refused with the form still filled."""
    async with signed_in(gateway) as admin:
        secret = await made_key(admin, limit="2.50", limit_reset="weekly")
        refused = await admin.post("/setup/key", {"client": "desktop", "name": "Mine", "limit": "much"})
    (row,) = gateway.rows("SELECT * FROM api_keys WHERE label LIKE :label", label=f"%{secret[-4:]}")

    assert (row["limit_nusd"], row["limit_reset"]) == (2_500_000_000, "weekly")
    assert refused.status == 400
    assert "not an amount" in refused.text
    assert 'value="much"' in refused.text


async def test_the_files_hold_the_key_and_the_models(gateway: Gateway) -> None:
    """Each is delivered as a file that no cache keeps, with the key, the address and the models that this key may use."""
    async with signed_in(gateway) as admin:
        secret = await made_key(admin)
        sent = {name: await admin.post("/setup/file", {"file": name, "key": secret}) for name in ("macos", "linux")}
        raw = await _bytes(admin, {"file": "windows", "key": secret})
    (profile,) = plistlib.loads(sent["macos"].text.encode())["PayloadContent"]
    linux = json.loads(sent["linux"].text)

    assert all(one.headers["cache-control"] == "no-store" for one in sent.values())
    assert all(one.headers["content-disposition"].startswith("attachment") for one in sent.values())
    assert profile["inferenceGatewayApiKey"] == linux["inferenceGatewayApiKey"] == secret
    assert profile["inferenceGatewayBaseUrl"] == f"{gateway.url}/api"
    assert json.loads(profile["inferenceModels"]) == linux["inferenceModels"]
    assert secret in raw.decode("utf-16")
    listed = await gateway.request("GET", "/api/v1/models?limit=1000", gateway.headers(key=secret))
    assert {entry["name"] for entry in linux["inferenceModels"]} == {entry["id"] for entry in listed.json["data"]}


async def _bytes(person: Person, fields: dict[str, str]) -> bytes:
    data = [*fields.items(), ("csrf", await person.csrf())]
    async with person.http.post(f"{person.url}/setup/file", data=data, headers={"Origin": person.url}) as response:
        assert response.status == 200
        return await response.read()


async def test_a_file_has_only_models_of_its_key(gateway: Gateway) -> None:
    """A key that may use one model carries one."""
    secret = gateway.new_key(allowed_models=("anthropic/claude-opus-4.8",))
    async with signed_in(gateway) as admin:
        sent = await admin.post("/setup/file", {"file": "linux", "key": secret})
        open_list = await admin.post("/setup/file", {"file": "linux", "key": secret, "discovery": "on"})

    assert [entry["name"] for entry in json.loads(sent.text)["inferenceModels"]] == ["claude-opus-4-8"]
    assert json.loads(open_list.text)["modelDiscoveryEnabled"] is True


async def test_settings_of_claude_code_are_as_ticked(gateway: Gateway) -> None:
    """Roles, fast mode, discovery and the status line are in the file when they were chosen, and only then."""
    async with signed_in(gateway) as admin:
        plain = json.loads((await admin.post("/setup/file", {"file": "settings", "key": gateway.key})).text)
        ticked = {"roles": "pinned", "fast": "on", "gateway_models": "on", "status_line": "on"}
        full = json.loads((await admin.post("/setup/file", {"file": "settings", "key": gateway.key, **ticked})).text)

    assert plain["env"]["ANTHROPIC_AUTH_TOKEN"] == gateway.key
    assert "statusLine" not in plain
    assert full["env"].items() >= (plain["env"] | code.FAST | code.DISCOVERY).items()
    assert full["env"]["ANTHROPIC_DEFAULT_OPUS_MODEL"] == "claude-opus-5-5"
    assert full["statusLine"]["command"].endswith(code.STATUS_LINE_FILE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Make a key first"),
        ("sk-ant-api03-x", "not keys of a provider"),
        ("sk-mg-v1-short", "cut off or mistyped"),
        (keys.mint(KeyClass.INFERENCE).secret, "belongs to this gateway"),
    ],
)
async def test_what_is_no_key_makes_no_file(gateway: Gateway, text: str, said: str) -> None:
    """The page comes back with the reason, and repeats nothing of what was pasted."""
    async with signed_in(gateway) as admin:
        for path in ("/setup/use", "/setup/file"):
            shown = await admin.post(path, {"client": "desktop", "file": "macos", "key": text})
            assert shown.status == 400
            assert said in shown.text
            assert not text or text not in shown.text


async def test_dead_and_managing_keys_make_no_file(gateway: Gateway) -> None:
    """A management key is told apart, and so is one that is switched off."""
    managing = gateway.initialised.management_key or ""
    async with signed_in(gateway) as admin:
        shown = await admin.post("/setup/use", {"client": "code", "key": managing})
        assert (shown.status, "management key" in shown.text) == (400, True)
        secret, key_hash = gateway.new_key_row()
        await admin.post(f"/keys/{key_hash}/disable")
        shown = await admin.post("/setup/use", {"client": "code", "key": secret})
        assert (shown.status, "disabled" in shown.text) == (400, True)


async def test_no_address_holds_a_key(gateway: Gateway) -> None:
    """The routes of keys and files answer to forms only, and nothing of a key is kept for a second look."""
    async with signed_in(gateway) as admin:
        secret = await made_key(admin)
        for path in ("/setup/key", "/setup/use", "/setup/file", "/setup/doctor"):
            assert (await admin.get(path)).status == 405
            assert (await admin.get(f"{path}?key={secret}")).status == 405
        for path in ("/setup", "/setup/desktop", "/setup/code", "/keys"):
            assert secret not in (await admin.get(path)).text


async def test_the_doctor_finds_everything_well(gateway: Gateway) -> None:
    """Every check of the apps is green; what it asked stands in the books under the key, and the pass opens nothing later."""
    member_id = new_member(gateway)
    _, key_hash = gateway.new_key_row("hers", member_id=member_id)
    async with signed_in(gateway, member_id) as member:
        shown = await member.post(
            "/setup/doctor", {"client": "desktop", "key_hash": key_hash}, accept="application/json"
        )
        found = shown.data["examination"]
        html = await member.post("/setup/doctor", {"client": "desktop", "key_hash": key_hash})
    rows = gateway.rows("SELECT * FROM generations WHERE key_hash = :hash", hash=key_hash)

    assert {check["name"]: check["status"] for check in found["checks"]} == dict.fromkeys(
        ("address", "reachable", "start-up probe", "model list", "connection test", "streamed answer", "tool use",
         "token count", "receipt", "key"), "green",
    )  # fmt: skip
    assert found["well"] is True
    assert "All is well" in html.text
    assert {row["member_id"] for row in rows} == {member_id}
    assert len(rows) == 8  # connection test, stream, and both halves of the tool's round trip; twice
    assert KEY.search(shown.text) is None


async def test_the_doctor_asks_as_that_key(gateway: Gateway) -> None:
    """A key whose limit is used up is told so, with a remedy; a key of one model is asked about that model."""
    _, spent = gateway.new_key_row("spent", limit_nusd=1)
    secret, one = gateway.new_key_row("one", allowed_models=("anthropic/claude-opus-4.8",))
    async with signed_in(gateway) as admin:
        poor = await admin.post("/setup/doctor", {"client": "code", "key_hash": spent}, accept="application/json")
        narrow = await admin.post("/setup/doctor", {"client": "code", "key": secret}, accept="application/json")
    by_name = {check["name"]: check for check in poor.data["examination"]["checks"]}

    assert by_name["connection test"]["status"] == "red"
    assert "used up" in by_name["connection test"]["remedy"]
    assert narrow.data["examination"]["well"] is True
    models = gateway.rows("SELECT DISTINCT model FROM generations WHERE key_hash = :hash", hash=one)
    assert models == [{"model": "anthropic/claude-opus-4.8"}]


async def test_a_member_asks_only_as_their_own_key(gateway: Gateway) -> None:
    """The key of somebody else is as unknown as one that never was; its text is proof enough."""
    member_id = new_member(gateway)
    secret, key_hash = gateway.new_key_row("the admin's")
    async with signed_in(gateway, member_id) as member:
        for wanted in (key_hash, "0" * 64):
            assert (await member.post("/setup/doctor", {"client": "code", "key_hash": wanted})).status == 404
        assert (await member.post("/setup/doctor", {"client": "code"})).status == 400
        assert (await member.post("/setup/doctor", {"client": "code", "key": secret})).status == 200


async def test_a_visit_of_the_doctor_is_noted(gateway: Gateway) -> None:
    """The audit log says who asked as which key; the pass itself is nowhere."""
    _, key_hash = gateway.new_key_row()
    async with signed_in(gateway) as admin:
        await admin.post("/setup/doctor", {"client": "code", "key_hash": key_hash})
    notes = gateway.rows("SELECT * FROM audit WHERE action = 'pass.make' AND target = :hash", hash=key_hash)

    assert len(notes) == 1
    assert notes[0]["actor"].startswith("member:")
    assert not KEY.search(json.dumps(notes))


async def test_many_doctors_at_once_are_refused_politely(gateway: Gateway) -> None:
    """No more than a few threads are given away; who comes too late is told to come again."""
    _, key_hash = gateway.new_key_row()
    async with signed_in(gateway) as admin:
        shown = await asyncio.gather(
            *(admin.post("/setup/doctor", {"client": "code", "key_hash": key_hash}) for _ in range(8))
        )
    statuses = sorted(one.status for one in shown)
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 4


async def test_an_address_that_this_server_cannot_reach_is_told(tmp_path: Path) -> None:
    """With a public address that does not answer here, the doctor says so and tries its own socket."""
    toml = '[server]\npublic_url = "http://127.0.0.1:1"\n'
    async with open_gateway(tmp_path, toml=toml) as gateway:
        _, key_hash = gateway.new_key_row()
        async with signed_in(gateway) as admin:
            page = await admin.data("/setup/desktop")
            shown = await admin.post(
                "/setup/doctor", {"client": "code", "key_hash": key_hash}, accept="application/json"
            )
    found = shown.data["examination"]

    assert page["base_url"] == "http://127.0.0.1:1/api"
    assert page["plain_http"] is False
    assert [check["status"] for check in found["checks"][:2]] == ["green", "yellow"]
    assert "cannot reach http://127.0.0.1:1 itself" in found["checks"][1]["remedy"]
    assert found["address"] == gateway.url
    assert found["well"] is True


async def test_plain_http_off_loopback_is_said_on_top(tmp_path: Path) -> None:
    """Claude Desktop would refuse the address: the page says so with the remedy, and the doctor is red about it."""
    toml = '[server]\npublic_url = "http://gateway.example.com:8787"\n'
    async with open_gateway(tmp_path, toml=toml) as gateway, signed_in(gateway) as admin:
        shown = await admin.get("/setup/desktop")
        data = await admin.data("/setup/desktop")

    assert (data["plain_http"], data["base_url"]) == (True, "http://gateway.example.com:8787/api")
    assert "refuses plain http off loopback" in shown.text
    assert "--tls-cert" in shown.text
    assert "public_url" in shown.text


async def test_the_visitors_own_way_is_the_address(gateway: Gateway) -> None:
    """Where the operator set none, it is the host by which the visitor came; ``localhost`` by its number; never what is no host."""
    port = gateway.url.rpartition(":")[2]
    async with signed_in(gateway) as admin:
        for host, shown in (
            ("gw.lan:8787", "http://gw.lan:8787/api"),
            (f"localhost:{port}", f"http://127.0.0.1:{port}/api"),
            ("[::1]:9", "http://[::1]:9/api"),
            ('gw"><script>', "http://127.0.0.1:8787/api"),
        ):
            page = await admin.get("/setup", accept="application/json", host=host)
            assert page.data["base_url"] == shown


async def test_the_status_line_script_holds_no_key(gateway: Gateway) -> None:
    """It is a file like any other, and the same for everybody."""
    async with signed_in(gateway) as admin:
        shown = await admin.get(f"/setup/{code.STATUS_LINE_FILE}")
    assert shown.text.encode() == code.status_line()
    assert shown.headers["content-disposition"] == f'attachment; filename="{code.STATUS_LINE_FILE}"'


async def test_the_sandbox_is_named(tmp_path: Path) -> None:
    """Who has no provider yet is told that no model answers."""
    async with (
        open_gateway(tmp_path, simulators=0, toml='[[providers]]\nkind = "sandbox"\n') as gateway,
        signed_in(gateway) as admin,
    ):
        assert "sandbox" in (await admin.get("/setup/code")).text
        secret = await made_key(admin)
        shown = await admin.post("/setup/doctor", {"client": "code", "key": secret}, accept="application/json")
    assert shown.data["examination"]["well"] is True


async def test_everything_here_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """A key on the spot, its file, the doctor with its pass, the providers with their day, the models: the same on the other store."""
    async with open_gateway(tmp_path, database_url=postgres_url) as gateway, signed_in(gateway) as admin:
        secret = await made_key(admin, limit="5")
        file = await admin.post("/setup/file", {"file": "linux", "key": secret})
        shown = await admin.post("/setup/doctor", {"client": "desktop", "key": secret}, accept="application/json")
        tested = await admin.post("/providers/test", {"slug": "anthropic"}, accept="application/json")
        (provider,) = (await admin.data("/providers"))["providers"]
        models = await admin.data("/models")

    assert json.loads(file.text)["inferenceGatewayApiKey"] == secret
    assert shown.data["examination"]["well"] is True
    assert tested.data["tested"]["answered"] is True
    assert (provider["day"]["attempts"], provider["day"]["up_permille"]) == (5, 1000)
    assert models["shown"] == len(models["models"])
