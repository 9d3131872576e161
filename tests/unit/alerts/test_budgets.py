"""Limits are watched: each threshold once in a window, the highest only after a jump, for every kind of limit."""

from __future__ import annotations

import pytest
from tests.unit.alerts.office import USD, Office, at_once

from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.management.assignments import assign_keys, assign_members
from modelgates_server.management.budgets import Budget, set_budget
from modelgates_server.management.guardrails import Rules, create_guardrail, default_guardrail_id, update_guardrail
from modelgates_server.management.keys import delete_key, update_key_limit
from modelgates_server.management.settings import update_settings

DAY_S = 86_400


def set_one(office: Office, scope: Scope, scope_id: str, limit_usd: int, **more: object) -> None:
    budget = Budget(scope, scope_id, Window.MONTH, limit_usd * USD, **more)  # type: ignore[arg-type]
    set_budget(office.engine, office.organization_id, budget, "ann", office.now_s)


def test_each_threshold_is_told_once(office: Office) -> None:
    """At 50, 80, 95 and 100 percent; looking again says nothing."""
    key = office.key(limit_nusd=100 * USD, limit_reset="monthly")
    for nusd in (49, 1, 29, 1, 15, 4, 1):
        office.use_key(key, nusd * USD)
        office.watch()
        office.clock.advance(1)
        assert office.watch() == 0
    assert office.percents() == [50, 80, 95, 100]
    assert [alert["severity"] for alert in office.told()] == ["info", "warning", "warning", "critical"]


def test_a_jump_tells_the_highest_only(office: Office) -> None:
    """From nothing to 96 percent is one alert, and the lower ones never follow, not even after a correction."""
    key = office.key(limit_nusd=100 * USD, limit_reset="monthly")
    office.use_key(key, 96 * USD)
    assert office.watch() == 1
    office.use_key(key, -10 * USD)
    assert office.watch() == 0
    assert office.percents() == [95]


def test_a_new_window_tells_anew(office: Office) -> None:
    """The day's meter is a new row, so its alerts are new facts."""
    key = office.key(limit_nusd=10 * USD, limit_reset="daily")
    for _ in range(2):
        office.use_key(key, 9 * USD, Window.DAY)
        assert (office.watch(), office.watch()) == (1, 0)
        office.clock.advance(DAY_S)
    assert office.watch() == 0
    assert office.percents() == [80, 80]


def test_eight_threads_of_two_processes_tell_once(office: Office) -> None:
    """However many see the same, one alert is written; here for twenty keys at once."""
    keys = [office.key(f"key {number}", limit_nusd=10 * USD, limit_reset="monthly") for number in range(20)]
    engines = [office.engine, office.another()]
    for nusd, percent in ((6, 50), (3, 80)):
        for key in keys:
            office.use_key(key, nusd * USD)
        assert sum(at_once(lambda number: office.watch(engines[number % 2]))) == 20
        assert office.percents().count(percent) == 20
    assert len(office.told()) == 40


def test_a_sentence_says_who_how_much_until_when_and_what_to_do(office: Office) -> None:
    """It is what a team lead reads, so it stands here in full."""
    key = office.key("nightly", limit_nusd=50 * USD, limit_reset="monthly")
    office.use_key(key, 41_239_999_999)
    office.watch()
    (alert,) = office.told()
    label = alert["message"].split("(")[1].split(")")[0]
    assert label.startswith("sk-mg-v1-...")
    assert alert["message"] == (
        f'The key "nightly" ({label}) has used 82 % of its monthly limit: $41.24 of $50.00. It starts anew at'
        " 2027-02-01 00:00 UTC. When it is used up, requests are refused until then: slow down, or raise the limit."
    )
    assert alert["details"]["used_nusd"] == 41_239_999_999


@pytest.mark.parametrize(
    ("scope", "begins"),
    [
        (Scope.ORGANIZATION, 'The organization "Organization" has used 90 % of its monthly budget'),
        (Scope.WORKSPACE, 'The workspace "Default" has used 90 % of its monthly budget'),
        (Scope.MEMBER, 'The member "Ann" has used 90 % of its monthly budget'),
        (Scope.APP, 'The app "claude-code" has used 90 % of its monthly budget'),
    ],
)
def test_every_kind_of_budget_is_watched(office: Office, scope: Scope, begins: str) -> None:
    """Organisations, workspaces, members and apps are named as people know them."""
    ids = {Scope.ORGANIZATION: office.organization_id, Scope.WORKSPACE: office.workspace(), Scope.APP: "claude-code"}
    scope_id = ids.get(scope) or office.member()
    set_one(office, scope, scope_id, 10)
    metered = f"{office.organization_id}/claude-code" if scope is Scope.APP else scope_id
    office.use(MeterRef(scope, metered, Unit.NUSD, Window.MONTH), 9 * USD)
    assert office.watch() == 1
    assert office.told()[0]["message"].startswith(begins)


def test_a_soft_budget_is_told_as_one(office: Office) -> None:
    """It refuses nothing, so even what lies above it is a warning and no alarm."""
    member = office.member()
    set_one(office, Scope.MEMBER, member, 10, mode="soft")
    office.use(MeterRef(Scope.MEMBER, member, Unit.NUSD, Window.MONTH), 15 * USD)
    assert office.watch() == 1
    (alert,) = office.told()
    assert alert["severity"] == "warning"
    assert "has used 150 % of its monthly budget: $15.00 of $10.00." in alert["message"]
    assert "soft budget, so nothing is refused" in alert["message"]


def test_a_guardrail_is_watched_for_each_assignee(office: Office) -> None:
    """Two members and a key have an allowance each; only who used it is told about."""
    ann, ben, key = office.member("Ann"), office.member("Ben"), office.key("ci")
    rules = Rules("Interns", limit_nusd=10 * USD, reset_interval="daily")
    guardrail = create_guardrail(office.engine, office.organization_id, None, rules, "ann", office.now_s)
    assign_members(office.engine, office.organization_id, guardrail.id, [ann, ben], "ann", office.now_s)
    assign_keys(office.engine, office.organization_id, guardrail.id, [key], "ann", office.now_s)
    office.use(MeterRef(Scope.MEMBER, ben, Unit.NUSD, Window.DAY), 8 * USD)
    office.use_key(key, 5 * USD, Window.DAY)
    office.watch()
    member, own = sorted(alert["message"] for alert in office.told())[::-1]
    assert member.startswith(
        'The member "Ben" has used 80 % of its daily budget, set by the guardrail "Interns": $8.00'
    )
    assert own.startswith('The key "ci" (sk-mg-v1-')


def test_a_workspaces_default_guardrail_is_watched(office: Office) -> None:
    """For every key of the workspace, and for every member within it, once however many keys a member has."""
    ann, space = office.member("Ann"), office.workspace()
    keys = [office.key(f"{number}", member_id=ann) for number in range(3)]
    changes = {"limit_nusd": 10 * USD, "reset_interval": "weekly", "include_byok": True}
    guardrail = default_guardrail_id(space)
    update_guardrail(office.engine, office.organization_id, guardrail, changes, "ann", office.now_s)
    office.use(MeterRef(Scope.SEAT, f"{space}/{ann}", Unit.SPEND, Window.WEEK), 8 * USD)
    office.use_key(keys[0], 6 * USD, Window.WEEK, Unit.SPEND)
    assert office.watch() == 2
    told = {alert["details"]["scope"]: alert["message"] for alert in office.told()}
    assert told.keys() == {"key", "seat"}
    assert told["seat"].startswith('The member "Ann" in the workspace "Default" has used 80 % of its weekly budget')


def test_a_limit_that_was_changed_is_a_new_fact(office: Office) -> None:
    """Whoever was told of 95 % of ten dollars is told of 80 % of twelve; a limit lowered under its use is told at once."""
    key = office.key(limit_nusd=10 * USD, limit_reset="monthly")
    office.use_key(key, 9_600_000_000)
    office.watch()
    for limit_usd in (12, 5):
        office.clock.advance(1)
        update_key_limit(office.engine, office.organization_id, key, limit_usd * USD, "monthly", "ann", office.now_s)
        office.watch()
    assert office.percents() == [95, 80, 100]


def test_a_deleted_key_and_an_old_window_are_not_told(office: Office) -> None:
    """What is gone concerns nobody."""
    gone, old = office.key("gone", limit_nusd=USD), office.key("old", limit_nusd=USD, limit_reset="daily")
    office.use_key(gone, USD, Window.LIFE)
    office.use_key(old, USD, Window.DAY)
    delete_key(office.engine, office.organization_id, gone, "ann", office.now_s)
    office.clock.advance(DAY_S)
    assert office.watch() == 0


def test_an_organization_chooses_its_thresholds(office: Office) -> None:
    """Its own settings win over the gateway's; an empty list wants no alerts."""
    key = office.key(limit_nusd=100 * USD, limit_reset="monthly")
    update_settings(office.engine, office.organization_id, "ann", office.now_s, thresholds=(70,))
    office.use_key(key, 69 * USD)
    assert office.watch() == 0
    office.use_key(key, USD)
    assert office.watch() == 1
    update_settings(office.engine, office.organization_id, "ann", office.now_s, thresholds=())
    office.use_key(key, 30 * USD)
    assert office.watch() == 0


def test_organizations_are_told_apart(office: Office) -> None:
    """Each hears of its own keys only, also when only one of them wants to hear anything."""
    other = office.second_organization()
    update_settings(office.engine, other, "ann", office.now_s, thresholds=(10,))
    mine = office.key(limit_nusd=10 * USD)
    first, office.organization_id = office.organization_id, other
    theirs = office.key("theirs", limit_nusd=10 * USD)
    office.use_key(theirs, USD, Window.LIFE)
    office.organization_id = first
    office.use_key(mine, USD, Window.LIFE)
    assert office.watch() == 1
    assert office.told() == []
    assert [alert["details"]["scope_id"] for alert in office.told(other)] == [theirs]


def test_hostile_names_stay_words(office: Office) -> None:
    """A name with line breaks, quotes, markup and invisible letters neither breaks the sentence nor its line."""
    key = office.key('x"\r\nBcc: all@example.com\u202e<script>alert(1)</script>', limit_nusd=10 * USD)
    office.use_key(key, 9 * USD, Window.LIFE)
    office.watch()
    (alert,) = office.told()
    assert alert["message"].startswith('The key "x\'Bcc: all@example.com<script>alert(1)</script>" (sk-mg-v1-')
    assert alert["message"].isprintable()


def test_looking_writes_nothing(office: Office) -> None:
    """When there is nothing new, no transaction is opened for writing: the ledger's writer is not held up."""
    key = office.key(limit_nusd=10 * USD, limit_reset="monthly")
    office.use_key(key, 9 * USD)
    office.watch()
    with office.another().begin() as connection:
        connection.exec_driver_sql("DELETE FROM sessions WHERE token_hash = ''")  # holds SQLite's write lock
        assert office.watch() == 0
