"""Keys through the front door: made over HTTP, used for inference, changed and switched off while requests run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def manage(
    gateway: Gateway, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Told:
    """A request with the first management key, as a program sends it."""
    sent = {"authorization": f"Bearer {gateway.initialised.management_key}", **(headers or {})}
    if body is None:
        return await gateway.request(method, path, sent)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await gateway.request(method, path, {"content-type": "application/json"} | sent, raw)


async def new_key(gateway: Gateway, **wanted: Any) -> tuple[str, str]:
    """Make a key; give its text and its hash."""
    made = await manage(gateway, "POST", "/api/v1/keys", {"name": "made"} | wanted)
    assert made.status == 201, made.body
    return made.json["key"], made.json["data"]["hash"]


async def test_a_key_that_was_made_over_http_infers_and_its_use_is_told(gateway: Gateway) -> None:
    """From creation to the first answer without a pause; then the row shows what it cost, and when it was used."""
    key, key_hash = await new_key(gateway, limit=5, limit_reset="monthly")
    told = await gateway.send(ask(), key=key)
    cost = told.json["usage"]["cost"]
    row = (await manage(gateway, "GET", f"/api/v1/keys/{key_hash}")).json["data"]
    assert told.status == 200
    assert row["usage"] == row["usage_daily"] == row["usage_monthly"] == cost > 0
    assert round(row["limit"] - row["limit_remaining"], 9) == cost
    assert row["last_used_at"] is not None


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", "/anthropic/v1", "/api/anthropic/v1", "/api/v1/v1"])
async def test_every_spelling_of_the_address_works(gateway: Gateway, prefix: str) -> None:
    """As for inference, with and without a final slash; the request's id is in the header."""
    for path in ("/keys", "/keys/", "/credits"):
        told = await manage(gateway, "GET", prefix + path)
        assert (told.status, told.headers["request-id"][:4]) == (200, "req-")


async def test_what_is_no_path_of_the_api_stays_with_the_edge(gateway: Gateway) -> None:
    """Inference paths answer inference keys as before, unknown ones keep the envelope of Messages."""
    own = await gateway.request("GET", "/api/v1/key", gateway.headers())
    unknown = await manage(gateway, "GET", "/api/v1/keysmith")
    deep = await manage(gateway, "GET", "/api/v1/keys/a/b")
    assert (own.status, unknown.status, deep.status) == (200, 404, 404)
    assert (unknown.json["type"], deep.error["code"]) == ("error", 404)


async def test_the_openapi_file_is_public(gateway: Gateway) -> None:
    """It describes the paths as they are documented."""
    told = await gateway.request("GET", "/api/openapi.json")
    assert (told.status, told.json["openapi"][:2]) == (200, "3.")
    assert "/api/v1/keys/{key_hash}" in told.json["paths"]


async def test_a_key_that_is_switched_off_admits_nothing_more(gateway: Gateway) -> None:
    """The first request after the answer of the PATCH is refused; switched on again it is admitted."""
    key, key_hash = await new_key(gateway)
    assert (await gateway.send(ask(max_tokens=5), key=key)).status == 200
    for disabled, status in ((True, 401), (False, 200)):
        changed = await manage(gateway, "PATCH", f"/api/v1/keys/{key_hash}", {"disabled": disabled})
        assert changed.json["data"]["disabled"] is disabled
        assert (await gateway.send(ask(max_tokens=5), key=key)).status == status


async def test_a_lower_limit_bites_at_once_and_keeps_the_use(gateway: Gateway) -> None:
    """What was spent counts against the new limit (product-surface 2.6: usage is kept when the limit changes)."""
    key, key_hash = await new_key(gateway)
    spent = (await gateway.send(ask(max_tokens=5), key=key)).json["usage"]["cost"]
    changed = await manage(gateway, "PATCH", f"/api/v1/keys/{key_hash}", {"limit": spent, "limit_reset": "daily"})
    assert (changed.json["data"]["usage"], changed.json["data"]["limit_remaining"]) == (spent, 0)
    refused = await gateway.send(ask(max_tokens=5), key=key)
    assert (refused.status, refused.error["details"]["scope"]) == (402, "key")


async def test_a_key_for_one_model_serves_that_model(gateway: Gateway) -> None:
    """`allowed_models` in any spelling; another model is not found."""
    key, _ = await new_key(gateway, allowed_models=["claude-haiku-4-5"])
    allowed = await gateway.send(ask(model="claude-haiku-4-5"), key=key)
    assert (allowed.status, (await gateway.send(ask(), key=key)).status) == (200, 404)


async def test_a_management_key_makes_another_that_manages_and_cannot_infer(gateway: Gateway) -> None:
    """Two planes: the child manages, and is refused where inference keys go."""
    boss, _ = await new_key(gateway, management=True)
    listed = await manage(gateway, "GET", "/api/v1/keys", headers={"authorization": f"Bearer {boss}"})
    inferred = await gateway.send(ask(), key=boss)
    assert (listed.status, inferred.status) == (200, 403)


async def test_a_create_sent_twenty_times_at_once_is_one_key(gateway: Gateway) -> None:
    """Every answer is the same key, or 409 while the first is running; a retry ends with that key."""
    once = {"idempotency-key": "twenty"}
    body = {"name": "only one"}
    told = await asyncio.gather(*(manage(gateway, "POST", "/api/v1/keys", body, once) for _ in range(20)))
    last = await manage(gateway, "POST", "/api/v1/keys", body, once)
    assert {one.status for one in told} <= {201, 409}
    assert {one.json["key"] for one in told if one.status == 201} == {last.json["key"]}
    assert gateway.rows("SELECT COUNT(*) AS n FROM api_keys WHERE name = 'only one'") == [{"n": 1}]


async def test_a_body_beyond_the_limit_is_refused_whole(gateway: Gateway) -> None:
    """413 that the client gets to read, although it was still sending."""
    told = await manage(gateway, "POST", "/api/v1/keys", b'{"name": "' + b"k" * 3_000_000 + b'"}')
    assert (told.status, told.error["code"]) == (413, 413)


async def test_managing_goes_on_while_the_gateway_drains(gateway: Gateway) -> None:
    """As other paths that are not inference do: a key can still be switched off."""
    gateway.application.context.draining = True
    try:
        told = await manage(gateway, "GET", "/api/v1/keys")
        refused = await gateway.send(ask())
    finally:
        gateway.application.context.draining = False
    assert (told.status, refused.status) == (200, 503)


async def test_many_changes_under_load_leave_the_books_in_order(gateway: Gateway) -> None:
    """Keys are made, limited and deleted while they spend; every sum in the database is still the sum of its parts."""

    async def life(number: int) -> None:
        key, key_hash = await new_key(gateway, name=f"life {number}")
        spending = [asyncio.create_task(gateway.send(ask(max_tokens=5), key=key)) for _ in range(5)]
        await manage(gateway, "PATCH", f"/api/v1/keys/{key_hash}", {"limit": 0.001, "limit_reset": "weekly"})
        await manage(gateway, "DELETE", f"/api/v1/keys/{key_hash}")
        assert {told.status for told in await asyncio.gather(*spending)} <= {200, 401, 402}

    await asyncio.gather(*(life(number) for number in range(8)))
    await gateway.settled()
    assert gateway.problems() == []


async def test_postgresql_tells_the_same_story(tmp_path: Path, postgres_url: str) -> None:
    """A key's whole life and a create that is repeated at once, on the other kind of database."""
    async with open_gateway(tmp_path / "g", database_url=postgres_url) as there:
        key, key_hash = await new_key(there, limit=1, limit_reset="weekly")
        assert (await there.send(ask(max_tokens=5), key=key)).status == 200
        once = {"idempotency-key": "ten"}
        told = [manage(there, "POST", "/api/v1/keys", {"name": "ten"}, once) for _ in range(10)]
        assert {one.status for one in await asyncio.gather(*told)} <= {201, 409}
        changed = await manage(there, "PATCH", f"/api/v1/keys/{key_hash}", {"limit": 0})
        assert (changed.json["data"]["limit_remaining"], changed.json["data"]["usage"] > 0) == (0, True)
        assert (await there.send(ask(max_tokens=5), key=key)).status == 402
        assert (await manage(there, "DELETE", f"/api/v1/keys/{key_hash}")).json == {"deleted": True}
        assert (await there.send(ask(max_tokens=5), key=key)).status == 401
        names = [row["name"] for row in (await manage(there, "GET", "/api/v1/keys")).json["data"]]
        await there.settled()
        assert (sorted(names), there.problems()) == (["first key", "ten"], [])
