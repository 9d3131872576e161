"""The organisation by API: people, invitations, budgets and rates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.gateway import Gateway, ask, open_gateway
from tests.walk.managing import done, found_another, manage


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as opened:
        yield opened


async def test_members_are_listed_as_the_sdk_reads_them(gateway: Gateway) -> None:
    """Id, address, both names and the role; with the number of all."""
    await done(gateway, "POST", "/organization/members", {"name": "Ann Lee", "email": "ann@x.de"}, 201)
    page = await done(gateway, "GET", "/organization/members?limit=1&offset=1")
    (row,) = page["data"]
    assert page["total_count"] == 2
    assert (row["email"], row["first_name"], row["last_name"], row["role"]) == ("ann@x.de", "Ann", "Lee", "org:member")
    assert (await done(gateway, "GET", f"/organization/members/{row['id']}"))["data"] == row


async def test_a_removal_bites_before_it_is_answered(gateway: Gateway) -> None:
    """The member's key answers, and from the deletion on it is refused; the last admin stays."""
    member = (await done(gateway, "POST", "/organization/members", {"name": "Ann"}, 201))["data"]
    made = await done(gateway, "POST", "/keys", {"name": "k", "creator_user_id": member["id"]}, 201)
    assert (await gateway.send(ask(), key=made["key"])).status == 200
    assert await done(gateway, "DELETE", f"/organization/members/{member['id']}") == {"deleted": True}
    assert (await gateway.send(ask(), key=made["key"])).status == 401
    (admin,) = (await done(gateway, "GET", "/organization/members"))["data"]
    refused = await manage(gateway, "DELETE", f"/organization/members/{admin['id']}")
    assert (refused.status, "last admin" in refused.error["message"]) == (400, True)


async def test_roles_change_in_the_apis_words(gateway: Gateway) -> None:
    """Others are refused with the field's name."""
    member = (await done(gateway, "POST", "/organization/members", {"name": "Ann"}, 201))["data"]
    path = f"/organization/members/{member['id']}"
    assert (await done(gateway, "PATCH", path, {"role": "org:admin"}))["data"]["role"] == "org:admin"
    assert (await manage(gateway, "PATCH", path, {"role": "owner"})).error["message"].startswith("role: ")


async def test_an_invitation_shows_its_link_once(gateway: Gateway) -> None:
    """In the answer that made it; afterwards there is only its state, until it is taken back."""
    body = {"email": "ann@x.de", "name": "Ann", "share_usd": 12.5}
    made = await done(gateway, "POST", "/organization/invitations", body, 201)
    assert made["url"].endswith(f"/join?token={made['token']}")
    assert (made["data"]["share_usd"], made["data"]["state"]) == (12.5, "pending")
    path = f"/organization/invitations/{made['data']['id']}"
    shown = await done(gateway, "GET", path)
    assert made["token"] not in str(shown)
    assert (await done(gateway, "GET", "/organization/invitations"))["data"] == [shown["data"]]
    assert (await done(gateway, "DELETE", path))["data"]["state"] == "revoked"
    assert (await manage(gateway, "DELETE", path)).status == 404


async def test_an_invitation_promises_a_share_in_any_interval(gateway: Gateway) -> None:
    """A month unless it is said; the member that it makes has that budget. Without an amount an interval means nothing."""
    body = {"email": "ann@x.de", "name": "Ann", "share_usd": 20}
    assert (await done(gateway, "POST", "/organization/invitations", body, 201))["data"]["share_interval"] == "monthly"
    made = await done(gateway, "POST", "/organization/invitations", body | {"share_interval": "weekly"}, 201)
    assert made["data"]["share_interval"] == "weekly"
    first = (await done(gateway, "GET", "/organization/invitations"))["data"][1]
    assert first["state"] == "revoked"
    form = {"content-type": "application/x-www-form-urlencoded", "origin": gateway.url}
    assert (await gateway.request("POST", "/join", form, f"token={made['token']}".encode())).status == 303
    ann = (await done(gateway, "GET", "/organization/members"))["data"][1]
    (share,) = (await done(gateway, "GET", f"/organization/members/{ann['id']}/budgets"))["data"]
    assert (share["limit_usd"], share["reset_interval"]) == (20, "weekly")
    wrong = {"email": "bob@x.de", "name": "Bob", "share_interval": "daily"}
    assert (await manage(gateway, "POST", "/organization/invitations", wrong)).status == 400


async def test_a_share_refuses_on_the_wire(gateway: Gateway) -> None:
    """402 names the budget, and `GET /key` shows it before it is spent."""
    member = (await done(gateway, "POST", "/organization/members", {"name": "Ann"}, 201))["data"]
    made = await done(gateway, "POST", "/keys", {"name": "k", "creator_user_id": member["id"]}, 201)
    path = f"/organization/members/{member['id']}/budgets/monthly"
    put = await done(gateway, "PUT", path, {"limit_usd": 0.000001})
    assert (put["data"]["limit_usd"], put["data"]["mode"], put["data"]["reset_interval"]) == (
        0.000001,
        "hard",
        "monthly",
    )
    told = await gateway.send(ask(), key=made["key"])
    assert (told.status, told.error["type"]) == (402, "billing_error")
    assert (told.error["details"]["scope"], told.error["details"]["budget"]) == ("member", "monthly budget")
    assert told.error["message"].startswith("The member's monthly budget does not cover this request")
    key = (await gateway.request("GET", "/api/v1/key", {"authorization": f"Bearer {made['key']}"})).json["data"]
    assert [(one["scope"], one["limit_usd"]) for one in key["budgets"]] == [("member_budget", 0.000001)]
    await done(gateway, "DELETE", path)
    assert (await gateway.send(ask(), key=made["key"])).status == 200


async def test_budgets_of_the_organisation_and_of_apps(gateway: Gateway) -> None:
    """Set, listed, lifted; an app's binds the requests that say its name."""
    await done(gateway, "PUT", "/organization/budgets/daily", {"limit_usd": 5, "mode": "soft"})
    await done(gateway, "PUT", "/organization/app-budgets/daily", {"app": "My app", "limit_usd": 0.000001})
    assert [row["mode"] for row in (await done(gateway, "GET", "/organization/budgets"))["data"]] == ["soft"]
    assert [row["app"] for row in (await done(gateway, "GET", "/organization/app-budgets"))["data"]] == ["My app"]
    refused = await gateway.send(ask(), x_title="My app")
    assert (refused.status, refused.error["details"]["scope"]) == (402, "app")
    assert refused.error["message"].startswith('The daily budget of the app "My app" does not cover this request')
    assert (await gateway.send(ask(), x_title="Other")).status == 200
    await done(gateway, "DELETE", "/organization/app-budgets/daily?app=My%20app")
    assert (await done(gateway, "GET", "/organization/app-budgets?app=My%20app"))["data"] == []
    assert (await manage(gateway, "PUT", "/organization/budgets/lifetime", {"limit_usd": 5})).status == 400


async def test_rates_are_read_and_set(gateway: Gateway) -> None:
    """All three at once; a request too many is 429 with a pause."""
    rates = {"requests_per_minute": 1, "parallel_max": 5}
    assert (await done(gateway, "PUT", "/organization/rates", rates))["data"]["tokens_per_minute"] is None
    assert (await done(gateway, "GET", "/organization/rates"))["data"]["parallel_max"] == 5
    told = [await gateway.send(ask()) for _ in range(2)]
    assert [one.status for one in told] == [200, 429]
    assert 1 <= int(told[1].headers["retry-after"]) <= 60
    await done(gateway, "PUT", "/organization/rates", {})
    assert (await gateway.send(ask())).status == 200


async def test_another_organisation_sees_and_changes_nothing(gateway: Gateway) -> None:
    """Every address of ours is for its key what an unknown one is, byte for byte but for the id."""
    member = (await done(gateway, "POST", "/organization/members", {"name": "Ann"}, 201))["data"]
    body = {"email": "b@x.de", "name": "B"}
    invitation = (await done(gateway, "POST", "/organization/invitations", body, 201))["data"]
    key = found_another(gateway).management_key
    budget, rates, role = {"limit_usd": 1}, {"parallel_max": 1}, {"role": "org:admin"}
    for method, path, sent in (
        ("GET", "/organization/members/ID", None), ("PATCH", "/organization/members/ID", role),
        ("DELETE", "/organization/members/ID", None), ("GET", "/organization/members/ID/budgets", None),
        ("PUT", "/organization/members/ID/budgets/daily", budget), ("DELETE", "/organization/members/ID/budgets/daily", None),
        ("GET", "/organization/members/ID/rates", None), ("PUT", "/organization/members/ID/rates", rates),
    ):  # fmt: skip
        ours, unknown = [
            await manage(gateway, method, path.replace("ID", one), sent, key=key) for one in (member["id"], "mem-x")
        ]
        assert (ours.status, ours.body) == (404, unknown.body), (method, path)
    for method in ("GET", "DELETE"):
        told = await manage(gateway, method, f"/organization/invitations/{invitation['id']}", key=key)
        assert told.status == 404
    listed = (await manage(gateway, "GET", "/organization/members", key=key)).json
    assert [row["name"] for row in listed["data"]] == ["Admin"]
    assert (await manage(gateway, "GET", "/organization/invitations", key=key)).json["data"] == []


async def test_an_inference_key_manages_nothing(gateway: Gateway) -> None:
    """403 with the sentence that tells which class of key is needed."""
    told = await manage(gateway, "GET", "/organization/members", key=gateway.key)
    assert (told.status, told.error["code"]) == (403, 403)
