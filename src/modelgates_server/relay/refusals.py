"""Refusals of money and of rates in words: which scope, which budget, what is left, what would fit, when it resets. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from modelgates_server.errors import MoneyRefused, RateRefused
from modelgates_server.ledger.values import Refusal
from modelgates_server.limits import Scope, Unit
from modelgates_server.money import usd_text

PARALLEL_RETRY_S: Final = 1
"""A place is free as soon as any request ends."""

_WHOSE: Final = {
    Scope.ORGANIZATION: "The organization's",
    Scope.WORKSPACE: "The workspace's",
    Scope.MEMBER: "The member's",
    Scope.SEAT: "The member's",
    Scope.KEY: "The key's",
}
_PLAIN: Final = {Scope.ORGANIZATION: "credit", Scope.KEY: "limit"}
"""What a meter without a name of its own is called; for all others it is a budget."""

_EACH: Final = {
    Scope.KEY: "this key",
    Scope.MEMBER: "this member",
    Scope.SEAT: "this member in this workspace",
}
"""Whom a guardrail's budget is counted for."""


def money_refused(refused: Refusal, cost_nusd: int, affordable_tokens: int) -> MoneyRefused:
    """The refusal of a budget or of the credit for a request that may cost `cost_nusd`."""
    little = refused.left * 10 < refused.limit or not refused.limit
    fate = "is used up" if little and affordable_tokens <= 0 else "does not cover this request"
    message = (
        f"{budget_name(refused)} {fate}: {usd_text(refused.left)} of {usd_text(refused.limit)} USD left,"
        f" and this request may cost up to {usd_text(cost_nusd)} USD."
    )
    if affordable_tokens > 0:
        message += f" It would fit with max_tokens of at most {affordable_tokens}."
    if refused.resets_at_s is not None:
        message += f" It resets at {datetime.fromtimestamp(refused.resets_at_s, UTC):%Y-%m-%d %H:%M} UTC."
    if refused.label:
        message += " Your administrator can raise it."
    return MoneyRefused(
        message,
        scope=str(refused.scope),
        reason=_reason(refused, cost_nusd, affordable_tokens),
        limit_nusd=refused.limit,
        remaining_nusd=refused.left,
        resets_at_s=refused.resets_at_s,
        affordable_max_tokens=affordable_tokens if affordable_tokens > 0 else None,
        budget=refused.label or None,
    )


def rate_refused(refused: Refusal, now_s: float) -> RateRefused:
    """The refusal of a rate, or of one more request at the same time."""
    who = _EACH.get(Scope(refused.scope), f"this {refused.scope}")
    if refused.unit == Unit.PARALLEL:
        what = "request" if refused.limit == 1 else "requests"
        message = (
            f"The limit of {who} is reached: {refused.limit} {what} at the same time; try again when one has ended."
        )
        return RateRefused(message, scope=str(refused.scope), retry_after_s=PARALLEL_RETRY_S, limit=refused.limit)
    wait_s = max(1, int((refused.resets_at_s or now_s + 60) - now_s) + 1)
    return RateRefused(
        f"The rate limit of {who} is reached ({refused.limit} {refused.unit} a minute); try again in {min(60, wait_s)} s.",
        scope=str(refused.scope),
        retry_after_s=wait_s,
        limit=refused.limit,
        resets_at_s=refused.resets_at_s,
    )


def budget_name(refused: Refusal) -> str:
    """What refused, as a sentence begins: ``The workspace's monthly budget``."""
    scope = Scope(refused.scope)
    if refused.label.startswith("guardrail"):
        return f"The budget of {refused.label} for {_EACH.get(scope, f'this {scope}')}"
    if scope is Scope.APP:
        return f'The {refused.label or "budget"} of the app "{refused.scope_id.partition("/")[2]}"'
    return f"{_WHOSE[scope]} {refused.label or _PLAIN.get(scope, 'budget')}"


def _reason(refused: Refusal, cost_nusd: int, affordable_tokens: int) -> str:
    if refused.unheld >= cost_nusd:
        return "hold_pending"
    if affordable_tokens > 0:
        return "request_exceeds_budget"
    if refused.label:
        return "budget_exhausted"
    return {Scope.ORGANIZATION: "insufficient_credits", Scope.KEY: "key_limit"}.get(refused.scope, "budget_exhausted")
