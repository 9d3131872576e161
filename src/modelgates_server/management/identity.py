"""Who comes in by way of the identity provider: members, who are bound to their account there once, and who may join.

An address says who somebody is only until they are bound; from then on the provider's own id does. So a colleague who is later
given the address of somebody else does not become them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from modelgates_server.accounts import sessions
from modelgates_server.accounts.oidc import Begun, Identity
from modelgates_server.errors import BadRequest, Unauthenticated
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.invitations import accept_for
from modelgates_server.management.members import MEMBER, NewMember, mail_address, store_member
from modelgates_server.management.sign_in import actor_of, note_entry
from modelgates_server.storage import schema
from modelgates_server.storage.portable import upsert

_MEMBERS = schema.members
_ASK: Final = "ask an admin of the organization"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody who comes back from the identity provider: who they are, and the sign-in that they had begun.

    `join_domains` are the domains whose people may join; the session `replaces`, if there is one, ends.
    """

    identity: Identity
    begun: Begun
    join_domains: Collection[str] = ()
    replaces: str = field(default="", repr=False)


def enter_by_identity(engine: sa.Engine, arrival: Arrival, now_s: float) -> str:
    """Find, bind or make the member; give the token of a new session. Raises Unauthenticated, with the reason."""
    with change(engine, now_s) as changing:
        _use_up(changing, arrival.begun)
        found = _bound(changing, arrival.identity) or _by_address(changing, arrival)
        organization_id, member_id = found
        session = sessions.start_session(changing.connection, member_id, now_s)
        if arrival.replaces:
            sessions.end_session(changing.connection, arrival.replaces)
        note_entry(changing, organization_id, member_id, "identity provider")
        return session


def _use_up(changing: Change, begun: Begun) -> None:
    """A sign-in ends once. Raises Unauthenticated the second time."""
    row = {
        "state_hash": hashlib.sha256(begun.state.encode()).hexdigest(),
        "expires_at_s": begun.until_s,
    }
    states = schema.sign_in_states
    once = upsert(changing.connection, states).values(row).on_conflict_do_nothing().returning(states.c.state_hash)
    if changing.connection.execute(once).first() is None:
        raise Unauthenticated("This sign-in was finished before.", remedy="begin a new one")


def _bound(changing: Change, identity: Identity) -> tuple[str, str] | None:
    """The member who is bound to that account."""
    return _first(changing, _MEMBERS.c.oidc_subject == identity.subject)


def _by_address(changing: Change, arrival: Arrival) -> tuple[str, str]:
    """The member, the invited or the new colleague with that address, bound from now on. Raises Unauthenticated.

    The first organisation is whose provider it is: its people come first, so that no other organisation gets them by adding them.
    """
    identity, home = arrival.identity, _home(changing)
    email = _address(identity)
    unbound = (_MEMBERS.c.email == email, _MEMBERS.c.oidc_subject.is_(None))
    found = (
        _first(changing, _MEMBERS.c.organization_id == home, *unbound)
        or _newcomer(changing, home, arrival, email)
        or _first(changing, *unbound)
    )
    if found is None:
        raise Unauthenticated(f"{email} is not a member here.", remedy=f"{_ASK} for an invitation")
    organization_id, member_id = found
    mine = sa.update(_MEMBERS).where(_MEMBERS.c.id == member_id)
    changing.connection.execute(mine.values(oidc_subject=identity.subject))
    changing.note(Note(organization_id, actor_of(member_id), "member.bind", member_id, {"email": email}))
    return organization_id, member_id


def _address(identity: Identity) -> str:
    if identity.email is None or not identity.email_verified:
        raise Unauthenticated("The identity provider does not say that your mail address is verified.", remedy=_ASK)
    try:
        return mail_address(identity.email)
    except BadRequest as odd:
        raise Unauthenticated("The identity provider's mail address for you is none.", remedy=_ASK) from odd


def _newcomer(changing: Change, home: str, arrival: Arrival, email: str) -> tuple[str, str] | None:
    """Somebody who was invited, or whose domain may join; None for others. Raises Unauthenticated for who must not."""
    here = _MEMBERS.c.organization_id == home
    if _first(changing, here, _MEMBERS.c.email == email) is not None:
        raise Unauthenticated(
            f"{email} belongs to a member who signed in with another account of the identity provider before.",
            remedy="an admin of the organization can reset their sign-in",
        )
    invited = accept_for(changing, home, email)
    if invited is not None:
        return home, invited.id
    if email.rpartition("@")[2] not in arrival.join_domains:
        return None
    same = (_MEMBERS.c.email == email) | (_MEMBERS.c.oidc_subject == arrival.identity.subject)
    removed = sa.select(_MEMBERS.c.id).where(here, _MEMBERS.c.removed_at_s.is_not(None), same)
    if changing.connection.execute(removed).first() is not None:
        raise Unauthenticated(f"{email} was removed from the organization.", remedy="an admin can invite you again")
    changing.bump_policy()
    row = store_member(changing, home, NewMember(arrival.identity.name or email, email, MEMBER))
    changing.note(Note(home, actor_of(row.id), "member.join", row.id, {"email": email}))
    return home, row.id


def _home(changing: Change) -> str:
    organizations = schema.organizations.c
    query = sa.select(organizations.id).order_by(organizations.created_at_s, organizations.id).limit(1)
    return str(changing.connection.execute(query).scalar_one())


def _first(changing: Change, *which: sa.ColumnElement[bool]) -> tuple[str, str] | None:
    """The organisation and the id of the live member who fits; of several, the one in the oldest organisation."""
    theirs = schema.organizations.c.id == _MEMBERS.c.organization_id
    query = sa.select(_MEMBERS.c.organization_id, _MEMBERS.c.id).join(schema.organizations, theirs)
    oldest = (schema.organizations.c.created_at_s, _MEMBERS.c.created_at_s, _MEMBERS.c.id)
    live = query.where(_MEMBERS.c.removed_at_s.is_(None), *which).order_by(*oldest).limit(1)
    row = changing.connection.execute(live).one_or_none()
    return None if row is None else (row.organization_id, row.id)
