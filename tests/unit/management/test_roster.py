"""The people of an organisation as an admin looks at them, and their shares in one go."""

from __future__ import annotations

import pytest
from tests.support.store import USD
from tests.unit.management.estate import Estate

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope, Window
from modelgates_server.management.budgets import Budget, list_budgets, set_budget
from modelgates_server.management.keys import set_key_disabled
from modelgates_server.management.members import remove_member
from modelgates_server.management.roster import colleague, roster, set_shares
from modelgates_server.management.sign_in import enter_by_link, new_link


async def test_everything_about_a_member_stands_in_one_row(either: Estate) -> None:
    """What their keys used, how many are on, when they asked and were here last, and how full the share is."""
    ann = either.member("Ann", email="ann@example.com").id
    secret, row = either.key("a", member_id=ann)
    either.key("b", member_id=ann)
    set_key_disabled(either.engine, either.org, either.key("c", member_id=ann)[1].hash, True, "test", either.now_s)
    set_shares(either.engine, either.org, ann, {Window.WEEK: 20 * USD, Window.MONTH: 50 * USD}, "test", either.now_s)
    await either.spend(secret, 3)
    enter_by_link(either.engine, new_link(either.engine, either.org, ann, "test", either.now_s), either.now_s)
    found = colleague(either.engine, either.org, ann, either.now_s)
    assert (found.keys, found.month_nusd, found.last_request_ms) == (2, 3 * USD, int(either.now_s * 1000))
    assert (found.last_seen_s, found.with_password, found.with_identity) == (int(either.now_s), False, False)
    assert [(one.window, one.limit_nusd, one.spent_nusd, one.soft) for one in found.shares] == [
        ("week", 20 * USD, 3 * USD, False), ("month", 50 * USD, 3 * USD, False),
    ]  # fmt: skip
    assert row.hash
    nobody = colleague(either.engine, either.org, either.member("Bob").id, either.now_s)
    assert (nobody.keys, nobody.month_nusd, nobody.last_request_ms, nobody.last_seen_s, nobody.shares) == (
        0,
        0,
        None,
        None,
        (),
    )


def test_the_list_is_turned_page_by_page(either: Estate) -> None:
    """By key: each member once, the oldest first; the removed and the foreign are not among them."""
    ids = [either.member(f"m{number}").id for number in range(7)]
    remove_member(either.engine, either.org, ids[2], "test", either.now_s)
    seen, after, pages = [], "", 0
    while pages == 0 or after:
        page = roster(either.engine, either.org, after, 3, either.now_s)
        seen += [person.name for person in page.people]
        after, pages = page.after or "", pages + 1
        assert page.total == 7
    assert seen == ["Admin", "m0", "m1", "m3", "m4", "m5", "m6"]
    for odd in ("x", "1", "-1.a", "9" * 13 + ".a", "٣.a"):
        with pytest.raises(BadRequest):
            roster(either.engine, either.org, odd, 3, either.now_s)


def test_shares_are_set_as_a_whole(either: Estate) -> None:
    """What is not named is taken away, what stays the same is no change, and a soft one stays soft."""
    ann = either.member("Ann").id
    act = lambda **limits: set_shares(  # noqa: E731
        either.engine, either.org, ann, {Window(name): usd * USD for name, usd in limits.items()}, "test", either.now_s
    )
    assert [row.window for row in act(day=5, month=50)] == [Window.MONTH, Window.DAY]
    noted = len(either.noted())
    act(day=5, month=50)
    assert len(either.noted()) == noted
    set_budget(either.engine, either.org, Budget(Scope.MEMBER, ann, Window.DAY, 5 * USD, "soft"), "test", either.now_s)
    (only,) = act(day=6)
    assert (only.limit_nusd, only.mode) == (6 * USD, "soft")
    assert act() == []
    assert list_budgets(either.engine, either.org, Scope.MEMBER) == []
    with pytest.raises(NotFound):
        set_shares(either.engine, either.foreign.organization.id, ann, {}, "test", either.now_s)
