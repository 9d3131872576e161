"""Organisations: each with its people, places, keys and credit, unseen by the others. Made by whoever runs the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from modelgates_server.accounts import sessions
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.ledger import credit
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.key_values import NewKey
from modelgates_server.management.keys import add_key
from modelgates_server.management.members import ADMIN, MemberRow, NewMember, store_member
from modelgates_server.management.names import stored_name
from modelgates_server.management.workspaces import NewWorkspace, WorkspaceRow, add_workspace
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

DEFAULT_WORKSPACE: Final = NewWorkspace("Default", "default")

_ORGANIZATIONS = schema.organizations


@dataclass(frozen=True, slots=True)
class NewOrganization:
    """What is asked for; `grant_nusd` is the credit that it begins with."""

    name: str
    admin: NewMember = field(default_factory=lambda: NewMember("Admin", role=ADMIN))
    grant_nusd: int = 0


@dataclass(frozen=True, slots=True)
class OrganizationRow:
    """An organisation as it is stored."""

    id: str
    name: str
    created_at_s: int


@dataclass(frozen=True, slots=True)
class Founded:
    """A new organisation, and what its first admin is told once: a management key and a sign-in link's token."""

    organization: OrganizationRow
    workspace: WorkspaceRow
    admin: MemberRow
    management_key: str = field(repr=False)
    sign_in_token: str = field(repr=False)


def create_organization(engine: sa.Engine, pepper: bytes, wanted: NewOrganization, actor: str, now_s: float) -> Founded:
    """Make an organisation with its default workspace, an admin, a management key and credit. Raises BadRequest."""
    with change(engine, now_s) as changing:
        row, place, admin = found(changing, wanted.name, wanted.admin)
        new = NewKey("first management key", KeyClass.MANAGEMENT, workspace_id=place.id)
        management_key, _ = add_key(changing, pepper, row.id, new, actor)
        if wanted.grant_nusd:
            credit.grant(changing.connection, row.id, wanted.grant_nusd, "initial grant", actor, now_s)
        token = sessions.create_link(changing.connection, admin.id, now_s)
        details = {"name": row.name, "grant_nusd": wanted.grant_nusd, "admin": admin.id}
        changing.note(Note(row.id, actor, "organization.create", row.id, details))
        return Founded(row, place, admin, management_key, token)


def found(changing: Change, name: str, admin: NewMember) -> tuple[OrganizationRow, WorkspaceRow, MemberRow]:
    """Make an organisation as part of a larger change: its row, its default workspace and its first admin."""
    shown = stored_name("an organization", name)
    if admin.role != ADMIN:
        raise BadRequest("the first member of an organization must be an admin")
    first = changing.connection.execute(sa.select(sa.func.min(_ORGANIZATIONS.c.created_at_s))).scalar_one()
    # the first one is told by its age, so it must be the oldest beyond doubt
    created_at_s = changing.now_s if first is None else max(changing.now_s, first + 1)
    row = OrganizationRow(changing.new_id("org"), shown, created_at_s)
    changing.connection.execute(
        sa.insert(_ORGANIZATIONS).values(id=row.id, name=row.name, created_at_s=row.created_at_s)
    )
    place = add_workspace(changing, row.id, DEFAULT_WORKSPACE)
    return row, place, store_member(changing, row.id, admin)


def list_organizations(engine: sa.Engine) -> list[OrganizationRow]:
    """Give every organisation of this installation, oldest first: for the terminal of whoever runs it, never for its keys."""
    query = sa.select(_ORGANIZATIONS).order_by(_ORGANIZATIONS.c.created_at_s, _ORGANIZATIONS.c.id)
    with reading(engine) as connection:
        return [_row(row) for row in connection.execute(query).mappings()]


def find_organization(engine: sa.Engine, selector: str | None = None) -> OrganizationRow:
    """Find an organisation by id or exact name; without one, the first. Raises NotFound, BadRequest when several fit."""
    rows = list_organizations(engine)
    fitting = rows[:1]
    if selector is not None:
        fitting = [row for row in rows if row.id == selector] or [row for row in rows if row.name == selector]
    if not fitting:
        raise NotFound("there is no such organization", remedy="modelgates organizations list shows names and ids")
    if len(fitting) > 1:
        raise BadRequest(f"{len(fitting)} organizations have that name", remedy="name one by its id")
    return fitting[0]


def rename_organization(
    engine: sa.Engine, organization_id: str, name: str, actor: str, now_s: float
) -> OrganizationRow:
    """Give an organisation another name. Raises BadRequest, NotFound."""
    shown = stored_name("an organization", name)
    mine = _ORGANIZATIONS.c.id == organization_id
    with change(engine, now_s) as changing:
        before = changing.connection.execute(sa.select(_ORGANIZATIONS).where(mine)).mappings().one_or_none()
        if before is None:
            raise NotFound("there is no such organization")
        if before["name"] != shown:
            changing.connection.execute(sa.update(_ORGANIZATIONS).where(mine).values(name=shown))
            changing.note(Note(organization_id, actor, "organization.rename", organization_id, {"name": shown}))
        return OrganizationRow(organization_id, shown, before["created_at_s"])


def _row(row: sa.RowMapping) -> OrganizationRow:
    return OrganizationRow(**{name: row[name] for name in OrganizationRow.__slots__})
