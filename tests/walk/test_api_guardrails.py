"""Guardrails by API: made, changed, assigned, deleted; and what they do to requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import MODEL, Gateway, ask, open_gateway
from tests.walk.managing import done, found_another, manage, provider_of

OPUS, HAIKU = "anthropic/claude-opus-4.8", "anthropic/claude-haiku-4.5"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, simulators=2) as opened:
        yield opened


async def make(gateway: Gateway, **body: Any) -> dict[str, Any]:
    return (await done(gateway, "POST", "/guardrails", {"name": "Interns", **body}, 201))["data"]


async def give(gateway: Gateway, guardrail: dict[str, Any], *hashes: str) -> None:
    path = f"/guardrails/{guardrail['id']}/assignments/keys"
    assert await done(gateway, "POST", path, {"key_hashes": hashes}) == {"assigned_count": len(hashes)}


async def test_a_guardrail_lives_from_post_to_delete(gateway: Gateway) -> None:
    """PATCH replaces lists whole and null clears; models are stored by slug, whatever spelling was sent."""
    made = await make(
        gateway, limit_usd=50, reset_interval="monthly", allowed_models=[MODEL, HAIKU, "openai/gpt-5"],
        ignored_providers=["bedrock"], enforce_zdr=True, enforce_zdr_openai=False, include_byok_in_budgets=True,
    )  # fmt: skip
    assert made["allowed_models"] == [OPUS, HAIKU, "openai/gpt-5"]
    assert (made["limit_usd"], made["mode"], made["include_byok_in_budgets"]) == (50, "hard", True)
    assert (made["enforce_zdr_anthropic"], made["enforce_zdr_openai"], made["enforce_zdr"]) == (True, False, None)
    path = f"/guardrails/{made['id']}"
    changed = (await done(gateway, "PATCH", path, {"allowed_models": [HAIKU], "ignored_providers": None}))["data"]
    assert (changed["allowed_models"], changed["ignored_providers"], changed["limit_usd"]) == ([HAIKU], None, 50)
    assert (await done(gateway, "PATCH", path, {}))["data"] == (await done(gateway, "GET", path))["data"] == changed
    page = await done(gateway, "GET", "/guardrails")
    assert (page["data"], page["total_count"]) == ([changed], 1)
    for name in ("limit_usd", "reset_interval"):
        without = (await done(gateway, "PATCH", path, {name: None}))["data"]
        assert (without["limit_usd"], without["reset_interval"]) == (None, None)
        await done(gateway, "PATCH", path, {"limit_usd": 5, "reset_interval": "daily"})
    await done(gateway, "DELETE", path)
    assert (await manage(gateway, "GET", path)).status == 404


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "name: "),
        ({"name": "x" * 201}, "name: "),
        ({"name": "x", "description": "x" * 1001}, "description: "),
        ({"name": "x", "limit_usd": 5}, "must come together"),
        ({"name": "x", "reset_interval": "daily"}, "must come together"),
        ({"name": "x", "limit_usd": -1, "reset_interval": "daily"}, "limit_usd: "),
        ({"name": "x", "limit_usd": "5", "reset_interval": "daily"}, "limit_usd: "),
        ({"name": "x", "reset_interval": "hourly"}, "reset_interval: "),
        ({"name": "x", "allowed_models": []}, "allowed_models: "),
        ({"name": "x", "ignored_models": ["anthropic/claude-opus-4.99"]}, "there is no model"),
        ({"name": "x", "content_filters": [{"pattern": "x", "action": "block"}]}, "not built"),
        ({"name": "x", "content_filter_builtins": [{"slug": "email", "action": "redact"}]}, "not built"),
        ({"name": "x", "allowed_data_regions": ["europe"]}, "one door"),
        ({"name": "x", "workspace_id": "elsewhere"}, "no such workspace"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(gateway: Gateway, body: dict[str, Any], told: str) -> None:
    """And nothing is made: a filter that would filter nothing is refused rather than believed."""
    refused = await manage(gateway, "POST", "/guardrails", body)
    assert (refused.status in {400, 404}, told in refused.error["message"]) == (True, True), refused.body
    assert (await done(gateway, "GET", "/guardrails"))["total_count"] == 0


async def test_no_filters_are_no_promise(gateway: Gateway) -> None:
    """Null and an empty list say the same, so they are taken."""
    made = await make(gateway, content_filters=[], content_filter_builtins=None, allowed_data_regions=["global"])
    assert (made["content_filters"], made["content_filter_builtins"]) == (None, None)


async def test_a_budget_refuses_by_the_guardrails_name(gateway: Gateway) -> None:
    """402 with scope and budget; `GET /key` shows what will refuse; a soft one lets pass and stays visible."""
    secret, key_hash = gateway.new_key_row()
    guardrail = await make(gateway, limit_usd=0.000001, reset_interval="daily")
    await give(gateway, guardrail, key_hash)
    told = await gateway.send(ask(), key=secret)
    assert (told.status, told.error["type"], told.headers["x-should-retry"]) == (402, "billing_error", "false")
    assert told.error["message"].startswith(
        'The budget of guardrail "Interns" for this key does not cover this request: '
    )
    details = told.error["details"]
    assert (details["scope"], details["budget"], details["limit"]) == ("key", 'guardrail "Interns"', 0.000001)
    key = (await gateway.request("GET", "/api/v1/key", {"x-api-key": secret})).json["data"]
    assert [(one["scope"], one["guardrail_id"], one["mode"]) for one in key["budgets"]] == [
        ("api_key", guardrail["id"], "hard")
    ]
    assert key["effective_budget"] == key["budgets"][0]
    await done(gateway, "PATCH", f"/guardrails/{guardrail['id']}", {"mode": "soft"})
    assert (await gateway.send(ask(), key=secret)).status == 200
    key = (await gateway.request("GET", "/api/v1/key", {"x-api-key": secret})).json["data"]
    assert (key["budgets"][0]["remaining_usd"] < 0, key["effective_budget"]) == (True, None)


async def test_lists_narrow_what_a_key_may_use(gateway: Gateway) -> None:
    """The default's and the key's own allow-lists intersect; what is ignored is unknown to the key, in lists too."""
    secret, key_hash = gateway.new_key_row()
    default = (await done(gateway, "GET", "/workspaces/default"))["data"]["default_guardrail_id"]
    await done(gateway, "PATCH", f"/guardrails/{default}", {"allowed_models": [OPUS, HAIKU]})
    own = await make(gateway, ignored_models=[HAIKU])
    await give(gateway, own, key_hash)
    listed = await gateway.request("GET", "/api/v1/models", {"authorization": f"Bearer {secret}"})
    assert [row["id"] for row in listed.json["data"]] == [OPUS]
    told = [await gateway.send(ask(model=name), key=secret) for name in (OPUS, HAIKU, "claude-sonnet-4-6")]
    assert [one.status for one in told] == [200, 404, 404]
    assert told[1].error["type"] == "not_found_error"
    assert (await gateway.send(ask(model=HAIKU))).status == 200


async def test_provider_rules_are_routing(gateway: Gateway) -> None:
    """A guardrail's allow-list is a ceiling that the request cannot widen; retention rules leave nobody here."""
    secret, key_hash = gateway.new_key_row()
    guardrail = await make(gateway, allowed_providers=["backup-1"])
    await give(gateway, guardrail, key_hash)
    path = f"/guardrails/{guardrail['id']}"
    assert await provider_of(gateway, ask(), key=secret) == "backup-1"
    told = await gateway.send(ask(provider={"only": ["bedrock"]}), key=secret)
    assert (told.status, "allows only backup-1" in told.error["message"]) == (404, True)
    await done(gateway, "PATCH", path, {"allowed_providers": None, "ignored_providers": ["backup-1"]})
    assert await provider_of(gateway, ask("again"), key=secret) == "anthropic"
    await done(gateway, "PATCH", path, {"ignored_providers": None, "enforce_zdr_anthropic": True})
    told = await gateway.send(ask(), key=secret)
    assert (told.status, "zero data retention" in told.error["message"]) == (404, True)
    await done(gateway, "PATCH", path, {"enforce_zdr_anthropic": False, "enforce_zdr_google": True})
    await gateway.application.context.directory.refresh()  # what widens is heard of with the next poll
    assert (await gateway.send(ask(), key=secret)).status == 200


async def test_assignments_replace_each_other_and_are_listed(gateway: Gateway) -> None:
    """With counts, of one guardrail and of all; one stranger among them undoes the whole."""
    member = (await done(gateway, "POST", "/organization/members", {"name": "Ann"}, 201))["data"]
    _, key_hash = gateway.new_key_row()
    first, second = await make(gateway), await make(gateway, name="Second")
    await give(gateway, first, key_hash)
    await give(gateway, second, key_hash)
    members = f"/guardrails/{second['id']}/assignments/members"
    users = {"member_user_ids": [member["id"]]}
    assert await done(gateway, "POST", members, users) == {"assigned_count": 1}
    assert (await done(gateway, "GET", f"/guardrails/{first['id']}/assignments/keys"))["total_count"] == 0
    (given,) = (await done(gateway, "GET", "/guardrails/assignments/keys"))["data"]
    assert (given["guardrail_id"], given["key_hash"], given["key_name"]) == (second["id"], key_hash, "another")
    (meant,) = (await done(gateway, "GET", "/guardrails/assignments/members"))["data"]
    assert (meant["user_id"], (await done(gateway, "GET", members))["data"]) == (member["id"], [meant])
    wrong = {"key_hashes": [key_hash, "0" * 64]}
    assert (await manage(gateway, "POST", f"/guardrails/{first['id']}/assignments/keys", wrong)).status == 404
    assert (await done(gateway, "GET", "/guardrails/assignments/keys"))["data"] == [given]
    gone = {"key_hashes": [key_hash]}
    remove = f"/guardrails/{second['id']}/assignments/keys/remove"
    assert [await done(gateway, "POST", remove, gone) for _ in range(2)] == [
        {"unassigned_count": 1}, {"unassigned_count": 0},
    ]  # fmt: skip
    assert await done(gateway, "POST", f"{members}/remove", users) == {"unassigned_count": 1}


async def test_another_organisation_sees_and_changes_nothing(gateway: Gateway) -> None:
    """Our guardrails, the default one too, are for its key what unknown ones are."""
    other = found_another(gateway)
    guardrail = await make(gateway)
    default = (await done(gateway, "GET", "/workspaces/default"))["data"]["default_guardrail_id"]
    keys, users = {"key_hashes": ["0" * 64]}, {"member_user_ids": [other.admin.id]}
    for method, path, sent in (
        ("GET", "", None), ("PATCH", "", {"name": "mine"}), ("DELETE", "", None), ("GET", "/assignments/keys", None),
        ("POST", "/assignments/keys", keys), ("POST", "/assignments/keys/remove", keys),
        ("GET", "/assignments/members", None), ("POST", "/assignments/members", users),
        ("POST", "/assignments/members/remove", users),
    ):  # fmt: skip
        for ours in (guardrail["id"], default):
            told = await manage(gateway, method, f"/guardrails/{ours}{path}", sent, key=other.management_key)
            assert told.status == 404, (method, path, told.body)
    for path in ("/guardrails", "/guardrails/assignments/keys", "/guardrails/assignments/members"):
        assert (await manage(gateway, "GET", path, key=other.management_key)).json["total_count"] == 0
    theirs = (await manage(gateway, "POST", "/guardrails", {"name": "t"}, key=other.management_key)).json["data"]
    _, key_hash = gateway.new_key_row()
    told = await manage(
        gateway,
        "POST",
        f"/guardrails/{theirs['id']}/assignments/keys",
        {"key_hashes": [key_hash]},
        key=other.management_key,
    )
    assert told.status == 404
