"""Words planted in every input appear nowhere: not in rows, logs, journals, metrics, exports, nor in what others are told.

What is meant to be kept is not planted: names of people and keys, user agents, names of apps, session ids, the `user` field.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.canaries import Canaries, body, exports, files, headers, of_postgres, overheard
from tests.support.console import signed_in
from tests.support.gateway import Gateway, Told, ask, open_gateway, until
from tests.support.postgres import Postgres
from tests.support.process import Stand, fetch, simulator
from tests.walk.conftest import QUICK
from tests.walk.managing import done, manage
from tests.walk.test_prompt_log import leave, opt

from modelgates_server.management.audit import export
from modelgates_server.vault.secret import load_secret

ECHOES: dict[str, dict[str, Any]] = {
    "a 400 that quotes the prompt": {"status": 400},
    "a 500 that quotes the prompt": {"status": 500},
    "a 529 that quotes the prompt": {"status": 529},
    "a 401 that quotes the key": {"status": 401},
    "an error event that quotes the prompt": {"error_at_event": 6, "error_type": "api_error"},
    "an error event before content": {"error_at_event": 1, "error_type": "overloaded_error"},
    "a cut stream": {"cut_after_event": 8},
    "an unreadable event": {"malformed_at_event": 6},
    "a page of HTML": {"html_200": True},
}
"""How providers fail; every one of these quotes what it can quote."""


async def ask_around(gateway: Gateway, canary: Canaries) -> list[Told]:
    """Requests of every outcome."""
    told = []
    for stream in (True, False):
        what = f"asked with stream={stream}"
        told.append(await gateway.send(body(canary, what, stream=stream), **headers(canary, what)))
    for what, fault in ECHOES.items():
        sent = body(canary, what, stream="event" in what or "stream" in what)
        quoted = f"the text {canary(f'{what} last text')} of {canary(f'{what} system')} for key sk-ant-{canary(what)}"
        simulate = fault if "html_200" in fault else fault | {"message": quoted}
        told.append(await gateway.send(sent, simulate=simulate))
    raw = json.dumps({"error": {"message": canary("raw last text")}, "prompt": canary("raw system")})
    told.append(await gateway.send(body(canary, "raw", stream=False), simulate={"status": 418, "body": raw}))
    left = body(canary, "left", stream=True)
    await leave(gateway, left | {"messages": ask()["messages"]}, {"tokens": 60, "event_delay_s": 0.03}, '"text_delta"')
    what = "counted"
    counted = body(canary, what, stream=False)
    counted = {name: counted[name] for name in ("model", "messages", "system", "tools")}
    told.append(await gateway.send(counted, path="/api/v1/messages/count_tokens"))
    return told


async def misuse(gateway: Gateway, canary: Canaries) -> None:
    """What cannot be understood, or is not allowed."""
    good = json.dumps(body(canary, "bad JSON", stream=False))
    wrong: list[bytes] = [
        good[:-40].encode(),
        good.replace('"max_tokens": 200', f'"max_tokens": "{canary("wrong type")}"').encode(),
        good.replace('"model":', f'"model": "{canary("twice")}", "model":').encode(),
        good.replace("claude-opus-4-8", canary("model name")).encode(),
        json.dumps(ask() | {"messages": canary("wrong messages")}).encode(),
        json.dumps(ask() | {"provider": {"order": [{canary("preference"): 1}]}}).encode(),
        canary("no JSON").encode() + b"\xff",
    ]
    for one in wrong:
        assert (await gateway.send(one)).status in {400, 404}
    query = f"/api/v1/messages?beta=true&token={canary('query')}"
    assert (await gateway.send(ask(), path=query)).status == 200
    assert (await gateway.send(ask(), **{"anthropic-beta": canary("beta")})).status in {200, 400}
    for dead in (f"sk-mg-v1-{canary('cut key')}", canary("foreign key")):
        assert (await gateway.send(ask(), key=dead)).status == 401
    for path in (f"/api/v1/keys?key={canary('key in an address')}", f"/nowhere/{canary('unknown path')}"):
        await gateway.request("GET", path, {"authorization": f"Basic {canary('basic')}"})


async def run_the_office(gateway: Gateway, canary: Canaries) -> None:
    """Secrets of people and of the organisation: made, used, and sent where they do not belong."""
    key = await done(gateway, "POST", "/keys", {"name": "k"}, 201)
    canary.known("a key", key["key"])
    manager = {"authorization": f"Bearer {gateway.initialised.management_key}", "content-type": "application/json"}
    once = await gateway.request(
        "POST", "/api/v1/keys", manager | {"idempotency-key": "one"}, json.dumps({"name": "once"}).encode()
    )
    canary.known("a key made once", once.json["key"])
    own = {"provider": "anthropic", "key": f"sk-own-{canary('own key')}", "disabled": True}
    await done(gateway, "POST", "/byok", own, 201)
    hook = {"type": "webhook", "target": "https://hooks.example.com/in"}
    canary.known("webhook secret", (await done(gateway, "POST", "/alerts/channels", hook, 201))["secret"])
    guest = {"email": "guest@example.com", "name": "Guest"}
    invited = await done(gateway, "POST", "/organization/invitations", guest, 201)
    canary.known("invitation", invited["token"])
    for path, sent in (
        ("/keys", {"name": "x", "limit": canary("bad limit")}),
        ("/keys", {"name": {canary("bad name"): 1}}),
        ("/byok", {"provider": "anthropic", "key": [canary("bad own key")]}),
        ("/alerts/channels", {"type": canary("bad kind"), "target": canary("bad target")}),
    ):
        assert (await manage(gateway, "POST", path, sent)).status == 400
    canary.known("sign-in link", gateway.initialised.sign_in_token or "")
    async with signed_in(gateway) as person:
        for cookie in person.http.cookie_jar:
            canary.known(f"cookie {cookie.key}", cookie.value)
        canary.known("form token", await person.csrf())
        chosen = {"password": canary("password"), "again": canary("password"), "current": canary("current password")}
        assert (await person.post("/profile/password", chosen)).status in {303, 400}
        await person.post("/sign-in", {"email": "admin@example.com", "password": canary("tried password")})
        for page in ("/logs", "/activity", "/keys", "/audit"):
            await person.get(page)
    claim = f"code={canary('OIDC code')}&state={canary('OIDC state')}"
    await gateway.request("GET", f"/sign-in/oidc/callback?{claim}")
    await gateway.request("GET", f"/sign-in?token={canary('wrong sign-in link')}")
    await gateway.request("GET", f"/join?token={canary('wrong invitation')}")


def secrets_of(gateway: Gateway, canary: Canaries) -> None:
    """What the installation itself must keep to itself."""
    canary.known("first key", gateway.key)
    canary.known("management key", gateway.initialised.management_key or "")
    canary.known("pepper", load_secret(gateway.config).hex())


def written(gateway: Gateway, folder: Path, postgres: Postgres | None) -> Iterator[tuple[str, bytes]]:
    """Every file that the gateway and its store have."""
    yield from ((name, text) for name, text in files(folder) if Path(name).name != "secret.key")
    if postgres is not None:
        yield from of_postgres(postgres)
    with gateway.engine() as (engine, now_s):
        yield "audit export", "\n".join(export(engine, load_secret(gateway.config), now_s)).encode()


@pytest.mark.parametrize("opted", [False, True])
@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
async def test_nothing_of_it_is_written_anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, store: str, opted: bool
) -> None:
    """Success, failure, nonsense and office work, logged at DEBUG; opted in, the row is sealed, so the same holds."""
    postgres: Postgres | None = request.getfixturevalue("postgres") if store == "postgresql" else None
    url = request.getfixturevalue("postgres_url") if store == "postgresql" else ""
    canary, folder = Canaries(), tmp_path / "gateway"
    with overheard() as log:
        async with open_gateway(folder, routing=QUICK, database_url=url) as gateway:
            secrets_of(gateway, canary)
            if opted:
                await opt(gateway)
            told = await ask_around(gateway, canary)
            await misuse(gateway, canary)
            await run_the_office(gateway, canary)
            await gateway.settled()
            others = [await gateway.send(ask(), simulate=ECHOES["a cut stream"]), await gateway.send(ask("x" * 10))]
            heard = {name: canary.heard(text) for name, text in await exports(gateway)}
            heard |= {name: canary.heard(text) for name, text in written(gateway, folder, postgres)}
            heard["the log"] = canary.heard(log.getvalue().encode())
            heard["another caller"] = canary.heard(b"".join(one.body for one in others))
            seen = canary.heard(b"".join(entry.body for entry in gateway.simulator.log))
            found = [await manage(gateway, "GET", f"/generation/content?id={one.id}") for one in told[:2]]
            kept = gateway.rows("SELECT COUNT(*) AS n FROM contents")[0]["n"]

    assert {name: places for name, places in heard.items() if places} == {}
    assert "provider_out_of_service" in log.getvalue()
    assert len(seen) > 100  # the provider did get all of it
    assert [one.status for one in told[:2]] == [200, 200]
    assert [one.status for one in found] == [200 if opted else 404] * 2
    assert (kept > len(ECHOES)) is opted


async def test_behind_the_door_stands_what_was_shown_to_the_model_and_nothing_else(tmp_path: Path) -> None:
    """Opted in: texts, tools and the answer; no account ids, no headers, no tokens for servers, no fields that nobody knows."""
    canary = Canaries()
    async with open_gateway(tmp_path / "gateway", routing=QUICK) as gateway:
        await opt(gateway)
        servers = [
            {"type": "url", "url": "https://x.example", "name": "x", "authorization_token": canary("a server's token")}
        ]
        sent = body(canary, "asked", stream=True, mcp_servers=servers)
        told = await gateway.send(sent, **headers(canary, "asked"))
        found = await done(gateway, "GET", f"/generation/content?id={told.id}")

    assert set(canary.heard(json.dumps(found).encode())) == {
        "asked system", "asked first text", "asked assistant text", "asked tool input", "asked tool result", "asked last text",
        "asked tool description", "asked tool schema", "asked stop sequence", "asked answer",
    }  # fmt: skip


@pytest.mark.parametrize("opted", [False, True])
async def test_nothing_of_it_is_in_the_journal_while_the_store_is_away(
    postgres: Postgres, postgres_url: str, tmp_path: Path, opted: bool
) -> None:
    """What is booked on this machine's disk instead holds amounts and ids; afterwards the content is there if it is wanted."""
    canary, folder = Canaries(), tmp_path / "gateway"
    slow = {"tokens": 40, "delay_s": 0.5, "event_delay_s": 0.1}
    with overheard() as log:
        async with open_gateway(folder, database_url=postgres_url) as gateway:
            if opted:
                await opt(gateway)
            asked = len(gateway.simulator.log)
            sending = gateway.send(body(canary, "running", stream=True), simulate=slow)
            running = asyncio.get_running_loop().create_task(sending)
            await until(lambda: len(gateway.simulator.log) > asked, "nothing was sent")
            await asyncio.sleep(0.3)
            postgres.kill()
            try:
                await gateway.send(body(canary, "refused", stream=True))
                finished = await running
                journal = b"".join(text.rstrip(b"\0") for name, text in files(folder) if "journal" in name)
            finally:
                postgres.start()
            await until(lambda: gateway.application.ledger.open_holds == 0, "the settlement did not arrive", 20)
            await until(lambda: not gateway.application.writer.away, "the store is not taken up again", 20)
            kept = [row["generation_id"] for row in gateway.rows("SELECT generation_id FROM contents")]
            heard = {name: canary.heard(text) for name, text in written(gateway, folder, postgres)}

    assert (finished.meaning[-1], finished.id.encode() in journal) == ("message_stop", True)
    assert b"sealed" not in journal  # it has room for receipts only
    assert (canary.heard(journal), canary.heard(log.getvalue().encode())) == ([], [])
    assert {name: places for name, places in heard.items() if places} == {}
    assert kept == ([finished.id] if opted else [])


@pytest.mark.parametrize("opted", [False, True])
def test_nothing_of_it_is_left_behind_by_a_crash(tmp_path: Path, opted: bool) -> None:
    """The real process, killed in the middle of a stream and started again: its files, its log, the exports of the command line."""
    canary = Canaries()
    with simulator(tmp_path / "simulator") as upstream:
        stand = Stand(tmp_path / "gateway", upstream=upstream.url)
        server = stand.serve()
        if opted:
            assert stand.cli("workspaces", "prompt-log", "default", "--on").code == 0
        sent = {"x-api-key": stand.key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
        url = f"{server.base_url}/v1/messages"
        for what, fault in (("before", {}), ("failed", {"status": 400, "message": canary("failed last text")})):
            upstream.script(fault)
            with suppress(OSError):
                fetch(url, sent, json.dumps(body(canary, what, stream=False)).encode())
        upstream.script({"stall_after_event": 8})
        with suppress(OSError, TimeoutError):
            _begin(url, sent, json.dumps(body(canary, "in the middle", stream=True)).encode())
        server.kill()
        with_crash = dict(_files(tmp_path))
        server = stand.serve()
        told = [
            stand.cli(*words).out.encode()
            for words in (("audit", "list"), ("activity", "list"), ("doctor",), ("db", "check"), ("keys", "list"))
        ]
        (kept,) = stand.rows("SELECT COUNT(*) AS n FROM contents")
        outcomes = {row["outcome"] for row in stand.rows("SELECT outcome FROM generations")}
        server.kill()
        texts = [*with_crash.items(), *_files(tmp_path), *((str(number), text) for number, text in enumerate(told))]

    assert {name: heard for name, text in texts if (heard := canary.heard(text))} == {}
    assert outcomes == {"completed", "failed", "lost"}
    assert kept["n"] == (2 if opted else 0)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    return ((name, text) for name, text in files(folder) if Path(name).name != "secret.key")


def _begin(url: str, sent: dict[str, str], data: bytes) -> None:
    """Read the beginning of a stream that does not end."""
    import urllib.request  # noqa: PLC0415 - only here

    with urllib.request.urlopen(urllib.request.Request(url, data, sent), timeout=3) as response:
        while b"text_delta" not in response.readline():
            pass
