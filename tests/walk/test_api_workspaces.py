"""Workspaces by API: made, found by id or slug, changed, deleted; members, budgets and provider preferences."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.gateway import Gateway, ask, open_gateway
from tests.walk.managing import done, found_another, manage, provider_of


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, simulators=2) as opened:
        yield opened


async def test_a_workspace_lives_from_post_to_delete(gateway: Gateway) -> None:
    """By id or slug; null takes back, what is not named stays; the default one cannot be deleted."""
    body = {
        "name": "Lab",
        "slug": "lab",
        "description": "d",
        "default_text_model": "m",
        "io_logging_sampling_rate": 0.5,
    }
    made = (await done(gateway, "POST", "/workspaces", body, 201))["data"]
    assert {name: made[name] for name in body} == body
    assert made["default_guardrail_id"].endswith(made["id"])
    changed = await done(gateway, "PATCH", "/workspaces/lab", {"slug": "lab-2", "description": None})
    assert (changed["data"]["slug"], changed["data"]["description"], changed["data"]["name"]) == ("lab-2", None, "Lab")
    assert await done(gateway, "GET", f"/workspaces/{made['id']}") == changed
    page = await done(gateway, "GET", "/workspaces")
    assert ([row["slug"] for row in page["data"]], page["total_count"]) == (["default", "lab-2"], 2)
    assert (await manage(gateway, "DELETE", "/workspaces/default")).status == 400
    await done(gateway, "DELETE", "/workspaces/lab-2")
    assert (await manage(gateway, "GET", "/workspaces/lab-2")).status == 404


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": ""}, "name: "),
        ({"name": "x" * 101}, "name: "),
        ({"name": "x", "slug": "A"}, "slug: "),
        ({"name": "x", "slug": "default"}, "already"),
        ({"name": "研究"}, "no slug can be made of that name"),
        ({"name": "x", "default_provider_sort": "beauty"}, "default_provider_sort: "),
        ({"name": "x", "provider": {"order": 3}}, "provider: "),
        ({"name": "x", "io_logging_sampling_rate": 2}, "io_logging_sampling_rate: "),
        ({"name": "x", "io_logging_retention_days": 366}, "io_logging_retention_days: "),
        ({"name": "x", "io_logging_api_key_ids": [1]}, "no numbers"),
        ({"name": "x", "io_logging_api_key_hashes": ["0" * 64]}, "no key"),
        ({"name": "x", "is_observability_broadcast_enabled": True}, "not sent on"),
        ({"name": "x", "is_data_discount_logging_enabled": True}, "discount"),
        ({"name": "x", "disabled_server_tools": ["openrouter:web_search"]}, "no server tools"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(gateway: Gateway, body: dict[str, object], told: str) -> None:
    """400, and nothing is made; a switch that would do nothing is refused rather than believed."""
    refused = await manage(gateway, "POST", "/workspaces", body)
    assert (refused.status, told in refused.error["message"]) == (400, True), refused.body
    assert (await done(gateway, "GET", "/workspaces"))["total_count"] == 1


async def test_provider_preferences_route_its_requests(gateway: Gateway) -> None:
    """`provider` replaces them, `default_provider_sort` is one of them; both null take all back."""
    assert await provider_of(gateway, ask()) == "anthropic"
    body = {"provider": {"only": ["backup-1"], "max_price": {"prompt": 12.5}}, "default_provider_sort": "price"}
    shown = (await done(gateway, "PATCH", "/workspaces/default", body))["data"]
    assert shown["provider"] == {"only": ["backup-1"], "max_price": {"prompt": 12.5}, "sort": "price"}
    assert shown["default_provider_sort"] == "price"
    assert await provider_of(gateway, ask("again")) == "backup-1"
    split = {"only": ["backup-1"], "sort": {"by": "price", "partition": "none"}}
    shown = (await done(gateway, "PATCH", "/workspaces/default", {"provider": split}))["data"]
    again = (await done(gateway, "PATCH", "/workspaces/default", shown))["data"]
    assert (shown["provider"], again["provider"]) == (split, split)  # as it was read, so it stays
    await done(gateway, "PATCH", "/workspaces/default", {"default_provider_sort": None})
    assert await provider_of(gateway, ask("once more")) == "backup-1"
    assert (await done(gateway, "PATCH", "/workspaces/default", {"provider": None}))["data"]["provider"] is None
    assert await provider_of(gateway, ask("and again")) == "anthropic"


async def test_a_keys_own_preferences_stand_on_top(gateway: Gateway) -> None:
    """Sent as `provider` when it is made or changed, shown as they are, null takes them back; its workspace's hold again then."""
    made = await done(gateway, "POST", "/keys", {"name": "k", "provider": {"only": ["backup-1"], "beauty": 3}}, 201)
    path = f"/keys/{made['data']['hash']}"
    assert made["data"]["provider"] == {"only": ["backup-1"]}
    assert await provider_of(gateway, ask(), made["key"]) == "backup-1"
    assert await provider_of(gateway, ask()) == "anthropic"
    wanted = {"order": ["anthropic"], "max_price": {"prompt": 12.5}}
    assert (await done(gateway, "PATCH", path, {"provider": wanted}))["data"]["provider"] == wanted
    assert await provider_of(gateway, ask("again"), made["key"]) == "anthropic"
    await done(gateway, "PATCH", "/workspaces/default", {"provider": {"only": ["backup-1"]}})
    assert (await done(gateway, "PATCH", path, {"provider": None}))["data"]["provider"] is None
    assert await provider_of(gateway, ask("once more"), made["key"]) == "backup-1"
    assert (await done(gateway, "GET", path))["data"]["provider"] is None


async def test_budgets_strictly_decrease_and_refuse(gateway: Gateway) -> None:
    """By interval, as the SDK writes them; the refusal names the broadest that does not admit."""
    path = "/workspaces/default/budgets"
    for interval, usd in (("lifetime", 0.00002), ("daily", 0.00001)):
        put = await done(gateway, "PUT", f"{path}/{interval}", {"limit_usd": usd})
        assert put["include_byok_in_budgets"] is False
    refused = await manage(gateway, "PUT", f"{path}/monthly", {"limit_usd": 1})
    assert (refused.status, "lifetime" in refused.error["message"]) == (400, True)
    for wrong in (0, -1, "5", 1e-10):
        assert (await manage(gateway, "PUT", f"{path}/weekly", {"limit_usd": wrong})).status == 400
    listed = await done(gateway, "GET", path)
    assert [(row["reset_interval"], row["limit_usd"]) for row in listed["data"]] == [
        (None, 0.00002),
        ("daily", 0.00001),
    ]
    told = await gateway.send(ask())
    assert (told.status, told.error["details"]["budget"]) == (402, "lifetime budget")
    for interval in ("lifetime", "daily", "daily"):
        assert await done(gateway, "DELETE", f"{path}/{interval}") == {"deleted": True}
    assert (await manage(gateway, "GET", f"{path}/daily")).status == 404
    assert (await manage(gateway, "GET", f"{path}/hourly")).status == 400
    assert (await gateway.send(ask())).status == 200


async def test_own_keys_are_included_in_all_budgets_or_none(gateway: Gateway) -> None:
    """The switch of one budget is the workspace's."""
    await done(gateway, "PUT", "/workspaces/default/budgets/daily", {"limit_usd": 1})
    body = {"limit_usd": 5, "include_byok_in_budgets": True}
    await done(gateway, "PUT", "/workspaces/default/budgets/monthly", body)
    listed = await done(gateway, "GET", "/workspaces/default/budgets")
    assert (listed["include_byok_in_budgets"], [row["include_byok"] for row in listed["data"]]) == (True, [True, True])
    assert (await done(gateway, "GET", "/workspaces/default"))["data"]["include_byok_in_budgets"] is True


async def test_people_are_added_and_removed(gateway: Gateway) -> None:
    """With counts; who has keys there stays."""
    member = (await done(gateway, "POST", "/organization/members", {"name": "Ann"}, 201))["data"]
    place = (await done(gateway, "POST", "/workspaces", {"name": "Lab"}, 201))["data"]
    users = {"user_ids": [member["id"]]}
    added = await done(gateway, "POST", "/workspaces/lab/members/add", users)
    assert (added["added_count"], added["data"][0]["role"]) == (1, "member")
    assert (await done(gateway, "GET", "/workspaces/lab/members"))["total_count"] == 1
    body = {"name": "k", "creator_user_id": member["id"], "workspace_id": place["id"]}
    key = (await done(gateway, "POST", "/keys", body, 201))["data"]
    refused = await manage(gateway, "POST", "/workspaces/lab/members/remove", users)
    assert (refused.status, "still has keys" in refused.error["message"]) == (400, True)
    assert (await manage(gateway, "DELETE", "/workspaces/lab")).status == 400
    await done(gateway, "DELETE", f"/keys/{key['hash']}")
    assert await done(gateway, "POST", "/workspaces/lab/members/remove", users) == {"removed_count": 1}
    await done(gateway, "DELETE", "/workspaces/lab")


async def test_rates_of_a_workspace_bind_all_its_keys(gateway: Gateway) -> None:
    """The second key is refused for the first one's request."""
    await done(gateway, "PUT", "/workspaces/default/rates", {"requests_per_minute": 1})
    assert (await gateway.send(ask())).status == 200
    assert (await gateway.send(ask(), key=gateway.new_key())).status == 429
    assert (await done(gateway, "GET", "/workspaces/default/rates"))["data"]["requests_per_minute"] == 1


async def test_another_organisation_sees_and_changes_nothing(gateway: Gateway) -> None:
    """Its ``default`` is its own; our ids are for its key what unknown ones are."""
    ours = (await done(gateway, "GET", "/workspaces/default"))["data"]["id"]
    other = found_another(gateway)
    budget, users = {"limit_usd": 1}, {"user_ids": [other.admin.id]}
    for method, path, sent in (
        ("GET", "", None), ("PATCH", "", {"name": "mine"}), ("DELETE", "", None), ("GET", "/members", None),
        ("POST", "/members/add", users), ("POST", "/members/remove", users), ("GET", "/budgets", None),
        ("GET", "/budgets/daily", None), ("PUT", "/budgets/daily", budget), ("DELETE", "/budgets/daily", None),
        ("GET", "/rates", None), ("PUT", "/rates", {}),
    ):  # fmt: skip
        told = [
            await manage(gateway, method, f"/workspaces/{one}{path}", sent, key=other.management_key)
            for one in (ours, "ws-x")
        ]
        assert (told[0].status, told[0].body) == (404, told[1].body), (method, path)
    page = (await manage(gateway, "GET", "/workspaces", key=other.management_key)).json
    assert [row["id"] for row in page["data"]] == [other.workspace.id]
    stranger = {"user_ids": [other.admin.id]}
    assert (await manage(gateway, "POST", "/workspaces/default/members/add", stranger)).status == 404
