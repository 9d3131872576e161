"""The tree of budgets over whole requests: bursts, the order of refusals, what changes while requests run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway
from tests.support.store import USD
from tests.walk.managing import done

from modelgates_server.limits import Scope, Window
from modelgates_server.management.assignments import assign_keys, assign_members
from modelgates_server.management.budgets import Budget, set_budget, set_share
from modelgates_server.management.guardrails import Rules, create_guardrail, default_guardrail_id, update_guardrail
from modelgates_server.management.keys import update_key
from modelgates_server.management.members import MemberRow, NewMember, add_member, remove_member
from modelgates_server.management.rates import Paced, Rates, pace
from modelgates_server.management.workspaces import find_workspace

LITTLE = USD // 1000
"""Less than any request may cost."""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, routing={"hold_wait_s": 0.2, "clamp": False}) as opened:
        yield opened


class Ruler:
    """Changes of one organisation from another connection, as the CLI makes them while the server runs."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.org = gateway.initialised.organization_id

    def do(self, change: Any, *what: Any) -> Any:
        with self.gateway.engine() as (engine, now_s):
            return change(engine, self.org, *what, "test", now_s)

    @property
    def workspace(self) -> str:
        with self.gateway.engine() as (engine, _):
            return find_workspace(engine, self.org).id

    def member(self) -> MemberRow:
        return self.do(add_member, NewMember("Ann"))

    def budget(self, scope: Scope, owner: str, window: Window, limit_nusd: int | None) -> None:
        self.do(set_budget, Budget(scope, owner, window, limit_nusd))

    def guardrail(self, name: str, limit_nusd: int = LITTLE, **more: Any) -> str:
        rules = Rules(name, limit_nusd=limit_nusd, reset_interval="daily", **more)
        return self.do(create_guardrail, None, rules).id


def refusal(told: Told) -> tuple[str, str | None]:
    """The scope and the budget that a 402 names."""
    assert told.status == 402, told.body
    return told.error["details"]["scope"], told.error["details"].get("budget")


async def burst(gateway: Gateway, count: int, keys: list[str], **simulate: Any) -> Counter[int]:
    """Many requests at the same time, over some keys in turn; how many ended in which status."""
    sent = [gateway.send(ask(), key=keys[n % len(keys)], simulate=simulate or None) for n in range(count)]
    return Counter(told.status for told in await asyncio.gather(*sent))


async def test_refusals_name_the_budgets_in_the_order_of_the_checks(gateway: Gateway) -> None:
    """Default for the member, default for the key, member, share, key, workspace, app, organisation, key limit: one by one."""
    ruler = Ruler(gateway)
    ann = ruler.member()
    secret, key_hash = gateway.new_key_row(member_id=ann.id, limit_nusd=LITTLE, limit_reset="weekly")
    person, own = ruler.guardrail("Person"), ruler.guardrail("Own")
    ruler.do(assign_members, person, [ann.id])
    ruler.do(assign_keys, own, [key_hash])
    ruler.do(set_share, ann.id, LITTLE)
    default = default_guardrail_id(ruler.workspace)
    ruler.do(update_guardrail, default, {"name": "All", "limit_nusd": LITTLE, "reset_interval": "monthly"})
    budgets = [(Scope.WORKSPACE, ruler.workspace), (Scope.APP, "code"), (Scope.ORGANIZATION, ruler.org)]
    for scope, owner in budgets:
        ruler.budget(scope, owner, Window.DAY, LITTLE)
    lifted = {"limit_nusd": None, "reset_interval": None}
    named = []
    for lift in (
        lambda: ruler.do(update_guardrail, default, lifted),
        lambda: ruler.do(update_guardrail, person, lifted),
        lambda: ruler.do(set_share, ann.id, None),
        lambda: ruler.do(update_guardrail, own, lifted),
        *(lambda scope=scope, owner=owner: ruler.budget(scope, owner, Window.DAY, None) for scope, owner in budgets),
        lambda: ruler.do(update_key, key_hash, {"limit_nusd": None}),
    ):
        named.append(refusal(await gateway.send(ask(), key=secret, x_title="code")))
        lift()
    assert named == [
        ("seat", 'guardrail "All"'), ("member", 'guardrail "Person"'), ("member", "monthly budget"), ("key", 'guardrail "Own"'),
        ("workspace", "daily budget"), ("app", "daily budget"), ("organization", "daily budget"), ("key", None),
    ]  # fmt: skip
    assert (await gateway.send(ask(), key=secret, x_title="code")).status == 200


async def test_rates_are_checked_before_money(gateway: Gateway) -> None:
    """Who is too fast and has no money is told to be slower."""
    ruler = Ruler(gateway)
    ruler.budget(Scope.WORKSPACE, ruler.workspace, Window.DAY, 0)
    assert refusal(await gateway.send(ask())) == ("workspace", "daily budget")
    ruler.do(pace, Paced(Scope.ORGANIZATION, ruler.org, Rates(requests_per_minute=1)))
    await gateway.send(ask())  # a refused request is no request
    ruler.budget(Scope.WORKSPACE, ruler.workspace, Window.DAY, None)
    assert [(await gateway.send(ask())).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("scope", [Scope.ORGANIZATION, Scope.WORKSPACE, Scope.MEMBER, Scope.KEY])
async def test_requests_at_the_same_time_are_counted_exactly(gateway: Gateway, scope: Scope) -> None:
    """Of fifty at once three are answered, the others are told to come again in a second; afterwards all places are free."""
    ruler = Ruler(gateway)
    ann = ruler.member()
    secret, key_hash = gateway.new_key_row(member_id=ann.id)
    owners = {Scope.ORGANIZATION: ruler.org, Scope.WORKSPACE: ruler.workspace, Scope.MEMBER: ann.id}
    if scope is Scope.KEY:
        ruler.do(update_key, key_hash, {"parallel_max": 3})
    else:
        ruler.do(pace, Paced(scope, owners[scope], Rates(parallel_max=3)))
    for _ in range(2):
        assert await burst(gateway, 50, [secret], delay_s=1.5) == {200: 3, 429: 47}
    await gateway.settled()
    told = await asyncio.gather(*(gateway.send(ask(), key=secret, simulate={"delay_s": 0.5}) for _ in range(4)))
    (refused,) = [one for one in told if one.status == 429]
    assert (refused.headers["retry-after"], refused.headers["x-ratelimit-limit"]) == ("1", "3")
    assert "3 requests at the same time" in refused.error["message"]
    assert (gateway.overspent(), gateway.problems()) == ([], [])


async def test_a_burst_over_many_keys_stays_within_what_they_share(gateway: Gateway) -> None:
    """Eighty requests of eight keys against one member's share and one workspace's budget: neither is overdrawn at any time."""
    ruler = Ruler(gateway)
    ann = ruler.member()
    keys = [gateway.new_key(member_id=ann.id) for _ in range(8)]
    cost_nusd = round((await gateway.send(ask(), key=keys[0])).json["usage"]["cost"] * USD)
    ruler.do(set_share, ann.id, 40 * cost_nusd)
    ruler.budget(Scope.WORKSPACE, ruler.workspace, Window.DAY, 30 * cost_nusd)
    ended = await burst(gateway, 80, keys)
    assert set(ended) == {200, 402}
    await gateway.settled()
    assert (gateway.overspent(), gateway.problems()) == ([], [])
    spent = {
        row["scope"]: row["posted"]
        for row in gateway.rows("SELECT * FROM meters WHERE unit = 'nusd' AND scope IN ('member', 'workspace')")
    }
    assert spent == {"member": cost_nusd * (ended[200] + 1), "workspace": cost_nusd * (ended[200] + 1)}
    assert spent["workspace"] <= 30 * cost_nusd


async def test_a_member_who_is_removed_under_load_gets_nothing_more(gateway: Gateway) -> None:
    """Requests that run go on to their end; none that was sent after the removal is admitted, in any place."""
    ruler = Ruler(gateway)
    ann = ruler.member()
    secret = gateway.new_key(member_id=ann.id)
    running = [asyncio.create_task(gateway.send(ask(), key=secret, simulate={"delay_s": 0.6})) for _ in range(5)]
    await asyncio.sleep(0.25)
    ruler.do(remove_member, ann.id)
    assert await burst(gateway, 20, [secret]) == {401: 20}
    assert {told.status for told in await asyncio.gather(*running)} == {200}


async def test_soft_budgets_never_refuse(gateway: Gateway) -> None:
    """In every scope at once, far beyond their limits; they count all the same."""
    ruler = Ruler(gateway)
    secret, key_hash = gateway.new_key_row()
    ruler.do(assign_keys, ruler.guardrail("Own", 1, mode="soft"), [key_hash])
    default = {"limit_nusd": 1, "reset_interval": "daily", "mode": "soft"}
    ruler.do(update_guardrail, default_guardrail_id(ruler.workspace), default)
    for scope, owner in ((Scope.WORKSPACE, ruler.workspace), (Scope.ORGANIZATION, ruler.org), (Scope.APP, "code")):
        ruler.do(set_budget, Budget(scope, owner, Window.DAY, 1, "soft"))
    told = [await gateway.send(ask(), key=secret, x_title="code") for _ in range(3)]
    assert [one.status for one in told] == [200, 200, 200]
    cost_nusd = sum(round(one.json["usage"]["cost"] * USD) for one in told)
    counted = gateway.rows("SELECT scope, posted FROM meters WHERE \"window\" = 'day'")
    assert {row["scope"]: row["posted"] for row in counted} == dict.fromkeys(
        ("key", "workspace", "organization", "app"), cost_nusd
    )


async def test_a_list_that_narrows_binds_the_very_next_request(gateway: Gateway) -> None:
    """Also in a process that remembers the caller: the hold finds the policy changed, and the request is planned again."""
    secret, key_hash = gateway.new_key_row()
    guardrail = (await done(gateway, "POST", "/guardrails", {"name": "g"}, 201))["data"]
    await done(gateway, "POST", f"/guardrails/{guardrail['id']}/assignments/keys", {"key_hashes": [key_hash]})
    for rule in (
        {"ignored_models": ["claude-opus-4-8"]}, {"ignored_providers": ["anthropic"]}, {"enforce_zdr": True},
        {"allowed_models": ["claude-haiku-4-5"]}, {"allowed_providers": ["bedrock"]},
    ):  # fmt: skip
        await done(gateway, "PATCH", f"/guardrails/{guardrail['id']}", dict.fromkeys(rule))
        await gateway.application.context.directory.refresh()
        assert (await gateway.send(ask(), key=secret)).status == 200
        await done(gateway, "PATCH", f"/guardrails/{guardrail['id']}", rule)
        assert (await gateway.send(ask(), key=secret)).status == 404, rule
        await done(gateway, "PATCH", f"/guardrails/{guardrail['id']}", dict.fromkeys(rule))


async def test_the_effective_budget_is_the_one_that_refuses_first(gateway: Gateway) -> None:
    """The least that is left, or the first that is spent in the order of the checks (product-surface 2.6)."""
    ruler = Ruler(gateway)
    secret, key_hash = gateway.new_key_row(limit_nusd=3 * USD)
    ruler.do(assign_keys, ruler.guardrail("Own", 2 * USD), [key_hash])
    ruler.budget(Scope.WORKSPACE, ruler.workspace, Window.MONTH, 5 * USD)

    async def shown() -> dict[str, Any]:
        return (await gateway.request("GET", "/api/v1/key", {"x-api-key": secret})).json["data"]

    first = await shown()
    assert [one["scope"] for one in first["budgets"]] == ["api_key", "workspace", "key_limit"]
    assert (first["effective_budget"]["scope"], first["effective_budget"]["remaining_usd"]) == ("api_key", 2)
    assert first["effective_budget"]["resets_at"].endswith("T00:00:00Z")
    cost = (await gateway.send(ask(), key=secret)).json["usage"]["cost"]
    ruler.budget(Scope.WORKSPACE, ruler.workspace, Window.MONTH, LITTLE)
    second = await shown()
    assert second["effective_budget"]["scope"] == "workspace"
    assert [one["spend_usd"] for one in second["budgets"]] == [cost] * 3
    assert (second["limit"], second["limit_remaining"]) == (3, pytest.approx(3 - cost))


async def test_a_spent_budget_empties_the_picker(gateway: Gateway) -> None:
    """Desktop shows no models when nobody would answer; a soft budget hides nothing."""
    ruler = Ruler(gateway)
    for limit_nusd, mode, models in ((0, "hard", False), (0, "soft", True)):
        ruler.do(set_budget, Budget(Scope.WORKSPACE, ruler.workspace, Window.DAY, limit_nusd, mode))
        await gateway.application.context.directory.refresh()
        listed = await gateway.request("GET", "/api/v1/models", gateway.headers())
        assert bool(listed.json["data"]) is models
