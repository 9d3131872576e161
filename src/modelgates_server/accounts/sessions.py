"""Signing in: links that work once, and the sessions they start. Only SHA-256 digests of the tokens are stored.

A plain hash is right for 256 random bits; the numbers are those of reliability-security 1.3.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from modelgates_server.errors import Unauthenticated
from modelgates_server.storage import schema

LINK_LIFE_S = 24 * 3600
SESSION_IDLE_S = 12 * 3600
SESSION_LIFE_S = 7 * 24 * 3600
SEEN_EVERY_S = 60
"""A session's last use is noted once a minute, so that looking at pages does not write each time."""

SESSION_ID_CHARACTERS = 16
"""How much of a token's digest names a session to its owner."""

_LINK_DEAD = "This sign-in link was used or is older than 24 hours."

_LINK_REMEDY = "ask an admin for a new one, or make one with: modelgates init"


@dataclass(frozen=True, slots=True)
class Member:
    """A person of an organisation. `role` is admin or member."""

    id: str
    organization_id: str
    name: str
    email: str | None
    role: str


def create_link(connection: sa.Connection, member_id: str, now_s: float) -> str:
    """Make a link's token for a member: it works once, within 24 hours."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        sa.insert(schema.sign_in_links).values(
            token_hash=_hash(token), member_id=member_id, expires_at_s=int(now_s) + LINK_LIFE_S, used_at_s=None
        )
    )
    return token


def check_link(connection: sa.Connection, token: str, now_s: float) -> Member:
    """Give whom a link is for. Raises Unauthenticated when it is used or too old. Only reads."""
    links = schema.sign_in_links
    live = (links.c.token_hash == _hash(token), links.c.used_at_s.is_(None), links.c.expires_at_s > int(now_s))
    found = connection.execute(sa.select(links.c.member_id).where(*live)).one_or_none()
    member = None if found is None else _member(connection, found.member_id)
    if member is None:
        raise Unauthenticated(_LINK_DEAD, remedy=_LINK_REMEDY)
    return member


def redeem_link(connection: sa.Connection, token: str, now_s: float) -> str:
    """Use a link: start a session and give its token. Raises Unauthenticated when the link is used or too old."""
    links = schema.sign_in_links
    live = (links.c.token_hash == _hash(token), links.c.used_at_s.is_(None), links.c.expires_at_s > int(now_s))
    used = connection.execute(
        sa.update(links).where(*live).values(used_at_s=int(now_s)).returning(links.c.member_id)
    ).one_or_none()
    member = None if used is None else _member(connection, used.member_id)
    if member is None:
        raise Unauthenticated(_LINK_DEAD, remedy=_LINK_REMEDY)
    return _start(connection, member, now_s)


def start_session(connection: sa.Connection, member_id: str, now_s: float) -> str:
    """Start a session for somebody who has proved who they are; give its token. Raises Unauthenticated for who is no member."""
    member = _member(connection, member_id)
    if member is None:
        raise Unauthenticated("You are not a member here any more.", remedy="ask an admin of the organization")
    return _start(connection, member, now_s)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A live session as its owner sees it. `id` ends it and opens nothing; `current` is the one that asks."""

    id: str
    created_at_s: int
    last_seen_at_s: int
    expires_at_s: int
    current: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A live session. `due` says that its use should be noted (`note_seen`)."""

    member: Member
    due: bool


def find_session(connection: sa.Connection, token: str, now_s: float) -> Session | None:
    """Give the live session of a token; None for any other token. Only reads, so looking at pages takes no lock."""
    sessions, now = schema.sessions, int(now_s)
    row = connection.execute(sa.select(sessions).where(sessions.c.token_hash == _hash(token))).one_or_none()
    if row is None or row.expires_at_s <= now or row.last_seen_at_s + SESSION_IDLE_S <= now:
        return None
    member = _member(connection, row.member_id)
    return None if member is None else Session(member, due=row.last_seen_at_s + SEEN_EVERY_S <= now)


def note_seen(connection: sa.Connection, token: str, now_s: float) -> None:
    """Note that a session is in use, which keeps it from falling asleep."""
    sessions = schema.sessions
    connection.execute(
        sa.update(sessions).where(sessions.c.token_hash == _hash(token)).values(last_seen_at_s=int(now_s))
    )


def list_sessions(connection: sa.Connection, member_id: str, token: str, now_s: float) -> list[SessionRow]:
    """Give a member's live sessions, the one used last first; `token` is the session that asks."""
    rows, now, mine = schema.sessions, int(now_s), _hash(token)
    live = (rows.c.expires_at_s > now, rows.c.last_seen_at_s + SESSION_IDLE_S > now)
    query = sa.select(rows).where(rows.c.member_id == member_id, *live)
    found = connection.execute(query.order_by(rows.c.last_seen_at_s.desc(), rows.c.token_hash))
    return [
        SessionRow(
            row.token_hash[:SESSION_ID_CHARACTERS], row.created_at_s, row.last_seen_at_s, row.expires_at_s,
            current=row.token_hash == mine,
        )
        for row in found
    ]  # fmt: skip


def end_session_called(connection: sa.Connection, member_id: str, session_id: str) -> bool:
    """End the session of a member that `list_sessions` names so; false when there is none."""
    rows = schema.sessions
    named = sa.func.substr(rows.c.token_hash, 1, SESSION_ID_CHARACTERS) == session_id
    return connection.execute(sa.delete(rows).where(rows.c.member_id == member_id, named)).rowcount > 0


def end_session(connection: sa.Connection, token: str) -> None:
    """Sign out; harmless when there is no such session."""
    connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.token_hash == _hash(token)))


def end_sessions(connection: sa.Connection, member_id: str) -> None:
    """Sign a member out everywhere."""
    connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.member_id == member_id))


def end_links(connection: sa.Connection, member_id: str) -> None:
    """Make every sign-in link of a member that was not used open nothing."""
    connection.execute(sa.delete(schema.sign_in_links).where(schema.sign_in_links.c.member_id == member_id))


def _start(connection: sa.Connection, member: Member, now_s: float) -> str:
    token = secrets.token_urlsafe(32)
    connection.execute(
        sa.insert(schema.sessions).values(
            token_hash=_hash(token),
            organization_id=member.organization_id,
            member_id=member.id,
            created_at_s=int(now_s),
            last_seen_at_s=int(now_s),
            expires_at_s=int(now_s) + SESSION_LIFE_S,
        )
    )
    return token


def _member(connection: sa.Connection, member_id: str) -> Member | None:
    members = schema.members.c
    live = sa.select(schema.members).where(members.id == member_id, members.removed_at_s.is_(None))
    row = connection.execute(live).one_or_none()
    return None if row is None else Member(row.id, row.organization_id, row.name, row.email, row.role)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
