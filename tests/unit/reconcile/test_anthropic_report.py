"""Reading Anthropic's usage and cost report: paging, waiting, refusals, and reports that contradict themselves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelgates_server.errors import ReportFailed
from modelgates_server.outbound.http import Outbound
from modelgates_server.reconcile.anthropic import AnthropicReport
from modelgates_server.reconcile.values import DAY_S, days_from, start_s
from modelgates_server.simulator import Entry, Simulator, serve
from modelgates_server.simulator.truth import key_digest

ADMIN = "sk-ant-admin01-test"
DAY, LAST = "2026-11-20", "2026-11-22"
DAYS = [DAY, "2026-11-21", LAST]
USAGE = {
    "input_tokens": 1_000, "output_tokens": 200, "cache_read_input_tokens": 50, "service_tier": "standard",
    "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20},
    "inference_geo": "global", "speed": "standard",
}  # fmt: skip


def entry(at_s: float = start_s(DAY), model: str = "claude-opus-4-8", **usage: Any) -> Entry:
    """A request that was answered whole."""
    return Entry(
        1, "/v1/messages", "", "", {}, "", at_s, model=model, usage=USAGE | usage, outcome="completed", status=200
    )


@dataclass
class Desk:
    """A simulator's reports, and somebody who reads them without waiting."""

    simulator: Simulator
    url: str
    outbound: Outbound
    paused_s: list[float] = field(default_factory=list)

    async def fetch(self, days: list[str] = DAYS, key: str = ADMIN, **settings: Any) -> Any:
        async def pause(seconds: float) -> None:
            self.paused_s.append(seconds)

        return await AnthropicReport(self.url, key, self.outbound, pause=pause, **settings).fetch(days)

    def bodies(self, usage: Any, cost: Any = None) -> None:
        """The next two answers, as they are."""
        self.simulator.reports.script.extend({"body": json.dumps(body)} for body in (usage, cost or page([])))


@asynccontextmanager
async def open_desk() -> AsyncIterator[Desk]:
    simulator = Simulator()
    served = await serve(simulator)
    outbound = Outbound(connect_s=1)
    try:
        yield Desk(simulator, served.url, outbound)
    finally:
        await outbound.close()
        await served.stop()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as opened:
        yield opened


def page(buckets: list[Any], **more: Any) -> dict[str, Any]:
    return {"data": buckets, "has_more": False, "next_page": None} | more


def bucket(*results: Any, day: str = DAY, end: str = "2026-11-21T00:00:00Z") -> dict[str, Any]:
    return {"starting_at": f"{day}T00:00:00Z", "ending_at": end, "results": list(results)}


def counted(**more: Any) -> dict[str, Any]:
    return {
        "uncached_input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0, "model": "claude-opus-4-8",
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    } | more  # fmt: skip


def cost(**more: Any) -> dict[str, Any]:
    return {"amount": "1", "currency": "USD", "cost_type": "tokens", "model": "claude-opus-4-8"} | more


async def test_a_report_is_read_as_it_is_meant(desk: Desk) -> None:
    """Tokens by kind, with what their price depends on, and money in nano-USD, both by day in UTC."""
    desk.simulator.log += [entry(), entry(start_s(LAST) + DAY_S - 1, server_tool_use={"web_search_requests": 2})]
    reported = await desk.fetch()

    assert reported.days == set(DAYS)
    first, second = reported.counted
    assert (first.day, first.model, first.window, second.day) == (DAY, "claude-opus-4-8", (0, 200_000), LAST)
    usage = first.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (1_000, 200, 50)
    assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens, second.usage.web_searches) == (30, 20, 2)
    by_kind = {(cost.day, cost.kind, cost.model): 0 for cost in reported.invoiced}
    for row in reported.invoiced:
        by_kind[row.day, row.kind, row.model] += row.nusd
    tokens = 1_000 * 5_000 + 200 * 25_000 + 50 * 500 + 30 * 6_250 + 20 * 10_000
    assert by_kind[DAY, "tokens", "claude-opus-4-8"] == tokens
    assert by_kind[LAST, "web_search", None] == 20_000_000


async def test_many_days_come_in_pages(desk: Desk) -> None:
    """Seventy days are three pages of each report; none is lost or counted twice."""
    days = list(days_from("2026-09-01", "2026-11-09"))
    desk.simulator.log += [entry(start_s(day)) for day in days]
    reported = await desk.fetch(days)
    assert [row.day for row in reported.counted] == days
    assert len(desk.simulator.reports.asked) == 6


async def test_busy_and_broken_answers_are_asked_for_again(desk: Desk) -> None:
    """429 says how long to wait, at most two minutes; 5xx and cut connections are asked again after a longer and longer pause."""
    faults = [{"status": 429, "retry_after": 7}, {"status": 529}, {"cut": True}, {"status": 429, "retry_after": "900"}]
    desk.simulator.reports.script.extend(faults)
    assert (await desk.fetch()).days == set(DAYS)
    assert desk.paused_s == [7, 2, 4, 120]


async def test_at_last_it_gives_up(desk: Desk) -> None:
    """Five times is enough; whoever asked is told what the provider said."""
    desk.simulator.reports.script.extend([{"status": 500}] * 5)
    with pytest.raises(ReportFailed, match="500 Simulated fault, 5 times"):
        await desk.fetch()


async def test_a_key_that_is_no_admin_key_is_named(desk: Desk) -> None:
    """An ordinary key cannot read reports: the remedy says which key can. It is asked once."""
    with pytest.raises(ReportFailed, match="invalid x-api-key") as failed:
        await desk.fetch(key="sk-ant-api03-x")
    assert "admin key" in (failed.value.remedy or "")
    assert len(desk.simulator.reports.asked) == 1


async def test_a_workspace_sees_its_own(desk: Desk) -> None:
    """Usage is asked for by workspace, costs are sorted out by it: what other keys of the account used is not ours."""
    desk.simulator.reports.workspaces = {"sk-mine": "wrkspc_1"}
    mine, other = entry(), entry()
    mine.headers, mine.key_header = {"x-api-key": key_digest(b"sk-mine")}, "x-api-key"
    desk.simulator.log += [mine, other]

    assert len((await desk.fetch(workspace_id="wrkspc_1")).counted) == 1
    both, one = (await desk.fetch()).invoiced, (await desk.fetch(workspace_id="wrkspc_1")).invoiced
    assert sum(row.nusd for row in both) == 2 * sum(row.nusd for row in one) > 0


async def test_fast_mode_is_told_apart_where_it_is_used(desk: Desk) -> None:
    """Only then is the beta named: an organisation without fast mode may not."""
    desk.simulator.log += [entry(speed="fast"), entry()]
    assert [row.usage.speed for row in (await desk.fetch()).counted] == [None]
    assert sorted(row.usage.speed or "" for row in (await desk.fetch(fast=True)).counted) == ["fast", "standard"]


def _loop(desk: Desk) -> None:
    desk.bodies(page([], has_more=True, next_page="page_1"), page([], has_more=True, next_page="page_1"))


BROKEN: dict[str, tuple[str, Callable[[Desk], None]]] = {
    "no JSON": ("cannot be read", lambda desk: desk.simulator.reports.script.append({"body": '{"data": ['})),
    "not a report": ("cannot be read", lambda desk: desk.bodies({"data": {}})),
    "counts missing": ("cannot be read", lambda desk: desk.bodies(page([bucket({"model": "m"})]))),
    "negative counts": ("cannot be read", lambda desk: desk.bodies(page([bucket(counted(output_tokens=-1))]))),
    "no model": ("without a model", lambda desk: desk.bodies(page([bucket(counted(model=None))]))),
    "another day": (
        "not asked for",
        lambda desk: desk.bodies(page([bucket(day="2026-11-01", end="2026-11-02T00:00:00Z")])),
    ),
    "half a day": ("not asked for", lambda desk: desk.bodies(page([bucket(end="2026-11-20T12:00:00Z")]))),
    "a day twice": ("twice", lambda desk: desk.bodies(page([bucket(), bucket()]))),
    "more, but not where": ("not where", lambda desk: desk.bodies(page([], has_more=True))),
    "in a circle": ("not where", _loop),
    "another currency": ("'EUR'", lambda desk: desk.bodies(page([]), page([bucket(cost(currency="EUR"))]))),
    "no amount": ("not an amount", lambda desk: desk.bodies(page([]), page([bucket(cost(amount="NaN"))]))),
    "a cost of no model": ("without a model", lambda desk: desk.bodies(page([]), page([bucket(cost(model=None))]))),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_report_that_contradicts_itself_is_refused(desk: Desk, name: str) -> None:
    """Nothing is made up for what is missing or cannot be: there is no report then."""
    told, plant = BROKEN[name]
    plant(desk)
    with pytest.raises(ReportFailed, match=told):
        await desk.fetch()


async def test_a_day_that_is_not_in_the_report_is_not_invented(desk: Desk) -> None:
    """It has those days that both halves have."""
    desk.bodies(page([bucket()]), page([]))
    assert (await desk.fetch()).days == frozenset()


@pytest.mark.parametrize(
    ("amount", "nusd"), [("123.45", 1_234_500_000), ("0.00000004", 0), ("0.00000006", 1), ("-3", -30_000_000)]
)
async def test_amounts_are_cents(desk: Desk, amount: str, nusd: int) -> None:
    """``"123.45"`` is $1.2345; a hundred millionth of a cent is beyond our books and rounded."""
    desk.bodies(page([bucket()]), page([bucket(cost(amount=amount))]))
    (row,) = (await desk.fetch()).invoiced
    assert row.nusd == nusd


async def test_the_span_is_whole_days(desk: Desk) -> None:
    """From the first midnight to the one after the last day, as the provider snaps its buckets."""
    await desk.fetch()
    assert "starting_at=2026-11-20T00%3A00%3A00Z&ending_at=2026-11-23T00%3A00%3A00Z" in desk.simulator.reports.asked[0]
