"""Prompts and answers that were kept: reading one, which always leaves an audit row, and deleting them before their time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.activity.contents import DESTINATION, Content, delete_some, unpacked
from modelgates_server.errors import NotFound
from modelgates_server.management.change import Note, change
from modelgates_server.management.workspaces import workspace_in
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.vault.ring import open_vault

NOT_STORED: Final = "Prompt and answer of this generation are not stored"

PAUSE_S: Final = 0.03
"""Deleting goes batch by batch with a breath in between, like wrapping anew (`rotation.py`): requests do not wait for it."""

_CONTENTS, _SPACES = schema.contents, schema.workspaces


@dataclass(frozen=True, slots=True)
class Stored:
    """How many contents a workspace has, and since when; None when it has none."""

    count: int = 0
    oldest_at_s: int | None = None


def read_content(
    engine: sa.Engine, secret: bytes, organization_id: str, generation_id: str, actor: str, now_s: float
) -> Content:
    """Give what was kept of a generation, and note in the same change who read it.

    For admins: whoever calls this has checked that. Raises NotFound when nothing is kept, or its time is over; SealBroken.
    """
    query = sa.select(_CONTENTS.c.sealed, _CONTENTS.c.workspace_id).where(
        *_readable(organization_id, now_s), _CONTENTS.c.generation_id == generation_id
    )
    with change(engine, now_s) as changing:
        row = changing.connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(NOT_STORED)
        changing.note(Note(organization_id, actor, "content.read", generation_id, {"workspace_id": row.workspace_id}))
        place = {"organization_id": organization_id, "record_id": generation_id, "destination": DESTINATION}
        return unpacked(open_vault(changing.connection, secret).open(row.sealed, **place))


def has_content(engine: sa.Engine, organization_id: str, generation_id: str, now_s: float) -> bool:
    """Whether something is kept of a generation; that leaves no audit row."""
    query = sa.select(_CONTENTS.c.generation_id).where(
        *_readable(organization_id, now_s), _CONTENTS.c.generation_id == generation_id
    )
    with reading(engine) as connection:
        return connection.execute(query).first() is not None


def stored_contents(engine: sa.Engine, organization_id: str, now_s: float) -> dict[str, Stored]:
    """Count what is kept, by workspace."""
    workspace_id = _CONTENTS.c.workspace_id
    query = (
        sa.select(
            workspace_id, sa.func.count().label("count"), sa.func.min(_CONTENTS.c.created_at_s).label("oldest_at_s")
        )
        .where(*_readable(organization_id, now_s))
        .group_by(workspace_id)
    )
    with reading(engine) as connection:
        return {row.workspace_id: Stored(row[1], row.oldest_at_s) for row in connection.execute(query)}


def delete_contents(engine: sa.Engine, organization_id: str, workspace_id: str | None, actor: str, now_s: float) -> int:
    """Delete everything that is kept of a workspace (id or slug), or with None of the whole organisation; count it.

    What comes while it runs is not touched. Stopped halfway, it is finished by asking again. Raises NotFound.
    """
    with change(engine, now_s) as changing:
        found = None if workspace_id is None else workspace_in(changing.connection, organization_id, workspace_id).id
        changing.note(
            Note(organization_id, actor, "content.delete", found or organization_id, {"until_s": changing.now_s})
        )
    wanted = [_CONTENTS.c.organization_id == organization_id, _CONTENTS.c.created_at_s <= int(now_s)]
    wanted += [] if found is None else [_CONTENTS.c.workspace_id == found]
    deleted = 0
    while count := delete_some(engine, *wanted):
        deleted += count
        time.sleep(PAUSE_S)
    return deleted


def _readable(organization_id: str, now_s: float) -> tuple[sa.ColumnElement[bool], ...]:
    """What is kept and may still be read: not what is only waiting to be removed."""
    living = sa.select(_SPACES.c.id).where(
        _SPACES.c.organization_id == organization_id, _SPACES.c.deleted_at_s.is_(None)
    )
    return (
        _CONTENTS.c.organization_id == organization_id,
        _CONTENTS.c.expires_at_s > int(now_s),
        _CONTENTS.c.workspace_id.in_(living),
    )
