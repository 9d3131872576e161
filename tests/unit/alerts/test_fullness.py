"""What runs out next: every kind of limit beside its meter, the fullest first, and when it is full at its pace."""

from __future__ import annotations

from tests.unit.alerts.office import USD, Office
from tests.unit.alerts.test_budgets import set_one

from modelgates_server.alerts.fullness import Fullness, fullest
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.management.assignments import assign_keys
from modelgates_server.management.guardrails import Rules, create_guardrail
from modelgates_server.storage.engine import reading

DAY_S = 86_400


def look(office: Office, member_id: str | None = None, count: int = 10) -> list[Fullness]:
    with reading(office.engine) as connection:
        return fullest(connection, office.organization_id, member_id, count, office.now_s)


def test_the_fullest_comes_first(office: Office) -> None:
    """A key's limit, a share, a workspace's budget, and a guardrail's by its name; what nobody used is left out."""
    key, unused = office.key(limit_nusd=10 * USD, limit_reset="daily"), office.key("unused", limit_nusd=10 * USD)
    member = office.member()
    set_one(office, Scope.MEMBER, member, 100)
    set_one(office, Scope.WORKSPACE, office.workspace(), 1_000, mode="soft")
    rules = Rules("Interns", limit_nusd=4 * USD, reset_interval="monthly")
    guardrail = create_guardrail(office.engine, office.organization_id, None, rules, "ann", office.now_s)
    assign_keys(office.engine, office.organization_id, guardrail.id, [key], "ann", office.now_s)
    office.use_key(key, 9 * USD, Window.DAY)
    office.use_key(key, 2 * USD, Window.MONTH)
    office.use(MeterRef(Scope.MEMBER, member, Unit.NUSD, Window.MONTH), 80 * USD)
    office.use(MeterRef(Scope.WORKSPACE, office.workspace(), Unit.NUSD, Window.MONTH), 100 * USD)
    found = look(office)

    assert [(one.scope, one.window, one.guardrail, one.hard) for one in found] == [
        ("key", "day", "", True), ("member", "month", "", True), ("key", "month", "Interns", True),
        ("workspace", "month", "", False),
    ]  # fmt: skip
    assert unused not in {one.scope_id for one in found}
    assert [one.scope for one in look(office, count=2)] == ["key", "member"]


def test_it_is_told_when_a_limit_is_full_at_its_pace(office: Office) -> None:
    """At eight in the morning half of a day's limit is used: full at four in the afternoon. At a slower pace it starts again first."""
    key = office.key(limit_nusd=10 * USD, limit_reset="daily")
    office.use_key(key, 5 * USD, Window.DAY)
    (fast,) = look(office)
    office.clock.advance(8 * 3_600)
    (slow,) = look(office)

    midnight_s = int(office.now_s) // DAY_S * DAY_S
    assert (fast.full_at_s, fast.resets_at_s) == (midnight_s + 16 * 3_600, midnight_s + DAY_S)
    assert slow.full_at_s is None


def test_a_full_limit_needs_no_forecast(office: Office) -> None:
    """Nor does one that never starts again."""
    full, life = office.key(limit_nusd=USD, limit_reset="daily"), office.key("life", limit_nusd=10 * USD)
    office.use_key(full, USD, Window.DAY)
    office.use_key(life, USD, Window.LIFE)

    assert [(one.full_at_s, one.resets_at_s is None) for one in look(office)] == [(None, False), (None, True)]


def test_very_large_limits_are_compared_too(office: Office) -> None:
    """A million dollars in nano-USD, times anything, is no number for a database."""
    key = office.key(limit_nusd=10**6 * USD)
    office.use_key(key, 10**6 * USD - 1, Window.LIFE)

    assert [one.used_nusd for one in look(office)] == [10**6 * USD - 1]


def test_a_member_sees_limits_that_are_theirs_alone(office: Office) -> None:
    """Their keys and their share; not a colleague's, and not the workspace's."""
    mine, other = office.member(), office.member("Bob")
    keys = [office.key(name, limit_nusd=10 * USD, member_id=whose) for name, whose in (("a", mine), ("b", other))]
    set_one(office, Scope.WORKSPACE, office.workspace(), 10)
    office.use(MeterRef(Scope.WORKSPACE, office.workspace(), Unit.NUSD, Window.MONTH), USD)
    for whose in (mine, other):
        set_one(office, Scope.MEMBER, whose, 10)
        office.use(MeterRef(Scope.MEMBER, whose, Unit.NUSD, Window.MONTH), USD)
    for key in keys:
        office.use_key(key, USD, Window.LIFE)

    assert {one.scope_id for one in look(office, mine)} == {keys[0], mine}


def test_another_organization_is_not_seen(office: Office) -> None:
    """Its limits stay its own."""
    other = office.second_organization()
    key = office.key(limit_nusd=USD)
    office.use(MeterRef(Scope.KEY, key, Unit.NUSD, Window.LIFE), USD)
    with reading(office.engine) as connection:
        assert fullest(connection, other, None, 10, office.now_s) == []
