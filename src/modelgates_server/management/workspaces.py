"""Workspaces: found, and given the provider preferences that all their keys share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.change import Note, change
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

ROUTING_BYTES_MAX: Final = 16 * 1024
"""It is kept in memory for every live key, and no list of providers needs more."""

_SPACES = schema.workspaces


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    """A workspace as it is stored. `routing` holds its provider preferences as JSON, None when it has none."""

    id: str
    organization_id: str
    slug: str
    name: str
    routing: str | None


def find_workspace(engine: sa.Engine, slug: str | None = None) -> WorkspaceRow:
    """Find a workspace by its slug or id; without one, the default: the oldest. Raises NotFound."""
    with reading(engine) as connection:
        return _found(connection, slug)


def set_workspace_routing(
    engine: sa.Engine, workspace_id: str, routing: str | None, actor: str, now_s: float
) -> WorkspaceRow:
    """Set or (with None) take back the provider preferences of all keys of a workspace. Raises BadRequest, NotFound.

    Once this returns, no request is planned by the old ones for longer than the policy poll takes (design decision 14).
    """
    stored = stored_routing(routing)
    with change(engine, now_s) as changing:
        row = _found(changing.connection, workspace_id)
        changing.connection.execute(sa.update(_SPACES).where(_SPACES.c.id == row.id).values(routing=stored))
        changing.bump_policy()
        changing.note(Note(row.organization_id, actor, "workspace.routing", row.id, {"routing": stored}))
        return _found(changing.connection, row.id)


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


def _found(connection: sa.Connection, selector: str | None) -> WorkspaceRow:
    query = sa.select(*(_SPACES.c[name] for name in WorkspaceRow.__slots__)).order_by(
        _SPACES.c.created_at_s, _SPACES.c.id
    )
    if selector is not None:
        query = query.where((_SPACES.c.slug == selector) | (_SPACES.c.id == selector))
    row = connection.execute(query.limit(1)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such workspace", remedy="leave --workspace out for the default one")
    return WorkspaceRow(**row)
