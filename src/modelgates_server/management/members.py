"""The people of an organisation: added, listed, made admins or members, removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.accounts import sessions
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.names import stored_name
from modelgates_server.management.paging import Page, page
from modelgates_server.privacy import visible
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

ADMIN, MEMBER = "admin", "member"
ROLES: Final = (ADMIN, MEMBER)
EMAIL_CHARACTERS_MAX = 254
"""The longest address that mail can carry."""

_MEMBERS = schema.members
_WHO_IS: Final = (
    "GET /api/v1/organization/members and `modelgates members list` show who is one; who was invited has to join first"
)


@dataclass(frozen=True, slots=True)
class NewMember:
    """Who is to belong to the organisation. `email` may be None for somebody who never signs in by mail."""

    name: str
    email: str | None = None
    role: str = MEMBER


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member as stored. `role` is admin or member."""

    id: str
    organization_id: str
    name: str
    email: str | None
    role: str
    created_at_s: int


def add_member(engine: sa.Engine, organization_id: str, wanted: NewMember, actor: str, now_s: float) -> MemberRow:
    """Make somebody a member at once. Raises BadRequest when the name, address or role cannot be, or is here already."""
    with change(engine, now_s) as changing:
        row = store_member(changing, organization_id, wanted)
        changing.note(Note(organization_id, actor, "member.add", row.id, {"role": row.role, "email": row.email}))
        return row


def store_member(changing: Change, organization_id: str, wanted: NewMember) -> MemberRow:
    """Make somebody a member as part of a larger change."""
    name, email = member_name(wanted.name), None if wanted.email is None else mail_address(wanted.email)
    check_role(wanted.role)
    refuse_known(changing.connection, organization_id, email)
    row: dict[str, Any] = {
        "id": changing.new_id("mem"),
        "organization_id": organization_id,
        "name": name,
        "email": email,
        "role": wanted.role,
        "created_at_s": changing.now_s,
    }
    changing.connection.execute(sa.insert(_MEMBERS).values(row))
    return MemberRow(**row)


def list_members(engine: sa.Engine, organization_id: str, offset: int = 0, limit: int | None = None) -> Page[MemberRow]:
    """Give the organisation's members, oldest first."""
    query = _live(organization_id).order_by(_MEMBERS.c.created_at_s, _MEMBERS.c.id)
    with reading(engine) as connection:
        return page(connection, query, _row, offset, limit)


def get_member(engine: sa.Engine, organization_id: str, member_id: str) -> MemberRow:
    """Give the member of that id. Raises NotFound."""
    with reading(engine) as connection:
        return member_in(connection, organization_id, member_id)


def find_member(engine: sa.Engine, organization_id: str, selector: str) -> MemberRow:
    """Find a member by id, by address or by exact name. Raises NotFound, or BadRequest when several have that name."""
    with reading(engine) as connection:
        return choose_member(connection, organization_id, selector)


def change_member(
    engine: sa.Engine, organization_id: str, member_id: str, changes: Mapping[str, str | None], actor: str, now_s: float
) -> MemberRow:
    """Change a member's `name`, or `email` (None: none). Raises BadRequest when they cannot be, or are somebody else's; NotFound."""
    with change(engine, now_s) as changing:
        row = member_in(changing.connection, organization_id, member_id)
        after: dict[str, str | None] = {}
        if "name" in changes:
            after["name"] = member_name(changes["name"] or "")
        if "email" in changes:
            after["email"] = None if changes["email"] is None else mail_address(changes["email"])
        after = {name: value for name, value in after.items() if value != getattr(row, name)}
        if not after:
            return row
        refuse_known(changing.connection, organization_id, after.get("email"))
        changing.connection.execute(sa.update(_MEMBERS).where(_MEMBERS.c.id == row.id).values(after))
        changing.note(Note(organization_id, actor, "member.update", row.id, after))
        return member_in(changing.connection, organization_id, row.id)


def is_last_admin(engine: sa.Engine, organization_id: str, member_id: str) -> bool:
    """Whether nobody else is an admin."""
    query = _live(organization_id).where(_MEMBERS.c.role == ADMIN)
    with reading(engine) as connection:
        return [row["id"] for row in connection.execute(query).mappings()] == [member_id]


def set_member_role(
    engine: sa.Engine, organization_id: str, member_id: str, role: str, actor: str, now_s: float
) -> MemberRow:
    """Make a member an admin, or an admin a member. Raises BadRequest for the last admin, NotFound."""
    check_role(role)
    with change(engine, now_s) as changing:
        row = member_in(changing.connection, organization_id, member_id)
        if row.role == ADMIN and role != ADMIN:
            _refuse_last_admin(changing, row)
        changing.connection.execute(sa.update(_MEMBERS).where(_MEMBERS.c.id == row.id).values(role=role))
        sessions.end_sessions(changing.connection, row.id)  # a new one at every change of rights (reliability 1.3)
        changing.bump_policy()
        changing.note(Note(organization_id, actor, "member.role", row.id, {"from": row.role, "to": role}))
        return member_in(changing.connection, organization_id, row.id)


def remove_member(engine: sa.Engine, organization_id: str, member_id: str, actor: str, now_s: float) -> MemberRow:
    """Remove a member: no key of theirs admits another request and no session of theirs lives on, from this moment.

    What they used stays in the books. Raises BadRequest for the last admin, NotFound.
    """
    with change(engine, now_s) as changing:
        row = member_in(changing.connection, organization_id, member_id)
        if row.role == ADMIN:
            _refuse_last_admin(changing, row)
        changing.bump_policy()
        disabled = _close_keys(changing, row)
        _forget(changing, row)
        gone = {"removed_at_s": changing.now_s, "password_hash": None, "password_set_at_s": None}
        changing.connection.execute(sa.update(_MEMBERS).where(_MEMBERS.c.id == row.id).values(gone))
        changing.note(Note(organization_id, actor, "member.remove", row.id, {"disabled_keys": disabled}))
        return row


def member_in(connection: sa.Connection, organization_id: str, member_id: str) -> MemberRow:
    """Read a live member of the organisation by id. Raises NotFound."""
    row = connection.execute(_live(organization_id).where(_MEMBERS.c.id == member_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such member", remedy=_WHO_IS)
    return _row(row)


def choose_member(connection: sa.Connection, organization_id: str, selector: str) -> MemberRow:
    """Find a live member by id, address or exact name. Raises NotFound, BadRequest."""
    address = selector.strip().lower()
    fits = (_MEMBERS.c.id == selector) | (_MEMBERS.c.email == address) | (_MEMBERS.c.name == selector)
    found = [_row(row) for row in connection.execute(_live(organization_id).where(fits)).mappings()]
    exact = [row for row in found if row.id == selector or row.email == address] or found
    if not exact:
        raise NotFound("there is no such member", remedy=_WHO_IS)
    if len(exact) > 1:
        raise BadRequest(f"{len(exact)} members have that name", remedy="name one by id or address")
    return exact[0]


def member_name(name: str) -> str:
    """The name as it is stored. Raises BadRequest."""
    return stored_name("a member", name)


def mail_address(email: str) -> str:
    """The address as it is stored and compared. Raises BadRequest for what is none."""
    address = email.strip().lower()
    local, at, domain = address.rpartition("@")
    odd = visible(address, EMAIL_CHARACTERS_MAX) != address or any(
        letter.isspace() or letter in '<>",;' for letter in address
    )
    if not at or not local or not domain or odd:
        raise BadRequest("that is not a mail address; write it like ann@example.com")
    return address


def check_role(role: str) -> None:
    """Refuse what is no role, with BadRequest."""
    if role not in ROLES:
        raise BadRequest(f"role must be one of {', '.join(ROLES)}")


def refuse_known(connection: sa.Connection, organization_id: str, email: str | None) -> None:
    """Refuse an address that a live member has, with BadRequest."""
    if email is None:
        return
    known = connection.execute(_live(organization_id).where(_MEMBERS.c.email == email)).first()
    if known is not None:
        raise BadRequest(f"{email} is a member already")


def _live(organization_id: str) -> sa.Select[Any]:
    return sa.select(_MEMBERS).where(_MEMBERS.c.organization_id == organization_id, _MEMBERS.c.removed_at_s.is_(None))


def _refuse_last_admin(changing: Change, row: MemberRow) -> None:
    others = _live(row.organization_id).where(_MEMBERS.c.role == ADMIN, _MEMBERS.c.id != row.id)
    if changing.connection.execute(others).first() is None:
        raise BadRequest("this is the organization's last admin", remedy="make somebody else an admin first")


def _close_keys(changing: Change, row: MemberRow) -> int:
    """Switch the member's keys off. Holds look at the meters' own rows, so none can be taken after the change."""
    keys, meters = schema.api_keys, schema.meters
    mine = (keys.c.member_id == row.id, keys.c.organization_id == row.organization_id, keys.c.deleted_at_s.is_(None))
    hashes = sa.select(keys.c.hash).where(*mine)
    theirs = (meters.c.scope == str(Scope.KEY), meters.c.scope_id.in_(hashes))
    changing.lock_meters(*theirs)
    changing.connection.execute(sa.update(meters).where(*theirs).values(closed=1))
    done = changing.connection.execute(sa.update(keys).where(*mine).values(disabled=1, updated_at_s=changing.now_s))
    return int(done.rowcount)


def _forget(changing: Change, row: MemberRow) -> None:
    """Take back what the member was given: sessions, links, places, guardrail, budgets and rates."""
    connection = changing.connection
    sessions.end_sessions(connection, row.id)
    for table in (schema.sign_in_links, schema.workspace_members, schema.guardrail_members):
        connection.execute(sa.delete(table).where(table.c.member_id == row.id))
    for limits in (schema.budgets, schema.rates):
        mine = (limits.c.scope == str(Scope.MEMBER), limits.c.scope_id == row.id)
        connection.execute(sa.delete(limits).where(*mine))


def _row(row: sa.RowMapping) -> MemberRow:
    return MemberRow(**{name: row[name] for name in MemberRow.__slots__})
