"""`/api/v1/byok`: the documented routes and fields, and what they never tell."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.support.gateway import Gateway, Told, open_gateway
from tests.support.own import OWN

from modelgates_server.management.keys import delete_key

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIELDS = {
    "id", "workspace_id", "provider", "name", "label", "is_fallback", "disabled", "allowed_models", "allowed_api_key_hashes",
    "allowed_user_ids", "sort_order", "created_at", "updated_at", "is_byok_only", "is_required", "declared_region", "declared_zdr",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    places = {"anthropic": "anthropic", "google": "vertex"}
    async with open_gateway(tmp_path_factory.mktemp("api") / "gateway", simulators=places) as gateway:
        yield gateway


async def call(
    house: Gateway, method: str, path: str = "", body: Any = None, key: str | None = None, **headers: str
) -> Told:
    sent = {
        "authorization": f"Bearer {key or house.initialised.management_key}",
        "content-type": "application/json",
        **headers,
    }
    data = None if body is None else json.dumps(body).encode()
    return await house.request(method, f"/api/v1/byok{path}", sent, data)


async def made(house: Gateway, **fields: Any) -> dict[str, Any]:
    told = await call(house, "POST", "", {"provider": "anthropic", "key": OWN} | fields)
    assert told.status == 201, told.body
    return told.json["data"]


async def test_a_credential_is_made_read_listed_changed_and_deleted(house: Gateway) -> None:
    """With every documented field, and the key in none of the answers."""
    _, key_hash = house.new_key_row("for byok")
    (member,) = [row["id"] for row in house.rows("SELECT id FROM members")]
    filters = {
        "allowed_models": ["claude-opus-4-8"],
        "allowed_api_key_hashes": [key_hash],
        "allowed_user_ids": [member],
    }
    created = await made(house, name="ours", is_fallback=True, sort_order=4, **filters)
    path = f"/{created['id']}"
    read = await call(house, "GET", path)
    listed = await call(house, "GET")
    changed = await call(house, "PATCH", path, {"name": "theirs", "allowed_models": None, "disabled": True})
    gone = await call(house, "DELETE", path)

    assert created.keys() == FIELDS
    assert (created["label"], created["allowed_models"]) == ("sk-own...efgh", ["anthropic/claude-opus-4.8"])
    assert read.json["data"] == created
    assert (listed.json["data"], listed.json["total_count"]) == ([created], 1)
    assert changed.json["data"] | {"updated_at": ""} == created | {
        "name": "theirs", "allowed_models": None, "disabled": True, "updated_at": "",
    }  # fmt: skip
    assert (gone.status, gone.json) == (200, {"deleted": True})
    assert (await call(house, "GET", path)).status == 404
    assert not [told for told in (read, listed, changed, gone) if b"canary" in told.body]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"key": OWN}, 400, "provider"),
        ({"provider": "anthropic"}, 400, "key"),
        ({"provider": "nobody", "key": OWN}, 400, "there are anthropic"),
        ({"provider": "google", "key": OWN}, 400, "takes no API key"),
        ({"provider": "anthropic", "key": "no key\n"}, 400, "not the form of a key"),
        ({"provider": "anthropic", "key": OWN, "allowed_api_key_hashes": []}, 400, "allowed_api_key_hashes"),
        ({"provider": "anthropic", "key": OWN, "allowed_api_key_hashes": ["A" * 64]}, 400, "allowed_api_key_hashes"),
        ({"provider": "anthropic", "key": OWN, "allowed_api_key_hashes": ["a" * 64]}, 404, "no such key"),
        ({"provider": "anthropic", "key": OWN, "allowed_api_key_hashes": ["a" * 64] * 101}, 400, "allowed_api_key_hashes"),
        ({"provider": "anthropic", "key": OWN, "allowed_models": ["gpt-9"]}, 400, "allowed_models"),
        ({"provider": "anthropic", "key": OWN, "workspace_id": "elsewhere"}, 404, "workspace"),
        ({"provider": "anthropic", "key": OWN, "sort_order": -1}, 400, "sort_order"),
        ({"provider": "anthropic", "key": 5}, 400, "key"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused(house: Gateway, body: dict[str, Any], status: int, said: str) -> None:
    """With the field and a sentence, and never with the key."""
    told = await call(house, "POST", "", body)

    assert (told.status, said in told.error["message"]) == (status, True)
    assert b"canary" not in told.body


async def test_the_caller_does_not_choose_the_address(house: Gateway) -> None:
    """A `base_url` in the body is nobody's wish: the configured one is stored, when a key is made and when it is replaced."""
    row = await made(house, base_url="https://evil.example.com", sealed="x", kek_id="9", organization_id="org-x")
    await call(
        house,
        "PATCH",
        f"/{row['id']}",
        {"key": OWN + "2", "base_url": "https://evil.example.com", "provider": "google"},
    )
    (kept,) = house.rows("SELECT * FROM provider_credentials WHERE id = :id", id=row["id"])
    await call(house, "DELETE", f"/{row['id']}")

    assert kept["base_url"] == house.config.providers[0].base_url
    assert (kept["provider"], kept["organization_id"], kept["kek_id"]) == (
        "anthropic",
        house.initialised.organization_id,
        "1",
    )


async def test_only_management_keys_see_credentials(house: Gateway) -> None:
    """An inference key is of the wrong class, no key is nobody."""
    row = await made(house)
    told = [await call(house, method, path, key=key)
            for method, path in (("GET", ""), ("GET", f"/{row['id']}"), ("DELETE", f"/{row['id']}"))
            for key in (house.key, "sk-mg-v1-nobody")]  # fmt: skip

    assert [one.status for one in told] == [403, 401] * 3
    assert (await call(house, "DELETE", f"/{row['id']}")).status == 200


async def test_what_was_read_can_be_sent_back(house: Gateway) -> None:
    """Also when a key that it names is gone by now; a new name that means nothing is refused."""
    _, key_hash = house.new_key_row()
    row = await made(house, allowed_api_key_hashes=[key_hash])
    with house.engine() as (engine, now_s):
        delete_key(engine, house.initialised.organization_id, key_hash, "test", now_s)
    hashes = {"allowed_api_key_hashes": row["allowed_api_key_hashes"]}
    kept = await call(house, "PATCH", f"/{row['id']}", hashes)
    assert (kept.status, kept.json["data"]["allowed_api_key_hashes"]) == (200, [key_hash])
    assert (await call(house, "PATCH", f"/{row['id']}", {"allowed_api_key_hashes": ["f" * 64]})).status == 404
    assert (await call(house, "DELETE", f"/{row['id']}")).status == 200


async def test_a_create_that_is_sent_twice_happens_once(house: Gateway) -> None:
    """By its idempotency key; what is kept of the answer is sealed and holds no key."""
    body = {"provider": "anthropic", "key": OWN}
    told = [await call(house, "POST", "", body, **{"idempotency-key": "twice"}) for _ in range(2)]
    listed = await call(house, "GET")

    assert told[0].json == told[1].json
    assert [row["id"] for row in listed.json["data"]].count(told[0].json["data"]["id"]) == 1
    for row in listed.json["data"]:
        await call(house, "DELETE", f"/{row['id']}")


async def test_pages_follow_the_order_of_trying(house: Gateway) -> None:
    """Prioritised ones by their order, then fallbacks; the count is of all."""
    rows = [await made(house, name=str(n), sort_order=9 - n, is_fallback=n == 0) for n in range(4)]
    first = await call(house, "GET", "?limit=3")
    rest = await call(house, "GET", "?limit=3&offset=3")
    for row in rows:
        await call(house, "DELETE", f"/{row['id']}")

    assert [row["name"] for row in first.json["data"] + rest.json["data"]] == ["3", "2", "1", "0"]
    assert (first.json["total_count"], rest.json["total_count"]) == (4, 4)
