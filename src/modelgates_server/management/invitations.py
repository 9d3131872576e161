"""Invitations: a link that makes somebody a member, once, within seven days. Only the token's digest is stored."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.accounts import sessions
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope, Window
from modelgates_server.management.budgets import Budget, check_window, store_budget
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.members import (
    MEMBER,
    MemberRow,
    NewMember,
    check_role,
    mail_address,
    member_name,
    refuse_known,
    store_member,
)
from modelgates_server.management.paging import Page, page
from modelgates_server.management.spent import check_limit
from modelgates_server.management.workspaces import join, workspace_in
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

LIFE_S: Final = 7 * 24 * 3600

_INVITATIONS = schema.invitations
_DEAD: Final = "This invitation was used or taken back, or is older than seven days."


@dataclass(frozen=True, slots=True)
class Invited:
    """Who is asked in.

    `workspace` is an id or slug to join besides the default one; `share_nusd` is the budget that the member gets, for each
    `share_window` (None: a month).
    """

    email: str
    name: str
    role: str = MEMBER
    workspace: str | None = None
    share_nusd: int | None = None
    share_window: Window | None = None


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """An invitation as it is stored, without its token. `share_window` is None without a share."""

    id: str
    organization_id: str
    email: str
    name: str
    role: str
    workspace_id: str | None
    share_nusd: int | None
    share_window: Window | None
    invited_by: str
    created_at_s: int
    expires_at_s: int
    accepted_at_s: int | None
    revoked_at_s: int | None
    member_id: str | None

    def state(self, now_s: float) -> str:
        """How it stands: pending, accepted, revoked or expired."""
        if self.accepted_at_s is not None:
            return "accepted"
        if self.revoked_at_s is not None:
            return "revoked"
        return "expired" if self.expires_at_s <= now_s else "pending"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A new member, and the token of a sign-in link for them."""

    member: MemberRow
    sign_in_token: str = field(repr=False)


def invite(
    engine: sa.Engine, organization_id: str, invited: Invited, actor: str, now_s: float
) -> tuple[str, InvitationRow]:
    """Make an invitation; give its token, which nobody can read again, and its row.

    An earlier one to the same address that is still open is taken back by the same change, and named in its audit row.
    Raises BadRequest, NotFound for a foreign workspace.
    """
    name, email = member_name(invited.name), mail_address(invited.email)
    check_role(invited.role)
    check_limit(invited.share_nusd)
    window = invited.share_window or Window.MONTH
    check_window(window)
    if invited.share_window is not None and invited.share_nusd is None:
        raise BadRequest("a share needs its amount, not only how long it counts")
    token = secrets.token_urlsafe(32)
    with change(engine, now_s) as changing:
        refuse_known(changing.connection, organization_id, email)
        place = invited.workspace
        row: dict[str, Any] = {
            "id": changing.new_id("inv"),
            "organization_id": organization_id,
            "email": email,
            "name": name,
            "role": invited.role,
            "workspace_id": None if place is None else workspace_in(changing.connection, organization_id, place).id,
            "share_nusd": invited.share_nusd,
            "share_window": None if invited.share_nusd is None else str(window),
            "token_hash": _hash(token),
            "invited_by": actor,
            "created_at_s": changing.now_s,
            "expires_at_s": changing.now_s + LIFE_S,
        }
        replaced = _take_back(changing, organization_id, email)
        changing.connection.execute(sa.insert(_INVITATIONS).values(row))
        details = {name: row[name] for name in ("email", "role", "workspace_id", "share_nusd", "share_window")}
        details |= {"replaces": replaced} if replaced else {}
        changing.note(Note(organization_id, actor, "invitation.create", row["id"], details))
        return token, _found(changing.connection, organization_id, row["id"])


def join_url(origin: str, token: str) -> str:
    """The address that a token opens; whoever has it can join."""
    return f"{origin}/join?token={token}"


def list_invitations(
    engine: sa.Engine, organization_id: str, offset: int = 0, limit: int | None = None
) -> Page[InvitationRow]:
    """Give the organisation's invitations, newest first."""
    query = (
        sa.select(_INVITATIONS)
        .where(_INVITATIONS.c.organization_id == organization_id)
        .order_by(_INVITATIONS.c.created_at_s.desc(), _INVITATIONS.c.id.desc())
    )
    with reading(engine) as connection:
        return page(connection, query, _row, offset, limit)


def open_invitations(engine: sa.Engine, organization_id: str, now_s: float, limit: int) -> list[InvitationRow]:
    """Give the organisation's invitations that can still be accepted, newest first, up to `limit`."""
    live = (_INVITATIONS.c.organization_id == organization_id, *_pending(), _INVITATIONS.c.expires_at_s > int(now_s))
    query = sa.select(_INVITATIONS).where(*live).order_by(_INVITATIONS.c.created_at_s.desc(), _INVITATIONS.c.id.desc())
    with reading(engine) as connection:
        return [_row(row) for row in connection.execute(query.limit(limit)).mappings()]


def find_invitation(engine: sa.Engine, organization_id: str, invitation_id: str) -> InvitationRow:
    """Find an invitation. Raises NotFound."""
    with reading(engine) as connection:
        return _found(connection, organization_id, invitation_id)


def revoke_invitation(
    engine: sa.Engine, organization_id: str, invitation_id: str, actor: str, now_s: float
) -> InvitationRow:
    """Take an invitation back: its link opens nothing any more. Raises NotFound, also when it is not open."""
    with change(engine, now_s) as changing:
        mine = (_INVITATIONS.c.id == invitation_id, _INVITATIONS.c.organization_id == organization_id, *_pending())
        done = changing.connection.execute(sa.update(_INVITATIONS).where(*mine).values(revoked_at_s=changing.now_s))
        if done.rowcount == 0:
            raise NotFound("there is no such open invitation")
        changing.note(Note(organization_id, actor, "invitation.revoke", invitation_id))
        return _found(changing.connection, organization_id, invitation_id)


def invitation_of(engine: sa.Engine, token: str, now_s: float) -> InvitationRow:
    """Find the open invitation that a token belongs to, to show whom it is for. Raises NotFound."""
    query = sa.select(_INVITATIONS).where(_INVITATIONS.c.token_hash == _hash(token), *_pending())
    with reading(engine) as connection:
        row = connection.execute(query.where(_INVITATIONS.c.expires_at_s > int(now_s))).mappings().one_or_none()
    if row is None:
        raise NotFound(_DEAD, remedy="ask an admin for a new one")
    return _row(row)


def accept_invitation(engine: sa.Engine, token: str, now_s: float) -> Accepted:
    """Become a member: with a place in the workspace and the share that were promised, and a link to sign in.

    The token says whose organisation it is. Raises NotFound when it is used, revoked or too old, BadRequest when the address
    became a member's meanwhile.
    """
    with change(engine, now_s) as changing:
        member = _accept(changing, _INVITATIONS.c.token_hash == _hash(token))
        if member is None:
            raise NotFound(_DEAD, remedy="ask an admin for a new one")
        return Accepted(member, sessions.create_link(changing.connection, member.id, now_s))


def accept_for(changing: Change, organization_id: str, email: str) -> MemberRow | None:
    """Accept the open invitation of an address whose owner is here; None when there is none. An address has one at most."""
    return _accept(changing, _INVITATIONS.c.organization_id == organization_id, _INVITATIONS.c.email == email)


def _accept(changing: Change, *which: sa.ColumnElement[bool]) -> MemberRow | None:
    live = (*which, *_pending(), _INVITATIONS.c.expires_at_s > changing.now_s)
    used = sa.update(_INVITATIONS).where(*live).values(accepted_at_s=changing.now_s).returning(_INVITATIONS)
    found = changing.connection.execute(used).mappings().one_or_none()
    if found is None:
        return None
    invitation = _row(found)
    changing.bump_policy()
    wanted = NewMember(invitation.name, invitation.email, invitation.role)
    member = store_member(changing, invitation.organization_id, wanted)
    _keep_promises(changing, invitation, member)
    details = {"member_id": member.id}
    changing.note(Note(invitation.organization_id, member.id, "invitation.accept", invitation.id, details))
    return member


def _keep_promises(changing: Change, invitation: InvitationRow, member: MemberRow) -> None:
    connection = changing.connection
    connection.execute(sa.update(_INVITATIONS).where(_INVITATIONS.c.id == invitation.id).values(member_id=member.id))
    spaces = schema.workspaces.c
    if invitation.workspace_id is not None:
        living = sa.select(spaces.id).where(spaces.id == invitation.workspace_id, spaces.deleted_at_s.is_(None))
        if connection.execute(living).one_or_none() is not None:  # it may have been deleted since
            join(changing, invitation.organization_id, invitation.workspace_id, [member.id])
    if invitation.share_nusd is not None and invitation.share_window is not None:
        share = Budget(Scope.MEMBER, member.id, invitation.share_window, invitation.share_nusd)
        store_budget(changing, invitation.organization_id, share)


def _take_back(changing: Change, organization_id: str, email: str) -> list[str]:
    """Take back the open invitations of an address; give their ids."""
    mine = (_INVITATIONS.c.organization_id == organization_id, _INVITATIONS.c.email == email, *_pending())
    live = _INVITATIONS.c.expires_at_s > changing.now_s
    taken = sa.update(_INVITATIONS).where(*mine, live).values(revoked_at_s=changing.now_s)
    return list(changing.connection.execute(taken.returning(_INVITATIONS.c.id)).scalars())


def _pending() -> tuple[sa.ColumnElement[bool], ...]:
    return _INVITATIONS.c.accepted_at_s.is_(None), _INVITATIONS.c.revoked_at_s.is_(None)


def _found(connection: sa.Connection, organization_id: str, invitation_id: str) -> InvitationRow:
    query = sa.select(_INVITATIONS).where(
        _INVITATIONS.c.id == invitation_id, _INVITATIONS.c.organization_id == organization_id
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such invitation")
    return _row(row)


def _row(row: Any) -> InvitationRow:
    window = None if row["share_window"] is None else Window(row["share_window"])
    same = {name: row[name] for name in InvitationRow.__slots__ if name != "share_window"}
    return InvitationRow(**same, share_window=window)


def _hash(token: str) -> str:
    """A plain digest is right for 256 random bits (reliability-security 1.3)."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
