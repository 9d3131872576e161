"""People: added, listed, made admins, removed. A removal bites at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from tests.support.store import USD
from tests.unit.management.estate import Estate

from modelgates_server.accounts import sessions
from modelgates_server.errors import BadRequest, NotFound, Unauthenticated
from modelgates_server.ledger.values import Hold, HoldRequest, Stale
from modelgates_server.limits import Scope
from modelgates_server.management.assignments import assign_members
from modelgates_server.management.budgets import list_budgets, set_share
from modelgates_server.management.guardrails import Rules, create_guardrail
from modelgates_server.management.keys import get_key, set_key_disabled
from modelgates_server.management.members import (
    NewMember,
    add_member,
    find_member,
    list_members,
    remove_member,
    set_member_role,
)
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction


def remove(estate: Estate, member_id: str) -> None:
    remove_member(estate.engine, estate.org, member_id, "test", estate.now_s)


def request(estate: Estate, caller: object, number: int) -> HoldRequest:
    return HoldRequest(
        f"gen-{number}", caller.organization_id, caller.policy_version, caller.meters, USD, 0, 10,
        '{"provider": "p"}', estate.now_s,
    )  # fmt: skip


def test_members_are_added_found_and_listed(either: Estate) -> None:
    """By id, address in any case, or exact name; the first admin is there from the beginning."""
    ann = either.member("Ann", email="Ann@Example.com")
    assert ann.email == "ann@example.com"
    for selector in (ann.id, "ANN@example.com", "Ann"):
        assert find_member(either.engine, either.org, selector) == ann
    found = list_members(either.engine, either.org)
    assert ([row.name for row in found.rows], found.total) == (["Admin", "Ann"], 2)
    assert list_members(either.engine, either.org, offset=1, limit=1).rows == [ann]
    either.member("Ann")
    with pytest.raises(BadRequest, match="2 members"):
        find_member(either.engine, either.org, "Ann")


def test_members_of_one_second_are_listed_in_their_order(either: Estate) -> None:
    """Rows keep whole seconds, ids the moment."""
    names = [f"member {number}" for number in range(12)]
    for name in names:
        either.house.clock.advance(0.01)
        add_member(either.engine, either.org, NewMember(name), "test", either.now_s)
    assert [row.name for row in list_members(either.engine, either.org).rows] == ["Admin", *names]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (NewMember(" \x00"), "needs a name"),
        (NewMember("x" * 101), "at most 100"),
        (NewMember("Bob", "bob"), "not a mail address"),
        (NewMember("Bob", "bob@x y"), "not a mail address"),
        (NewMember("Bob", "Bob <bob@x>"), "not a mail address"),
        (NewMember("Bob", "a" * 250 + "@x.de"), "not a mail address"),
        (NewMember("Bob", role="owner"), "admin, member"),
        (NewMember("Bob", "ANN@x.de"), "a member already"),
    ],
)
def test_a_member_who_makes_no_sense_is_refused(estate: Estate, wanted: NewMember, told: str) -> None:
    """With the sentence that says why."""
    estate.member("Ann", email="ann@x.de")
    with pytest.raises(BadRequest, match=told):
        add_member(estate.engine, estate.org, wanted, "test", estate.now_s)


async def test_a_removed_members_keys_admit_nothing_from_that_moment(either: Estate) -> None:
    """Not for a process that has not heard, nor for a caller read at the newest version with the rows from before."""
    ann = either.member()
    secret, row = either.key(member_id=ann.id)
    assert await either.refused(secret, 1) is None
    directory = either.house.directory()
    caller = await directory.identify([secret])
    async with either.bank() as bank:
        assert isinstance(await bank.ledger.hold(request(either, caller, 90)), Hold)
        remove(either, ann.id)
        newest = replace(caller, policy_version=either.version())
        for number, known in enumerate((caller, newest), 91):
            assert isinstance(await bank.ledger.hold(request(either, known, number)), Stale)
    with pytest.raises(Unauthenticated, match="disabled"):
        await directory.reload(caller)
    assert get_key(either.engine, either.org, row.hash).disabled


async def test_a_removed_members_key_stays_off(estate: Estate) -> None:
    """Its owner is gone; nobody may use it in their place, so it is not shown as if it were on. A living member's goes on again."""
    ann = estate.member()
    secret, row = estate.key(member_id=ann.id)
    set_key_disabled(estate.engine, estate.org, row.hash, True, "test", estate.now_s)
    assert not set_key_disabled(estate.engine, estate.org, row.hash, False, "test", estate.now_s).disabled
    remove(estate, ann.id)
    with pytest.raises(BadRequest, match="was removed"):
        set_key_disabled(estate.engine, estate.org, row.hash, False, "test", estate.now_s)
    assert get_key(estate.engine, estate.org, row.hash).disabled
    with pytest.raises(Unauthenticated):
        await estate.caller(secret)


def test_a_removed_member_is_signed_out_and_forgotten(either: Estate) -> None:
    """Sessions and links are dead, share and guardrail gone, the address free for somebody new; the books keep the rest."""
    ann = either.member(email="ann@x.de")
    with transaction(either.engine) as connection:
        session = sessions.redeem_link(connection, sessions.create_link(connection, ann.id, either.now_s), either.now_s)
        link = sessions.create_link(connection, ann.id, either.now_s)
    set_share(either.engine, either.org, ann.id, USD, "test", either.now_s)
    guardrail = create_guardrail(either.engine, either.org, None, Rules("g"), "test", either.now_s)
    assign_members(either.engine, either.org, guardrail.id, [ann.id], "test", either.now_s)
    remove(either, ann.id)
    with transaction(either.engine) as connection:
        assert sessions.find_session(connection, session, either.now_s) is None
        with pytest.raises(Unauthenticated):
            sessions.redeem_link(connection, link, either.now_s)
    assert list_budgets(either.engine, either.org, Scope.MEMBER) == []
    with reading(either.engine) as connection:
        assert connection.execute(sa.select(schema.guardrail_members)).all() == []
    assert either.member("Ann the second", email="ann@x.de").id != ann.id


def test_there_is_always_an_admin(estate: Estate) -> None:
    """The last one is neither removed nor made a member; with a second one, the first may go."""
    (admin,) = list_members(estate.engine, estate.org).rows
    ann = estate.member()
    with pytest.raises(BadRequest, match="last admin"):
        remove(estate, admin.id)
    with pytest.raises(BadRequest, match="last admin"):
        set_member_role(estate.engine, estate.org, admin.id, "member", "test", estate.now_s)
    assert set_member_role(estate.engine, estate.org, ann.id, "admin", "test", estate.now_s).role == "admin"
    remove(estate, admin.id)
    assert [row.id for row in list_members(estate.engine, estate.org).rows] == [ann.id]


def test_a_change_of_role_asks_for_a_new_session(estate: Estate) -> None:
    """A session lives on with the rights that it began with; so it ends (reliability-security 1.3)."""
    ann = estate.member()
    with transaction(estate.engine) as connection:
        session = sessions.redeem_link(connection, sessions.create_link(connection, ann.id, estate.now_s), estate.now_s)
    set_member_role(estate.engine, estate.org, ann.id, "admin", "test", estate.now_s)
    with transaction(estate.engine) as connection:
        assert sessions.find_session(connection, session, estate.now_s) is None


def test_a_foreign_member_is_unknown(estate: Estate) -> None:
    """The same words as for somebody who does not exist."""
    admin = estate.foreign.admin
    told = set()
    for member_id in (admin.id, "mem-x"):
        for attempt in (
            lambda one: remove(estate, one),
            lambda one: set_member_role(estate.engine, estate.org, one, "member", "test", estate.now_s),
            lambda one: find_member(estate.engine, estate.org, one),
        ):
            with pytest.raises(NotFound) as refused:
                attempt(member_id)
            told.add(refused.value.message)
    assert told == {"there is no such member"}
    assert [row.id for row in list_members(estate.engine, estate.foreign.organization.id).rows] == [admin.id]
