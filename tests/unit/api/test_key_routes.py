"""Keys over HTTP: shapes, statuses, and whose keys they are."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.front import Front

FIELDS = {
    "hash", "name", "label", "disabled", "limit", "limit_remaining", "limit_reset", "include_byok_in_limit", "usage",
    "usage_daily", "usage_weekly", "usage_monthly", "byok_usage", "byok_usage_daily", "byok_usage_weekly",
    "byok_usage_monthly", "provider", "created_at", "updated_at", "expires_at", "creator_user_id", "workspace_id", "last_used_at",
}  # fmt: skip


async def make(front: Front, **wanted: Any) -> dict[str, Any]:
    told = await front.ask("POST", "/keys", {"name": "k"} | wanted)
    assert told.status == 201, told.body
    return told.json


async def test_a_new_key_is_shown_once(either: Front) -> None:
    """The create shows the text; no later answer does, and the row has every field of product-surface 2.6."""
    made = await make(either, limit=12.5, limit_reset="daily")
    assert made["key"].startswith("sk-mg-v1-")
    assert made["data"].keys() >= FIELDS
    one = await either.ask("GET", f"/keys/{made['data']['hash']}")
    assert (one.status, one.data) == (200, made["data"])
    assert made["key"].encode() not in one.body
    assert (one.data["limit"], one.data["limit_remaining"], one.data["limit_reset"]) == (12.5, 12.5, "daily")


async def test_amounts_keep_every_digit(front: Front) -> None:
    """A limit with nine decimals comes back as it was sent, to the digit."""
    made = await front.ask("POST", "/keys", b'{"name": "exact", "limit": 999999.123456789}')
    assert b'"limit":999999.123456789,' in made.body


@pytest.mark.parametrize(
    ("sent", "kept"), [(0.1 + 0.2, 0.3), (100 / 3, 33.333333333), (0.7000000000000001, 0.7), (1e-9, 1e-9), (0.0, 0)]
)
async def test_what_a_script_calculated_is_cut_to_nano_dollars(front: Front, sent: float, kept: float) -> None:
    """Floats carry noise behind the ninth place; a limit is never more than was meant."""
    made = await make(front, limit=sent)
    assert made["data"]["limit"] == kept


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "name"),
        ({"name": 7}, "name"),
        ({"name": "k", "limit": True}, "limit"),
        ({"name": "k", "limit": "12"}, "limit"),
        ({"name": "k", "limit": -1}, "limit"),
        ({"name": "k", "limit": 1000001}, "limit"),
        ({"name": "k", "limit": 0.0000000009}, "limit"),
        ({"name": "k", "limit": 1, "limit_reset": "hourly"}, "limit_reset"),
        ({"name": "k", "requests_per_minute": 1.5}, "requests_per_minute"),
        ({"name": "k", "requests_per_minute": True}, "requests_per_minute"),
        ({"name": "k", "management": 1}, "management"),
        ({"name": "k", "provider": ["bedrock"]}, "provider"),
        ([], "body"),
    ],
)
async def test_wrong_types_are_refused_by_name(front: Front, body: Any, path: str) -> None:
    """400 with the field, and without what was in it; nothing is made."""
    told = await front.ask("POST", "/keys", body)
    assert (told.status, told.error["code"]) == (400, 400)
    assert told.error["metadata"]["errors"][0]["path"].startswith(path)
    assert (await front.ask("GET", "/keys")).json["total_count"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "k", "limit": NaN}',
        b'{"name": "k", "limit": Infinity}',
        b'{"name": "k", "limit": 1e999}',
        b'{"name": "k", "limit": 1e-999999999999}',
        b'{"name": "k", "limit": 1' + b"0" * 5000 + b"}",
        b'{"name": "k", "name": "j"}',
        b'{"name": "k\\u0000"}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xff"}',
        b'{"name": "k"',
        b"[" * 100 + b"]" * 100,
        b'{"name": "k", "x": ' + b"[" * 70 + b"]" * 70 + b"}",
    ],
)
async def test_hostile_json_is_refused(front: Front, body: bytes) -> None:
    """What two readers could understand differently, or none can keep, is 400 before anything is done."""
    told = await front.ask("POST", "/keys", body)
    assert (told.status, told.error["code"]) == (400, 400)


async def test_fields_that_are_not_listed_change_nothing(front: Front) -> None:
    """Mass assignment: whose key it is, its hash and its use cannot be sent."""
    theirs, _ = front.another()
    foreign = {
        "organization_id": theirs,
        "hash": "00" * 32,
        "usage": 5,
        "is_management_key": True,
        "class": "management",
    }
    made = await make(front, **foreign)
    assert made["data"]["organization_id"] == front.organization_id
    assert (made["data"]["usage"], made["data"]["is_management_key"]) == (0, False)
    changed = await front.ask("PATCH", f"/keys/{made['data']['hash']}", foreign)
    assert (changed.status, changed.data) == (200, made["data"])


async def test_lists_hide_what_cannot_be_used(either: Front) -> None:
    """Disabled, expired and management keys are listed when asked for; pages have the total."""
    off = (await make(either, name="off"))["data"]["hash"]
    await either.ask("PATCH", f"/keys/{off}", {"disabled": True})
    await make(either, name="old", expires_at="2027-01-15T08:00:01Z")
    await make(either, name="boss", management=True)
    either.house.clock.advance(60)
    names = [row["name"] for row in (await either.ask("GET", "/keys")).data]
    assert names == ["first key"]
    every = await either.ask("GET", "/keys?include_disabled=true&include_expired=true&include_management=true")
    assert {row["name"] for row in every.data} == {"first key", "first management key", "off", "old", "boss"}
    paged = await either.ask("GET", "/keys?include_disabled=true&include_expired=true&offset=1&limit=1")
    assert (len(paged.data), paged.json["total_count"]) == (1, 3)
    theirs = await either.ask("GET", "/keys?external_user=ann")  # no key here is that of an app's user
    assert (theirs.data, theirs.json["total_count"]) == ([], 0)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [({"provider": {"order": 3}}, "provider: "), ({"provider": {"sort": "price"}, "management": True}, "no routing")],
)
async def test_preferences_that_make_no_sense_are_refused(front: Front, wanted: Any, told: str) -> None:
    """What no request may say, and what is never routed; when a key is made and when it is changed."""
    refused = await front.ask("POST", "/keys", {"name": "k"} | wanted)
    assert (refused.status, told in refused.error["message"]) == (400, True)
    made = (await make(front, management=wanted.pop("management", False)))["data"]["hash"]
    changed = await front.ask("PATCH", f"/keys/{made}", wanted)
    assert (changed.status, told in changed.error["message"]) == (400, True)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "offset=-1", "offset=x", "limit=1e2", "include_disabled=2"])
async def test_a_page_that_cannot_be_is_refused(front: Front, query: str) -> None:
    """At most a hundred rows (product-surface 2, conventions)."""
    assert (await front.ask("GET", f"/keys?{query}")).status == 400


async def test_a_change_leaves_the_rest(either: Front) -> None:
    """A PATCH says what changes; null takes a limit away, with its reset."""
    made = (await make(either, limit=5, limit_reset="weekly", requests_per_minute=3))["data"]
    told = await either.ask("PATCH", f"/keys/{made['hash']}", {"limit": None, "name": "renamed"})
    assert (told.data["limit"], told.data["limit_reset"], told.data["name"]) == (None, None, "renamed")
    assert told.data["requests_per_minute"] == 3
    refused = await either.ask("PATCH", f"/keys/{made['hash']}", {"limit_reset": "daily"})
    assert (refused.status, "needs a limit" in refused.error["message"]) == (400, True)


async def test_models_are_taken_in_any_spelling(front: Front) -> None:
    """Stored as slugs; a name that means nothing is refused."""
    made = await make(front, allowed_models=["claude-opus-4-8", "anthropic/claude-opus-4.8"])
    assert made["data"]["allowed_models"] == ["anthropic/claude-opus-4.8"]
    told = await front.ask("POST", "/keys", {"name": "k", "allowed_models": ["gpt-5"]})
    assert (told.status, "gpt-5" in told.error["message"]) == (400, True)


@pytest.mark.parametrize("path", ["/keys/{}", "/keys?id={}"])
async def test_a_deleted_key_is_gone(front: Front, path: str) -> None:
    """Both spellings of the delete; the second time there is nothing."""
    made = (await make(front))["data"]
    assert (await front.ask("DELETE", path.format(made["hash"]))).json == {"deleted": True}
    assert (await front.ask("DELETE", path.format(made["hash"]))).status == 404
    assert (await front.ask("GET", f"/keys/{made['hash']}")).status == 404


async def test_another_organisations_key_does_not_exist(either: Front) -> None:
    """Foreign and unknown are the same answer, byte for byte; nothing of theirs is listed or taken."""
    made = (await make(either))["data"]
    _, stranger = either.another()
    for method, body in (("GET", None), ("PATCH", {"disabled": True}), ("DELETE", None)):
        foreign = await either.ask(method, f"/keys/{made['hash']}", body, key=stranger)
        unknown = await either.ask(method, f"/keys/{'0' * 64}", body, key=stranger)
        assert (foreign.status, foreign.body) == (404, unknown.body)
    assert (await either.ask("GET", "/keys", key=stranger)).data == []
    there = {"workspace_id": made["workspace_id"]}
    assert (await either.ask("GET", f"/keys?workspace_id={made['workspace_id']}", key=stranger)).status == 404
    assert (await either.ask("POST", "/keys", {"name": "k"} | there, key=stranger)).status == 404
    assert not (await either.ask("GET", f"/keys/{made['hash']}")).data["disabled"]
