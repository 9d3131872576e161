"""An organisation's own provider keys through a real port: where they go, in which order, and what is paid."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import sqlalchemy as sa
from tests.support.gateway import UPSTREAM_KEY, Gateway, ask, open_gateway, until
from tests.support.own import OPERATORS, OWN, changed, digest, forget_seen, keys_seen, own, safe
from tests.walk.conftest import QUICK

from modelgates_server.management import rotation
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.vault.ring import open_vault
from modelgates_server.vault.secret import load_secret

pytestmark = pytest.mark.asyncio(loop_scope="session")

HAIKU = "claude-haiku-4-5"
TWO = {"anthropic": "anthropic", "backup-1": "anthropic"}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path_factory.mktemp("byok") / "gateway", simulators=2, routing=QUICK) as gateway:
        yield gateway


@pytest.fixture
def mine(running: Gateway) -> Gateway:
    """A gateway with two providers, both in service; nothing was asked of them yet."""
    running.forget()
    forget_seen(running)
    return running


def fresh(**fields: Any) -> dict[str, Any]:
    """A body of a conversation that nobody holds."""
    return ask(f"hello {uuid4()}", **fields)


def tried(row: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(attempt["provider"], attempt["own"], attempt["fault"]) for attempt in json.loads(row["attempts"])]


def money(row: dict[str, Any]) -> tuple[bool, bool]:
    """Whether credit was used, and whether an own account was asked."""
    return row["cost_nusd"] > 0, row["byok_cost_nusd"] > 0


def list_price_nusd(row: dict[str, Any]) -> int:
    return -(-sum(part["pusd"] for part in json.loads(row["parts"])) // 1000)


def used_nusd(gateway: Gateway) -> int:
    """The credit that is used or held."""
    (row,) = gateway.rows("SELECT posted + held AS used FROM meters WHERE scope = 'organization' AND unit = 'nusd'")
    return row["used"]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_own_key_is_used_first_and_costs_no_credit(mine: Gateway, stream: bool) -> None:
    """It arrives at its provider and nowhere else; the receipt has the list price beside a charge of nothing."""
    before = used_nusd(mine)
    async with own(mine) as row:
        told = await mine.send(fresh(stream=stream))
        receipt = await mine.receipt(told.id)

    assert told.status == 200
    assert keys_seen(mine) == [(0, digest())]
    assert tried(receipt) == [("anthropic", row.id, None)]
    assert (receipt["cost_nusd"], receipt["upstream_cost_nusd"]) == (0, 0)
    assert receipt["byok_cost_nusd"] == list_price_nusd(receipt) > 0
    assert (mine.entries(told.id), used_nusd(mine), mine.problems()) == ({}, before, [])


KINDS = ("anthropic", "anthropic-compatible", "claude-on-aws", "bedrock", "bedrock-invoke", "foundry")


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_with_a_key_can_be_asked_with_an_own_one(tmp_path: Path, kind: str) -> None:
    """The own key stands where the operator's would, in every header of it, and counting uses it too."""
    async with (
        open_gateway(tmp_path / "g", simulators={"place": kind}, routing=QUICK) as gateway,
        own(gateway, "place"),
    ):
        told = await gateway.send(fresh(stream=True))
        counted = await gateway.send({"model": HAIKU, "messages": [{"role": "user", "content": "hi"}]},
                                     path="/api/v1/messages/count_tokens")  # fmt: skip

    assert (told.status, counted.status) == (200, 200)
    assert {value for _, value in keys_seen(gateway)} == {digest()}


async def test_the_operators_account_takes_over_and_is_charged_exactly(mine: Gateway) -> None:
    """The own key's account fails: the same provider answers with the operator's key, and that answer alone is charged."""
    mine.simulators[0].script.append({"status": 500})
    async with own(mine) as row:
        told = await mine.send(fresh(stream=True))
        receipt = await mine.receipt(told.id)

    assert keys_seen(mine) == [(0, digest()), (0, OPERATORS)]
    assert tried(receipt) == [("anthropic", row.id, "upstream"), ("anthropic", "", None)]
    assert receipt["cost_nusd"] == list_price_nusd(receipt) > 0
    assert (receipt["byok_cost_nusd"], mine.entries(told.id)) == (0, {"charge": receipt["cost_nusd"]})


async def test_a_fallback_key_comes_last(mine: Gateway) -> None:
    """Both of the operator's accounts fail before it is asked; then no credit is used."""
    for simulator in mine.simulators:
        simulator.script.append({"status": 500})
    async with own(mine, "backup-1", is_fallback=True) as row:
        told = await mine.send(fresh(stream=True))
        receipt = await mine.receipt(told.id)

    assert [(who, key) for who, key, _ in tried(receipt)] == [("anthropic", ""), ("backup-1", ""), ("backup-1", row.id)]
    assert (told.status, money(receipt)) == (200, (False, True))


async def test_own_keys_come_before_shared_ones_against_any_order(mine: Gateway) -> None:
    """Even when the request wants the other provider first; among own keys its order counts, then theirs."""
    wish = {"order": ["backup-1"]}
    async with (
        own(mine, sort_order=1) as first,
        own(mine, sort_order=2) as second,
        own(mine, "backup-1", sort_order=9) as wanted,
    ):
        receipt = await mine.receipt((await mine.send(fresh(provider=wish))).id)
        plain = await mine.receipt((await mine.send(fresh())).id)

    def order(row: dict[str, Any]) -> list[str]:
        return [line.get("own") or line["provider"] for line in json.loads(row["plan"])]

    assert order(receipt) == [wanted.id, first.id, second.id, "backup-1", "anthropic"]
    assert order(plain) == [first.id, second.id, wanted.id, "anthropic", "backup-1"]


@pytest.mark.parametrize(
    "filters", [{"allowed_models": ("anthropic/claude-haiku-4.5",)}, {"disabled": True}, {"allowed_key_hashes": True}]
)
async def test_a_key_that_does_not_fit_is_not_used(mine: Gateway, filters: dict[str, Any]) -> None:
    """By model, by API key, or because it is off: the operator's account answers, as if it were not there."""
    if "allowed_key_hashes" in filters:
        filters = {"allowed_key_hashes": (mine.new_key_row("somebody else")[1],)}
    async with own(mine, **filters):
        told = await mine.send(fresh())
        receipt = await mine.receipt(told.id)

    assert (told.status, keys_seen(mine), money(receipt)) == (200, [(0, OPERATORS)], (True, False))


async def test_without_credit_own_keys_still_work(tmp_path: Path) -> None:
    """Only they are asked, also when they fail: the operator's account is not lent to anybody."""
    async with open_gateway(tmp_path / "g", simulators=2, routing=QUICK, credit_usd="0") as gateway:
        refused = await gateway.send(fresh())
        async with own(gateway):
            told = await gateway.send(fresh(stream=True))
            listed = await gateway.request("GET", "/api/v1/models", gateway.headers())
            gateway.simulators[0].script += [{"status": 500}] * 5
            failed = await gateway.send(fresh())
        receipts = [await gateway.receipt(told.id), await gateway.receipt(failed.id)]

    assert (refused.status, told.status, failed.status) == (402, 200, 502)
    assert listed.json["data"]
    assert {value for _, value in keys_seen(gateway)} == {digest()}
    assert [money(receipt) for receipt in receipts] == [(False, True), (False, False)]
    assert json.loads(receipts[0]["plan"])[1]["code"] == "budget"


async def test_a_budget_that_counts_own_keys_refuses_them(mine: Gateway) -> None:
    """With `include_byok` what own accounts are asked fills the key's limit, and then nobody is asked; without, it does not."""
    body = ask("count me", max_tokens=5000)
    both, both_hash = mine.new_key_row("both", limit_nusd=150_000_000, include_byok_in_limit=True)
    credit, _ = mine.new_key_row("credit only", limit_nusd=150_000_000)
    bill = {"usage": {"input_tokens": 10, "output_tokens": 4000}}
    async with own(mine):
        told = [await mine.send(body, key=both, simulate=bill) for _ in range(2)]
        others = [await mine.send(body, key=credit, simulate=bill) for _ in range(2)]
        (meter,) = mine.rows("SELECT posted, held FROM meters WHERE scope_id = :id AND unit = 'spend'", id=both_hash)
        receipt = await mine.receipt(told[0].id)
        shown = await mine.request("GET", "/api/v1/key", mine.headers(key=both))

    assert [one.status for one in told] == [200, 402]
    assert told[1].error["details"]["scope"] == "key"
    assert [one.status for one in others] == [200, 200]
    assert (meter["posted"], meter["held"]) == (receipt["byok_cost_nusd"], 0)
    assert (shown.json["data"]["usage"], shown.json["data"]["byok_usage"] * 10**9) == (
        0,
        pytest.approx(meter["posted"]),
    )
    assert mine.overspent() == []


async def test_a_small_budget_of_both_clamps_what_an_own_key_is_asked(mine: Gateway) -> None:
    """What is left bounds the answer, although no credit is needed."""
    key = mine.new_key("clamped", limit_nusd=200_000_000, include_byok_in_limit=True)
    async with own(mine):
        told = await mine.send(fresh(max_tokens=30_000), key=key)

    assert told.status == 200
    assert 4096 <= json.loads(mine.simulators[0].log[-1].body or b"")["max_tokens"] < 30_000


async def test_a_refused_own_key_is_nobody_elses_trouble(mine: Gateway) -> None:
    """Its account rests alone: others' requests go on, and so does another own key. A new key is tried at once."""
    mine.simulators[0].script.append({"status": 401})
    async with own(mine) as row:
        first, second = [await mine.receipt((await mine.send(fresh())).id) for _ in range(2)]
        async with own(mine, key="sk-own-another-0123456789") as other:
            third = await mine.receipt((await mine.send(fresh())).id)
        await changed(mine, row, key="sk-own-renewed-0123456789")
        fourth = await mine.receipt((await mine.send(fresh())).id)

    assert tried(first) == [("anthropic", row.id, "misconfigured"), ("anthropic", "", None)]
    assert tried(second) == [("anthropic", "", None)]
    assert tried(third) == [("anthropic", other.id, None)]
    assert tried(fourth) == [("anthropic", row.id, None)]
    assert keys_seen(mine)[-1] == (0, digest("sk-own-renewed-0123456789"))


async def test_a_refused_operators_key_is_no_trouble_of_own_keys(mine: Gateway) -> None:
    """The operator's account rests; an own key at the same provider is asked as ever."""
    mine.simulators[0].script.append({"status": 402})
    assert tried(await mine.receipt((await mine.send(fresh())).id))[0] == ("anthropic", "", "account")
    async with own(mine) as row:
        receipt = await mine.receipt((await mine.send(fresh())).id)

    assert tried(receipt) == [("anthropic", row.id, None)]


async def test_own_keys_hear_of_a_provider_that_fails_everybody(mine: Gateway) -> None:
    """Where the operator's breaker is open, another provider is asked before the own key; its own failures open nobody's."""
    mine.simulators[0].script += [{"status": 500}] * 5
    for _ in range(5):
        await mine.send(fresh())
    async with own(mine) as row:
        receipt = await mine.receipt((await mine.send(fresh())).id)
        last = json.loads(receipt["plan"])[-2:]

    assert tried(receipt) == [("backup-1", "", None)]
    assert {line.get("own") for line in last} == {row.id, None}
    assert all("last resort" in line["reason"] for line in last)


TAMPERED = {
    "another secret's ciphertext": "UPDATE provider_credentials SET sealed = :other WHERE id = :id",
    "another address": "UPDATE provider_credentials SET base_url = 'https://evil.example.com' WHERE id = :id",
    "another provider": "UPDATE provider_credentials SET provider = 'backup-1' WHERE id = :id",
    "a made-up ciphertext": "UPDATE provider_credentials SET sealed = 'v1.1.AAAA.AAAA' WHERE id = :id",
    "a lost key-encryption key": "UPDATE provider_credentials SET kek_id = '99' WHERE id = :id",
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_record_that_was_tampered_with_is_never_sent(mine: Gateway, how: str) -> None:
    """It does not open, so nobody is asked with it: the operator's account answers."""
    async with own(mine) as row, own(mine, "backup-1", "sk-own-other-0123456789", disabled=True) as other:
        (kept,) = mine.rows("SELECT sealed FROM provider_credentials WHERE id = :id", id=other.id)
        with mine.engine() as (engine, _), transaction(engine) as connection:
            known = {"id": row.id, "other": kept["sealed"]}
            statement = sa.text(TAMPERED[how])
            connection.execute(statement, {name: known[name] for name in statement.compile().params})
            connection.execute(sa.text("UPDATE policy SET version = version + 1"))
        await mine.application.context.directory.refresh()
        receipt = await mine.receipt((await mine.send(fresh())).id)

    assert [(key, fault) for _, key, fault in tried(receipt)] == [(row.id, "misconfigured"), ("", None)]
    assert keys_seen(mine) == [(0, OPERATORS)]


async def test_a_record_of_another_organisation_is_never_sent(tmp_path: Path) -> None:
    """A row that was given to an organisation opens for the other one only; alone it makes a 503 that says so."""
    async with open_gateway(tmp_path / "g", routing=QUICK, credit_usd="0") as gateway, own(gateway) as row:
        place = {
            "organization_id": "org-other",
            "record_id": row.id,
            "destination": gateway.config.providers[0].base_url,
        }
        with gateway.engine() as (engine, _), transaction(engine) as connection:
            sealed = open_vault(connection, safe(gateway).secret, sealing=True).seal(b"sk-own-foreign-key-1", **place)
            table = schema.provider_credentials
            connection.execute(sa.update(table).where(table.c.id == row.id).values(sealed=sealed.text))
            connection.execute(sa.text("UPDATE policy SET version = version + 1"))
        await gateway.application.context.directory.refresh()
        told = await gateway.send(fresh())

    assert told.status == 503
    assert "own key" in told.error["message"]
    assert keys_seen(gateway) == []


async def test_an_address_that_the_operator_changed_gets_no_old_key(mine: Gateway) -> None:
    """The key was stored for the address of that day: to a provider of that name elsewhere it is not sent."""
    async with own(mine) as row:
        with mine.engine() as (engine, _), transaction(engine) as connection:
            moved = {"base_url": mine.config.providers[1].base_url}
            connection.execute(
                sa.update(schema.provider_credentials).values(moved).where(schema.provider_credentials.c.id == row.id)
            )
            connection.execute(sa.text("UPDATE policy SET version = version + 1"))
        await mine.application.context.directory.refresh()
        receipt = await mine.receipt((await mine.send(fresh())).id)

    assert "another address" in json.loads(receipt["attempts"])[0]["detail"]
    assert keys_seen(mine) == [(0, OPERATORS)]


async def test_a_client_that_leaves_pays_no_credit(mine: Gateway) -> None:
    """What was delivered until then is noted as asked of the own account, as an estimate."""
    async with own(mine):
        headers = mine.headers(simulate={"stall_after_event": 8})
        async with mine.http.post(mine.messages_url, headers=headers, json=fresh(stream=True)) as response:
            seen = b""
            while b"content_block_delta" not in seen:
                seen += await response.content.readany()
            id_ = response.headers["x-generation-id"]
        receipt = await mine.receipt(id_)

    assert (receipt["outcome"], receipt["estimated"], money(receipt)) == ("cancelled", 1, (False, True))
    assert mine.problems() == []


async def test_an_attempt_of_unknown_fate_is_not_ours_to_pay(mine: Gateway) -> None:
    """The own account may be asked for it; our books say nothing about it."""
    mine.simulators[0].script.append({"cut_at_byte": 0, "reset": True})
    async with own(mine):
        told = await mine.send(fresh())
        receipt = await mine.receipt(told.id)

    assert tried(receipt)[0][2] == "reset"
    assert mine.entries(told.id).keys() == {"charge"}


async def test_receipts_and_reports_say_that_it_was_an_own_key(mine: Gateway) -> None:
    """`GET /generation` and the routing report, in the documented fields."""
    async with own(mine):
        told = await mine.send(fresh(), x_modelgates_metadata="enabled")
        shown = await mine.request("GET", f"/api/v1/generation?id={told.id}", mine.headers())
    data, report = shown.json["data"], told.json["modelgates_metadata"]

    usage = told.json["usage"]

    assert (data["is_byok"], data["usage"], data["total_cost"]) == (True, 0, 0)
    assert (usage["is_byok"], usage["cost"], usage["cost_details"]["upstream_inference_cost"]) == (
        True, 0, data["upstream_inference_cost"],
    )  # fmt: skip
    assert data["upstream_inference_cost"] == data["byok_usage_inference"] > 0
    (answered,) = data["provider_responses"]
    assert (answered["is_byok"], answered["endpoint_id"]) == (True, "anthropic|anthropic/claude-opus-4.8")
    assert report["is_byok"] is True
    assert [place["selected"] for place in report["endpoints"]["available"]] == [True, False, False]


async def test_nothing_shows_an_own_key(mine: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the database nor a log at its most talkative, an answer, an error or a receipt, even when the provider repeats it."""
    caplog.set_level(logging.DEBUG)
    answers = []
    async with own(mine):
        for status, stream in ((401, True), (401, False), (400, True), (400, False), (500, True), (529, False)):
            mine.forget()
            mine.simulators[0].script.append({"status": status, "message": f"invalid x-api-key: {OWN}"})
            answers.append(await mine.send(fresh(stream=stream), x_modelgates_metadata="enabled"))
        tables = [mine.rows(f"SELECT * FROM {table.name}") for table in schema.metadata.sorted_tables]
        directory = mine.application.context.directory
        seen = [repr(tables), repr(directory._callers), repr(vars(directory._shelf))]
    seen += [caplog.text, *(f"{told.headers} {told.body!r}" for told in answers)]
    seen += [repr(vars(record)) for record in caplog.records]

    assert [told.status for told in answers] == [200, 200, 400, 400, 200, 200]
    assert not [text for text in seen if "canary" in text or UPSTREAM_KEY in text]


@pytest.mark.slow
async def test_ten_thousand_secrets_are_rotated_under_load_without_a_failed_request(tmp_path: Path) -> None:
    """Requests with an own key go on all the while, through new key-encryption keys and the end of the old ones."""
    async with open_gateway(tmp_path / "g", routing=QUICK, credit_usd="0") as gateway, own(gateway) as row:
        secret, asked = load_secret(gateway.config), list[int]()
        with gateway.engine() as (engine, now_s):
            _crowd(engine, secret, 10_000)
            rotating = asyncio.create_task(asyncio.to_thread(rotation.rotate_secrets, engine, secret, "test", now_s))

            async def ask_on() -> None:
                while not rotating.done():
                    asked.append((await gateway.send(fresh())).status)

            await asyncio.gather(*[ask_on() for _ in range(4)])
            done = await rotating
        await gateway.application.context.directory.refresh()
        asked.append((await gateway.send(fresh())).status)
        (kept,) = gateway.rows("SELECT kek_id FROM provider_credentials WHERE id = :id", id=row.id)

    assert (done.wrapped, done.broken, done.retired, kept["kek_id"]) == (10_001, 0, ("1",), "2")
    assert (set(asked), len(asked) > 20) == ({200}, True)
    assert {value for _, value in keys_seen(gateway)} == {digest()}


def _crowd(engine: sa.Engine, secret: bytes, count: int) -> None:
    """Credentials of another organisation."""
    with transaction(engine) as connection:
        connection.execute(sa.insert(schema.organizations).values(id="org-crowd", name="crowd", created_at_s=2**40))
        vault = open_vault(connection, secret, sealing=True)
        row = {
            "organization_id": "org-crowd", "provider": "anthropic", "name": "n", "label": "l", "base_url": "https://x",
            "created_at_s": 0, "updated_at_s": 0,
        }  # fmt: skip
        rows = []
        for number in range(count):
            place = {"organization_id": "org-crowd", "record_id": f"byok-{number}", "destination": "https://x"}
            sealed = vault.seal(b"sk-of-the-crowd", **place)
            rows.append(row | {"id": f"byok-{number}", "sealed": sealed.text, "kek_id": sealed.kek_id})
        connection.execute(sa.insert(schema.provider_credentials), rows)


async def test_own_keys_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """The same: used first, no credit, a budget that counts it, and a rotation while it works."""
    async with (
        open_gateway(tmp_path / "g", routing=QUICK, credit_usd="0", database_url=postgres_url) as gateway,
        own(gateway),
    ):
        key = gateway.new_key("both", limit_nusd=10**9, include_byok_in_limit=True)
        before = await gateway.send(fresh(stream=True), key=key)
        with gateway.engine() as (engine, now_s):
            done = await asyncio.to_thread(rotation.rotate_secrets, engine, load_secret(gateway.config), "test", now_s)
        during = await gateway.send(fresh(), key=key)
        await gateway.application.context.directory.refresh()
        after = await gateway.send(fresh(), key=key)
        await gateway.settled()
        (meter,) = gateway.rows("SELECT posted, held FROM meters WHERE unit = 'spend'")
        receipts = [gateway.generation(told.id) for told in (before, during, after)]
        problems = gateway.problems()

    assert (done.wrapped, done.retired) == (1, ("1",))
    assert {value for _, value in keys_seen(gateway)} == {digest()}
    assert [money(row) for row in receipts] == [(False, True)] * 3
    assert (meter["posted"], meter["held"], problems) == (sum(row["byok_cost_nusd"] for row in receipts), 0, [])


async def test_the_books_are_right_after_all_that(running: Gateway) -> None:
    """Meters, receipts and roll-ups agree, and nothing is left open."""
    await running.settled()
    await until(lambda: not running.leftovers(), "something is left")

    assert running.problems() == []
    assert running.overspent() == []
