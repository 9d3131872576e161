"""The simulator's usage and cost report: what it charges for, how it groups, and what it refuses, as Anthropic documents it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.unit.simulator.simulator_caller import Caller

from modelgates_server.simulator.reports import COST, USAGE

ADMIN = {"x-api-key": "sk-ant-admin01-x", "anthropic-version": "2023-06-01"}
CENTS = Decimal(1) / 10_000


def query(*groups: str, days: int = 1, **more: Any) -> str:
    today = datetime.now(UTC).date()
    span = {
        "starting_at": f"{today - timedelta(days=days - 1)}T00:00:00Z",
        "ending_at": f"{today + timedelta(days=1)}T00:00:00Z",
    }
    return urlencode([*span.items(), *more.items(), *(("group_by[]", group) for group in groups)])


async def fetch(caller: Caller, path: str, *groups: str, headers: Any = ADMIN, **more: Any) -> Any:
    return await caller.call("GET", f"{path}?{query(*groups, **more)}", headers=headers)


async def results(caller: Caller, path: str, *groups: str, **more: Any) -> list[dict[str, Any]]:
    answer = await fetch(caller, path, *groups, **more)
    return [row for bucket in answer.json["data"] for row in bucket["results"]]


async def test_usage_is_what_was_generated(caller: Caller) -> None:
    """Whole answers count whole, also when they reported something else; models are named by their snapshot."""
    answer = await caller.ask("[[tokens:30]]", model="claude-haiku-4-5")
    await caller.ask("[[tokens:30]]", model="claude-haiku-4-5", control={"usage": {"output_tokens": 1}})
    (row,) = await results(caller, USAGE, "model", "context_window")

    assert (row["model"], row["context_window"], row["service_tier"]) == ("claude-haiku-4-5-20251001", "0-200k", None)
    assert (row["output_tokens"], row["uncached_input_tokens"]) == (60, 2 * answer.json["usage"]["input_tokens"])


async def test_costs_are_cents_by_kind_of_token(caller: Caller) -> None:
    """One item for each kind, at list price, as a decimal string; fees name no model."""
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    answer = await caller.ask("[[search:2]] [[tokens:40]]", model="claude-opus-4-8", tools=tools)
    found = await results(caller, COST, "description")

    usage = answer.json["usage"]
    by_kind = {(row["cost_type"], row["token_type"]): Decimal(row["amount"]) for row in found}
    assert by_kind["tokens", "uncached_input_tokens"] == usage["input_tokens"] * 5 * CENTS
    assert by_kind["tokens", "output_tokens"] == usage["output_tokens"] * 25 * CENTS
    assert by_kind["web_search", None] == 2
    assert {row["currency"] for row in found} == {"USD"}


@pytest.mark.parametrize(
    ("control", "charged"),
    [
        ({"status": 500}, False),
        ({"tokens": 0, "stop_reason": "refusal"}, False),
        ({"tokens": 5, "stop_reason": "refusal"}, True),
    ],
)
async def test_failures_and_empty_refusals_are_free(caller: Caller, control: Any, charged: bool) -> None:
    """An error is never charged, nor a refusal that wrote nothing."""
    await caller.ask(control=control)
    assert bool(await results(caller, USAGE)) is charged


async def test_a_cut_answer_costs_what_was_sent(caller: Caller) -> None:
    """All of the input, and the output until the cut."""
    await caller.ask("[[tokens:50]]", stream=True, control={"cut_after_event": 10})
    (row,) = await results(caller, USAGE, "model")
    assert row["output_tokens"] == caller.simulator.log[-1].output_tokens_sent < 50
    assert row["uncached_input_tokens"] > 0


async def test_pages_have_days_also_empty_ones(caller: Caller) -> None:
    """Each day asked for is a bucket; `next_page` leads on until there is no more."""
    first = (await fetch(caller, USAGE, days=10, limit=7)).json
    second = (await fetch(caller, USAGE, days=10, limit=7, page=first["next_page"])).json
    starts = [date.fromisoformat(bucket["starting_at"][:10]) for bucket in first["data"] + second["data"]]
    assert (first["has_more"], second["has_more"], second["next_page"]) == (True, False, None)
    assert starts == [starts[0] + timedelta(days=at) for at in range(10)]


@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        (USAGE, {"headers": {**ADMIN, "x-api-key": "sk-test"}}, 401),
        (USAGE, {"headers": {"x-api-key": ADMIN["x-api-key"]}}, 400),
        (USAGE, {"limit": 32}, 400),
        (USAGE, {"bucket_width": "1w"}, 400),
        ("/v1/organizations/members", {}, 404),
    ],
)
async def test_what_is_wrong_is_refused(caller: Caller, path: str, more: Any, status: int) -> None:
    """No ordinary key, no missing version, no more than 31 days a page, and nothing else of the admin API."""
    assert (await fetch(caller, path, **more)).status == status


@pytest.mark.parametrize(("path", "group"), [(USAGE, "colour"), (COST, "model"), (USAGE, "speed")])
async def test_groups_are_those_that_exist(caller: Caller, path: str, group: str) -> None:
    """Costs group by description and workspace only, and speed needs its beta."""
    assert (await fetch(caller, path, group)).status == 400
