"""From the rows of a policy to meters, lists and provider rules: values in, values out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.accounts.policy_rows import KEY, MEMBER, ORG, PLACE, USD, budget, guardrail, key, rates

from modelgates_server.accounts.policy import Layer, Policy, caller_of, limits
from modelgates_server.accounts.values import Caller, maker_of
from modelgates_server.limits import MeterRef, Scope, Unit, Window

SEAT = f"{PLACE}/{MEMBER}"


def caller(*guardrails: dict[str, Any], budgets: Any = (), paced: Any = (), **changes: Any) -> Caller:
    return caller_of(Policy(key(**changes), budgets, paced, guardrails), 1)


def money(found: Caller) -> list[tuple[str, str, int | None]]:
    """The meters of money: whose, for how long, and the limit in USD."""
    return [
        (ref.scope, ref.window, None if ref.limit is None else ref.limit // USD)
        for ref in found.meters
        if ref.unit in {Unit.NUSD, Unit.SPEND}
    ]


def test_the_order_is_that_of_the_checks() -> None:
    """Rates first; default guardrail for member and key, member, key, workspace, organisation, the key's limit, credit last."""
    found = caller(
        guardrail("workspace", 40, "daily"),
        guardrail("member", 30, "weekly"),
        guardrail("key", 20, "monthly"),
        budgets=[
            budget("organization", ORG, "day", 90),
            budget("workspace", PLACE, "day", 60),
            budget("workspace", PLACE, "life", 99),
            budget("workspace", PLACE, "month", 70),
            budget("member", MEMBER, "month", 50),
        ],
        paced=[rates("member", MEMBER, tokens_per_minute=5), rates("organization", ORG, parallel_max=9)],
        requests_per_minute=3,
        parallel_max=2,
        limit_nusd=10 * USD,
        limit_reset="weekly",
    )
    assert [(ref.scope, ref.unit) for ref in found.meters[:4]] == [
        ("organization", "parallel"), ("member", "tokens"), ("key", "requests"), ("key", "parallel"),
    ]  # fmt: skip
    assert money(found) == [
        ("seat", "day", 40), ("key", "day", 40), ("member", "week", 30), ("member", "month", 50), ("key", "month", 20),
        ("workspace", "life", 99), ("workspace", "month", 70), ("workspace", "day", 60), ("organization", "day", 90),
        ("key", "week", 10), ("key", "life", None), ("organization", "life", None),
    ]  # fmt: skip
    assert found.meters[-1].limit_from_row


def test_a_key_alone_has_its_life_and_the_credit() -> None:
    """What a key ever used is counted, limit or not."""
    assert money(caller(member_id=None)) == [("key", "life", None), ("organization", "life", None)]


@pytest.mark.parametrize(
    ("guardrails", "limit_usd", "expected", "label"),
    [
        ([guardrail("workspace", 9, "daily"), guardrail("key", 7, "daily")], 8, 7, 'guardrail "Key"'),
        ([guardrail("workspace", 5, "daily"), guardrail("key", 7, "daily")], 8, 5, 'guardrail "Workspace"'),
        ([guardrail("workspace", 9, "daily"), guardrail("key", 9, "daily")], 3, 3, ""),
        ([guardrail("key", 1, "daily", mode="soft")], 3, 3, ""),
        ([guardrail("key", 1, "daily", mode="soft")], None, None, 'guardrail "Key"'),
    ],
)
def test_the_lowest_hard_limit_on_a_meter_wins(
    guardrails: list[dict[str, Any]], limit_usd: int | None, expected: int | None, label: str
) -> None:
    """One reference for each meter, with the winner's name; a soft one never sets the limit."""
    own = {} if limit_usd is None else {"limit_nusd": limit_usd * USD, "limit_reset": "daily"}
    refs = [ref for ref in caller(*guardrails, **own).meters if ref.scope == Scope.KEY and ref.window == Window.DAY]
    assert [(ref.limit, ref.label) for ref in refs] == [(None if expected is None else expected * USD, label)]


def test_a_merged_limit_stands_where_its_winner_stands() -> None:
    """A key limit that is below the guardrails' is checked after the workspace's budget."""
    found = caller(
        guardrail("key", 20, "daily"),
        budgets=[budget("workspace", PLACE, "day", 9)],
        limit_nusd=USD,
        limit_reset="daily",
    )
    assert money(found)[:2] == [("workspace", "day", 9), ("key", "day", 1)]


def test_own_provider_keys_count_where_they_are_included() -> None:
    """The same scope and window has another meter then, of spend."""
    found = caller(
        guardrail("key", 20, "daily", include_byok=1), limit_nusd=5 * USD, limit_reset="daily", include_byok_in_limit=0
    )
    assert MeterRef(Scope.KEY, KEY, Unit.SPEND, Window.DAY, 20 * USD, label='guardrail "Key"') in found.meters
    assert MeterRef(Scope.KEY, KEY, Unit.NUSD, Window.DAY, 5 * USD) in found.meters


def test_an_apps_budget_binds_only_its_requests() -> None:
    """The meters of other apps' requests do not have it; its place is between workspace and organisation."""
    found = caller(
        budgets=[
            budget("organization", ORG, "day", 9),
            budget("app", f"{ORG}/code", "day", 4),
            budget("app", f"{ORG}/desk", "month", 5),
            budget("workspace", PLACE, "day", 3),
        ]
    )
    assert found.meters_for(None) is found.meters
    assert found.meters_for("other") is found.meters
    assert [ref.scope for ref in found.meters if ref.limit] == ["workspace", "organization"]
    of_code = [ref.scope_id for ref in found.meters_for("code") if ref.limit]
    assert of_code == [PLACE, f"{ORG}/code", ORG]


def test_allow_lists_intersect_and_ignore_lists_add_up() -> None:
    """Of key, default, member and key guardrail alike (product-surface 5.3)."""
    found = caller(
        guardrail("workspace", allowed_models=["a", "b", "c"], ignored_models=["x"]),
        guardrail("key", allowed_models=["b", "c", "d"], ignored_models=["c"]),
        allowed_models='["b", "c", "x"]',
    )
    assert (found.allowed_models, found.ignored_models) == ({"b", "c"}, {"x", "c"})
    assert [slug for slug in "abcx" if found.may_use(slug)] == ["b"]
    assert caller().may_use("anything")


def test_provider_rules_come_before_the_workspaces_own() -> None:
    """Outer ones first, as routing merges them; a guardrail without rules says nothing."""
    found = caller(
        guardrail("workspace", allowed_providers=["anthropic", "bedrock"]),
        guardrail("member", 5, "daily"),
        guardrail("key", ignored_providers=["bedrock"], settings={"enable_paid_model_training": False}),
        workspace_routing='{"sort":"price"}',
        routing='{"zdr":true}',
    )
    assert found.routing == (
        b'{"only":["anthropic","bedrock"]}', b'{"data_collection":"deny","ignore":["bedrock"]}',
        b'{"sort":"price"}', b'{"zdr":true}',
    )  # fmt: skip


def test_retention_is_demanded_by_the_maker_of_the_model() -> None:
    """Settings of all guardrails add up; what is off demands nothing."""
    found = caller(
        guardrail("workspace", settings={"enforce_zdr_anthropic": True, "enforce_zdr_openai": False}),
        guardrail("key", settings={"enforce_zdr_other": True}),
    )
    assert found.retention_free == {"anthropic", "other"}
    assert [maker_of(slug) for slug in ("anthropic/claude", "x-ai/grok", "deepseek/r1")] == [
        "anthropic",
        "xai",
        "other",
    ]


def test_limits_say_where_they_are_from() -> None:
    """With their guardrail or budget, in the words of the API; a soft one keeps its amount."""
    policy = Policy(
        key(limit_nusd=USD),
        [budget("member", MEMBER, "month", 5, mode="soft")],
        guardrails=[guardrail("workspace", 4, "daily")],
    )
    assert [(limit.layer, limit.guardrail_id, limit.budget_id, limit.soft) for limit in limits(policy)] == [
        (Layer.DEFAULT_MEMBER, "grd-workspace", None, False), (Layer.DEFAULT_KEY, "grd-workspace", None, False),
        (Layer.MEMBER_BUDGET, None, "bud-member-month", True), (Layer.KEY_LIMIT, None, None, False),
    ]  # fmt: skip
    assert limits(policy)[2].amount_nusd == 5 * USD
    assert limits(policy)[2].meter.limit is None
    assert limits(policy)[0].meter.scope_id == SEAT
