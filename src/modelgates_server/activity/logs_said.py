"""What people said about a generation, and who."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.storage import schema

SAID_MAX: Final = 50

_SAID, _MEMBERS = schema.generation_feedback.c, schema.members.c
_MEMBER: Final = "member:"


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of feedback. `author` is a person's name, or what made it (``key:ab12``). `created_at_s` in Unix seconds."""

    category: str
    comment: str | None
    author: str
    created_at_s: int


def said_about(connection: sa.Connection, organization_id: str, generation_id: str) -> tuple[Said, ...]:
    """Give the newest pieces of feedback on a generation first."""
    query = (
        sa.select(_SAID.category, _SAID.comment, _SAID.author, _SAID.created_at_s, _MEMBERS.name)
        .select_from(schema.generation_feedback)
        .outerjoin(
            schema.members,
            sa.and_(_SAID.author == sa.literal(_MEMBER) + _MEMBERS.id, _MEMBERS.organization_id == organization_id),
        )
        .where(_SAID.organization_id == organization_id, _SAID.generation_id == generation_id)
        .order_by(_SAID.created_at_s.desc(), _SAID.id.desc())
        .limit(SAID_MAX)
    )
    return tuple(
        Said(row.category, row.comment, row.name or row.author, row.created_at_s) for row in connection.execute(query)
    )
