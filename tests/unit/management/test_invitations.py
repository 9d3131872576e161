"""Invitations: a link that makes somebody a member, once, within seven days."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from tests.support.store import USD
from tests.unit.management.estate import Estate

from modelgates_server.accounts import sessions
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope, Window
from modelgates_server.management.audit import AuditFilter, list_audit
from modelgates_server.management.budgets import list_budgets
from modelgates_server.management.invitations import (
    InvitationRow,
    Invited,
    accept_invitation,
    find_invitation,
    invitation_of,
    invite,
    list_invitations,
    revoke_invitation,
)
from modelgates_server.management.members import find_member
from modelgates_server.management.workspaces import NewWorkspace, create_workspace, delete_workspace, list_places
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction

DAY_S = 24 * 3600


def ask(estate: Estate, email: str = "ann@x.de", **more: object) -> tuple[str, InvitationRow]:
    return invite(estate.engine, estate.org, Invited(email, "Ann", **more), "test", estate.now_s)


def state(estate: Estate, row: InvitationRow) -> str:
    return find_invitation(estate.engine, estate.org, row.id).state(estate.now_s)


def test_accepting_makes_a_member_with_what_was_promised(either: Estate) -> None:
    """Role, workspace and monthly share, and a link to sign in; each of the two is one audit row."""
    place = create_workspace(either.engine, either.org, NewWorkspace("Lab"), "test", either.now_s)
    token, row = ask(either, role="admin", workspace="lab", share_nusd=5 * USD)
    assert invitation_of(either.engine, token, either.now_s) == row
    accepted = accept_invitation(either.engine, token, either.now_s)
    assert (accepted.member.email, accepted.member.role) == ("ann@x.de", "admin")
    assert [one.member for one in list_places(either.engine, either.org, place.id).rows] == [accepted.member]
    (share,) = list_budgets(either.engine, either.org, Scope.MEMBER)
    assert (share.scope_id, share.window, share.limit_nusd) == (accepted.member.id, Window.MONTH, 5 * USD)
    with transaction(either.engine) as connection:
        assert sessions.redeem_link(connection, accepted.sign_in_token, either.now_s)
    assert either.noted()[-2:] == ["invitation.create", "invitation.accept"]
    assert (state(either, row), find_invitation(either.engine, either.org, row.id).member_id) == (
        "accepted", accepted.member.id,
    )  # fmt: skip


def test_a_token_works_once_and_for_seven_days(estate: Estate) -> None:
    """A second use, a made-up one and one that is too old are refused alike."""
    token, _ = ask(estate)
    accept_invitation(estate.engine, token, estate.now_s)
    old, row = ask(estate, "bob@x.de")
    estate.house.clock.advance(7 * DAY_S)
    assert state(estate, row) == "expired"
    for dead in (token, old, "made-up", row.id, "\udcff"):
        with pytest.raises(NotFound, match="older than seven days"):
            accept_invitation(estate.engine, dead, estate.now_s)
        with pytest.raises(NotFound, match="older than seven days"):
            invitation_of(estate.engine, dead, estate.now_s)


def test_only_a_digest_of_the_token_is_stored(estate: Estate) -> None:
    """Whoever reads the database cannot join; nor does the log or the list show it."""
    token, row = ask(estate)
    with reading(estate.engine) as connection:
        stored = connection.execute(sa.select(schema.invitations)).mappings().one()
        logged = connection.execute(sa.select(schema.audit.c.details)).scalars().all()
    assert token not in str(dict(stored)) + str(logged) + str(row)
    with pytest.raises(NotFound):
        accept_invitation(estate.engine, stored["token_hash"], estate.now_s)


def test_an_invitation_is_taken_back(either: Estate) -> None:
    """Its link is dead; taking it back again finds nothing. A new one to the same address replaces the open one."""
    token, row = ask(either)
    revoke_invitation(either.engine, either.org, row.id, "test", either.now_s)
    with pytest.raises(NotFound):
        accept_invitation(either.engine, token, either.now_s)
    with pytest.raises(NotFound, match="no such open invitation"):
        revoke_invitation(either.engine, either.org, row.id, "test", either.now_s)
    first, one = ask(either)
    second, two = ask(either, "ANN@x.de")
    assert [state(either, each) for each in (one, two)] == ["revoked", "pending"]
    with pytest.raises(NotFound):
        accept_invitation(either.engine, first, either.now_s)
    accept_invitation(either.engine, second, either.now_s)


def test_a_new_invitation_names_what_it_replaces(either: Estate) -> None:
    """In its own audit row, the only one of the change; one that was too old already stays so, and others stay open."""
    _, old = ask(either)
    _, other = ask(either, "bob@x.de")
    either.house.clock.advance(7 * DAY_S)
    _, one = ask(either)
    noted = len(either.noted())
    _, two = ask(either)
    assert [state(either, row) for row in (old, other, one, two)] == ["expired", "expired", "revoked", "pending"]
    assert either.noted()[noted:] == ["invitation.create"]
    (row,) = list_audit(either.engine, either.org, AuditFilter("invitation.create"), 0, 1).rows
    assert (row.target, json.loads(row.details)["replaces"]) == (two.id, [one.id])


@pytest.mark.parametrize("window", [Window.DAY, Window.WEEK, Window.LIFE])
def test_a_share_may_be_of_any_window(estate: Estate, window: Window) -> None:
    """The one that was promised is the member's, and no other."""
    token, row = ask(estate, share_nusd=5 * USD, share_window=window)
    assert invitation_of(estate.engine, token, estate.now_s) == row
    accept_invitation(estate.engine, token, estate.now_s)
    (share,) = list_budgets(estate.engine, estate.org, Scope.MEMBER)
    assert (row.share_window, share.window, share.limit_nusd) == (window, window, 5 * USD)


def test_who_is_a_member_is_not_invited(estate: Estate) -> None:
    """Neither when asked, nor when the address became a member's in between: then the invitation stays open."""
    estate.member(email="ann@x.de")
    with pytest.raises(BadRequest, match="a member already"):
        ask(estate)
    token, row = ask(estate, "bob@x.de")
    estate.member("Bob", email="bob@x.de")
    with pytest.raises(BadRequest, match="a member already"):
        accept_invitation(estate.engine, token, estate.now_s)
    assert state(estate, row) == "pending"


def test_an_invitation_that_makes_no_sense_is_refused(estate: Estate) -> None:
    """Address, role, share; and a workspace of somebody else is unknown."""
    for wrong in (
        {"email": "ann"}, {"role": "owner"}, {"share_nusd": -1}, {"share_window": Window.DAY},
        {"share_nusd": 1, "share_window": Window.MINUTE},
    ):  # fmt: skip
        with pytest.raises(BadRequest):
            ask(estate, **wrong)
    with pytest.raises(NotFound, match="no such workspace"):
        ask(estate, workspace=estate.foreign.workspace.id)


def test_foreign_invitations_are_unknown(estate: Estate) -> None:
    """They are not listed, found or taken back."""
    _, row = ask(estate)
    foreign = estate.foreign.organization.id
    assert list_invitations(estate.engine, foreign).rows == []
    assert [one.id for one in list_invitations(estate.engine, estate.org).rows] == [row.id]
    with pytest.raises(NotFound):
        find_invitation(estate.engine, foreign, row.id)
    with pytest.raises(NotFound):
        revoke_invitation(estate.engine, foreign, row.id, "test", estate.now_s)


def test_a_promised_workspace_that_is_gone_keeps_nobody_out(estate: Estate) -> None:
    """The person joins, without it."""
    create_workspace(estate.engine, estate.org, NewWorkspace("Lab"), "test", estate.now_s)
    token, _ = ask(estate, workspace="lab")
    delete_workspace(estate.engine, estate.org, "lab", "test", estate.now_s)
    member = accept_invitation(estate.engine, token, estate.now_s).member
    assert find_member(estate.engine, estate.org, "ann@x.de") == member
