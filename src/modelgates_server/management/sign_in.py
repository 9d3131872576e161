"""Signing in with a link or a password, and what a member may change about it. The identity provider's way is in `identity.py`.

Whoever signs in gets a session with a new token; whatever changes what somebody may do, or proves who they are, ends the old ones
(reliability-security 1.3). A wrong address, a wrong password and an account without one are refused alike, after the same work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import sqlalchemy as sa

from modelgates_server.accounts import sessions
from modelgates_server.accounts.guesses import Attempt, Guesses
from modelgates_server.accounts.passwords import Hasher, Passwords, check_password
from modelgates_server.accounts.sessions import Member, SessionRow
from modelgates_server.errors import BadRequest, Conflict, Forbidden, NotFound, RateRefused, Unauthenticated
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.members import MemberRow, member_in
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction

ACCOUNTS_MAX: Final = 4
"""Somebody may be a member of several organisations under one address; a password is compared with that many of them."""

WRONG: Final = "The address and the password do not belong together."
_OFF: Final = "Signing in with a password is switched off here."
_MEMBERS = schema.members


@dataclass(frozen=True, slots=True)
class Reception:
    """What signing in needs: the database, the counts of wrong guesses, and the places in which passwords are hashed.

    `with_password` says whether the operator lets people sign in with passwords at all.
    """

    engine: sa.Engine
    guesses: Guesses
    passwords: Passwords
    with_password: bool = True


@dataclass(frozen=True, slots=True)
class Claim:
    """Who somebody says they are. `network` is where they come from; the session `replaces`, if there is one, ends."""

    email: str
    password: str = field(repr=False)
    network: str
    replaces: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class NewPassword:
    """A password to set. `current` is the one to be replaced, empty when there is none; `network` is where the wish comes from."""

    current: str = field(repr=False)
    password: str = field(repr=False)
    network: str


class _Known(NamedTuple):
    """A member who has a password."""

    id: str
    organization_id: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a member can sign in, besides a link. `identity` says whether they are bound to an account at the identity provider."""

    password_set_at_s: int | None
    identity: bool


def owner_of_link(engine: sa.Engine, token: str, now_s: float) -> Member:
    """Give whom a one-time link is for, without using it. Raises Unauthenticated when it is used or too old."""
    with reading(engine) as connection:
        return sessions.check_link(connection, token, now_s)


def enter_by_link(engine: sa.Engine, token: str, now_s: float, replaces: str = "") -> str:
    """Use a one-time link; give the token of a new session. Raises Unauthenticated when it is used or too old."""
    with reading(engine) as connection:
        sessions.check_link(connection, token, now_s)  # a made-up one takes no lock
    with change(engine, now_s) as changing:
        session = sessions.redeem_link(changing.connection, token, now_s)
        entered = sessions.find_session(changing.connection, session, now_s)
        if replaces:
            sessions.end_session(changing.connection, replaces)
        if entered is not None:
            note_entry(changing, entered.member.organization_id, entered.member.id, "link")
        return session


def enter_by_password(reception: Reception, claim: Claim, now_s: float) -> str:
    """Check an address and a password; give the token of a new session.

    Raises Unauthenticated, with the same words whatever is wrong; RateRefused when it must wait; Forbidden when passwords are
    switched off.
    """
    if not reception.with_password:
        raise Forbidden(_OFF)
    account = claim.email.strip().lower()
    known = _known_as(reception.engine, account)
    shared = len(known) > 1
    _refuse_hasty(reception, account, claim.network, now_s, shared=shared)
    with reception.passwords.place() as hasher:
        attempt = _book(reception, account, claim.network, now_s, shared=shared)
        right, renewed = _right_one(hasher, known, claim.password)
    if right is None:
        raise Unauthenticated(WRONG)
    with change(reception.engine, now_s) as changing:
        reception.guesses.forgive(changing.connection, attempt, now_s)
        mine = (_MEMBERS.c.id == right.id, _MEMBERS.c.password_hash == right.password_hash)
        same = sa.update(_MEMBERS).where(*mine, _MEMBERS.c.removed_at_s.is_(None))
        if changing.connection.execute(same.values(password_hash=renewed or right.password_hash)).rowcount == 0:
            raise Unauthenticated(WRONG)  # it was changed, or its owner removed, while it was compared
        session = sessions.start_session(changing.connection, right.id, now_s)
        if claim.replaces:
            sessions.end_session(changing.connection, claim.replaces)
        note_entry(changing, right.organization_id, right.id, "password")
        return session


def set_password(reception: Reception, organization_id: str, member_id: str, new: NewPassword, now_s: float) -> str:
    """Set a member's own password. Every session and every sign-in link of theirs ends; gives the token of the new session.

    Raises BadRequest for a password that others would guess, for a wrong current one, and without a mail address to sign in
    with; RateRefused when wrong ones came too fast; Forbidden when passwords are switched off; Conflict; NotFound.
    """
    if not reception.with_password:
        raise Forbidden(_OFF)
    row, before = _with_hash(reception.engine, organization_id, member_id)
    if row.email is None:
        raise BadRequest("a password needs a mail address to sign in with: set the address first")
    check_password(new.password, (row.name, row.email))
    with reception.passwords.place() as hasher:
        if before is not None:
            _confirm(reception, hasher, row.id, before, new, now_s)
        encoded = hasher.hash(new.password)
    with change(reception.engine, now_s) as changing:
        mine = (
            _MEMBERS.c.id == row.id,
            _MEMBERS.c.organization_id == organization_id,
            _MEMBERS.c.removed_at_s.is_(None),
        )
        same = sa.update(_MEMBERS).where(*mine, _MEMBERS.c.password_hash == before)
        values = {"password_hash": encoded, "password_set_at_s": changing.now_s}
        if changing.connection.execute(same.values(values)).rowcount == 0:
            raise Conflict("the password was changed somewhere else at this moment; try again")
        sessions.end_sessions(changing.connection, row.id)
        sessions.end_links(changing.connection, row.id)  # whoever had a session could have made one
        changing.note(Note(organization_id, actor_of(row.id), "password.set", row.id))
        return sessions.start_session(changing.connection, row.id, now_s)


def credentials_of(engine: sa.Engine, organization_id: str, member_id: str) -> Credentials:
    """How a member can sign in. Raises NotFound."""
    with reading(engine) as connection:
        member_in(connection, organization_id, member_id)
        query = sa.select(_MEMBERS.c.password_set_at_s, _MEMBERS.c.oidc_subject)
        row = connection.execute(query.where(_MEMBERS.c.id == member_id)).one()
    return Credentials(row.password_set_at_s, identity=row.oidc_subject is not None)


def new_link(engine: sa.Engine, organization_id: str, member_id: str, actor: str, now_s: float) -> str:
    """Make a sign-in link for a member; give its token. Raises NotFound."""
    with change(engine, now_s) as changing:
        row = member_in(changing.connection, organization_id, member_id)
        changing.note(Note(organization_id, actor, "sign_in_link.create", row.id))
        return sessions.create_link(changing.connection, row.id, now_s)


def reset_sign_in(engine: sa.Engine, organization_id: str, member_id: str, actor: str, now_s: float) -> str:
    """Take away every way in that a member has, and give the token of a link with which they begin anew.

    Their password is forgotten, so is their account at the identity provider; sessions and older links end. Raises NotFound.
    """
    with change(engine, now_s) as changing:
        row = member_in(changing.connection, organization_id, member_id)
        nothing = {"password_hash": None, "password_set_at_s": None, "oidc_subject": None}
        changing.connection.execute(sa.update(_MEMBERS).where(_MEMBERS.c.id == row.id).values(nothing))
        sessions.end_sessions(changing.connection, row.id)
        sessions.end_links(changing.connection, row.id)
        changing.note(Note(organization_id, actor, "sign_in.reset", row.id))
        return sessions.create_link(changing.connection, row.id, now_s)


def sessions_of(
    engine: sa.Engine, organization_id: str, member_id: str, session: str, now_s: float
) -> Sequence[SessionRow]:
    """Give a member's live sessions; `session` is the token of the one that asks. Raises NotFound."""
    with reading(engine) as connection:
        member_in(connection, organization_id, member_id)
        return sessions.list_sessions(connection, member_id, session, now_s)


def end_one_session(engine: sa.Engine, organization_id: str, member_id: str, session_id: str, now_s: float) -> None:
    """End one session of a member, by the id that `sessions_of` gives. Raises NotFound."""
    with change(engine, now_s) as changing:
        row = member_in(changing.connection, organization_id, member_id)
        if not sessions.end_session_called(changing.connection, row.id, session_id):
            raise NotFound("there is no such session; it may have ended already")
        changing.note(Note(organization_id, actor_of(row.id), "session.end", row.id))


def sign_out(engine: sa.Engine, session: str) -> None:
    """End the session of this token."""
    with transaction(engine) as connection:
        sessions.end_session(connection, session)


def sign_out_everywhere(engine: sa.Engine, organization_id: str, member_id: str, actor: str, now_s: float) -> None:
    """End every session of a member, and every sign-in link that was not used. Raises NotFound."""
    with change(engine, now_s) as changing:
        row = member_in(changing.connection, organization_id, member_id)
        sessions.end_sessions(changing.connection, row.id)
        sessions.end_links(changing.connection, row.id)
        changing.note(Note(organization_id, actor, "sessions.end", row.id))


def actor_of(member_id: str) -> str:
    """What the audit log calls a member who acts."""
    return f"member:{member_id}"


def note_entry(changing: Change, organization_id: str, member_id: str, way: str) -> None:
    """Note in the audit log that somebody signed in, and how."""
    changing.note(Note(organization_id, actor_of(member_id), "sign_in", member_id, {"with": way}))


def _book(reception: Reception, account: str, network: str, now_s: float, *, shared: bool = False) -> Attempt:
    """Book an attempt as failed. Raises RateRefused, and books nothing, when it must wait."""
    with transaction(reception.engine) as connection:
        attempt = reception.guesses.book(connection, account, network, now_s, shared=shared)
        if attempt is None:
            raise _hasty(1)
        return attempt


def _refuse_hasty(reception: Reception, account: str, network: str, now_s: float, *, shared: bool = False) -> None:
    """Raise RateRefused while an account or a network must wait. Only reads: a flood of guesses takes no lock and no place."""
    with reading(reception.engine) as connection:
        wait_s = reception.guesses.wait_s(connection, account, network, now_s, shared=shared)
    if wait_s > 0:
        raise _hasty(wait_s)


def _hasty(wait_s: int) -> RateRefused:
    span = f"{wait_s} seconds" if wait_s < 120 else f"{-(-wait_s // 60)} minutes"
    return RateRefused(
        f"Too many attempts with a wrong password. Try again in {span}, or sign in with a link.",
        scope="sign_in",
        retry_after_s=wait_s,
    )


def _known_as(engine: sa.Engine, account: str) -> list[_Known]:
    """Whoever has that address and a password, oldest first."""
    columns = (_MEMBERS.c.id, _MEMBERS.c.organization_id, _MEMBERS.c.password_hash)
    live = (_MEMBERS.c.email == account, _MEMBERS.c.removed_at_s.is_(None), _MEMBERS.c.password_hash.is_not(None))
    query = sa.select(*columns).where(*live).order_by(_MEMBERS.c.created_at_s, _MEMBERS.c.id).limit(ACCOUNTS_MAX)
    with reading(engine) as connection:
        return [_Known(*row) for row in connection.execute(query)]


def _right_one(hasher: Hasher, known: Sequence[_Known], password: str) -> tuple[_Known | None, str | None]:
    """Whose password it is, and its hash made anew when it was made with weaker parameters. One check at least, for nobody too."""
    if not known:
        hasher.check(password, None)
    for row in known:
        checked = hasher.check(password, row.password_hash)
        if checked.right:
            return row, hasher.hash(password) if checked.stale else None
    return None, None


def _confirm(
    reception: Reception, hasher: Hasher, member_id: str, encoded: str, new: NewPassword, now_s: float
) -> None:
    """Check the current password of somebody who is signed in: a session that was left open must not change it."""
    _refuse_hasty(reception, member_id, new.network, now_s)
    attempt = _book(reception, member_id, new.network, now_s)
    if not hasher.check(new.current, encoded).right:
        raise BadRequest("the current password is wrong; who forgot it asks an admin to reset their sign-in")
    with transaction(reception.engine) as connection:
        reception.guesses.forgive(connection, attempt, now_s)


def _with_hash(engine: sa.Engine, organization_id: str, member_id: str) -> tuple[MemberRow, str | None]:
    with reading(engine) as connection:
        row = member_in(connection, organization_id, member_id)
        query = sa.select(_MEMBERS.c.password_hash).where(_MEMBERS.c.id == row.id)
        return row, connection.execute(query).scalar_one()
