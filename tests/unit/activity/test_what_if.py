"""What a change would have refused: the same as letting every request ask again, one by one, on both stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.activity.crowd import MODELS, NOW_S, ORG, OTHER
from tests.unit.activity.written import Asked, forget, write

from modelgates_server.activity.what_if import Allowance, Lists, Person, Refusals, barred, people
from modelgates_server.activity.what_if_budgets import would_refuse
from modelgates_server.activity.what_if_others import used, would_pace
from modelgates_server.activity.what_if_whom import Whom, names
from modelgates_server.limits import Scope, Window
from modelgates_server.storage.engine import reading

WHOM = Whom.lately(ORG, 30, NOW_S)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

moments = st.builds(
    lambda days, hours, ms: NOW_S * 1000 - days * DAY_MS - hours * HOUR_MS - ms,
    st.sampled_from((0, 0, 1, 6, 7, 14, 29, 31, 40)),
    st.sampled_from((0, 0, 1, 5)),
    st.sampled_from((0, 1, 1, 500, 59_999, 60_000, 120_000)),
)
requests = st.builds(
    Asked,
    at_ms=moments,
    key=st.integers(0, 3),
    model=st.sampled_from(MODELS),
    provider=st.sampled_from(("anthropic", "bedrock", None)),
    cost_nusd=st.sampled_from((0, 1, 2, 3, 5, 30)),
    byok_nusd=st.sampled_from((0, 0, 4)),
    app=st.sampled_from((None, "desk", "cli")),
    organization_id=st.sampled_from((ORG, ORG, ORG, OTHER)),
)
histories = st.lists(requests, max_size=60).map(
    lambda found: [
        replace(one, number=number, member=(None, 0, 1, 1)[one.key], workspace=one.key % 2)
        for number, one in enumerate(found)
    ]
)
allowances = st.builds(
    lambda who, window, limit, byok: Allowance(window=window, limit_nusd=limit, include_byok=byok, **who),
    st.sampled_from((
        {"scope": Scope.ORGANIZATION, "owners": (ORG,)},
        {"scope": Scope.WORKSPACE, "owners": (f"{ORG}-workspace-1",)},
        {"scope": Scope.APP, "owners": ("desk",)},
        {"scope": Scope.MEMBER},
        {"scope": Scope.MEMBER, "owners": (f"{ORG}-member-1",)},
        {"scope": Scope.MEMBER, "owners": ()},
        {"scope": Scope.SEAT, "workspace_id": f"{ORG}-workspace-1"},
        {"scope": Scope.KEY},
        {"scope": Scope.KEY, "owners": (f"{ORG}-key-2", f"{ORG}-key-0")},
        {"scope": Scope.KEY, "memberless": True, "workspace_id": f"{ORG}-workspace-0"},
    )),
    st.sampled_from((Window.DAY, Window.WEEK, Window.MONTH, Window.LIFE)),
    st.integers(0, 40),
    st.booleans(),
)  # fmt: skip

OWNERS: dict[Scope, Callable[[Asked], str | None]] = {
    Scope.ORGANIZATION: lambda one: one.organization_id,
    Scope.WORKSPACE: lambda one: one.workspace_id,
    Scope.APP: lambda one: one.app,
    Scope.MEMBER: lambda one: one.member_id,
    Scope.SEAT: lambda one: one.member_id,
    Scope.KEY: lambda one: one.key_hash,
}

Naive = tuple[Counter[tuple[str | None, str]], int, int | None]


def owner_of(one: Asked, allowance: Allowance) -> str | None:
    """Whose budget a request would ask; None when the allowance is not about it."""
    owner = OWNERS[allowance.scope](one)
    meant = allowance.owners is None or owner in allowance.owners
    here = allowance.workspace_id in {None, one.workspace_id}
    nobodys = not allowance.memberless or one.member_id is None
    return owner if one.organization_id == ORG and meant and here and nobodys else None


def ask_again(history: list[Asked], allowance: Allowance) -> Naive:
    """Every request in order of time asks its owner's budget of its window: refused when it does not fit."""
    spent: Counter[tuple[str, int]] = Counter()
    refused: list[Asked] = []
    for one in sorted(history, key=lambda one: (one.at_ms, one.id)):
        owner = owner_of(one, allowance)
        if owner is None:
            continue
        meter = (owner, allowance.window.bounds_s(one.at_ms / 1000)[0])
        nusd = one.cost_nusd + (one.byok_nusd if allowance.include_byok else 0)
        if spent[meter] + nusd <= allowance.limit_nusd:
            spent[meter] += nusd
        elif one.at_ms >= WHOM.since_s * 1000:
            refused.append(one)
    money = sum(one.cost_nusd + (one.byok_nusd if allowance.include_byok else 0) for one in refused)
    return (
        Counter((one.member_id, one.key_hash) for one in refused),
        money,
        min((one.at_ms for one in refused), default=None),
    )


def told(refusals: Refusals) -> Naive:
    by_whose = Counter({whose: count.requests for whose, count in refusals.by_whose.items()})
    return by_whose, refusals.nusd, refusals.first_ms


@settings(max_examples=100, deadline=None, suppress_health_check=FIXTURES)
@given(histories, allowances)
def test_a_budget_refuses_what_would_have_passed_it(
    either_engine: sa.Engine, history: list[Asked], allowance: Allowance
) -> None:
    """How many, whose, how much and when first: exactly as if each request had asked again."""
    forget(either_engine)
    write(either_engine, history)
    with reading(either_engine) as connection:
        found = would_refuse(connection, WHOM, allowance)

    assert told(found) == ask_again(history, allowance)
    assert found.exact


@settings(max_examples=50, deadline=None, suppress_health_check=FIXTURES)
@given(histories, allowances, st.integers(0, 10))
def test_with_too_much_to_replay_the_answer_says_that_it_is_about_right(
    either_engine: sa.Engine, history: list[Asked], allowance: Allowance, rows_max: int
) -> None:
    """What was not replayed counts as refused: never fewer than would have been."""
    forget(either_engine)
    write(either_engine, history)
    with reading(either_engine) as connection:
        found = would_refuse(connection, WHOM, allowance, rows_max=rows_max)
        few = would_refuse(connection, WHOM, allowance, rows_max=rows_max, pairs_max=0)
    requests, nusd, first_ms = ask_again(history, allowance)

    assert found.requests >= requests.total()
    assert found.nusd >= nusd
    assert not found.exact or told(found) == (requests, nusd, first_ms)
    assert not few.exact or requests.total() == 0


@settings(max_examples=60, deadline=None, suppress_health_check=FIXTURES)
@given(
    histories,
    st.sampled_from(
        ((Scope.ORGANIZATION, ORG), (Scope.WORKSPACE, f"{ORG}-workspace-1"), (Scope.MEMBER, f"{ORG}-member-1"))
    ),
    st.integers(1, 3),
    st.sampled_from((1, 5, 10_000)),
)
def test_a_rate_refuses_what_came_too_fast(
    either_engine: sa.Engine, history: list[Asked], who: tuple[Scope, str], per_minute: int, rows_max: int
) -> None:
    """In each minute of the clock the first ones pass; it says how far it looked back when it could not look at everything."""
    forget(either_engine)
    write(either_engine, history)
    owner = Allowance(who[0], Window.MINUTE, 0, (who[1],))
    with reading(either_engine) as connection:
        found = would_pace(connection, WHOM, owner, per_minute, rows_max)
    minutes: Counter[int] = Counter()
    refused: list[Asked] = []
    for one in sorted(history, key=lambda one: (one.at_ms, one.id)):
        if owner_of(one, owner) is not None and one.at_ms >= found.looked_from_ms:
            minutes[one.at_ms // 60_000] += 1
            if minutes[one.at_ms // 60_000] > per_minute:
                refused.append(one)

    assert told(found) == (
        Counter((one.member_id, one.key_hash) for one in refused),
        sum(one.cost_nusd for one in refused),
        min((one.at_ms for one in refused), default=None),
    )
    assert rows_max < 10_000 or found.looked_from_ms == WHOM.since_s * 1000


lists = st.builds(
    Lists,
    st.none() | st.frozensets(st.sampled_from(MODELS)),
    st.frozensets(st.sampled_from(MODELS)),
    st.none() | st.frozensets(st.sampled_from(("anthropic", "bedrock", "vertex"))),
    st.frozensets(st.sampled_from(("anthropic", "bedrock", "vertex"))),
    st.frozensets(st.tuples(st.sampled_from(MODELS), st.sampled_from(("anthropic", "bedrock")))),
)


@settings(max_examples=50, deadline=None, suppress_health_check=FIXTURES)
@given(histories, lists)
def test_lists_bar_models_and_move_to_other_providers(
    either_engine: sa.Engine, history: list[Asked], wanted: Lists
) -> None:
    """A model that is not permitted is refused; a provider that is not is left for another, and refused where there is none."""
    serving = {MODELS[0]: ("anthropic", "bedrock", "vertex"), MODELS[1]: ("anthropic",)}
    forget(either_engine)
    write(either_engine, history)
    with reading(either_engine) as connection:
        found = barred(used(connection, WHOM), wanted, serving, WHOM.since_s * 1000)
    models, nowhere, elsewhere = Counter(), Counter(), Counter()
    for one in history:
        if one.organization_id != ORG or one.at_ms < WHOM.since_s * 1000:
            continue
        permitted = {name for name in serving[one.model] if wanted.admits_provider(one.model, name)}
        where = None
        if not wanted.admits_model(one.model):
            where = models
        elif one.provider is not None and not wanted.admits_provider(one.model, one.provider):
            where = elsewhere if permitted else nowhere
        if where is not None:
            where[one.member_id, one.key_hash] += 1

    assert [told(one)[0] for one in (found.by_model, found.by_provider, found.moved)] == [models, nowhere, elsewhere]


def test_lists_of_some_are_about_their_requests(engine: sa.Engine) -> None:
    """With owners, only what these did is looked at: members, and keys of others."""
    write(engine, [Asked(key=key, member=(None, 0, 1, 1)[key], number=key, cost_nusd=key) for key in range(4)])
    member = Allowance(Scope.MEMBER, Window.LIFE, 0, (f"{ORG}-member-1",))
    key = Allowance(Scope.KEY, Window.LIFE, 0, (f"{ORG}-key-0",))
    with reading(engine) as connection:
        assert {one.whose[1][-1] for one in used(connection, WHOM, [member, key])} == {"0", "2", "3"}
        assert used(connection, WHOM, []) == []
        assert len(used(connection, WHOM)) == 4


def test_people_are_named(engine: sa.Engine) -> None:
    """A member's keys count together, a key without a member for itself; those with the most come first."""
    found = Refusals(0)
    for whose, requests in (
        ((f"{ORG}-member-1", "k"), 2),
        ((f"{ORG}-member-1", "l"), 3),
        ((None, f"{ORG}-key-0"), 1),
        ((None, "gone"), 9),
    ):
        found.add(whose, requests, requests * 10, 5)  # fmt: skip
    with reading(engine) as connection:
        known = names(connection, ORG, [found])

    assert people(found, known.members, known.keys) == (
        Person("gone", "a removed key", True, 9, 90),
        Person(f"{ORG}-member-1", "Member 1", False, 5, 50),
        Person(f"{ORG}-key-0", "key 0", True, 1, 10),
    )


def test_several_rules_add_up() -> None:
    """Rules about different requests count together: the earliest is the first, one that is about right makes all so."""
    one, other = Refusals(10), Refusals(20, exact=False)
    one.add((None, "k"), 1, 5, 30)
    other.add((None, "k"), 2, 6, 25)
    one.merge(other)

    assert (one.requests, one.nusd, one.first_ms, one.exact, one.looked_from_ms) == (3, 11, 25, False, 20)


@pytest.mark.parametrize("days", [1, 30])
def test_days_are_whole(days: int) -> None:
    """Looking back begins at midnight in UTC, today being one of the days."""
    whom = Whom.lately(ORG, days, NOW_S)

    assert whom.since_s % 86_400 == 0
    assert whom.now_s - whom.since_s < days * 86_400
