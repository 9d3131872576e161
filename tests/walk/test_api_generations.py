"""Receipts over the wire: lists, what was stored, feedback, and nobody else's."""

from __future__ import annotations

import pytest
from tests.support.gateway import ask
from tests.unit.activity.crowd import ORG, OTHER, Did
from tests.walk.managed import Managed, ago, places

from modelgates_server.accounts.values import KeyClass

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_pages_make_the_whole_list(managed: Managed) -> None:
    """Following the cursor gives every receipt once, newest first, by a filter of one's own."""
    made = managed.settle(
        *(Did(ago_ms=ago(1) + number // 3, key=2, more={"session_id": "paged"}) for number in range(10))
    )
    seen: list[str] = []
    query: dict[str, str] = {}
    while True:
        told = await managed.get("/generations", session_id="paged", limit=4, **query)
        seen += places(told.json["data"], "id")
        if told.json["next_cursor"] is None:
            break
        query = {"cursor": told.json["next_cursor"]}

    assert seen == sorted(made, reverse=True)


async def test_a_row_is_a_receipt(managed: Managed) -> None:
    """The fields of `GET /generation`, whose key it was, and amounts in USD."""
    (id_,) = managed.settle(
        Did(ago_ms=ago(2), key=3, cost_nusd=1_500_000_000, byok_nusd=250_000_000, provider="bedrock")
    )
    told = await managed.get("/generations", api_key_hash=f"{ORG}-key-3", provider="bedrock", from_="2026-01-01")
    row = next(row for row in told.json["data"] if row["id"] == id_)
    one = (await managed.get("/generation", id=id_)).json["data"]

    assert {name: value for name, value in row.items() if name in one} == one
    assert (row["api_key_hash"], row["user_id"]) == (f"{ORG}-key-3", f"{ORG}-member-1")
    assert (row["total_cost"], row["upstream_inference_cost"], row["is_byok"]) == (1.5, 0.25, True)


async def test_filters_take_what_people_write(managed: Managed) -> None:
    """A workspace by its slug and a model in any spelling name the same receipts as their ids; what is unknown names none."""
    (id_,) = managed.settle(
        Did(ago_ms=ago(3), key=1, model="anthropic/claude-haiku-4.5", more={"session_id": "spelled"})
    )
    slug = next(
        place["slug"]
        for place in (await managed.get("/workspaces")).json["data"]
        if place["id"] == f"{ORG}-workspace-1"
    )
    for query, found in (
        ({"workspace_id": slug}, [id_]), ({"workspace_id": f"{ORG}-workspace-1"}, [id_]), ({"workspace_id": "nowhere"}, []),
        ({"model": "claude-haiku-4-5"}, [id_]), ({"model": "anthropic/claude-haiku-4.5"}, [id_]), ({"model": "nothing"}, []),
        ({"outcome": "completed"}, [id_]), ({"outcome": "failed"}, []),
    ):  # fmt: skip
        told = await managed.get("/generations", session_id="spelled", **query)
        assert (told.status, places(told.json["data"], "id")) == (200, found), query


async def test_a_request_appears_in_the_list(managed: Managed) -> None:
    """A real answer of a moment ago is the newest row of its key's organisation."""
    key = managed.new_key(key_class=KeyClass.INFERENCE)
    told = await managed.gateway.send(ask(), key=managed.gateway.key)
    listed = await managed.get("/generations", key=managed.gateway.initialised.management_key, limit=1)

    assert told.status == 200
    assert places(listed.json["data"], "id") == [told.id]
    assert (await managed.get("/generations", key=key)).status == 403


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0}, {"limit": 101}, {"limit": "x"}, {"limit": 10**6}, {"cursor": "x"}, {"cursor": "MTo"}, {"cursor": ""},
        {"outcome": "done"}, {"outcome": ""}, {"from_": "2026-01-03", "to": "2026-01-02"},
        {"from_": "yesterday"}, {"to": "2026-01-01T00:00:00"}, {"from_": "' OR 1=1 --"}, {"model": "x" * 301}, {"model": "\0"},
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(managed: Managed, query: dict[str, object]) -> None:
    """400 in the envelope."""
    told = await managed.get("/generations", **query)

    assert (told.status, told.error["code"]) == (400, 400), told.body


async def test_nothing_is_stored_and_that_is_said(managed: Managed) -> None:
    """404 with the reason; of a failed request also which attempts failed how."""
    good, failed = managed.settle(Did(ago_ms=ago(1)), Did(ago_ms=ago(1), outcome="failed", provider=None))
    told = await managed.get("/generation/content", id=good)
    why = await managed.get("/generation/content", id=failed)

    assert (told.status, told.error["code"]) == (404, 404)
    assert "not stored" in told.error["message"]
    metadata = told.error["metadata"]
    assert "opt a workspace in" in metadata.pop("remedy")
    assert metadata == {"generation_id": good, "stored": False, "error": None}
    assert why.error["metadata"]["error"]["message"] == "No provider answered"
    assert why.error["metadata"]["error"]["previous_errors"] == []
    assert (await managed.get("/generation/content")).status == 400


async def test_feedback_is_taken(managed: Managed) -> None:
    """With a category of the list; it is in the audit log."""
    (id_,) = managed.settle(Did(ago_ms=ago(1)))
    body = {"generation_id": id_, "category": "latency", "comment": "slow"}
    told = await managed.post("/generation/feedback", body)
    noted = await managed.get("/audit", target=id_)

    assert (told.status, told.json) == (200, {"data": {"success": True}})
    assert places(noted.json["data"], "action") == ["generation.feedback"]
    for wrong in ({"category": "nice"}, {"comment": "x" * 1_001}, {"generation_id": ""}, {"generation_id": 5}):
        assert (await managed.post("/generation/feedback", body | wrong)).status == 400


async def test_nobody_sees_another_organisation(managed: Managed) -> None:
    """Lists, ids, cursors, content and feedback: a foreign receipt does not exist."""
    first, *_ = managed.settle(*(Did(ago_ms=ago(1) + number, organization_id=OTHER, key=3) for number in range(5)))
    theirs = (await managed.get("/generations", OTHER, limit=1)).json
    for query in (
        {}, {"api_key_hash": f"{OTHER}-key-3"}, {"user_id": f"{OTHER}-member-1"}, {"workspace_id": f"{OTHER}-workspace-1"},
        {"cursor": theirs["next_cursor"]}, {"model": "%"}, {"outcome": "' OR organization_id = 'org-b"},
    ):  # fmt: skip
        assert OTHER not in (await managed.get("/generations", **query)).body.decode()
    assert (await managed.get("/generation", id=first)).status == 404
    assert (await managed.get("/generation/content", id=first)).error["message"] == f"Generation {first} not found"
    told = await managed.post("/generation/feedback", {"generation_id": first, "category": "other"})
    assert (told.status, (await managed.get("/generation", OTHER, id=first)).status) == (404, 200)
