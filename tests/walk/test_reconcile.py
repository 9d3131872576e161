"""Gate R23 in short: what we book is what the providers report, to the nano-dollar; a planted difference is found and named.

Real gateway, real port; the report is the simulators' own, made of what they generated and what they saw cut off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from msgspec.structs import replace
from tests.support.gateway import UPSTREAM_KEY, Gateway, ask, open_gateway, until
from tests.support.own import own
from tests.support.upstream import Upstream
from tests.walk.conftest import QUICK

from modelgates_server.alerts.outbox import Outbox
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.clock import SystemClock
from modelgates_server.outbound.http import Outbound as Http
from modelgates_server.reconcile.accounts import accounts_of
from modelgates_server.reconcile.run import reconcile
from modelgates_server.reconcile.values import DAY_S, Line, day_of, days_from
from modelgates_server.simulator import Simulator, serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLUGS: Final = ("first", "second")
ADMIN: Final = "sk-ant-admin01-"
CACHED: Final = [{"type": "text", "text": "Be brief. " * 2_000, "cache_control": {"type": "ephemeral"}}]
TOOL: Final = [{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}]
SEARCH: Final = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]

EXACT: Final[Mapping[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "plain": ({}, {}, ""),
    "haiku by its short name": ({"model": "claude-haiku-4-5"}, {}, ""),
    "haiku in its dearer tier": ({"model": "claude-haiku-5-5"}, {"input_tokens": 150_000}, ""),
    "a long prompt": ({"model": "claude-sonnet-4-6"}, {"input_tokens": 250_000}, ""),
    "the cache is written and read": ({"system": CACHED}, {}, ""),
    "thinking": ({"thinking": {"type": "enabled", "budget_tokens": 1_024}, "max_tokens": 2_000}, {}, ""),
    "a tool": ({"tools": TOOL, "tool_choice": {"type": "any"}}, {}, ""),
    "web searches": ({"tools": SEARCH, "messages": [{"role": "user", "content": "[[search:2]]"}]}, {}, ""),
    "fast mode": ({"speed": "fast"}, {}, "fast-mode-2026-02-01"),
    "in the USA": ({"inference_geo": "us"}, {}, ""),
    "a failed provider first": ({}, {"status": 500}, ""),
    "an overloaded provider first": ({}, {"status": 529}, ""),
    "the client's mistake": ({}, {"status": 400}, ""),
    "a refusal without output": ({}, {"tokens": 0, "stop_reason": "refusal"}, ""),
}
"""What is asked, what the first provider does then, and the beta that it needs. Everything here is booked exactly."""


@dataclass
class Place:
    """A gateway over two accounts of Anthropic's, each with a report."""

    gateway: Gateway
    simulators: list[Simulator]
    began_s: float

    async def send(self, number: int, body: Mapping[str, Any], control: Mapping[str, Any], beta: str) -> int:
        """One request. The control is for the first provider only; the second always answers."""
        if control:
            self.simulators[0].script.append(dict(control))
        told = await self.gateway.send(
            {**ask(f"request {number}", max_tokens=300), **body}, **({"anthropic_beta": beta} if beta else {})
        )
        self.gateway.forget()
        return told.status

    async def leave(self, after_events: int) -> None:
        """A client that leaves a stream in the middle: the provider stops, and the receipt is an estimate."""
        self.simulators[0].script.append({"stall_after_event": after_events, "tokens": 400})
        body = ask("leaving " * 4_000, max_tokens=500, stream=True)
        async with self.gateway.http.post(
            self.gateway.messages_url, json=body, headers=self.gateway.headers()
        ) as answer:
            seen = b""
            while seen.count(b"event: content_block_delta") < after_events - 4:
                seen += await answer.content.readany()
        entry = self.simulators[0].log[-1]
        await until(lambda: entry.outcome == "cancelled", "the provider was not let go")

    async def reconciled(self, later_s: float = 3 * DAY_S) -> dict[str, list[Line]]:
        """Compare both accounts as if it were some days later."""
        await self.gateway.quiet()
        now_s = SystemClock().now_s()
        days = list(days_from(day_of(self.began_s), day_of(now_s)))
        http = Http(connect_s=1)
        try:
            accounts = accounts_of(load_catalogue(bundled()), self.gateway.config.providers, http)
            assert [account.name for account in accounts] == list(SLUGS)
            with self.gateway.engine() as (engine, _):
                return {
                    account.name: await reconcile(engine, account, days, Outbox(), now_s + later_s)
                    for account in accounts
                }
        finally:
            await http.close()


@pytest_asyncio.fixture(loop_scope="session")
async def place(tmp_path: Path, store_url: str) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        simulators, upstreams = [], []
        for slug in SLUGS:
            simulator = Simulator(keep_bodies=True)
            served = await serve(simulator)
            stack.push_async_callback(served.stop)
            simulators.append(simulator)
            upstreams.append(Upstream(slug, served.url, more={"admin_key": ADMIN + slug}))
            simulator.reports.admin_keys = {ADMIN + slug}
        routing = {**QUICK, "answer_s": 3.0, "first_byte_s": 3.0, "order": list(SLUGS)}
        gateway = await stack.enter_async_context(
            open_gateway(tmp_path / "g", simulators={}, upstreams=upstreams, routing=routing, database_url=store_url)
        )
        yield Place(gateway, simulators, SystemClock().now_s())
        assert (gateway.problems(), gateway.overspent()) == ([], [])


async def test_the_books_are_the_providers_report(place: Place) -> None:
    """Streamed or not, cached, thinking, fast, with fees, failed over: every line agrees to the nano-dollar."""
    statuses = [
        await place.send(number, {**body, "stream": stream}, control, beta)
        for stream in (True, False)
        for number, (body, control, beta) in enumerate(EXACT.values())
    ]
    found = await place.reconciled()

    assert set(statuses) <= {200, 400}
    lines = [line for lines in found.values() for line in lines]
    assert {line.model for line in lines} >= {"claude-opus-4-8", "claude-haiku-4-5", "claude-haiku-5-5", "web_search"}
    assert [(line.model, line.difference_nusd, line.state) for line in lines if line.difference_nusd] == []
    assert sum(line.theirs_nusd for line in found["second"]) > 0
    assert {line.model for line in lines if line.counted_nusd is None} == {"claude-haiku-5-5"}
    counted = [line for line in lines if line.counted_nusd is not None]
    assert [(line.model, line.counted_nusd) for line in counted] == [(line.model, line.theirs_nusd) for line in counted]
    assert [line.ours_tokens for line in lines] == [line.theirs_tokens for line in lines]


async def test_estimates_are_within_one_per_cent(place: Place) -> None:
    """Receipts of cut streams are estimates, listed as such; all that differs is theirs, by less than a hundredth."""
    for after_events in (20, 60, 120):
        await place.leave(after_events)
    place.simulators[0].script.append({"cut_after_event": 40, "tokens": 400})
    assert (await place.gateway.send(ask("cut " * 4_000, max_tokens=500, stream=True))).status == 200
    await place.send(1, {}, {}, "")

    (line,) = (await place.reconciled())["first"]

    assert (line.state, line.requests) == ("ok", 5)
    assert 0 < line.estimated_nusd < line.ours_nusd
    assert abs(line.difference_nusd) <= line.estimated_nusd // 100


async def test_attempts_of_unknown_fate_are_cleared_by_the_report(place: Place) -> None:
    """One broke before anything came and was charged, one was never begun: the report says so, and no customer pays for either."""
    before = place.gateway.rows("SELECT SUM(posted) AS posted FROM meters WHERE unit = 'nusd'")[0]["posted"]
    for number, control in enumerate(({"cut_at_byte": 0}, {"delay_s": 90})):
        await place.send(number, {"stream": True}, control, "")
    await place.gateway.quiet()
    doubts = place.gateway.rows("SELECT SUM(amount_nusd) AS sum, COUNT(*) AS n FROM entries WHERE kind = 'uncertain'")[
        0
    ]
    posted = place.gateway.rows("SELECT SUM(posted) AS posted FROM meters WHERE unit = 'nusd'")[0]["posted"]

    (line,) = (await place.reconciled())["first"]

    assert doubts["n"] == 2
    assert 0 < sum(proof.billed_nusd for proof in line.cleared) < doubts["sum"]
    assert (line.difference_nusd, line.uncertain_nusd, line.state) == (0, 0, "ok")
    balance = "SELECT SUM(CASE credit WHEN 'operator:uncertain' THEN amount_nusd ELSE -amount_nusd END) AS remains FROM entries"
    (left,) = place.gateway.rows(f"{balance} WHERE 'operator:uncertain' IN (debit, credit)")
    assert left["remains"] == 0
    now = place.gateway.rows("SELECT SUM(posted) AS posted FROM meters WHERE unit = 'nusd'")[0]["posted"]
    assert posted > before
    assert now == posted


async def test_what_an_own_account_is_asked_is_not_in_the_books(place: Place) -> None:
    """A customer's own key is billed to its owner: the operator's report does not have it, and our side leaves it out."""
    place.simulators[0].reports.keys = {UPSTREAM_KEY}
    await place.send(1, {}, {}, "")
    async with own(place.gateway, provider="first"):
        await place.send(2, {}, {}, "")

    (line,) = (await place.reconciled())["first"]

    kinds = [row["own"] for row in place.gateway.rows("SELECT byok_cost_nusd > 0 AS own FROM generations ORDER BY id")]
    assert [bool(kind) for kind in kinds] == [False, True]
    assert (line.requests, line.difference_nusd, line.state) == (1, 0, "ok")
    assert len(place.simulators[0].log) == 2


DRIFTS: Final[Mapping[str, str]] = {
    "a lie": "the tokens differ",
    "another key": "we booked nothing",
    "a dearer price": "the tokens agree, the price does not",
}


@pytest.mark.parametrize("name", DRIFTS)
async def test_a_planted_difference_is_found_and_named(place: Place, name: str) -> None:
    """A provider that reports less than it charges, a request that we never saw, a price that is not ours: drift, and an alert."""
    await place.send(1, {}, {"usage": {"output_tokens": 1}, "tokens": 100} if name == "a lie" else {}, "")
    log = place.simulators[0].log
    if name == "another key":
        log.append(replace(log[-1], model="claude-sonnet-5"))
    if name == "a dearer price":
        place.simulators[0].reports.surcharge_percent = 10

    drifting = [line for line in (await place.reconciled())["first"] if line.state == "drift"]

    assert [DRIFTS[name] in line.because for line in drifting] == [True]
    (alert,) = place.gateway.rows("SELECT kind, message FROM alerts")
    assert alert["kind"] == "reconciliation"
    assert drifting[0].model in alert["message"]
    assert DRIFTS[name] in alert["message"]


async def test_a_day_that_is_not_over_is_open(place: Place) -> None:
    """Today's report may still grow: nothing is drift yet, whatever it says."""
    place.simulators[0].reports.lag_s = 3600
    await place.send(1, {}, {}, "")
    found = await place.reconciled(later_s=0)
    assert {line.state for line in found["first"]} == {"open"}
