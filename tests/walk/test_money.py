"""Budgets, refusals and bills through a real port (design decisions 4 to 6, product-surface 5.2 and 5.5)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway, until

from modelgates_server.catalogue import price
from modelgates_server.dialects.ask import read_ask
from modelgates_server.management import delete_key, grant_credits, set_key_disabled, update_key_limit
from modelgates_server.money import usd_text
from modelgates_server.storage.engine import sqlite_path

pytestmark = pytest.mark.asyncio(loop_scope="session")

HAIKU = "claude-haiku-4-5"
CENT = 10_000_000


def held_for(gateway: Gateway, body: dict[str, Any]) -> int:
    """What the gateway must hold for a body, by the rules of the catalogue."""
    read = read_ask(json.dumps(body).encode())
    (endpoint,) = gateway.application.relay.endpoints[
        gateway.application.relay.catalogue.resolve(read.model).model.slug
    ]
    bound = price.input_bound_tokens(read.shape, endpoint.model)
    return price.ceiling_nusd(endpoint, read, bound, read.max_tokens or 0, time.time())


def at_the_bound(body: dict[str, Any]) -> dict[str, Any]:
    """A control that makes the provider report exactly what was held: every input token a dear cache write."""
    bound = len(json.dumps(body).encode()) + price.MESSAGE_TOKENS
    split = {"ephemeral_5m_input_tokens": bound, "ephemeral_1h_input_tokens": 0}
    usage = {"input_tokens": 0, "cache_creation_input_tokens": bound, "cache_creation": split}
    return {"usage": usage | {"output_tokens": body["max_tokens"]}}


def assert_money_refused(told: Told, scope: str, reason: str) -> dict[str, Any]:
    """A 402 as clients need it; gives its details."""
    assert (told.status, told.error["type"]) == (402, "billing_error")
    assert told.headers["x-should-retry"] == "false"
    details = told.error["details"]
    assert set(details) == {"scope", "limit", "remaining", "resets_at", "affordable_max_tokens", "reason"}
    assert (details["scope"], details["reason"]) == (scope, reason)
    return details


async def test_a_used_up_key_is_refused_with_every_detail(gateway: Gateway) -> None:
    """402 names scope, limit, remainder, and the max_tokens that would fit; without a window there is no retry-after."""
    limit_nusd = held_for(gateway, ask(max_tokens=2000)) // 2
    key, key_hash = gateway.new_key_row(limit_nusd=limit_nusd)

    told = await gateway.send(ask(max_tokens=2000), key=key)

    details = assert_money_refused(told, "key", "request_exceeds_budget")
    assert Decimal(str(details["limit"])) == Decimal(usd_text(limit_nusd))
    assert (details["remaining"], details["resets_at"]) == (details["limit"], None)
    assert "retry-after" not in told.headers
    assert gateway.rows("SELECT id FROM generations WHERE key_hash = :key", key=key_hash) == []
    assert 900 < details["affordable_max_tokens"] < 1100
    assert (await gateway.send(ask(max_tokens=details["affordable_max_tokens"]), key=key)).status == 200


@pytest.mark.parametrize("reset", ["daily", "weekly", "monthly"])
async def test_a_limit_with_a_window_says_when_it_resets(gateway: Gateway, reset: str) -> None:
    """With a window, 402 carries resets_at and a retry-after that leads there."""
    key = gateway.new_key(limit_nusd=1, limit_reset=reset)

    told = await gateway.send(ask(), key=key)

    details = assert_money_refused(told, "key", "key_limit")
    resets_s = time.mktime(time.strptime(details["resets_at"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(int(told.headers["retry-after"]) - (resets_s - time.time())) < 3
    assert details["resets_at"][:10] in told.error["message"]


async def test_near_the_end_of_a_budget_the_answer_is_clamped(gateway: Gateway) -> None:
    """When not all of max_tokens is affordable but a useful part is, the provider is asked for less, and a header says so."""
    key = gateway.new_key(limit_nusd=20 * CENT)

    told = await gateway.send(ask(max_tokens=60_000), key=key)

    sent = json.loads(gateway.simulator.log[-1].body or b"")
    assert told.status == 200
    assert 4096 <= sent["max_tokens"] < 60_000
    assert told.headers["x-modelgates-max-tokens"] == str(sent["max_tokens"])
    assert gateway.generation(told.id)["held_nusd"] <= 20 * CENT


async def test_what_is_too_little_to_be_useful_is_refused(gateway: Gateway) -> None:
    """Below 4,096 tokens, or below the thinking budget, nothing is clamped."""
    key = gateway.new_key(limit_nusd=20 * CENT)
    thinking = {"type": "enabled", "budget_tokens": 30_000}

    told = await gateway.send(ask(max_tokens=60_000, thinking=thinking), key=key)

    details = assert_money_refused(told, "key", "request_exceeds_budget")
    assert 4096 < details["affordable_max_tokens"] <= 30_000


async def test_an_exact_count_is_asked_for_when_bytes_do_not_fit(gateway: Gateway) -> None:
    """A long prompt whose bytes exceed the budget is counted by the provider, and then it fits."""
    body = ask("word " * 40_000, max_tokens=10)
    key = gateway.new_key(limit_nusd=held_for(gateway, body) // 2)
    counts = len(gateway.simulator.side_log)

    told = await gateway.send(body, key=key)

    (count,) = gateway.simulator.side_log[counts:]
    assert told.status == 200
    assert (count.path, b"max_tokens" in (count.body or b"")) == ("/v1/messages/count_tokens", False)
    assert gateway.generation(told.id)["held_nusd"] <= held_for(gateway, body) // 2


async def test_a_request_waits_for_money_that_is_only_held(gateway: Gateway) -> None:
    """When open holds are all that stands in the way, the next request waits for them and is served."""
    body = ask(max_tokens=1000)
    key = gateway.new_key(limit_nusd=held_for(gateway, body) * 5 // 4)

    first = asyncio.get_running_loop().create_task(gateway.send(body, key=key, simulate={"delay_s": 0.3, "tokens": 3}))
    await until(lambda: gateway.rows("SELECT id FROM holds"), "nothing is held")
    second = await gateway.send(body, key=key, simulate={"tokens": 3})

    assert ((await first).status, second.status) == (200, 200)
    assert gateway.overspent() == []


FREE: dict[str, dict[str, Any]] = {
    "server error": {"status": 500},
    "overloaded": {"status": 529},
    "the client's mistake": {"status": 400},
    "our key is refused": {"status": 401},
    "error event first": {"error_at_event": 0},
    "no answer": {"cut_at_byte": 0},
    "refusal before any output": {"tokens": 0, "stop_reason": "refusal", "usage": {"output_tokens": 0}},
    "broken in the middle": {"cut_after_event": 6},
    "broken by an error event": {"error_at_event": 6},
}


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("stream", [True, False])
async def test_failures_are_free(gateway: Gateway, name: str, stream: bool) -> None:
    """Nobody's budget pays for a failure, an empty completion or a refusal without output (product-surface 5.5)."""
    key, key_hash = gateway.new_key_row(limit_nusd=100 * CENT)

    told = await gateway.send(ask(stream=stream, max_tokens=100), key=key, simulate=FREE[name])

    row = await gateway.receipt(told.id)
    await gateway.settled()
    (meter,) = gateway.rows("SELECT posted, held FROM meters WHERE scope_id = :key", key=key_hash)
    assert row["cost_nusd"] == 0
    assert (meter["posted"], meter["held"]) == (0, 0)
    if name.startswith("broken") and stream:
        assert row["upstream_cost_nusd"] > 0  # the provider asks for it: the operator's loss
        assert gateway.rows("SELECT 1 FROM entries WHERE generation_id = :id AND kind = 'overrun'", id=told.id)


EMPTY_USAGE = {"input_tokens": 10, "output_tokens": 0}
EMPTY = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-8", "content": []}
EMPTY_EVENTS = [
    {"type": "message_start", "message": EMPTY | {"stop_reason": None, "usage": EMPTY_USAGE}},
    {"type": "message_delta", "delta": {"stop_reason": None}, "usage": EMPTY_USAGE},
    {"type": "message_stop"},
]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_completion_is_free(gateway: Gateway, stream: bool) -> None:
    """No output and no reason for it: the customer pays nothing, the provider's price is the operator's (zero insurance)."""
    control: dict[str, Any] = {"body": json.dumps(EMPTY | {"stop_reason": None, "usage": EMPTY_USAGE})}
    if stream:
        frames = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EMPTY_EVENTS]
        control = {"body": "".join(frames), "headers": {"content-type": "text/event-stream"}}

    told = await gateway.send(ask(stream=stream), simulate=control)

    row = gateway.generation(told.id)
    assert (told.status, row["outcome"]) == (200, "completed")
    assert (row["cost_nusd"], row["upstream_cost_nusd"] > 0) == (0, True)


LIES: dict[str, dict[str, Any]] = {
    "negative": {"input_tokens": -5, "output_tokens": -1},
    "huge": {"input_tokens": 900_000_000, "output_tokens": 900_000_000},
    "beyond 64 bits": {"input_tokens": 10**30, "output_tokens": 10**30},
    "strings": {"input_tokens": "7", "output_tokens": "NaN"},
    "fractions": {"input_tokens": 1.5, "output_tokens": 2.5},
    "null": {"input_tokens": None, "output_tokens": None},
    "objects": {"input_tokens": {}, "output_tokens": [1], "cache_creation": 5, "iterations": "x"},
    "zero": {"input_tokens": 0, "output_tokens": 0},
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("stream", [True, False])
async def test_lies_about_usage_hurt_nobody(gateway: Gateway, name: str, stream: bool) -> None:
    """Whatever the provider reports, the answer arrives and the charge is between nothing and the hold."""
    told = await gateway.send(ask(stream=stream), simulate={"usage": LIES[name]})

    row = gateway.generation(told.id)
    assert told.status == 200
    assert told.names[-1] == "message_stop" if stream else told.json["content"][0]["text"]
    assert 0 <= row["cost_nusd"] <= row["held_nusd"]
    assert row["outcome"] == "completed"
    assert gateway.overspent() == []
    if name == "huge":
        assert row["upstream_cost_nusd"] > row["cost_nusd"] == row["held_nusd"]
    if name == "zero":
        assert row["cost_nusd"] == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_missing_usage_is_estimated(gateway: Gateway, stream: bool) -> None:
    """An answer without usage is not free: input and output are estimated, and the receipt says so (row 16)."""
    told = await gateway.send(ask("x" * 4000, stream=stream), simulate={"omit_usage": True, "tokens": 100})

    row = gateway.generation(told.id)
    assert row["estimated"] == 1
    assert 900 < row["input_tokens"] < 1500
    assert 50 < row["output_tokens"] <= 300
    assert 0 < row["cost_nusd"] <= row["held_nusd"]


async def test_every_place_tells_the_same_price(gateway: Gateway) -> None:
    """The answer, the receipt, the generation endpoint, the key's use and its meter agree to the nano-USD."""
    key, key_hash = gateway.new_key_row()
    told = await gateway.send(ask(), key=key)
    receipt = await gateway.request("GET", f"/api/v1/generation?id={told.id}", gateway.headers(key=key))
    use = await gateway.request("GET", "/api/v1/key", gateway.headers(key=key))

    def exact(body: bytes, *path: str) -> str:
        found: Any = json.loads(body, parse_float=str, parse_int=str)
        for name in path:
            found = found[name]
        return found

    row = gateway.generation(told.id)
    (meter,) = gateway.rows("SELECT posted FROM meters WHERE scope_id = :key", key=key_hash)
    price_text = usd_text(row["cost_nusd"])
    assert row["cost_nusd"] == meter["posted"] > 0
    assert exact(told.body, "usage", "cost") == price_text
    assert exact(receipt.body, "data", "total_cost") == exact(receipt.body, "data", "usage") == price_text
    assert exact(use.body, "data", "usage") == exact(use.body, "data", "usage_daily") == price_text


async def test_the_books_balance(gateway: Gateway) -> None:
    """Grants less the customer's charges are the credit's balance, and every posted nano-USD has an entry."""
    await gateway.send(ask())
    await gateway.settled()

    (charged,) = gateway.rows("SELECT COALESCE(SUM(amount_nusd), 0) AS n FROM entries WHERE kind = 'charge'")
    (granted,) = gateway.rows("SELECT SUM(amount_nusd) AS n FROM entries WHERE kind = 'grant'")
    (credit,) = gateway.rows("SELECT \"limit\", posted, held FROM meters WHERE scope = 'organization'")
    (receipts,) = gateway.rows("SELECT SUM(cost_nusd) AS n FROM generations")
    flows = gateway.rows(
        "SELECT SUM(amount) AS n FROM (SELECT debit AS account, -amount_nusd AS amount FROM entries"
        " UNION ALL SELECT credit, amount_nusd FROM entries)"
    )
    assert (credit["posted"], credit["held"]) == (charged["n"], 0)
    assert (credit["limit"], receipts["n"]) == (granted["n"], charged["n"])
    assert flows[0]["n"] == 0


CHANGES = {
    "disabled": lambda engine, org, key_hash, now_s: set_key_disabled(engine, org, key_hash, True, "test", now_s),
    "deleted": lambda engine, org, key_hash, now_s: delete_key(engine, org, key_hash, "test", now_s),
    "lowered": lambda engine, org, key_hash, now_s: update_key_limit(engine, org, key_hash, 1, None, "test", now_s),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_from_another_process_bites_at_once(gateway: Gateway, change: str) -> None:
    """A key that was used a moment ago is refused right after another connection changed it; its models within a second."""
    key, key_hash = gateway.new_key_row()
    assert (await gateway.send(ask(max_tokens=5), key=key)).status == 200

    with gateway.engine() as (engine, now_s):
        CHANGES[change](engine, gateway.initialised.organization_id, key_hash, now_s)
    told = await gateway.send(ask(max_tokens=5), key=key)

    assert told.status == (402 if change == "lowered" else 401)
    for _ in range(100):
        listed = await gateway.request("GET", "/v1/models", gateway.headers(key=key))
        if listed.status == 401 or listed.json["data"] == []:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the list still shows models after a second")


async def test_an_expired_key_is_dead(gateway: Gateway) -> None:
    """A key dies in the second that it was made to die, without anybody's doing."""
    key = gateway.new_key(expires_at_s=int(time.time()) + 1)
    statuses = [(await gateway.send(ask(max_tokens=5), key=key)).status]
    while statuses[-1] != 401 and len(statuses) < 100:
        await asyncio.sleep(0.05)
        statuses.append((await gateway.send(ask(max_tokens=5), key=key)).status)

    assert set(statuses) <= {200, 401}
    assert statuses[-1] == 401


async def test_without_credit_the_list_is_empty_and_requests_are_refused(tmp_path: Path) -> None:
    """No credit: 200 and no models, 402 for requests, and a grant from another connection opens both."""
    async with open_gateway(tmp_path / "g", credit_usd="0") as poor:
        listed = await poor.request("GET", "/v1/models", poor.headers())
        refused = await poor.send(ask())
        with poor.engine() as (engine, now_s):
            grant_credits(engine, poor.initialised.organization_id, 100 * CENT, "gift", "test", now_s)
        granted = await poor.send(ask())
        after = await poor.request("GET", "/v1/models", poor.headers())

    assert (listed.status, listed.json["data"], listed.json["has_more"]) == (200, [], False)
    assert_money_refused(refused, "organization", "insufficient_credits")
    assert (granted.status, len(after.json["data"]) > 5) == (200, True)


@pytest.mark.parametrize("affordable", [1, 7])
async def test_a_thousand_parallel_requests_spend_exactly_what_there_is(tmp_path: Path, affordable: int) -> None:
    """With credit for N requests that cost what was held, exactly N of 1,000 are answered, to the last nano-USD."""
    body = ask(max_tokens=100)
    async with open_gateway(tmp_path / "g", credit_usd="0") as poor:
        with poor.engine() as (engine, now_s):
            amount = affordable * held_for(poor, body)
            grant_credits(engine, poor.initialised.organization_id, amount, "gift", "test", now_s)
        told = await asyncio.gather(*(poor.send(body, simulate=at_the_bound(body)) for _ in range(1000)))
        await poor.settled()
        (credit,) = poor.rows("SELECT * FROM meters WHERE scope = 'organization'")

    statuses = [answer.status for answer in told]
    assert (statuses.count(200), statuses.count(402)) == (affordable, 1000 - affordable)
    assert (credit["posted"], credit["held"]) == (amount, 0)


class Watcher(threading.Thread):
    """Reads the meters from its own connection as fast as it can, and keeps what it should never see."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.stop, self.polls, self.broken = path, threading.Event(), 0, list[Any]()

    def run(self) -> None:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        while not self.stop.is_set():
            self.broken += connection.execute('SELECT * FROM meters WHERE posted + held > "limit"').fetchall()
            self.polls += 1
            time.sleep(0.001)
        connection.close()


async def test_two_hundred_streams_stop_within_the_cent(tmp_path: Path) -> None:
    """A key with a limit of one cent: 200 streams at once never pass it, seen from outside at every moment."""
    async with open_gateway(tmp_path / "g", routing={"hold_wait_s": 1.0}) as gateway:
        key, key_hash = gateway.new_key_row(limit_nusd=CENT)
        watcher = Watcher(sqlite_path(gateway.config.database.url))
        watcher.start()
        body = ask(model=HAIKU, stream=True, max_tokens=200)
        told = await asyncio.gather(*(gateway.send(body, key=key, simulate={"tokens": 150}) for _ in range(200)))
        await gateway.settled()
        watcher.stop.set()
        watcher.join()
        (meter,) = gateway.rows("SELECT * FROM meters WHERE scope_id = :key", key=key_hash)
        (paid,) = gateway.rows("SELECT SUM(cost_nusd) AS n FROM generations WHERE key_hash = :key", key=key_hash)

    assert {answer.status for answer in told} == {200, 402}
    assert all(answer.names[-1] == "message_stop" for answer in told if answer.status == 200)
    assert CENT * 8 // 10 < meter["posted"] == paid["n"] <= CENT
    assert (watcher.broken, watcher.polls > 20) == ([], True)
