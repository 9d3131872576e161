"""Who comes in by way of the identity provider: bound once, invited, joined, or refused. On both stores."""

from __future__ import annotations

import dataclasses

import pytest
import sqlalchemy as sa
from tests.support.store import USD
from tests.unit.management.estate import Estate

from modelgates_server.accounts import oidc, sessions
from modelgates_server.accounts.oidc import Identity
from modelgates_server.accounts.sessions import Member
from modelgates_server.errors import Unauthenticated
from modelgates_server.limits import Scope, Window
from modelgates_server.management.budgets import list_budgets
from modelgates_server.management.identity import Arrival, enter_by_identity
from modelgates_server.management.invitations import Invited, find_invitation, invite, revoke_invitation
from modelgates_server.management.members import NewMember, add_member, change_member, list_members, remove_member
from modelgates_server.management.sign_in import reset_sign_in
from modelgates_server.storage.engine import reading

ISSUER = "https://login.example.com"
ANN = Identity(f"{ISSUER} u1", "ann@example.com", email_verified=True, name="Ann")


def come(estate: Estate, identity: Identity = ANN, *domains: str, **more: str) -> Member:
    """Come back from the provider; who is signed in then."""
    arrival = Arrival(identity, oidc.begin("/", estate.now_s), domains, **more)
    token = enter_by_identity(estate.engine, arrival, estate.now_s)
    with reading(estate.engine) as connection:
        session = sessions.find_session(connection, token, estate.now_s)
    assert session is not None
    return session.member


def other(**changes: object) -> Identity:
    return dataclasses.replace(ANN, **changes)


def people(estate: Estate) -> list[str]:
    return [row.name for row in list_members(estate.engine, estate.org).rows]


def test_a_member_is_bound_at_the_first_sign_in(either: Estate) -> None:
    """From then on the provider's id counts, whatever happens to the address here or there."""
    member_id = either.member("Ann", email="ann@example.com").id
    assert come(either).id == member_id
    assert either.noted()[-2:] == ["member.bind", "sign_in"]
    assert come(either, other(email="ann.smith@example.com")).id == member_id
    assert come(either, other(email=None, email_verified=False)).id == member_id
    change_member(either.engine, either.org, member_id, {"email": "else@example.com"}, "test", either.now_s)
    assert come(either).id == member_id
    assert "member.bind" not in either.noted()[-3:]


def test_an_address_that_is_given_to_somebody_else_does_not_become_them(either: Estate) -> None:
    """Another account with the same verified address is refused until an admin resets the member's sign-in."""
    member_id = either.member("Ann", email="ann@example.com").id
    come(either)
    successor = other(subject=f"{ISSUER} u2")
    with pytest.raises(Unauthenticated, match="another account"):
        come(either, successor, "example.com")
    reset_sign_in(either.engine, either.org, member_id, "test", either.now_s)
    assert come(either, successor).id == member_id
    with pytest.raises(Unauthenticated):
        come(either)


@pytest.mark.parametrize(
    "odd", [{"email_verified": False}, {"email": None}, {"email": "nonsense"}, {"email": "a b@example.com"}]
)
def test_only_verified_addresses_count(either: Estate, odd: dict[str, object]) -> None:
    """Otherwise anybody could write anybody's."""
    either.member("Ann", email="ann@example.com")
    with pytest.raises(Unauthenticated):
        come(either, other(**odd), "example.com")


def test_strangers_do_not_come_in(either: Estate) -> None:
    """Unless their domain may join; nothing is left of the attempt."""
    before = either.noted()
    for domains in ((), ("example.org",), ("ample.com",), ("com",)):
        with pytest.raises(Unauthenticated, match="not a member here"):
            come(either, ANN, *domains)
    with pytest.raises(Unauthenticated):
        come(either, other(email="ann@sub.example.com"), "example.com")
    assert (either.noted(), people(either)) == (before, ["Admin"])


def test_colleagues_of_a_domain_join_as_members(either: Estate) -> None:
    """With the name that the provider says, or else their address; once."""
    first = come(either, ANN, "example.com")
    assert (first.organization_id, first.name, first.email, first.role) == (
        either.org,
        "Ann",
        "ann@example.com",
        "member",
    )
    assert come(either, ANN, "example.com").id == first.id
    assert (
        come(either, other(subject="x y", email="bob@example.com", name=None), "example.com").name == "bob@example.com"
    )
    assert sorted(people(either)) == ["Admin", "Ann", "bob@example.com"]
    assert "member.join" in either.noted()


def test_who_was_removed_does_not_join_again(either: Estate) -> None:
    """Neither with the old address nor with a new one; an invitation lets them in."""
    member_id = come(either, ANN, "example.com").id
    remove_member(either.engine, either.org, member_id, "test", either.now_s)
    for identity in (ANN, other(subject=f"{ISSUER} u9"), other(email="new@example.com")):
        with pytest.raises(Unauthenticated, match="was removed"):
            come(either, identity, "example.com")
    invite(either.engine, either.org, Invited("ann@example.com", "Ann again"), "test", either.now_s)
    again = come(either, ANN, "example.com")
    assert (again.name, again.id != member_id) == ("Ann again", True)


def test_an_open_invitation_is_accepted(either: Estate) -> None:
    """With the role and the share that it promises; one that was taken back counts no more."""
    wanted = Invited("Ann@Example.com", "Ann I.", "admin", share_nusd=5 * USD, share_window=Window.DAY)
    _, row = invite(either.engine, either.org, wanted, "test", either.now_s)
    found = come(either)
    assert (found.name, found.role) == ("Ann I.", "admin")
    (share,) = list_budgets(either.engine, either.org, Scope.MEMBER, found.id)
    assert (share.limit_nusd, share.window) == (5 * USD, Window.DAY)
    assert find_invitation(either.engine, either.org, row.id).member_id == found.id
    _, row = invite(either.engine, either.org, Invited("bob@example.com", "Bob"), "test", either.now_s)
    revoke_invitation(either.engine, either.org, row.id, "test", either.now_s)
    with pytest.raises(Unauthenticated):
        come(either, other(subject="b", email="bob@example.com"))


def test_a_sign_in_ends_once(either: Estate) -> None:
    """The same answer a second time is refused, also on another replica."""
    either.member("Ann", email="ann@example.com")
    arrival = Arrival(ANN, oidc.begin("/", either.now_s))
    assert enter_by_identity(either.engine, arrival, either.now_s)
    with pytest.raises(Unauthenticated, match="finished before"):
        enter_by_identity(either.engine, arrival, either.now_s)


def test_no_other_organization_gets_people_by_adding_them(either: Estate) -> None:
    """The first organisation's members and domains come first; only who belongs nowhere there is found elsewhere."""
    org = either.foreign.organization.id
    add_member(either.engine, org, NewMember("Ann F.", "ann@example.com"), "test", either.now_s)
    add_member(either.engine, org, NewMember("Bob F.", "bob@elsewhere.example"), "test", either.now_s)
    assert come(either, ANN, "example.com").organization_id == either.org
    bob = come(either, other(subject="b", email="bob@elsewhere.example"), "example.com")
    assert (bob.organization_id, bob.name) == (org, "Bob F.")
    invite(either.engine, org, Invited("cem@elsewhere.example", "Cem"), "test", either.now_s)
    with pytest.raises(Unauthenticated):
        come(either, other(subject="c", email="cem@elsewhere.example"))


def test_the_session_that_was_there_ends(either: Estate) -> None:
    """Signing in gives a new token, and what a planted one opened is closed."""
    either.member("Ann", email="ann@example.com")
    planted = enter_by_identity(either.engine, Arrival(ANN, oidc.begin("/", either.now_s)), either.now_s)
    come(either, replaces=planted)
    with reading(either.engine) as connection:
        assert sessions.find_session(connection, planted, either.now_s) is None
        assert connection.execute(sa.text("SELECT COUNT(*) FROM sessions")).scalar_one() == 1
