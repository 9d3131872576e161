"""Budgets and shares: what refuses, what only counts, and that use survives every change of a limit."""

from __future__ import annotations

import pytest
from tests.support.store import USD
from tests.unit.management.estate import Estate

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.ledger.values import Hold
from modelgates_server.limits import Scope, Window
from modelgates_server.management.budgets import (
    Budget,
    BudgetRow,
    lift_budget,
    list_budgets,
    set_budget,
    set_share,
    spent_nusd,
)
from modelgates_server.storage.maintenance import check


def put(estate: Estate, scope: Scope, owner: str, window: Window, usd: int | None, **more: object) -> BudgetRow | None:
    limit_nusd = None if usd is None else usd * USD
    return set_budget(estate.engine, estate.org, Budget(scope, owner, window, limit_nusd, **more), "ann", estate.now_s)


def test_a_budget_is_made_changed_and_lifted(either: Estate) -> None:
    """One row for an owner and window, which keeps its id; None removes it, and removing nothing is no mistake."""
    made = put(either, Scope.WORKSPACE, either.workspace, Window.WEEK, 5)
    changed = put(either, Scope.WORKSPACE, either.workspace, Window.WEEK, 7, mode="soft")
    assert made is not None
    assert changed is not None
    assert (changed.id, changed.limit_nusd, changed.mode) == (made.id, 7 * USD, "soft")
    assert list_budgets(either.engine, either.org) == [changed]
    for _ in range(2):
        assert put(either, Scope.WORKSPACE, either.workspace, Window.WEEK, None) is None
    assert list_budgets(either.engine, either.org) == []
    assert either.noted()[-4:] == ["budget.set"] * 4


def test_only_a_budget_that_is_there_can_be_lifted_as_such(either: Estate) -> None:
    """Another window or another app is none: the real one stands, and nothing is noted."""
    put(either, Scope.APP, "code", Window.WEEK, 5)
    before = either.noted()
    for app, window in (("code", Window.DAY), ("cod", Window.WEEK)):
        with pytest.raises(NotFound, match="no such budget"):
            lift_budget(either.engine, either.org, Budget(Scope.APP, app, window, None), "ann", either.now_s)
    assert (len(list_budgets(either.engine, either.org)), either.noted()) == (1, before)
    lift_budget(either.engine, either.org, Budget(Scope.APP, "code", Window.WEEK, None), "ann", either.now_s)
    assert (list_budgets(either.engine, either.org), either.noted()) == ([], [*before, "budget.set"])


@pytest.mark.parametrize(
    ("scope", "window", "limit_nusd", "mode", "told"),
    [
        (Scope.WORKSPACE, Window.MINUTE, 1, None, "a day, a week, a month"),
        (Scope.WORKSPACE, Window.DAY, -1, None, "zero or more"),
        (Scope.WORKSPACE, Window.DAY, 10**15 + 1, None, "one million"),
        (Scope.WORKSPACE, Window.DAY, 1, "firm", "hard .refuses. or soft"),
        (Scope.KEY, Window.DAY, 1, None, "a key has its limit"),
        (Scope.ORGANIZATION, Window.LIFE, 1, None, "its credit"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(
    estate: Estate, scope: Scope, window: Window, limit_nusd: int, mode: str | None, told: str
) -> None:
    """With the sentence that says why, and without an audit row."""
    owner = estate.org if scope is Scope.ORGANIZATION else estate.workspace
    before = estate.noted()
    with pytest.raises(BadRequest, match=told):
        set_budget(estate.engine, estate.org, Budget(scope, owner, window, limit_nusd, mode), "ann", estate.now_s)
    assert estate.noted() == before


def test_a_workspaces_budgets_strictly_decrease(estate: Estate) -> None:
    """Lifetime above monthly above weekly above daily, in whichever order they are set; equal is refused too."""
    for window, usd in ((Window.MONTH, 10), (Window.DAY, 2), (Window.LIFE, 20)):
        put(estate, Scope.WORKSPACE, estate.workspace, window, usd)
    for window, usd in ((Window.WEEK, 10), (Window.WEEK, 2), (Window.LIFE, 9), (Window.DAY, 11), (Window.MONTH, 20)):
        with pytest.raises(BadRequest, match=r"must be (above|below)"):
            put(estate, Scope.WORKSPACE, estate.workspace, window, usd)
    put(estate, Scope.WORKSPACE, estate.workspace, Window.WEEK, 5)
    windows = [row.window for row in list_budgets(estate.engine, estate.org, Scope.WORKSPACE, estate.workspace)]
    assert windows == [Window.LIFE, Window.MONTH, Window.WEEK, Window.DAY]


async def test_lowering_and_raising_a_limit_keeps_what_was_spent(estate: Estate) -> None:
    """Six spent of ten: at five nothing more, at eight two more, and no way back to zero."""
    secret, _ = estate.key()
    put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, 10)
    assert await estate.refused(secret, 6) is None
    put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, 5)
    assert await estate.refused(secret, 1) == ("workspace", "daily budget")
    put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, 8)
    assert await estate.refused(secret, 3) == ("workspace", "daily budget")
    assert await estate.refused(secret, 2) is None
    put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, None)
    put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, 8)
    assert await estate.refused(secret, 1) == ("workspace", "daily budget")
    assert check(estate.house.database) == []


@pytest.mark.parametrize("scope", [Scope.ORGANIZATION, Scope.WORKSPACE, Scope.APP, Scope.MEMBER])
async def test_a_new_budget_sees_what_was_spent_before(either: Estate, scope: Scope) -> None:
    """Of the organisation, the workspace, the app or the member, this month; the message names the budget."""
    ann = either.member()
    secret, _ = either.key(member_id=ann.id)
    assert isinstance(await either.spend(secret, 3, app="code"), Hold)
    owners = {
        Scope.ORGANIZATION: either.org,
        Scope.WORKSPACE: either.workspace,
        Scope.APP: "code",
        Scope.MEMBER: ann.id,
    }
    row = put(either, scope, owners[scope], Window.MONTH, 4)
    assert row is not None
    assert list(spent_nusd(either.engine, [row.meter], either.now_s).values()) == [3 * USD]
    assert await either.refused(secret, 2, app="code") == (scope, "monthly budget")
    assert await either.refused(secret, 1, app="code") is None


async def test_a_share_is_a_budget_over_all_keys_of_a_member(estate: Estate) -> None:
    """Two keys draw on one share; another member's key does not; the share starts anew next month."""
    ann, bob = estate.member("Ann"), estate.member("Bob")
    one, two, other = (estate.key(member_id=member.id)[0] for member in (ann, ann, bob))
    set_share(estate.engine, estate.org, ann.id, 5 * USD, "test", estate.now_s)
    assert await estate.refused(one, 3) is None
    assert await estate.refused(two, 3) == ("member", "monthly budget")
    assert await estate.refused(two, 2) is None
    assert await estate.refused(other, 3) is None
    estate.house.clock.advance(32 * 24 * 3600)
    assert await estate.refused(one, 5) is None


async def test_what_was_open_when_a_budget_was_set_is_counted_when_it_is_set_again(estate: Estate) -> None:
    """Its hold was taken before there was such a meter (docs/budgets.md, what is no promise)."""
    secret, _ = estate.key()
    asked, counted = await estate.asked_for(secret, 3), []
    async with estate.bank() as bank:
        hold = await bank.ledger.hold(asked.request)
        assert isinstance(hold, Hold)
        row = put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, 5)
        assert row is not None
        await bank.ledger.settle(hold, asked.bill, asked.receipt)
        for _ in range(2):
            counted += spent_nusd(estate.engine, [row.meter], estate.now_s).values()
            put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, 5)
    assert counted == [0, 3 * USD]


async def test_a_soft_budget_never_refuses_but_counts(estate: Estate) -> None:
    """Whatever is asked; made hard, it knows what was spent meanwhile."""
    secret, _ = estate.key()
    row = put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, 1, mode="soft")
    assert row is not None
    for _ in range(3):
        assert await estate.refused(secret, 2) is None
    assert list(spent_nusd(estate.engine, [row.meter], estate.now_s).values()) == [6 * USD]
    put(estate, Scope.WORKSPACE, estate.workspace, Window.DAY, 7, mode="hard")
    assert await estate.refused(secret, 2) == ("workspace", "daily budget")
    assert await estate.refused(secret, 1) is None


async def test_an_apps_budget_binds_that_app_only(estate: Estate) -> None:
    """By the name that its requests say; others, and those without a name, go on."""
    secret, _ = estate.key()
    put(estate, Scope.APP, "code", Window.DAY, 2)
    assert await estate.refused(secret, 2, app="code") is None
    assert await estate.refused(secret, 1, app="code") == ("app", "daily budget")
    for app in ("desk", None, f"{estate.org}/code"):
        assert await estate.refused(secret, 1, app=app) is None


async def test_own_provider_keys_count_in_all_budgets_of_a_workspace_or_in_none(either: Estate) -> None:
    """The switch is the workspace's: set with one budget it holds for the others, and sees what was spent."""
    secret, _ = either.key()
    put(either, Scope.WORKSPACE, either.workspace, Window.DAY, 5)
    assert await either.refused(secret, 1, byok_usd=3) is None
    put(either, Scope.WORKSPACE, either.workspace, Window.MONTH, 90, include_byok=True)
    rows = list_budgets(either.engine, either.org, Scope.WORKSPACE)
    assert [row.include_byok for row in rows] == [True, True]
    assert sorted(spent_nusd(either.engine, [row.meter for row in rows], either.now_s).values()) == [4 * USD, 4 * USD]
    assert await either.refused(secret, 0, byok_usd=2) == ("workspace", "daily budget")
    put(either, Scope.WORKSPACE, either.workspace, Window.DAY, 5, include_byok=False)
    assert await either.refused(secret, 0, byok_usd=2) is None


def test_a_budget_belongs_to_somebody_of_the_organisation(estate: Estate) -> None:
    """Strangers and people of the other organisation are the same unknown; its list shows nothing of ours."""
    foreign = estate.foreign
    put(estate, Scope.ORGANIZATION, estate.org, Window.DAY, 1)
    put(estate, Scope.APP, "code", Window.DAY, 1)
    for scope, owner in (
        (Scope.MEMBER, foreign.admin.id), (Scope.MEMBER, "mem-x"), (Scope.WORKSPACE, foreign.workspace.id),
        (Scope.ORGANIZATION, foreign.organization.id),
    ):  # fmt: skip
        with pytest.raises(NotFound, match=f"there is no such {scope}"):
            put(estate, scope, owner, Window.DAY, 1)
    assert list_budgets(estate.engine, foreign.organization.id) == []
