"""Credit through the front door: it pays requests, runs out, is given and given back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.support.gateway import Gateway, Told, ask, open_gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

LEAVE = "[credits]\napi_grants = true\n"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bank(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway whose operator lets keys add credit, with one cent to begin with."""
    async with open_gateway(tmp_path_factory.mktemp("bank") / "g", credit_usd="0.01", toml=LEAVE) as running:
        yield running


async def manage(gateway: Gateway, method: str, path: str, body: Any = None) -> Told:
    headers = {"authorization": f"Bearer {gateway.initialised.management_key}", "content-type": "application/json"}
    return await gateway.request(method, f"/api/v1{path}", headers, None if body is None else json.dumps(body).encode())


async def test_credit_that_ran_out_is_there_again_after_a_grant(bank: Gateway) -> None:
    """402, a grant over HTTP, and the same request is answered; the standing says what it cost."""
    refused = await bank.send(ask(max_tokens=4000))
    granted = await manage(bank, "POST", "/credits/grants", {"amount": 5, "note": "for the demo"})
    told = await bank.send(ask(max_tokens=4000))
    standing = (await manage(bank, "GET", "/credits")).json["data"]
    assert (refused.status, granted.status, told.status) == (402, 201, 200)
    assert standing["total_usage"] == told.json["usage"]["cost"]
    assert (standing["total_credits"], standing["held"]) == (5.01, 0)


async def test_a_refund_gives_back_what_was_charged_once(bank: Gateway) -> None:
    """Whole, and not again; the receipt stays as it was."""
    await manage(bank, "POST", "/credits/grants", {"amount": 1})
    told = await bank.send(ask())
    before = (await manage(bank, "GET", "/credits")).json["data"]
    refunds = await asyncio.gather(
        *(manage(bank, "POST", "/credits/refunds", {"generation_id": told.id}) for _ in range(5))
    )
    after = (await manage(bank, "GET", "/credits")).json["data"]
    assert sorted(one.status for one in refunds) == [201, 400, 400, 400, 400]
    assert round(after["balance"] - before["balance"], 9) == told.json["usage"]["cost"]
    assert after["total_usage"] == before["total_usage"]


async def test_credit_that_is_taken_away_pays_nothing_more(bank: Gateway) -> None:
    """An adjustment below zero bites at the next request."""
    standing = (await manage(bank, "GET", "/credits")).json["data"]
    taken = await manage(bank, "POST", "/credits/adjustments", {"amount": -standing["balance"], "note": "back"})
    assert (taken.status, taken.json["credits"]["balance"]) == (201, 0)
    assert (await bank.send(ask())).status == 402
    await bank.settled()
    assert bank.problems() == []


async def test_every_change_stands_in_the_list(bank: Gateway) -> None:
    """Newest first, signed, with the key that did it."""
    await manage(bank, "POST", "/credits/grants", {"amount": 0.25, "note": "listed"})
    listed = (await manage(bank, "GET", "/transactions?limit=1")).json
    (newest,) = listed["data"]
    assert (newest["type"], newest["amount"], newest["note"]) == ("grant", 0.25, "listed")
    assert listed["total_count"] == bank.rows("SELECT COUNT(*) AS n FROM entries WHERE kind <> 'charge'")[0]["n"]


async def test_keys_print_no_money_unless_the_operator_says_so(gateway: Gateway) -> None:
    """The default: 403, with the command that does it."""
    told = await manage(gateway, "POST", "/credits/grants", {"amount": 5})
    assert (told.status, "modelgates credits grant" in told.error["metadata"]["remedy"]) == (403, True)
