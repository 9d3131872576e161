"""What people say about a generation: kept beside its receipt (product-surface 1.4 and 2.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.clock import new_id
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.change import Note, change
from modelgates_server.privacy import visible
from modelgates_server.storage import schema

CATEGORIES: Final = (
    "latency",
    "incoherence",
    "incorrect_response",
    "formatting",
    "billing",
    "api_error",
    "other",
)
COMMENT_CHARACTERS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Feedback:
    """What is said, about which generation. `category` is one of `CATEGORIES`."""

    generation_id: str
    category: str
    comment: str | None = None


def give_feedback(engine: sa.Engine, organization_id: str, said: Feedback, actor: str, now_s: float) -> str:
    """Keep it and give its id. Raises BadRequest, NotFound when the organisation has no such generation.

    The audit row names the category only: a comment may hold what was asked or answered.
    """
    if said.category not in CATEGORIES:
        raise BadRequest(f"category: must be one of {', '.join(CATEGORIES)}")
    if said.comment is not None and len(said.comment) > COMMENT_CHARACTERS_MAX:
        raise BadRequest(f"comment: at most {COMMENT_CHARACTERS_MAX} characters")
    generations, id_ = schema.generations.c, new_id("fbk", now_s)
    own = sa.select(generations.id).where(
        generations.id == said.generation_id, generations.organization_id == organization_id
    )
    with change(engine, now_s) as changing:
        if changing.connection.execute(own).one_or_none() is None:
            raise NotFound(f"Generation {said.generation_id[:100]} not found")
        row = {
            "id": id_,
            "organization_id": organization_id,
            "generation_id": said.generation_id,
            "category": said.category,
            "comment": _one_line(said.comment),
            "author": actor,
            "created_at_s": changing.now_s,
        }
        changing.connection.execute(sa.insert(schema.generation_feedback).values(row))
        details = {"category": said.category, "feedback": id_}
        changing.note(Note(organization_id, actor, "generation.feedback", said.generation_id, details))
    return id_


def _one_line(comment: str | None) -> str | None:
    return visible(" ".join(comment.split()), COMMENT_CHARACTERS_MAX) or None if comment else None
