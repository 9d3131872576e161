"""Who gets in, what every route has in common, and doing a create once."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
import sqlalchemy as sa
from tests.unit.api.front import Front

from modelgates_server.accounts.values import KeyClass
from modelgates_server.management import NewKey, create_key, delete_key, idempotency, set_key_disabled
from modelgates_server.management.members import NewMember, add_member, remove_member
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.upkeep import prune


def manager_key(front: Front, **wanted: object) -> tuple[str, str]:
    house = front.house
    new = NewKey("m", KeyClass.MANAGEMENT, **wanted)
    secret, row = create_key(house.engine, house.pepper, front.organization_id, new, "test", house.clock.now_s())
    return secret, row.hash


async def names(front: Front) -> list[str]:
    return sorted(row["name"] for row in (await front.ask("GET", "/keys")).data)


@pytest.mark.parametrize("key", ["", "sk-ant-api03-x", "sk-mg-mgmt-v1-short", "sk-mg-mgmt-v1-" + "0" * 49, "é\x7f"])
async def test_without_a_live_key_nothing_is_told(front: Front, key: str) -> None:
    """401 with a reason that holds nothing of what was sent; also where the body is damaged."""
    for method, path, body in (("GET", "/keys", None), ("POST", "/keys", b"{"), ("DELETE", "/keys/x", None)):
        told = await front.ask(method, path, body, key=key)
        assert (told.status, told.error["code"]) == (401, 401)
        assert (told.headers["www-authenticate"], told.headers["x-should-retry"]) == ("Bearer", "false")
        assert not key or key.encode() not in told.body


async def test_no_route_is_open(front: Front) -> None:
    """Every operation of the OpenAPI file, without a key and with one of the other class."""
    paths = front.app.openapi()["paths"]
    asked = [(method.upper(), path.removeprefix("/api/v1")) for path, methods in paths.items() for method in methods]
    assert len(asked) > 50
    for method, path in asked:
        for key, status in (("", 401), (front.house.made.api_key, 403)):
            told = await front.ask(method, path, {} if method in {"POST", "PUT", "PATCH"} else None, key=key)
            assert (told.status, told.error["code"]) == (status, status), (method, path)


async def test_an_inference_key_is_the_wrong_class(front: Front) -> None:
    """403 with the words that clients know."""
    told = await front.ask("GET", "/keys", key=front.house.made.api_key)
    assert told.status == 403
    assert told.error["message"].startswith("Only management keys can perform this operation")


async def test_a_key_dies_at_once(front: Front) -> None:
    """Disabled, expired or deleted: the very next request is refused, with the reason."""
    engine, clock = front.house.engine, front.house.clock
    off, off_hash = manager_key(front)
    old, _ = manager_key(front, expires_at_s=int(clock.now_s()) + 10)
    gone, gone_hash = manager_key(front)
    assert [(await front.ask("GET", "/credits", key=key)).status for key in (off, old, gone)] == [200] * 3
    set_key_disabled(engine, front.organization_id, off_hash, True, "test", clock.now_s())
    delete_key(engine, front.organization_id, gone_hash, "test", clock.now_s())
    clock.advance(10)
    told = [await front.ask("GET", "/credits", key=key) for key in (off, old, gone)]
    assert [one.status for one in told] == [401] * 3
    assert ["disabled" in told[0].error["message"], "expired" in told[1].error["message"]] == [True, True]


async def test_a_key_of_somebody_who_left_stays_dead(front: Front) -> None:
    """A removed member's key manages nothing, and nobody switches it on again."""
    engine, now_s = front.house.engine, front.house.clock.now_s()
    member = add_member(engine, front.organization_id, NewMember("Bob"), "test", now_s)
    key, key_hash = manager_key(front, member_id=member.id)
    assert (await front.ask("GET", "/credits", key=key)).status == 200
    remove_member(engine, front.organization_id, member.id, "test", now_s)
    assert (await front.ask("PATCH", f"/keys/{key_hash}", {"disabled": False})).status == 400
    told = await front.ask("GET", "/credits", key=key)
    assert (told.status, "disabled" in told.error["message"]) == (401, True)


async def test_both_headers_are_read(front: Front) -> None:
    """A dead key in one header does not stand in the way of a live one in the other."""
    for headers in ({"x-api-key": front.key}, {"x-api-key": front.key, "authorization": "Bearer sk-ant-old"}):
        assert (await front.ask("GET", "/credits", key="", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/keys/a/b", 404), ("PUT", "/keys", 405), ("GET", "/nowhere", 404)]
)
async def test_what_is_not_there_is_told_in_the_same_envelope(
    front: Front, method: str, path: str, status: int
) -> None:
    """Unknown routes and wrong methods (product-surface 2)."""
    told = await front.ask(method, path)
    assert (told.status, told.error["code"], set(told.json)) == (status, status, {"error"})


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"name": "k"}', {"content-type": "text/plain"}, 400),
        (b"name=k", {"content-type": "application/x-www-form-urlencoded"}, 400),
        (b'{"name": "k"}', {"content-encoding": "gzip"}, 400),
        (b'{"name": "' + b"k" * 1_048_576 + b'"}', {}, 413),
    ],
)
async def test_a_body_is_json_of_a_reasonable_size(
    front: Front, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Other content types, encodings and sizes are refused, and make nothing."""
    told = await front.ask("POST", "/keys", body, headers=headers)
    assert (told.status, told.error["code"]) == (status, status)
    assert await names(front) == ["first key"]


@pytest.mark.parametrize(("path", "status"), [("/keys/a\0b", 404), ("/keys?workspace_id=a%00b", 400)])
async def test_a_nul_is_no_id(either: Front, path: str, status: int) -> None:
    """PostgreSQL keeps no text with it; it is refused before it gets there."""
    assert (await either.ask("GET", path)).status == status


async def test_a_repeated_create_is_done_once(either: Front) -> None:
    """The same bytes again, with the new key in them; the database does not hold the key in the open."""
    again = {"idempotency-key": "once"}
    first = await either.ask("POST", "/keys", {"name": "one"}, headers=again)
    second = await either.ask("POST", "/keys", {"name": "one"}, headers=again)
    assert (second.status, second.body) == (201, first.body)
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (False, "true")
    assert await names(either) == ["first key", "one"]
    with reading(either.house.engine) as connection:
        row = connection.execute(sa.select(schema.idempotency)).mappings().one()
    assert first.json["key"] not in str(dict(row))


async def test_the_same_idempotency_key_for_something_else_is_refused(front: Front) -> None:
    """Another body, another path: 422; another organisation has keys of its own."""
    again = {"idempotency-key": "once"}
    await front.ask("POST", "/keys", {"name": "one"}, headers=again)
    told = [
        await front.ask("POST", "/keys", {"name": "two"}, headers=again),
        await front.ask("POST", "/credits/grants", {"amount": 1}, headers=again),
    ]
    assert [one.status for one in told] == [422, 422]
    _, stranger = front.another()
    assert (await front.ask("POST", "/keys", {"name": "two"}, key=stranger, headers=again)).status == 201


async def test_a_refused_create_may_be_sent_corrected(front: Front) -> None:
    """Nothing is kept of a request that changed nothing."""
    again = {"idempotency-key": "once"}
    for body in ({"name": 7}, {"name": "k", "limit_reset": "daily"}, {"name": "k", "workspace_id": "ws-none"}):
        assert (await front.ask("POST", "/keys", body, headers=again)).status in {400, 404}
    assert (await front.ask("POST", "/keys", {"name": "k"}, headers=again)).status == 201


async def test_many_at_once_make_one_key(either: Front) -> None:
    """Of parallel requests one does it; the others are told to wait, or get its answer."""
    again = {"idempotency-key": "storm"}
    told = await asyncio.gather(*(either.ask("POST", "/keys", {"name": "one"}, headers=again) for _ in range(12)))
    assert {one.status for one in told} <= {201, 409}
    assert len({one.body for one in told if one.status == 201}) == 1
    assert await names(either) == ["first key", "one"]


async def test_what_a_crash_cut_off_is_not_done_again(either: Front) -> None:
    """409 while somebody may still be at it, and afterwards too: nobody knows whether it was done."""
    house = either.house
    digest = "d" * 64
    left = idempotency.Claim(either.organization_id, "k", digest, int(house.clock.now_s()))
    assert idempotency.claim(house.engine, left) is None
    with transaction(house.engine) as connection:
        connection.execute(sa.update(schema.idempotency).values(request_digest=sent_digest(b'{"name": "k"}')))
    again = {"idempotency-key": "k"}
    told = await either.ask("POST", "/keys", b'{"name": "k"}', headers=again)
    assert (told.status, "still running" in told.error["message"]) == (409, True)
    house.clock.advance(idempotency.CLAIM_S)
    told = await either.ask("POST", "/keys", b'{"name": "k"}', headers=again)
    assert (told.status, "may have been done" in told.error["message"]) == (409, True)


def sent_digest(body: bytes) -> str:
    """What the API computes for `POST /keys`."""
    digest = hashlib.sha256()
    for part in (b"POST", b"/api/v1/keys", b"", body):
        digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


async def test_an_answer_is_kept_for_a_day(either: Front) -> None:
    """Afterwards the same idempotency key means a new request."""
    again = {"idempotency-key": "once"}
    await either.ask("POST", "/keys", {"name": "one"}, headers=again)
    either.house.clock.advance(idempotency.KEPT_S)
    assert (await either.ask("POST", "/keys", {"name": "two"}, headers=again)).status == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_an_idempotency_key_has_a_shape(front: Front, key: str) -> None:
    """1 to 255 visible characters."""
    assert (await front.ask("POST", "/keys", {"name": "k"}, headers={"idempotency-key": key})).status == 400


def test_the_openapi_file_names_every_route(front: Front) -> None:
    """Paths under /api/v1, two ways to send the key, errors as the envelope."""
    document = json.loads(json.dumps(front.app.openapi()))
    assert {"/api/v1/keys", "/api/v1/keys/{key_hash}", "/api/v1/credits", "/api/v1/transactions"} <= set(
        document["paths"]
    )
    create = document["paths"]["/api/v1/keys"]["post"]
    assert [list(way) for way in create["security"]] == [["bearer"], ["x-api-key"]]
    assert "4XX" in create["responses"]
    assert "422" not in create["responses"]


async def test_upkeep_removes_answers_that_nobody_may_ask_for_again(either: Front) -> None:
    """Sealed keys do not lie around: after a day the row goes, a younger one stays."""
    for key in ("old", "young"):
        await either.ask("POST", "/keys", {"name": key}, headers={"idempotency-key": key})
        either.house.clock.advance(idempotency.KEPT_S)
    either.house.clock.advance(-1)
    with transaction(either.house.engine) as connection:
        for statement, row in prune(either.house.clock):
            connection.execute(sa.text(statement), row)
        left = connection.execute(sa.select(schema.idempotency.c.key)).scalars().all()
    assert left == ["young"]
