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

_LINK_DEAD = "This sign-in link was used or is older than 24 hours."


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


def redeem_link(connection: sa.Connection, token: str, now_s: float) -> str:
    """Use a link: start a session and give its token. Raises Unauthenticated when the link is used or too old."""
    links = schema.sign_in_links
    live = (links.c.token_hash == _hash(token), links.c.used_at_s.is_(None), links.c.expires_at_s > int(now_s))
    used = connection.execute(
        sa.update(links).where(*live).values(used_at_s=int(now_s)).returning(links.c.member_id)
    ).one_or_none()
    member = None if used is None else _member(connection, used.member_id)
    if member is None:
        raise Unauthenticated(_LINK_DEAD, remedy="make a new one with: modelgates init")
    return _start(connection, member, now_s)


def session_member(connection: sa.Connection, token: str, now_s: float) -> Member | None:
    """Give the member whose live session this is, and note that it was used; None for any other token."""
    sessions, now = schema.sessions, int(now_s)
    row = connection.execute(sa.select(sessions).where(sessions.c.token_hash == _hash(token))).one_or_none()
    if row is None or row.expires_at_s <= now or row.last_seen_at_s + SESSION_IDLE_S <= now:
        return None
    if row.last_seen_at_s + SEEN_EVERY_S <= now:
        connection.execute(
            sa.update(sessions).where(sessions.c.token_hash == row.token_hash).values(last_seen_at_s=now)
        )
    return _member(connection, row.member_id)


def end_session(connection: sa.Connection, token: str) -> None:
    """Sign out; harmless when there is no such session."""
    connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.token_hash == _hash(token)))


def end_sessions(connection: sa.Connection, member_id: str) -> None:
    """Sign a member out everywhere."""
    connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.member_id == member_id))


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
