"""Keys as pages list them: in order, a page at a time, with what they used and every limit over them; and what a member may change."""

from __future__ import annotations

import pytest
from tests.support.store import USD
from tests.unit.management.estate import Estate

from modelgates_server.accounts.policy import Layer, limits
from modelgates_server.errors import BadRequest, Forbidden, NotFound
from modelgates_server.limits import Scope, Window
from modelgates_server.management.assignments import assign_keys, assign_members
from modelgates_server.management.budgets import Budget, set_budget
from modelgates_server.management.describe import keys_use
from modelgates_server.management.guardrails import Rules, create_guardrail, default_guardrail_id, update_guardrail
from modelgates_server.management.key_lists import KeysWanted, days_of, find_entry, glances, slice_keys, workspaces_for
from modelgates_server.management.key_values import NewKey
from modelgates_server.management.keys import delete_key, set_key_disabled
from modelgates_server.management.limits_over import limits_over
from modelgates_server.management.own_keys import (
    KEEP,
    create_own,
    create_with_guardrail,
    switch_own,
    update_own,
    update_with_guardrail,
)
from modelgates_server.management.workspaces import NewWorkspace, add_places, create_workspace


def pages(estate: Estate, wanted: KeysWanted, limit: int) -> list[list[str]]:
    """The names on every page, by following the cursors."""
    found, cursor = [], None
    while True:
        part = slice_keys(estate.engine, estate.org, wanted, cursor, limit, estate.now_s)
        found.append([entry.row.name for entry in part.entries])
        cursor = part.older
        if cursor is None:
            return found


def guard(estate: Estate, name: str, usd: int, interval: str = "monthly", **more: object) -> str:
    rules = Rules(name, limit_nusd=usd * USD, reset_interval=interval, **more)
    return create_guardrail(estate.engine, estate.org, None, rules, "test", estate.now_s).id


def test_every_key_stands_on_one_page(either: Estate) -> None:
    """Newest first, also where several were made within one second, each once; deleted ones and foreign ones not at all."""
    for number in range(7):
        either.key(f"k{number}")
        either.house.clock.advance(number % 2)
    delete_key(either.engine, either.org, either.key("gone")[1].hash, "test", either.now_s)
    listed = pages(either, KeysWanted(text="K"), 3)

    assert [len(part) for part in listed] == [3, 3, 2]  # and the first key of the installation
    assert sorted(name for part in listed for name in part) == ["first key", *(f"k{number}" for number in range(7))]
    assert listed[0][0] == "k6"
    with pytest.raises(BadRequest, match="cut off"):
        slice_keys(either.engine, either.org, KeysWanted(), "soon.x", 3, either.now_s)


def test_filters_narrow_the_list(either: Estate) -> None:
    """By member, workspace, state and a part of the name; a percent sign is a letter like any other."""
    ann = either.member()
    _, off = either.key("off 100%", member_id=ann.id)
    set_key_disabled(either.engine, either.org, off.hash, True, "test", either.now_s)
    either.key("short", expires_at_s=int(either.now_s) + 10)
    either.house.clock.advance(20)

    assert pages(either, KeysWanted(member_id=ann.id), 9) == [["off 100%"]]
    assert pages(either, KeysWanted(state="disabled"), 9) == [["off 100%"]]
    assert pages(either, KeysWanted(state="expired"), 9) == [["short"]]
    assert pages(either, KeysWanted(state="active"), 9) == [["first key"]]
    assert pages(either, KeysWanted(text="0%"), 9) == [["off 100%"]]
    assert pages(either, KeysWanted(text="s_ort"), 9) == [[]]
    assert pages(either, KeysWanted(workspace_id="ws-none"), 9) == [[]]


async def test_a_glance_is_what_the_full_figures_say(either: Estate) -> None:
    """Life, month and last use agree with those of the API; the days add up to the month."""
    secret, row = either.key("used")
    await either.spend(secret, 3)
    either.house.clock.advance(86_400)
    await either.spend(secret, 4)
    full = keys_use(either.engine, [row], either.now_s)[row.hash]
    glance = glances(either.engine, either.org, [row], either.now_s)[row.hash]

    assert (glance.life_nusd, glance.month_nusd) == (full.life_nusd, full.month_nusd)
    assert (glance.life_nusd, glance.last_used_ms) == (7 * USD, full.last_used_ms)
    days = days_of(either.engine, either.org, row.hash, 3, either.now_s)
    assert [(requests, used // USD) for _, requests, used in days] == [(0, 0), (1, 3), (1, 4)]


async def test_limits_over_a_key_are_those_by_which_it_is_admitted(either: Estate) -> None:
    """Guardrails of workspace, member and key, budgets of everybody, its own limit: in the order of the checks, for many keys at once."""
    ann = either.member()
    secret, row = either.key("limited", member_id=ann.id, limit_nusd=90 * USD, limit_reset="daily")
    _, free = either.key("free")
    assign_keys(either.engine, either.org, guard(either, "Of the key", 80), [row.hash], "test", either.now_s)
    assign_members(either.engine, either.org, guard(either, "Of Ann", 70), [ann.id], "test", either.now_s)
    default = default_guardrail_id(either.workspace)
    changes = {"limit_nusd": 60 * USD, "reset_interval": "weekly", "mode": "soft"}
    update_guardrail(either.engine, either.org, default, changes, "test", either.now_s)
    for scope, scope_id in (
        (Scope.ORGANIZATION, either.org),
        (Scope.WORKSPACE, either.workspace),
        (Scope.MEMBER, ann.id),
        (Scope.APP, "Editor"),
    ):
        set_budget(either.engine, either.org, Budget(scope, scope_id, Window.MONTH, 50 * USD), "test", either.now_s)
    await either.spend(secret, 2)
    over = limits_over(either.engine, either.org, [row, free], either.now_s)
    directory = either.house.directory()

    for one in (row, free):
        admitted = limits(await directory.policy(one.hash))
        assert [(str(limit.layer), limit.amount_nusd, limit.soft, limit.guardrail_id) for limit in admitted] == [
            (shown.layer, shown.amount_nusd, shown.soft, shown.guardrail_id) for shown in over[one.hash]
        ]
    used = {shown.layer: shown.posted_nusd for shown in over[row.hash]}
    assert used == dict.fromkeys(used, 2 * USD) | {Layer.APP: 0}
    assert len(used) == len(Layer)
    assert {shown.name for shown in over[row.hash]} >= {"Of the key", "Of Ann", "Editor"}


def test_a_key_and_its_guardrail_come_together(either: Estate) -> None:
    """A guardrail that does not exist makes no key; a change replaces it, keeps it or takes it."""
    first, second = guard(either, "First", 1), guard(either, "Second", 2)
    with pytest.raises(NotFound):
        create_with_guardrail(
            either.engine, either.house.pepper, either.org, NewKey("half"), "grd-none", "test", either.now_s
        )
    _, row = create_with_guardrail(
        either.engine, either.house.pepper, either.org, NewKey("whole"), first, "test", either.now_s
    )

    assert pages(either, KeysWanted(text="half"), 9) == [[]]
    for wanted, after in ((KEEP, "First"), (second, "Second"), (None, None), (None, None)):
        update_with_guardrail(either.engine, either.org, row.hash, {"name": "whole"}, wanted, "test", either.now_s)
        assert find_entry(either.engine, either.org, row.hash).guardrail_name == after


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"name": "other"}, True),
        ({"limit_nusd": 4 * USD}, True),
        ({"limit_nusd": 6 * USD}, False),
        ({"limit_nusd": None, "limit_reset": None}, False),
        ({"limit_reset": "monthly"}, False),
        ({"expires_at_s": 2_000_000_000}, True),
        ({"parallel_max": 2}, True),
        ({"allowed_models": ("anthropic/a",)}, True),
        ({"allowed_models": ("anthropic/c",)}, False),
        ({"allowed_models": None}, False),
        ({"include_byok_in_limit": True}, False),
        ({"routing": "{}"}, False),
    ],
)
def test_a_member_makes_a_key_stricter_only(estate: Estate, change: dict[str, object], allowed: bool) -> None:
    """Lower, earlier and fewer pass; higher, later, more, and another kind of limit do not."""
    ann = estate.member()
    wanted = {"limit_nusd": 5 * USD, "limit_reset": "weekly", "allowed_models": ("anthropic/a", "anthropic/b")}
    _, row = estate.key("own", member_id=ann.id, **wanted)
    given = (estate.engine, estate.org, ann.id, row.hash, change, f"member:{ann.id}", estate.now_s)

    if allowed:
        update_own(*given)
    else:
        with pytest.raises(BadRequest, match="stricter"):
            update_own(*given)
    with pytest.raises(NotFound):
        update_own(*given[:2], estate.member("Bob").id, *given[3:])


def test_who_switched_a_key_off_may_switch_it_on(either: Estate) -> None:
    """A member after themselves; not after an administrator, and not after they were switched off with no word of whom."""
    ann = either.member()
    own, admin = f"member:{ann.id}", "member:boss"
    _, row = either.key("own", member_id=ann.id)

    switch_own(either.engine, either.org, ann.id, row.hash, True, own, either.now_s)
    assert not switch_own(either.engine, either.org, ann.id, row.hash, False, own, either.now_s).disabled
    set_key_disabled(either.engine, either.org, row.hash, True, admin, either.now_s)
    with pytest.raises(Forbidden, match="administrator"):
        switch_own(either.engine, either.org, ann.id, row.hash, False, own, either.now_s)


def test_a_member_has_keys_where_they_belong(either: Estate) -> None:
    """The default workspace is everybody's; another one only of those who joined it."""
    ann = either.member()
    team = create_workspace(either.engine, either.org, NewWorkspace("Team"), "test", either.now_s)
    given = (either.engine, either.house.pepper, either.org, ann.id)
    actor, now_s = f"member:{ann.id}", either.now_s

    assert [name for _, name in workspaces_for(either.engine, either.org, ann.id)] == ["Default"]
    with pytest.raises(NotFound, match="workspace"):
        create_own(*given, NewKey("k", workspace_id=team.id), actor, now_s)
    add_places(either.engine, either.org, team.id, [ann.id], "test", now_s)
    assert [name for _, name in workspaces_for(either.engine, either.org, ann.id)] == ["Default", "Team"]
    _, row = create_own(*given, NewKey("k", workspace_id=team.id), actor, now_s)
    assert (row.member_id, row.workspace_id) == (ann.id, team.id)
