"""Workspaces: places for keys, each with people, budgets, guardrails and provider preferences of its own.

The oldest of an organisation is its default: it always exists, and everybody is a member of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.members import MemberRow, member_in
from modelgates_server.management.names import stored_name
from modelgates_server.management.paging import Page, page
from modelgates_server.privacy import visible
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.portable import upsert

ROUTING_BYTES_MAX: Final = 16 * 1024
"""It is kept in memory for every live key, and no list of providers needs more."""

SLUG_CHARACTERS_MAX: Final = 50
DESCRIPTION_CHARACTERS_MAX: Final = 1_000
SETTINGS_BYTES_MAX: Final = 16 * 1024

_SPACES = schema.workspaces
_PLACES = schema.workspace_members
_SLUG: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewWorkspace:
    """What is asked for. Without a slug it is made of the name; `settings` is what the API keeps about a workspace besides."""

    name: str
    slug: str | None = None
    description: str | None = None
    routing: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    """A workspace as it is stored. `routing` holds its provider preferences as JSON, None when it has none."""

    id: str
    organization_id: str
    slug: str
    name: str
    routing: str | None
    description: str | None
    settings: Mapping[str, Any]
    created_at_s: int
    updated_at_s: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """A member's place in a workspace, since when."""

    workspace_id: str
    member: MemberRow
    created_at_s: int


def create_workspace(
    engine: sa.Engine, organization_id: str, wanted: NewWorkspace, actor: str, now_s: float
) -> WorkspaceRow:
    """Make a workspace. Raises BadRequest for a name or slug that cannot be, or that another live one has."""
    with change(engine, now_s) as changing:
        row = add_workspace(changing, organization_id, wanted)
        changing.note(Note(organization_id, actor, "workspace.create", row.id, {"slug": row.slug, "name": row.name}))
        return row


def add_workspace(changing: Change, organization_id: str, wanted: NewWorkspace) -> WorkspaceRow:
    """Make a workspace as part of a larger change."""
    name = stored_name("a workspace", wanted.name)
    slug = _slug(wanted.slug) if wanted.slug is not None else _slug_from(name)
    _refuse_taken(changing.connection, organization_id, slug)
    first = changing.connection.execute(_live(organization_id)).mappings().first()
    row: dict[str, Any] = {
        "id": changing.new_id("ws"),
        "organization_id": organization_id,
        "slug": slug,
        "name": name,
        # the default one is told by its age, so it must be the oldest beyond doubt
        "created_at_s": changing.now_s if first is None else max(changing.now_s, first["created_at_s"] + 1),
        "routing": stored_routing(wanted.routing),
        "description": _description(wanted.description),
        "settings": stored_settings(wanted.settings),
        "updated_at_s": changing.now_s,
        "deleted_at_s": None,
    }
    changing.connection.execute(sa.insert(_SPACES).values(row))
    return workspace_in(changing.connection, organization_id, row["id"])


def list_workspaces(
    engine: sa.Engine, organization_id: str, offset: int = 0, limit: int | None = None
) -> Page[WorkspaceRow]:
    """Give the organisation's workspaces, oldest first: the first is the default one."""
    with reading(engine) as connection:
        return page(connection, _live(organization_id), _row, offset, limit)


def find_workspace(engine: sa.Engine, organization_id: str, selector: str | None = None) -> WorkspaceRow:
    """Find a workspace by its id or slug; without one, the default. Raises NotFound."""
    with reading(engine) as connection:
        return workspace_in(connection, organization_id, selector)


def update_workspace(
    engine: sa.Engine, organization_id: str, selector: str, changes: Mapping[str, Any], actor: str, now_s: float
) -> WorkspaceRow:
    """Change what is named in `changes`: name, slug, description, routing (JSON or None) and settings, which are merged.

    Raises BadRequest, NotFound.
    """
    with change(engine, now_s) as changing:
        row = workspace_in(changing.connection, organization_id, selector)
        return changed_in(changing, row, changes, "update", actor)


def set_workspace_routing(
    engine: sa.Engine, organization_id: str, selector: str, routing: str | None, actor: str, now_s: float
) -> WorkspaceRow:
    """Set or (with None) take back the provider preferences of all keys of a workspace. Raises BadRequest, NotFound.

    Once this returns, no request is planned by the old ones for longer than the policy poll takes (design decision 14).
    """
    with change(engine, now_s) as changing:
        row = workspace_in(changing.connection, organization_id, selector)
        return changed_in(changing, row, {"routing": routing}, "routing", actor)


def delete_workspace(engine: sa.Engine, organization_id: str, selector: str, actor: str, now_s: float) -> None:
    """Delete a workspace, its guardrails, budgets, provider credentials and preferences; what was used stays in the books.

    Raises BadRequest for the default one, and while keys or assigned guardrails are in it; NotFound.
    """
    with change(engine, now_s) as changing:
        row = workspace_in(changing.connection, organization_id, selector)
        if row.id == workspace_in(changing.connection, organization_id, None).id:
            raise BadRequest("the default workspace cannot be deleted")
        _refuse_used(changing.connection, row.id)
        changing.bump_policy()
        _clear(changing.connection, row.id)
        changing.connection.execute(
            sa.update(_SPACES).where(_SPACES.c.id == row.id).values(deleted_at_s=changing.now_s)
        )
        changing.note(Note(organization_id, actor, "workspace.delete", row.id, {"slug": row.slug}))


def list_places(
    engine: sa.Engine, organization_id: str, selector: str, offset: int = 0, limit: int | None = None
) -> Page[Place]:
    """Give the members of a workspace, the first to join first; of the default one, everybody. Raises NotFound."""
    members = schema.members.c
    with reading(engine) as connection:
        row = workspace_in(connection, organization_id, selector)
        everybody = row.id == workspace_in(connection, organization_id, None).id
        joined = members.created_at_s if everybody else _PLACES.c.created_at_s
        query = sa.select(schema.members, joined.label("joined_at_s")).where(
            members.organization_id == organization_id, members.removed_at_s.is_(None)
        )
        if not everybody:
            query = query.join(_PLACES, _PLACES.c.member_id == members.id).where(_PLACES.c.workspace_id == row.id)
        return page(connection, query.order_by(joined, members.id), lambda found: _place(row.id, found), offset, limit)


def add_places(
    engine: sa.Engine, organization_id: str, selector: str, member_ids: Sequence[str], actor: str, now_s: float
) -> list[Place]:
    """Make members of the organisation members of a workspace; all of them or none. Raises NotFound."""
    with change(engine, now_s) as changing:
        row = workspace_in(changing.connection, organization_id, selector)
        members = [member_in(changing.connection, organization_id, one) for one in dict.fromkeys(member_ids)]
        join(changing, organization_id, row.id, [member.id for member in members])
        changing.note(
            Note(organization_id, actor, "workspace.members.add", row.id, {"members": [m.id for m in members]})
        )
        return [Place(row.id, member, changing.now_s) for member in members]


def remove_places(
    engine: sa.Engine, organization_id: str, selector: str, member_ids: Sequence[str], actor: str, now_s: float
) -> int:
    """Take members out of a workspace; count those that were in it.

    Raises BadRequest for the default one and while a member has keys there (product-surface 2.8), NotFound.
    """
    with change(engine, now_s) as changing:
        row = workspace_in(changing.connection, organization_id, selector)
        if row.id == workspace_in(changing.connection, organization_id, None).id:
            raise BadRequest(
                "everybody is a member of the default workspace", remedy="remove them from the organization"
            )
        wanted = [member_in(changing.connection, organization_id, one).id for one in dict.fromkeys(member_ids)]
        _refuse_owners(changing.connection, row.id, wanted)
        mine = (_PLACES.c.workspace_id == row.id, _PLACES.c.member_id.in_(wanted))
        done = changing.connection.execute(sa.delete(_PLACES).where(*mine))
        changing.note(Note(organization_id, actor, "workspace.members.remove", row.id, {"members": wanted}))
        return int(done.rowcount)


def join(changing: Change, organization_id: str, workspace_id: str, member_ids: Sequence[str]) -> None:
    """Give members their places as part of a larger change; who has one keeps it."""
    for member_id in member_ids:
        row = {
            "workspace_id": workspace_id,
            "member_id": member_id,
            "organization_id": organization_id,
            "created_at_s": changing.now_s,
        }
        changing.connection.execute(upsert(changing.connection, _PLACES).values(row).on_conflict_do_nothing())


def join_with_key(changing: Change, organization_id: str, workspace_id: str, member_id: str | None) -> None:
    """Whose key is in a workspace has a place there. The default one is everybody's without."""
    if member_id is not None and workspace_id != workspace_in(changing.connection, organization_id, None).id:
        join(changing, organization_id, workspace_id, [member_id])


def workspace_in(connection: sa.Connection, organization_id: str, selector: str | None) -> WorkspaceRow:
    """Read a live workspace of the organisation by id or slug; None means the default. Raises NotFound."""
    query = _live(organization_id)
    if selector is not None:
        query = query.where((_SPACES.c.slug == selector) | (_SPACES.c.id == selector))
    rows = [_row(row) for row in connection.execute(query).mappings()]
    found = next((row for row in rows if row.id == selector), next(iter(rows), None))
    if found is None:
        raise NotFound(
            "there is no such workspace",
            remedy="GET /api/v1/workspaces and `modelgates workspaces list` show slugs and ids",
        )
    return found


def stored_routing(routing: str | None) -> str | None:
    """Provider preferences as they are stored: compact, and None when they say nothing.

    The caller has checked what the members mean (`dialects.values.Preferences`); here it must be a JSON object of a
    reasonable size. Raises BadRequest.
    """
    if routing is None:
        return None
    try:
        said = json.loads(routing)
    except ValueError as error:
        raise BadRequest("provider preferences must be a JSON object") from error
    if not isinstance(said, dict):
        raise BadRequest("provider preferences must be a JSON object")
    kept = {name: value for name, value in said.items() if value is not None}
    text = json.dumps(kept, separators=(",", ":"), sort_keys=True)
    if len(text) > ROUTING_BYTES_MAX:
        raise BadRequest(f"provider preferences may have at most {ROUTING_BYTES_MAX:,} bytes")
    return text if kept else None


def slug_of(name: str) -> str:
    """Make a slug of a name: ``Team A`` gives ``team-a``."""
    words = re.findall(r"[a-z0-9]+", name.lower(), re.ASCII)
    return "-".join(words)[:SLUG_CHARACTERS_MAX].strip("-")


def _live(organization_id: str) -> sa.Select[Any]:
    return (
        sa.select(_SPACES)
        .where(_SPACES.c.organization_id == organization_id, _SPACES.c.deleted_at_s.is_(None))
        .order_by(_SPACES.c.created_at_s, _SPACES.c.id)
    )


def changed_in(
    changing: Change, row: WorkspaceRow, changes: Mapping[str, Any], action: str, actor: str
) -> WorkspaceRow:
    """Change a workspace as part of a larger change; `action` is what the audit log calls it. Raises BadRequest."""
    values = _changed(changing.connection, row, changes)
    if "routing" in values:
        changing.bump_policy()
    changing.connection.execute(
        sa.update(_SPACES).where(_SPACES.c.id == row.id).values(updated_at_s=changing.now_s, **values)
    )
    changing.note(Note(row.organization_id, actor, f"workspace.{action}", row.id, values))
    return workspace_in(changing.connection, row.organization_id, row.id)


def _changed(connection: sa.Connection, row: WorkspaceRow, changes: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "name" in changes:
        values["name"] = stored_name("a workspace", changes["name"])
    if "slug" in changes and changes["slug"] != row.slug:
        values["slug"] = _slug(changes["slug"])
        _refuse_taken(connection, row.organization_id, values["slug"])
    if "description" in changes:
        values["description"] = _description(changes["description"])
    if "routing" in changes:
        values["routing"] = stored_routing(changes["routing"])
    if "settings" in changes:
        values["settings"] = stored_settings({**row.settings, **changes["settings"]})
    return values


def _slug(slug: str) -> str:
    if len(slug) > SLUG_CHARACTERS_MAX or not _SLUG.fullmatch(slug):
        raise BadRequest(
            f"a slug has from 1 to {SLUG_CHARACTERS_MAX} characters: small letters and digits, with single hyphens between"
        )
    return slug


def _slug_from(name: str) -> str:
    slug = slug_of(name)
    if not slug:
        raise BadRequest(
            "no slug can be made of that name: it has no letter from a to z and no digit",
            remedy="send a slug beside the name, such as team-a",
        )
    return slug


def _description(text: str | None) -> str | None:
    if text is not None and len(text) > DESCRIPTION_CHARACTERS_MAX:
        raise BadRequest(f"a description has at most {DESCRIPTION_CHARACTERS_MAX:,} characters")
    return None if text is None else visible(text, DESCRIPTION_CHARACTERS_MAX) or None


def stored_settings(settings: Mapping[str, Any]) -> str | None:
    """Settings as they are stored, None when there are none. Raises BadRequest when they are too long."""
    kept = {name: value for name, value in settings.items() if value is not None}
    text = json.dumps(kept, separators=(",", ":"), sort_keys=True)
    if len(text) > SETTINGS_BYTES_MAX:
        raise BadRequest(f"a workspace's settings may have at most {SETTINGS_BYTES_MAX:,} bytes")
    return text if kept else None


def _refuse_taken(connection: sa.Connection, organization_id: str, slug: str) -> None:
    if connection.execute(_live(organization_id).where(_SPACES.c.slug == slug)).first() is not None:
        raise BadRequest(f"there is a workspace with the slug {slug!r} already")


def _refuse_used(connection: sa.Connection, workspace_id: str) -> None:
    keys, guardrails = schema.api_keys.c, schema.guardrails.c
    live = sa.select(keys.hash).where(keys.workspace_id == workspace_id, keys.deleted_at_s.is_(None))
    if connection.execute(live).first() is not None:
        raise BadRequest("the workspace still has keys", remedy="delete its keys first")
    of_keys, of_members = schema.guardrail_keys.c, schema.guardrail_members.c
    for used in (
        sa.select(of_keys.id)
        .join(schema.guardrails, guardrails.id == of_keys.guardrail_id)
        .join(schema.api_keys, keys.hash == of_keys.key_hash)
        .where(keys.deleted_at_s.is_(None)),
        sa.select(of_members.id).join(schema.guardrails, guardrails.id == of_members.guardrail_id),
    ):
        if connection.execute(used.where(guardrails.workspace_id == workspace_id)).first() is not None:
            raise BadRequest(
                "guardrails of the workspace are assigned to keys or members", remedy="unassign or delete them first"
            )


def _refuse_owners(connection: sa.Connection, workspace_id: str, member_ids: Sequence[str]) -> None:
    keys = schema.api_keys.c
    owned = sa.select(keys.member_id).where(
        keys.workspace_id == workspace_id, keys.member_id.in_(member_ids), keys.deleted_at_s.is_(None)
    )
    owner = connection.execute(owned).first()
    if owner is not None:
        raise BadRequest(
            f"the member {owner.member_id} still has keys in the workspace", remedy="delete those keys first"
        )


def _clear(connection: sa.Connection, workspace_id: str) -> None:
    rules = sa.select(schema.guardrails.c.id).where(schema.guardrails.c.workspace_id == workspace_id)
    assigned = schema.guardrail_keys  # to keys that were deleted by an older version, which left them behind
    connection.execute(sa.delete(assigned).where(assigned.c.guardrail_id.in_(rules)))
    for table in (_PLACES, schema.guardrails, schema.provider_credentials):
        connection.execute(sa.delete(table).where(table.c.workspace_id == workspace_id))
    for limits in (schema.budgets, schema.rates):
        mine = (limits.c.scope == str(Scope.WORKSPACE), limits.c.scope_id == workspace_id)
        connection.execute(sa.delete(limits).where(*mine))


def _place(workspace_id: str, row: sa.RowMapping) -> Place:
    member = MemberRow(**{name: row[name] for name in MemberRow.__slots__})
    return Place(workspace_id, member, row["joined_at_s"])


def _row(row: sa.RowMapping) -> WorkspaceRow:
    settings = json.loads(row["settings"]) if row["settings"] else {}
    return WorkspaceRow(**{name: row[name] for name in WorkspaceRow.__slots__ if name != "settings"}, settings=settings)
