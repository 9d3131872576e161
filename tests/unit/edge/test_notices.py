"""Which limit is told beside an answer, and in which words; pure."""

from __future__ import annotations

from typing import Any

from modelgates_server.edge.notices import refusal_headers, standing_headers
from modelgates_server.errors import MoneyRefused
from modelgates_server.ledger.room import rooms
from modelgates_server.ledger.values import Hold

USD = 10**9


def meter(
    scope: str, limit_usd: int | None, used_usd: int, window: str = "month", unit: str = "nusd"
) -> dict[str, Any]:
    return {
        "scope": scope, "unit": unit, "window": window, "posted": used_usd * USD, "held": 3 * USD, "closed": 0,
        "limit": None if limit_usd is None else limit_usd * USD, "ends_at_s": None if window == "life" else 1_801_440_000,
    }  # fmt: skip


def told(*meters: dict[str, Any], charged_nusd: int = 0, own_nusd: int = 0) -> dict[str, str]:
    hold = Hold("gen", "org", 1, (), *rooms(meters))
    return {name.decode(): value.decode() for name, value in standing_headers(hold, charged_nusd, own_nusd)}


def test_what_leaves_least_is_told_and_what_is_fullest_is_noticed() -> None:
    """Four of five dollars a day stop somebody sooner than five of a hundred a month; the month is what runs out."""
    headers = told(meter("member", 100, 95), meter("key", 5, 1, "day"), meter("organization", 1000, 900, "life"))
    assert (headers["x-modelgates-budget-scope"], headers["x-modelgates-budget-remaining"]) == ("key", "4")
    assert headers["anthropic-ratelimit-unified-overage-utilization"] == "0.95"
    assert headers["anthropic-ratelimit-unified-overage-surpassed-threshold"] == "0.95"


def test_credit_rates_and_meters_that_only_count_are_no_budgets() -> None:
    """Of everything ever granted most is always used; tokens are no dollars; what has no limit leaves everything."""
    headers = told(
        meter("key", 5, 5, "minute", "tokens"), meter("key", None, 70, "life"), meter("organization", 1000, 999, "life")
    )
    assert headers == {
        "x-modelgates-budget-scope": "organization", "x-modelgates-budget-limit": "1000", "x-modelgates-budget-remaining": "1",
    }  # fmt: skip


def test_a_budget_of_the_organization_is_one() -> None:
    """Only its lifetime meter is the credit."""
    assert told(meter("organization", 10, 9))["anthropic-ratelimit-unified-status"] == "allowed_warning"


def test_this_request_counts_where_it_is_known() -> None:
    """What the caller's own provider account is asked counts on meters of spend alone."""
    for unit, left in (("nusd", "0.75"), ("spend", "0.25")):
        headers = told(meter("key", 10, 9, unit=unit), charged_nusd=USD // 4, own_nusd=USD // 2)
        assert headers["x-modelgates-budget-remaining"] == left


def test_nothing_is_below_zero_or_over_ninety_nine() -> None:
    """A limit that was lowered under its use leaves nothing; the client would take 1.00 for a refusal."""
    headers = told(meter("key", 10, 12))
    assert headers["x-modelgates-budget-remaining"] == "0"
    assert headers["anthropic-ratelimit-unified-overage-utilization"] == "0.99"


def test_without_limits_nothing_is_told() -> None:
    """Neither with meters that only count nor with a limit of zero is anything divided."""
    assert told(meter("key", None, 7)) == {}
    assert "anthropic-ratelimit-unified-status" not in told(meter("key", 0, 0), meter("member", 10, 1))


def test_credit_that_is_used_up_is_told_apart() -> None:
    """It does not reset, and no administrator's cap is to blame."""
    error = MoneyRefused("gone", scope="organization", reason="insufficient_credits", limit_nusd=USD, remaining_nusd=5)
    headers = dict(refusal_headers(error))
    assert headers[b"anthropic-ratelimit-unified-overage-disabled-reason"] == b"out_of_credits"
    assert headers[b"x-modelgates-budget-remaining"] == b"0.000000005"
    assert b"anthropic-ratelimit-unified-reset" not in headers
