"""What a paying caller is told beside its answer: what is left, and the headers of Claude Code's own notice (client-protocol X-7)."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from tests.support.gateway import Gateway, Told, ask
from tests.walk.test_money import at_the_bound, held_for

from modelgates_server.limits import Window
from modelgates_server.money import usd_text

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL = {"max_tokens": 10}


def unified(told: Told) -> dict[str, str]:
    """Anthropic's headers of an answer, without their prefix."""
    prefix = "anthropic-ratelimit-unified-"
    return {name.lower().removeprefix(prefix): value for name, value in told.headers.items() if prefix in name.lower()}


def budget(told: Told) -> dict[str, str]:
    prefix = "x-modelgates-budget-"
    return {name.lower().removeprefix(prefix): value for name, value in told.headers.items() if prefix in name.lower()}


async def used_key(gateway: Gateway, percent: int, **settings: object) -> tuple[str, int, int]:
    """A key of whose limit that share is used; gives it with the limit and what was used, in nano-USD."""
    large = ask(max_tokens=20_000)
    used_nusd = held_for(gateway, large)
    limit_nusd = used_nusd * 100 // percent
    key = gateway.new_key(limit_nusd=limit_nusd, **settings)
    told = await gateway.send(large, key=key, simulate=at_the_bound(large))
    assert gateway.generation(told.id)["cost_nusd"] == used_nusd
    return key, limit_nusd, used_nusd


async def test_without_budgets_the_credit_is_told_and_nothing_noticed(gateway: Gateway) -> None:
    """Exact to the nano-dollar, this request included; Claude Code sees none of its own headers."""
    told = await gateway.send(ask())

    (meter,) = gateway.rows(
        "SELECT * FROM meters WHERE scope = 'organization' AND \"window\" = 'life' AND unit = 'nusd'"
    )
    left_nusd = meter["limit"] - meter["posted"]
    assert budget(told) == {
        "scope": "organization", "limit": usd_text(meter["limit"]), "remaining": usd_text(left_nusd)
    }  # fmt: skip
    assert unified(told) == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_tightest_limit_is_told(gateway: Gateway, stream: bool) -> None:
    """A key's monthly limit leaves less than the credit; a stream's headers are sent before its own cost is known."""
    key, limit_nusd, used_nusd = await used_key(gateway, 30, limit_reset="monthly")

    told = await gateway.send(ask(stream=stream, **SMALL), key=key)

    known_nusd = used_nusd + (0 if stream else gateway.generation(told.id)["cost_nusd"])
    resets = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(Window.MONTH.bounds_s(time.time())[1] or 0))
    assert budget(told) == {
        "scope": "key", "limit": usd_text(limit_nusd), "remaining": usd_text(limit_nusd - known_nusd), "reset": resets
    }  # fmt: skip
    assert unified(told) == {}


@pytest.mark.parametrize(
    ("percent", "status", "threshold"),
    [(60, "allowed", None), (82, "allowed_warning", "0.80"), (96, "allowed_warning", "0.95")],
)
async def test_a_budget_past_half_is_noticed(
    gateway: Gateway, percent: int, status: str, threshold: str | None
) -> None:
    """In the form of Anthropic's own gateway: the budget is the window called overage."""
    key, _, _ = await used_key(gateway, percent, limit_reset="daily")

    told = await gateway.send(ask(stream=True, **SMALL), key=key)

    resets = str(Window.DAY.bounds_s(time.time())[1])
    expected = {
        "status": status,
        "representative-claim": "overage",
        "overage-status": status,
        "overage-utilization": f"0.{percent}",
        "reset": resets,
        "overage-reset": resets,
    }
    assert unified(told) == expected | ({} if threshold is None else {"overage-surpassed-threshold": threshold})


async def test_a_lifetime_budget_has_no_reset(gateway: Gateway) -> None:
    """It is told and noticed without one."""
    key, _, _ = await used_key(gateway, 90)

    told = await gateway.send(ask(**SMALL), key=key)

    assert "reset" not in budget(told)
    assert unified(told).keys() == {
        "status", "representative-claim", "overage-status", "overage-utilization", "overage-surpassed-threshold"
    }  # fmt: skip


async def test_a_refusal_tells_the_limit_that_refused(gateway: Gateway) -> None:
    """402 with the same figures in its headers as in its details."""
    key, limit_nusd, used_nusd = await used_key(gateway, 99, limit_reset="weekly")

    told = await gateway.send(ask(max_tokens=20_000), key=key)

    resets = str(Window.WEEK.bounds_s(time.time())[1])
    assert told.status == 402
    assert unified(told) == {
        "status": "rejected", "reset": resets, "overage-reset": resets, "overage-disabled-reason": "org_spend_cap_reached"
    }  # fmt: skip
    assert (budget(told)["scope"], budget(told)["remaining"]) == ("key", usd_text(limit_nusd - used_nusd))
    assert Decimal(budget(told)["limit"]) == Decimal(str(told.error["details"]["limit"]))


async def test_what_costs_nothing_tells_nothing(gateway: Gateway) -> None:
    """Counting tokens and listing models have no hold and no budget."""
    counted = await gateway.send(ask(), path="/v1/messages/count_tokens")
    listed = await gateway.request("GET", "/v1/models", gateway.headers())
    for told in (counted, listed):
        assert told.status == 200
        assert budget(told) == unified(told) == {}
