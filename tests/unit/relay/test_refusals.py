"""Refusals in words: who refused, by which name, and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from modelgates_server.ledger.values import Refusal
from modelgates_server.limits import Scope, Unit
from modelgates_server.relay.refusals import budget_name, money_refused, rate_refused

USD = 10**9
NOW_S = 1_800_000_000.0


def refusal(scope: Scope = Scope.KEY, label: str = "", **changes: Any) -> Refusal:
    fields = {
        "scope": scope, "scope_id": "org-1/code", "unit": Unit.NUSD, "limit": 5 * USD, "available": USD, "unheld": USD,
        "resets_at_s": None, "label": label, "left": USD,
    } | changes  # fmt: skip
    return Refusal(**fields)


@pytest.mark.parametrize(
    ("scope", "label", "name"),
    [
        (Scope.ORGANIZATION, "", "The organization's credit"),
        (Scope.ORGANIZATION, "daily budget", "The organization's daily budget"),
        (Scope.WORKSPACE, "monthly budget", "The workspace's monthly budget"),
        (Scope.APP, "daily budget", 'The daily budget of the app "code"'),
        (Scope.MEMBER, "monthly budget", "The member's monthly budget"),
        (Scope.MEMBER, 'guardrail "Interns"', 'The budget of guardrail "Interns" for this member'),
        (Scope.SEAT, 'guardrail "All"', 'The budget of guardrail "All" for this member in this workspace'),
        (Scope.KEY, 'guardrail "Interns"', 'The budget of guardrail "Interns" for this key'),
        (Scope.KEY, "", "The key's limit"),
    ],
)
def test_every_budget_has_its_name(scope: Scope, label: str, name: str) -> None:
    """By scope, and by the label where there is one."""
    assert budget_name(refusal(scope, label)) == name


def test_a_refusal_of_money_says_all_there_is_to_say() -> None:
    """What is left of what, what the request may cost, what would fit, when it resets, and who can help."""
    error = money_refused(refusal(label='guardrail "Interns"', resets_at_s=1_800_057_600), 2 * USD, 300)
    assert error.message == (
        'The budget of guardrail "Interns" for this key does not cover this request: 1 of 5 USD left,'
        " and this request may cost up to 2 USD. It would fit with max_tokens of at most 300."
        " It resets at 2027-01-16 00:00 UTC. Your administrator can raise it."
    )
    assert (error.scope, error.budget, error.affordable_max_tokens) == ("key", 'guardrail "Interns"', 300)


@pytest.mark.parametrize(
    ("refused", "affordable", "reason"),
    [
        (refusal(Scope.ORGANIZATION), 0, "insufficient_credits"),
        (refusal(Scope.ORGANIZATION, "daily budget"), 0, "budget_exhausted"),
        (refusal(Scope.KEY), 0, "key_limit"),
        (refusal(Scope.KEY, 'guardrail "x"'), 0, "budget_exhausted"),
        (refusal(Scope.MEMBER, "daily budget"), -5, "budget_exhausted"),
        (refusal(Scope.KEY), 1, "request_exceeds_budget"),
        (refusal(Scope.KEY, unheld=2 * USD), 1, "hold_pending"),
    ],
)
def test_the_reason_is_a_word_for_programs(refused: Refusal, affordable: int, reason: str) -> None:
    """Credit and a key's own limit have words of their own; all other budgets share one."""
    assert money_refused(refused, 2 * USD, affordable).reason == reason


def test_a_rate_is_told_with_its_pause() -> None:
    """Until the minute is over, at least a second and at most sixty."""
    told = rate_refused(refusal(Scope.WORKSPACE, unit=Unit.REQUESTS, limit=9, resets_at_s=int(NOW_S) + 20), NOW_S)
    assert told.message == "The rate limit of this workspace is reached (9 requests a minute); try again in 21 s."
    assert told.retry_after_s == 21


@pytest.mark.parametrize(("limit", "words"), [(1, "1 request at the same time"), (5, "5 requests at the same time")])
def test_too_many_at_once_may_come_again_in_a_second(limit: int, words: str) -> None:
    """A place is free as soon as any request ends."""
    told = rate_refused(refusal(Scope.MEMBER, unit=Unit.PARALLEL, limit=limit), NOW_S)
    assert (told.retry_after_s, told.scope, words in told.message) == (1, "member", True)
