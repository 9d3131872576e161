"""Guardrails: what they may say, whom they are given to, and what they refuse (product-surface 5.3)."""

from __future__ import annotations

import pytest
from tests.support.store import USD
from tests.unit.management.estate import Estate

from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.ledger.values import Hold
from modelgates_server.limits import Scope, Window
from modelgates_server.management.assignments import (
    assign_keys,
    assign_members,
    list_key_assignments,
    list_member_assignments,
    unassign_keys,
    unassign_members,
)
from modelgates_server.management.guardrails import (
    GuardrailRow,
    Rules,
    choose_guardrail,
    create_guardrail,
    default_guardrail_id,
    delete_guardrail,
    find_guardrail,
    list_guardrails,
    model_slugs,
    update_guardrail,
)
from modelgates_server.management.keys import delete_key, list_keys, update_key_limit
from modelgates_server.management.workspaces import NewWorkspace, create_workspace
from modelgates_server.storage.maintenance import check


def create(
    estate: Estate, name: str = "Interns", usd: int | None = None, reset: str = "daily", **more: object
) -> GuardrailRow:
    estate.house.clock.advance(1)  # lists are in the order of time
    budget = {} if usd is None else {"limit_nusd": usd * USD, "reset_interval": reset}
    return create_guardrail(estate.engine, estate.org, None, Rules(name, **budget, **more), "ann", estate.now_s)


def update(estate: Estate, row: GuardrailRow | str, **changes: object) -> GuardrailRow:
    guardrail_id = row if isinstance(row, str) else row.id
    return update_guardrail(estate.engine, estate.org, guardrail_id, changes, "ann", estate.now_s)


def give_keys(estate: Estate, row: GuardrailRow, *hashes: str) -> int:
    return assign_keys(estate.engine, estate.org, row.id, hashes, "ann", estate.now_s)


def give_members(estate: Estate, row: GuardrailRow, *ids: str) -> int:
    return assign_members(estate.engine, estate.org, row.id, ids, "ann", estate.now_s)


# The worked cases of the documentation.


async def test_three_people_have_fifty_dollars_each(either: Estate) -> None:
    """A member guardrail is a separate allowance for everybody it is given to, over all keys of theirs."""
    people = [either.member(name) for name in ("Ann", "Bob", "Cem")]
    keys = [[either.key(member_id=one.id)[0] for _ in range(2)] for one in people]
    give_members(either, create(either, usd=50), *(one.id for one in people))
    for first, second in keys[:2]:
        assert await either.refused(first, 30) is None
        assert await either.refused(second, 21) == ("member", 'guardrail "Interns"')
    assert await either.refused(keys[2][0], 40) is None


async def test_two_keys_within_their_own_budgets_exceed_their_members(estate: Estate) -> None:
    """Fifteen and ten on two keys of twenty each: the member's twenty refuse the second."""
    ann = estate.member()
    (one, first), (two, second) = (estate.key(member_id=ann.id) for _ in range(2))
    give_keys(estate, create(estate, "Each key", 20), first.hash, second.hash)
    assert await estate.refused(one, 15) is None
    give_members(estate, create(estate, "Person", 20), ann.id)
    assert await estate.refused(two, 10) == ("member", 'guardrail "Person"')
    assert await estate.refused(two, 5) is None


async def test_member_and_key_are_both_checked(estate: Estate) -> None:
    """A hundred a day for the member and thirty for the key: the key refuses first, then the member on another key."""
    ann = estate.member()
    (one, first), (two, _) = (estate.key(member_id=ann.id) for _ in range(2))
    give_members(estate, create(estate, "Person", 35), ann.id)
    give_keys(estate, create(estate, "Key", 30), first.hash)
    assert await estate.refused(one, 31) == ("key", 'guardrail "Key"')
    assert await estate.refused(one, 30) is None
    assert await estate.refused(two, 6) == ("member", 'guardrail "Person"')
    assert await estate.refused(two, 5) is None


async def test_a_workspaces_default_holds_for_each_member_and_each_key(estate: Estate) -> None:
    """Without an assignment: a service key has it alone; a member's keys share the member's, and others are not touched."""
    ann = estate.member()
    update(estate, default_guardrail_id(estate.workspace), limit_nusd=10 * USD, reset_interval="daily")
    label = f'guardrail "Workspace {estate.workspace} Default"'
    (one, _), (two, _) = (estate.key(member_id=ann.id) for _ in range(2))
    service, _ = estate.key()
    lab = create_workspace(estate.engine, estate.org, NewWorkspace("Lab"), "ann", estate.now_s)
    elsewhere, _ = estate.key(member_id=ann.id, workspace_id=lab.id)
    assert await estate.refused(one, 8) is None
    assert await estate.refused(two, 3) == ("seat", label)
    assert await estate.refused(service, 11) == ("key", label)
    assert await estate.refused(service, 10) is None
    assert await estate.refused(elsewhere, 11) is None


async def test_the_lower_of_guardrail_and_key_limit_wins(estate: Estate) -> None:
    """Both are limits on one meter; lifting one leaves the other, and what was used counts."""
    secret, row = estate.key(limit_nusd=3 * USD, limit_reset="daily")
    guardrail = create(estate, usd=5)
    give_keys(estate, guardrail, row.hash)
    assert await estate.refused(secret, 4) == ("key", "")
    assert await estate.refused(secret, 2) is None
    update_key_limit(estate.engine, estate.org, row.hash, None, None, "ann", estate.now_s)
    assert await estate.refused(secret, 4) == ("key", 'guardrail "Interns"')
    assert await estate.refused(secret, 3) is None


# Budgets that change.


async def test_a_guardrail_sees_what_was_spent_before_it_was_given(either: Estate) -> None:
    """By assignment, by a new budget and by a default alike; taking it away and giving it again forgets nothing."""
    ann = either.member()
    secret, row = either.key(member_id=ann.id)
    assert isinstance(await either.spend(secret, 4), Hold)
    guardrail = create(either, usd=5)
    for give, take, whom, scope in (
        (assign_keys, unassign_keys, row.hash, "key"), (assign_members, unassign_members, ann.id, "member"),
    ):  # fmt: skip
        for _ in range(2):
            give(either.engine, either.org, guardrail.id, [whom], "ann", either.now_s)
            assert await either.refused(secret, 2) == (scope, 'guardrail "Interns"')
            assert take(either.engine, either.org, guardrail.id, [whom], "ann", either.now_s) == 1
    default = update(either, default_guardrail_id(either.workspace), limit_nusd=5 * USD, reset_interval="weekly")
    assert (await either.refused(secret, 2) or ("",))[0] == "seat"
    delete_guardrail(either.engine, either.org, default.id, "ann", either.now_s)
    assert await either.refused(secret, 2) is None
    assert check(either.house.database) == []


async def test_raising_and_lowering_keeps_use_and_soft_never_refuses(estate: Estate) -> None:
    """Three spent of four; two is too little, soft lets pass, hard again knows everything."""
    secret, row = estate.key()
    guardrail = create(estate, usd=4)
    give_keys(estate, guardrail, row.hash)
    assert await estate.refused(secret, 3) is None
    update(estate, guardrail, limit_nusd=2 * USD)
    assert await estate.refused(secret, 1) == ("key", 'guardrail "Interns"')
    update(estate, guardrail, mode="soft")
    assert await estate.refused(secret, 6) is None
    update(estate, guardrail, mode="hard", limit_nusd=10 * USD)
    assert await estate.refused(secret, 2) == ("key", 'guardrail "Interns"')
    assert await estate.refused(secret, 1) is None


async def test_own_provider_keys_count_only_where_they_are_included(estate: Estate) -> None:
    """With the switch the same guardrail limits another meter, which sees what both cost so far."""
    secret, row = estate.key()
    guardrail = create(estate, usd=5)
    give_keys(estate, guardrail, row.hash)
    assert await estate.refused(secret, 1, byok_usd=9) is None
    update(estate, guardrail, include_byok=True)
    assert await estate.refused(secret, 1) == ("key", 'guardrail "Interns"')
    update(estate, guardrail, include_byok=False)
    assert await estate.refused(secret, 4, byok_usd=9) is None


async def test_a_window_starts_anew_at_its_end(estate: Estate) -> None:
    """The next day is another meter."""
    secret, row = estate.key()
    give_keys(estate, create(estate, usd=5), row.hash)
    assert await estate.refused(secret, 5) is None
    assert await estate.refused(secret, 1) is not None
    estate.house.clock.advance(24 * 3600)
    assert await estate.refused(secret, 5) is None


# What a guardrail may say.


def test_a_change_replaces_lists_whole_and_null_clears(estate: Estate) -> None:
    """What is not named stays; settings are merged; each change is one audit row and one version."""
    row = create(
        estate,
        usd=5,
        allowed_models=("a", "b", "a"),
        ignored_providers=("x",),
        settings={"enforce_zdr_anthropic": True},
    )
    assert row.rules.allowed_models == ("a", "b")
    version, noted = estate.version(), len(estate.noted())
    changed = update(estate, row, allowed_models=("c",), ignored_providers=None, settings={"enforce_zdr_other": False})
    assert changed.rules == Rules(
        "Interns", None, 5 * USD, "daily", allowed_models=("c",),
        settings={"enforce_zdr_anthropic": True, "enforce_zdr_other": False},
    )  # fmt: skip
    cleared = update(estate, row, limit_nusd=None, reset_interval=None, settings={"enforce_zdr_anthropic": None})
    assert (cleared.rules.limit_nusd, cleared.rules.settings) == (None, {"enforce_zdr_other": False})
    assert find_guardrail(estate.engine, estate.org, row.id) == cleared
    assert (estate.version(), len(estate.noted())) == (version + 2, noted + 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": "x" * 201}, "at most 200"),
        ({"description": "x" * 1001}, "at most 1,000"),
        ({"limit_nusd": 5}, "must come together"),
        ({"reset_interval": "daily"}, "must come together"),
        ({"limit_nusd": 5, "reset_interval": "hourly"}, "daily, weekly, monthly"),
        ({"limit_nusd": -5, "reset_interval": "daily"}, "zero or more"),
        ({"mode": "firm"}, "hard .refuses. or soft"),
        ({"allowed_models": ()}, "null allows all"),
        ({"allowed_providers": ("a\n",)}, "no slug"),
        ({"ignored_models": ("x" * 201,)}, "no slug"),
        ({"ignored_models": tuple(str(n) for n in range(501))}, "at most 500"),
        ({"settings": {"sell_everything": True}}, "no setting 'sell_everything'"),
    ],
)
def test_a_guardrail_that_makes_no_sense_is_refused(estate: Estate, changes: dict[str, object], told: str) -> None:
    """When it is made and when it is changed, with the field's name."""
    with pytest.raises(BadRequest, match=told):
        create_guardrail(estate.engine, estate.org, None, Rules(**{"name": "g"} | changes), "ann", estate.now_s)
    row = create(estate)
    with pytest.raises(BadRequest, match=told):
        update(estate, row, **changes)
    assert find_guardrail(estate.engine, estate.org, row.id) == row


def test_a_default_guardrail_is_there_before_it_is_written(either: Estate) -> None:
    """Its id is known, it demands nothing, it is in no list; a change makes it, deleting makes it demand nothing again."""
    guardrail_id = default_guardrail_id(either.workspace)
    found = find_guardrail(either.engine, either.org, guardrail_id)
    assert (found.rules, found.stored) == (Rules(f"Workspace {either.workspace} Default"), False)
    assert list_guardrails(either.engine, either.org).rows == []
    with pytest.raises(NotFound):
        delete_guardrail(either.engine, either.org, guardrail_id, "ann", either.now_s)
    made = update(either, guardrail_id, ignored_models=("m",))
    assert (made.id, made.is_default, made.rules.ignored_models) == (guardrail_id, True, ("m",))
    assert list_guardrails(either.engine, either.org, either.workspace).rows == [made]
    delete_guardrail(either.engine, either.org, guardrail_id, "ann", either.now_s)
    assert find_guardrail(either.engine, either.org, guardrail_id).rules == found.rules
    for wrong in (default_guardrail_id("default"), default_guardrail_id("ws-x"), "grd-x"):
        with pytest.raises(NotFound):
            find_guardrail(either.engine, either.org, wrong)


# Who has which.


async def test_a_new_guardrail_replaces_the_keys_or_members_earlier_one(either: Estate) -> None:
    """One of their own at a time; the count is of those that were named, without repeats."""
    ann = either.member()
    secret, row = either.key(member_id=ann.id)
    first, second = create(either, "First", 1), create(either, "Second", 5)
    assert give_keys(either, first, row.hash, row.hash) == 1
    assert give_members(either, first, ann.id) == 1
    give_keys(either, second, row.hash)
    give_members(either, second, ann.id)
    assert list_key_assignments(either.engine, either.org, first.id).rows == []
    (given,) = list_key_assignments(either.engine, either.org).rows
    assert (given.guardrail_id, given.key_hash, given.key_name, given.assigned_by) == (second.id, row.hash, "k", "ann")
    (meant,) = list_member_assignments(either.engine, either.org, second.id).rows
    assert (meant.user_id, meant.organization_id) == (ann.id, either.org)
    assert await either.refused(secret, 4) is None
    assert unassign_keys(either.engine, either.org, first.id, [row.hash], "ann", either.now_s) == 0


def test_a_deleted_guardrail_lets_go_of_everybody(estate: Estate) -> None:
    """And a deleted key is in no list."""
    row, kept = create(estate), create(estate, "Kept")
    _, one = estate.key()
    _, two = estate.key()
    give_keys(estate, row, one.hash)
    give_keys(estate, kept, two.hash)
    delete_guardrail(estate.engine, estate.org, row.id, "ann", estate.now_s)
    assert [given.key_hash for given in list_key_assignments(estate.engine, estate.org).rows] == [two.hash]
    delete_key(estate.engine, estate.org, two.hash, "ann", estate.now_s)
    assert list_key_assignments(estate.engine, estate.org, kept.id).total == 0


def test_all_are_assigned_or_none(estate: Estate) -> None:
    """One stranger among them undoes everything; nobody, and too many, are refused; a default is not assigned."""
    row, (_, key) = create(estate), estate.key()
    for hashes in ([key.hash, "f" * 64], [key.hash, estate_foreign_key(estate)]):
        with pytest.raises(NotFound, match="no such key"):
            give_keys(estate, row, *hashes)
    for members in ([estate.foreign.admin.id], ["mem-x"]):
        with pytest.raises(NotFound, match="no such member"):
            give_members(estate, row, *members)
    for whom in ([], [key.hash] * 1001):
        with pytest.raises(BadRequest, match="from 1 to 1,000"):
            give_keys(estate, row, *whom)
    default = update(estate, default_guardrail_id(estate.workspace), description="d")
    with pytest.raises(BadRequest, match="not assigned"):
        give_keys(estate, default, key.hash)
    assert list_key_assignments(estate.engine, estate.org).rows == []


def estate_foreign_key(estate: Estate) -> str:
    return list_keys(estate.engine, estate.foreign.organization.id)[0].hash


def test_lists_have_pages(either: Estate) -> None:
    """Oldest first, with the number of all; by workspace; found by name when only one has it."""
    rows = [create(either, name) for name in ("a", "b", "b")]
    page = list_guardrails(either.engine, either.org, "default", 1, 1)
    assert (page.rows, page.total) == ([rows[1]], 3)
    assert choose_guardrail(either.engine, either.org, "a") == rows[0]
    assert choose_guardrail(either.engine, either.org, rows[2].id) == rows[2]
    with pytest.raises(BadRequest, match="2 guardrails"):
        choose_guardrail(either.engine, either.org, "b")
    create_workspace(either.engine, either.org, NewWorkspace("Lab"), "ann", either.now_s)
    assert list_guardrails(either.engine, either.org, "lab").rows == []


def test_a_foreign_guardrail_is_unknown(estate: Estate) -> None:
    """For everything that can be done with one, a default one included."""
    foreign, now_s = estate.foreign.organization.id, estate.now_s
    theirs = create_guardrail(estate.engine, foreign, None, Rules("theirs"), "x", now_s)
    _, key = estate.key()
    for guardrail_id in (theirs.id, default_guardrail_id(estate.foreign.workspace.id)):
        for attempt in (
            lambda one: find_guardrail(estate.engine, estate.org, one),
            lambda one: choose_guardrail(estate.engine, estate.org, one),
            lambda one: update(estate, one, description="mine"),
            lambda one: delete_guardrail(estate.engine, estate.org, one, "ann", now_s),
            lambda one: assign_keys(estate.engine, estate.org, one, [key.hash], "ann", now_s),
            lambda one: unassign_keys(estate.engine, estate.org, one, [key.hash], "ann", now_s),
            lambda one: assign_members(estate.engine, estate.org, one, ["mem-x"], "ann", now_s),
            lambda one: unassign_members(estate.engine, estate.org, one, ["mem-x"], "ann", now_s),
            lambda one: list_key_assignments(estate.engine, estate.org, one),
            lambda one: list_member_assignments(estate.engine, estate.org, one),
        ):
            with pytest.raises(NotFound):
                attempt(guardrail_id)
    with pytest.raises(NotFound):
        list_guardrails(estate.engine, estate.org, estate.foreign.workspace.id)
    with pytest.raises(NotFound):
        create_guardrail(estate.engine, estate.org, estate.foreign.workspace.id, Rules("mine"), "ann", now_s)
    assert list_guardrails(estate.engine, foreign).rows == [theirs]


@pytest.mark.parametrize(
    "name", ["anthropic/claude-9", "Anthropic/claude-9", "anthropic /claude-9", "~ANTHROPIC/x", "x"]
)
def test_a_misspelt_model_is_refused_in_any_case(name: str) -> None:
    """On an ignore-list it would let the model pass; models of makers that nobody serves here stay as they were written."""
    catalogue = load_catalogue(bundled(), None)
    with pytest.raises(BadRequest, match="ignored_models"):
        model_slugs(catalogue, [name], "ignored_models")
    good = ["ANTHROPIC/Claude-Opus-4-8", "acme/model-1"]
    assert model_slugs(catalogue, good, "ignored_models") == ("anthropic/claude-opus-4.8", "acme/model-1")


def test_a_guardrail_meters_by_scope_and_reset(estate: Estate) -> None:
    """Its budget is a limit on a meter of whoever has it; without a budget there is none."""
    meter = create(estate, usd=5, reset="monthly").meter(Scope.KEY, "h")
    assert meter is not None
    assert (meter.window, meter.limit) == (Window.MONTH, 5 * USD)
    assert create(estate).meter(Scope.KEY, "h") is None
