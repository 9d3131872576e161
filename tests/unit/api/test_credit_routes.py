"""Credit over HTTP: how it stands, what changed it, and who may change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.support.asgi import Told
from tests.unit.api.front import Front, open_front

from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.storage.maintenance import check


def add_generation(front: Front, cost_nusd: int, organization_id: str | None = None) -> str:
    """A receipt, as far as a refund looks at it."""
    columns = {
        column.name: 0 if column.type.python_type is int else ""
        for column in schema.generations.c
        if not column.nullable
    }
    made = columns | {
        "id": "gen-1",
        "organization_id": organization_id or front.organization_id,
        "cost_nusd": cost_nusd,
    }
    with transaction(front.house.engine) as connection:
        connection.execute(sa.insert(schema.generations).values(made))
    return "gen-1"


async def refund(front: Front, generation_id: str, **more: Any) -> Told:
    return await front.ask("POST", "/credits/refunds", {"generation_id": generation_id} | more)


async def test_the_credit_stands_as_granted(front: Front) -> None:
    """The two figures of product-surface 2.7, and what follows from them."""
    told = await front.ask("GET", "/credits")
    assert told.data == {"total_credits": 100, "total_usage": 0, "balance": 100, "held": 0}


async def test_every_movement_is_listed_newest_first(either: Front) -> None:
    """A grant and an adjustment downwards, with note, author and exact amount."""
    granted = await either.ask("POST", "/credits/grants", b'{"amount": 0.000000001, "note": "a crumb"}')
    assert (granted.status, b'"amount":0.000000001,' in granted.body) == (201, True)
    taken = await either.ask("POST", "/credits/adjustments", {"amount": -30.5, "note": "typed twice"})
    assert taken.json["credits"]["balance"] == 69.500000001
    listed = (await either.ask("GET", "/transactions?limit=2")).json
    assert [(row["type"], row["amount"], row["note"]) for row in listed["data"]] == [
        ("adjustment", -30.5, "typed twice"),
        ("grant", 1e-09, "a crumb"),
    ]
    assert (listed["total_count"], listed["data"][0]["author"][:4]) == (3, "key:")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/credits/grants", {"amount": 0}),
        ("/credits/grants", {"amount": -5}),
        ("/credits/grants", {"amount": 1000000.5}),
        ("/credits/grants", {"amount": "5"}),
        ("/credits/grants", {}),
        ("/credits/adjustments", {"amount": 0, "note": "n"}),
        ("/credits/adjustments", {"amount": -100.000000001, "note": "more than ever was"}),
        ("/credits/adjustments", {"amount": 5}),
        ("/credits/adjustments", {"amount": 5, "note": " "}),
        ("/credits/refunds", {"generation_id": ""}),
        ("/credits/refunds", {"generation_id": "gen-1", "amount": 0}),
    ],
)
async def test_amounts_that_cannot_be_change_nothing(front: Front, path: str, body: Any) -> None:
    """400, and the books are as before."""
    assert (await front.ask("POST", path, body)).status == 400
    assert (await front.ask("GET", "/credits")).data["balance"] == 100
    assert (await front.ask("GET", "/transactions")).json["total_count"] == 1


async def test_no_more_is_refunded_than_was_charged(either: Front) -> None:
    """In parts, then the rest; then there is nothing left."""
    generation_id = add_generation(either, 3 * 10**9)
    part = await refund(either, generation_id, amount=1)
    assert (part.status, part.data["amount"], part.data["generation_id"]) == (201, 1, generation_id)
    assert (await refund(either, generation_id, amount=2.000000001)).status == 400
    assert (await refund(either, generation_id, note="sorry")).data["amount"] == 2
    assert (await refund(either, generation_id)).status == 400
    assert (await either.ask("GET", "/credits")).data["total_credits"] == 103


async def test_a_foreign_generation_is_not_refunded(front: Front) -> None:
    """It does not exist for others."""
    theirs, _ = front.another()
    generation_id = add_generation(front, 10**9, theirs)
    told = await refund(front, generation_id)
    unknown = await refund(front, "gen-none")
    assert (told.status, told.body) == (404, unknown.body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/credits/grants", {"amount": 1}),
        ("POST", "/credits/adjustments", {"amount": 1, "note": "n"}),
        ("POST", "/credits/refunds", {"generation_id": "gen-1"}),
        ("PATCH", "/credits", {"enabled": True, "threshold": 1, "amount": 1}),
    ],
)
async def test_keys_print_no_money_without_leave(tmp_path: Path, method: str, path: str, body: Any) -> None:
    """By default that is for the operator: 403 with the command that does it."""
    with open_front(tmp_path / "store.db", api_grants=False) as front:
        told = await front.ask(method, path, body)
        assert told.status == 403
        assert "modelgates credits" in told.error["metadata"]["remedy"]
        assert (await front.ask("GET", "/credits")).data["balance"] == 100


async def test_the_rule_for_topups_is_kept(either: Front) -> None:
    """A first rule needs both amounts; later a part may change; null lifts the bound."""
    assert (await either.ask("GET", "/credits/topup")).data is None
    assert (await either.ask("PATCH", "/credits", {"enabled": True})).status == 400
    rule = {"enabled": True, "threshold": 10, "amount": 25.5, "monthly_max": 100}
    assert (await either.ask("PATCH", "/credits", rule)).data == rule
    assert (await either.ask("PATCH", "/credits", {"monthly_max": 25})).status == 400
    changed = await either.ask("PATCH", "/credits", {"enabled": False, "monthly_max": None})
    assert changed.data == rule | {"enabled": False, "monthly_max": None}
    assert (await either.ask("GET", "/credits/topup")).data == changed.data


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/credits/payment-method", 200), ("POST", "/credits/coinbase", 410), ("POST", "/credits", 400)],
)
async def test_paths_of_older_clients_answer(front: Front, method: str, path: str, status: int) -> None:
    """There is no payment page here, and they are told so."""
    told = await front.ask(method, path, {"amount": 5} if method == "POST" else None)
    assert (told.status, b"null" in told.body or told.error["code"] == status) == (status, True)


async def test_the_books_agree_after_all_of_it(either: Front) -> None:
    """Grants, adjustments and refunds make the meter's limit, to the nano-dollar."""
    await either.ask("POST", "/credits/grants", {"amount": 7.25})
    await either.ask("POST", "/credits/adjustments", {"amount": -50, "note": "half back"})
    assert [problem for problem in check(either.house.database) if problem.kind in {"grants", "entries"}] == []
