"""Providers: their order, their health, their last day, a test of each, and own keys. Models: prices and pickers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.support.console import Person, new_member, signed_in
from tests.support.gateway import Gateway, ask, open_gateway
from tests.support.own import OPERATORS, OWN, digest, forget_seen, keys_seen
from tests.walk.conftest import QUICK

from modelgates_server.accounts import keys
from modelgates_server.management import update_key_limit
from modelgates_server.management.assignments import assign_keys
from modelgates_server.management.guardrails import Rules, create_guardrail
from modelgates_server.management.workspaces import find_workspace, set_workspace_routing

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPUS = "anthropic/claude-opus-4.8"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def trio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Three providers of three kinds, so that each slug names one of them."""
    kinds = {"anthropic": "anthropic", "bedrock": "bedrock", "spare": "anthropic-compatible"}
    folder = tmp_path_factory.mktemp("providers") / "gateway"
    async with open_gateway(folder, simulators=kinds, routing=QUICK | {"order": ["anthropic", "bedrock"]}) as running:
        yield running


@pytest.fixture
def three(trio: Gateway) -> Gateway:
    trio.forget()
    return trio


async def order_of(person: Person, **query: str) -> list[str]:
    page = await person.data("/providers" + (f"?workspace={query['workspace']}" if query else ""))
    return [one["slug"] for one in page["providers"] if one["place"] is not None]


async def answered_by(gateway: Gateway) -> str:
    """Who answers a conversation that nobody holds."""
    await gateway.application.context.directory.refresh()
    told = await gateway.send(ask(f"hello {uuid4()}"))
    assert told.status == 200, told.body
    return str(gateway.generation(told.id)["provider"])


async def test_the_order_is_the_one_that_requests_take(three: Gateway) -> None:
    """Moving by button and by drag changes who answers, the other preferences stay, and one button takes it all back."""
    async with signed_in(three) as admin:
        assert await order_of(admin) == ["anthropic", "bedrock", "spare"]
        fields = [("order", slug) for slug in ("anthropic", "bedrock", "spare")]
        moved = await admin.post("/providers/order", [*fields, ("move", "up:spare")])
        assert (moved.status, moved.headers["location"].endswith("said=order-set")) == (303, True)
        assert await order_of(admin) == ["anthropic", "spare", "bedrock"]
        await admin.post("/providers/order", [("order", slug) for slug in ("spare", "anthropic", "bedrock")])
        assert await order_of(admin) == ["spare", "anthropic", "bedrock"]
        assert await answered_by(three) == "spare"
        await admin.post("/providers/order", [*fields, ("reset", "on")])
        assert await order_of(admin) == ["anthropic", "bedrock", "spare"]
        assert await answered_by(three) == "anthropic"
    noted = three.rows("SELECT actor, details FROM audit WHERE action = 'workspace.routing' ORDER BY id DESC LIMIT 1")
    assert (noted[0]["actor"].startswith("member:"), json.loads(noted[0]["details"])) == (True, {"routing": None})


async def test_other_preferences_of_a_workspace_stay(three: Gateway) -> None:
    """An order is put beside what the workspace says already, exact to the last digit, and left-out providers are named."""
    said = '{"ignore":["bedrock"],"max_price":{"prompt":12.50}}'
    with three.engine() as (engine, now_s):
        space = find_workspace(engine, three.initialised.organization_id)
        set_workspace_routing(engine, three.initialised.organization_id, space.id, said, "test", now_s)
    async with signed_in(three) as admin:
        page = await admin.data("/providers")
        left = {one["slug"]: one["reason"] for one in page["providers"] if one["place"] is None}
        await admin.post("/providers/order", [("order", "spare"), ("order", "anthropic")])
        (row,) = three.rows("SELECT routing FROM workspaces WHERE id = :id", id=space.id)
        with three.engine() as (engine, now_s):
            set_workspace_routing(engine, three.initialised.organization_id, space.id, None, "test", now_s)

    assert list(left) == ["bedrock"]
    assert json.loads(row["routing"]) == {
        "ignore": ["bedrock"],
        "max_price": {"prompt": 12.5},
        "order": ["spare", "anthropic"],
    }


@pytest.mark.parametrize("fields", [[], [("order", "nobody")], [("order", "anthropic"), ("order", "<script>")]])
async def test_an_order_of_strangers_is_refused(three: Gateway, fields: list[tuple[str, str]]) -> None:
    """Only configured providers can be ordered."""
    async with signed_in(three) as admin:
        shown = await admin.post("/providers/order", fields)
    assert shown.status == 400
    assert "not configured here" in shown.text


@pytest.mark.parametrize("slug", ["anthropic", "bedrock", "spare"])
async def test_a_test_asks_that_provider_and_nobody_else(three: Gateway, slug: str) -> None:
    """It answers, says what it cost and leaves a receipt; no other provider is asked."""
    async with signed_in(three) as admin:
        shown = await admin.post("/providers/test", {"slug": slug}, accept="application/json")
        html = await admin.post("/providers/test", {"slug": slug})
    tested = shown.data["tested"]
    row = three.generation(tested["generation_id"])

    assert (tested["answered"], tested["slug"]) == (True, slug)
    assert row["provider"] == slug
    assert tested["cost_nusd"] == row["cost_nusd"] > 0
    assert [one["provider"] for one in json.loads(row["attempts"])] == [slug]
    assert "answered</strong>" in html.text
    assert keys.PATTERN not in html.text


async def test_a_provider_that_fails_its_test_says_why(three: Gateway) -> None:
    """What the provider answered is shown to the administrator, nothing is charged, and nobody else is asked in its place."""
    three.simulator.script.append({"status": 401})
    async with signed_in(three) as admin:
        shown = await admin.post("/providers/test", {"slug": "anthropic"}, accept="application/json")
        three.simulator.script.append({"status": 401})
        html = await admin.post("/providers/test", {"slug": "anthropic"})
    tested = shown.data["tested"]
    three.forget()

    assert (tested["answered"], tested["cost_nusd"]) == (False, None)
    assert [(one["provider"], one["status"]) for one in tested["attempts"]] == [("anthropic", 401)]
    assert "did not answer" in html.text
    assert "HTTP 401" in html.text


async def test_who_is_no_provider_is_not_tested(three: Gateway) -> None:
    """A slug that nobody has, or none at all, is refused in words."""
    async with signed_in(three) as admin:
        for slug in ("nobody", "", "<b>"):
            shown = await admin.post("/providers/test", {"slug": slug})
            assert (shown.status, "nothing to ask it" in shown.text) == (400, True)


async def test_two_of_one_kind_are_told_apart(pair: Gateway) -> None:
    """A slug that is also the word of a kind names all of that kind; a test asks the one that was meant."""
    async with signed_in(pair) as admin:
        for slug in ("anthropic", "backup-1"):
            shown = await admin.post("/providers/test", {"slug": slug}, accept="application/json")
            row = pair.generation(shown.data["tested"]["generation_id"])
            assert [one["provider"] for one in json.loads(row["attempts"])] == [slug]


async def test_what_is_out_of_service_is_shown_with_its_reason(three: Gateway) -> None:
    """After failures the page says since when nothing goes there, why, and until when; uptime counts what was asked."""
    three.simulator.script += [{"status": 500}] * 6
    for _ in range(6):
        await three.send(ask(f"hello {uuid4()}"))
    async with signed_in(three) as admin:
        page = await admin.data("/providers")
        html = await admin.get("/providers")
    first = next(one for one in page["providers"] if one["slug"] == "anthropic")
    three.simulator.script.clear()
    three.forget()

    assert first["state"] != "in service"
    assert first["outages"][0]["why"]
    assert first["outages"][0]["for_s"] > 0
    assert first["day"]["attempts"] >= 5
    assert first["day"]["up_permille"] < 1000
    assert len(first["day"]["hours"]) == 24
    assert "out of service" in html.text
    assert 'role="img"' in html.text


async def test_own_keys_are_stored_switched_and_deleted(three: Gateway) -> None:
    """A key goes in by the form and comes out nowhere; it serves, rests, serves again and goes."""
    async with signed_in(three) as admin:
        added = await admin.post("/providers/credentials", {"provider": "anthropic", "key": OWN, "name": "ours"})
        assert added.status == 303, added.text
        page = await admin.data("/providers")
        (own,) = page["credentials"]
        html = (await admin.get("/providers")).text
        forget_seen(three)
        await answered_by(three)
        served = keys_seen(three)
        await admin.post(f"/providers/credentials/{own['id']}/disable")
        forget_seen(three)
        await answered_by(three)
        rested = keys_seen(three)
        (off,) = (await admin.data("/providers"))["credentials"]
        await admin.post(f"/providers/credentials/{own['id']}/enable")
        await admin.post(f"/providers/credentials/{own['id']}/remove")
        gone = (await admin.data("/providers"))["credentials"]
        assert (await admin.post(f"/providers/credentials/{own['id']}/remove")).status == 404

    assert (own["name"], own["disabled"], own["workspace"]) == ("ours", False, None)
    assert next(one for one in page["providers"] if one["slug"] == "anthropic")["own_keys"] == 1
    assert OWN not in html
    assert served == [(0, digest())]
    assert rested == [(0, OPERATORS)]
    assert (off["disabled"], gone) == (True, [])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"provider": "anthropic", "key": ""}, "not the form of a key"),
        ({"provider": "nobody", "key": OWN}, "not configured here"),
        ({"provider": "anthropic", "key": OWN, "name": OWN}, "holds the key"),
    ],
)
async def test_what_is_no_key_of_a_provider_is_refused(three: Gateway, fields: dict[str, str], said: str) -> None:
    """In words, with the form still there, and without an echo of the key."""
    async with signed_in(three) as admin:
        shown = await admin.post("/providers/credentials", fields)
    assert (shown.status, said in shown.text) == (400, True)
    assert 'name="key" type="password" value=""' in shown.text


async def test_providers_are_the_administrators(three: Gateway) -> None:
    """A member sees neither page nor form; the page of models they do see."""
    async with signed_in(three, new_member(three)) as member:
        assert (await member.get("/providers")).status == 403
        for path in ("/providers/order", "/providers/test", "/providers/credentials"):
            assert (await member.post(path, {"slug": "anthropic"})).status == 403
        assert (await member.get("/models")).status == 200


# Models


def by_slug(page: dict[str, Any]) -> dict[str, Any]:
    return {model["slug"]: model for model in page["models"]}


async def test_prices_are_those_of_the_catalogue(three: Gateway) -> None:
    """Nano-USD for a million tokens, in each kind; the page and the API say the same."""
    async with signed_in(three) as admin:
        page = by_slug(await admin.data("/models"))
        html = (await admin.get("/models")).text
    told = await three.request("GET", f"/api/v1/models/{OPUS}", three.headers())
    (tier,) = page[OPUS]["tiers"]

    assert tier["prices"]["input_nusd"] == round(float(told.json["pricing"]["prompt"]) * 10**15)
    assert tier["prices"]["output_nusd"] == round(float(told.json["pricing"]["completion"]) * 10**15)
    assert "$5.00" in html
    assert [one["provider"] for one in page[OPUS]["providers"]] == ["anthropic", "bedrock", "spare"]


async def test_the_pickers_are_those_of_the_key(three: Gateway) -> None:
    """What the page calls shown is exactly what the list gives to that key; what it hides has a reason."""
    with three.engine() as (engine, now_s):
        organization_id = three.initialised.organization_id
        rules = Rules(name="no haiku", ignored_models=("anthropic/claude-haiku-4.5",))
        guard = create_guardrail(engine, organization_id, None, rules, "test", now_s)
        secret, key_hash = three.new_key_row("picky", allowed_models=(OPUS, "anthropic/claude-haiku-4.5"))
        assign_keys(engine, organization_id, guard.id, [key_hash], "test", now_s)
    await three.application.context.directory.refresh()
    listed = await three.request("GET", "/api/v1/models?limit=1000", three.headers(key=secret))
    async with signed_in(three) as admin:
        page = await admin.data(f"/models?key={key_hash}")
    models = by_slug(page)

    assert {model["id"] for model in page["models"] if model["pickers"]["code"]} == {
        one["id"] for one in listed.json["data"]
    }
    assert models["anthropic/claude-haiku-4.5"]["pickers"]["why"] == "a guardrail leaves it out"
    assert "allows" in models["anthropic/claude-sonnet-5"]["pickers"]["why"]
    assert page["shown"] == 1


async def test_without_money_the_list_is_empty_and_says_so(three: Gateway) -> None:
    """The reason is the limit that is used up; before that, everything is shown."""
    secret, key_hash = three.new_key_row("poor", limit_nusd=10**9)
    async with signed_in(three) as admin:
        before = await admin.data(f"/models?key={key_hash}")
        told = await three.send(ask("hello"), key=secret)
        with three.engine() as (engine, now_s):
            cost_nusd = three.generation(told.id)["cost_nusd"]
            update_key_limit(engine, three.initialised.organization_id, key_hash, cost_nusd, None, "test", now_s)
        await three.application.context.directory.refresh()
        after = await admin.data(f"/models?key={key_hash}")
        listed = await three.request("GET", "/api/v1/models?limit=1000", three.headers(key=secret))

    assert before["shown"] == len([model for model in before["models"] if model["providers"]])
    assert (after["shown"], listed.json["data"]) == (0, [])
    assert "the key's limit is used up" in after["unpaid"]


async def test_a_member_sees_their_own_keys_only(three: Gateway) -> None:
    """Somebody else's key is as unknown as one that never was."""
    _, key_hash = three.new_key_row("the admin's")
    member_id = new_member(three)
    _, own = three.new_key_row("hers", member_id=member_id)
    async with signed_in(three, member_id) as member:
        page = await member.data("/models")
        assert (await member.get(f"/models?key={key_hash}")).status == 404
    assert ([one["value"] for one in page["keys"]], page["key"]) == ([own], own)


async def test_names_that_pickers_drop_are_explained(tmp_path: Path) -> None:
    """A model with another maker's name is hidden from both apps, with the word that hides it; programs may use it."""
    over = {
        "version": "house",
        "models": [
            {
                "id": "claude-gpt-blend", "slug": "house/claude-gpt-blend", "name": "Blend", "created": "2026-01-01",
                "context_tokens": 200000, "max_output_tokens": 8000,
                "prices": [{"input": "1", "output": "2", "cache_write_5m": "1", "cache_write_1h": "1", "cache_read": "1"}],
            }
        ],
    }  # fmt: skip
    (tmp_path / "models.json").write_text(json.dumps(over))
    toml = f'[catalogue]\nmodels = "{tmp_path / "models.json"}"\n'
    async with open_gateway(tmp_path / "gateway", toml=toml) as gateway, signed_in(gateway) as admin:
        model = by_slug(await admin.data("/models"))["house/claude-gpt-blend"]
    assert model["pickers"]["why"] == "the name contains 'gpt', which Claude Desktop takes for another vendor's model"
    assert (model["pickers"]["desktop"], model["pickers"]["code"]) == (False, False)
    assert [one["provider"] for one in model["providers"]] == ["anthropic"]
