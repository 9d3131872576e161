"""Finds a receipt and what its story is told from (`story.py`). For the terminal, or for a thread: it waits for the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from modelgates_server.activity.story import Story
from modelgates_server.catalogue.kinds import bundled_kinds, load_kinds
from modelgates_server.routing.verdict import VERDICTS
from modelgates_server.storage.hot import Row

Look = Callable[[str, Mapping[str, Any]], list[Row]]
"""Runs a statement that names its values ``:name`` and gives the rows."""

_RECEIPT: Final = """
    SELECT g.*, k.name AS key_name, k.label AS key_label, w.name AS workspace_name, m.name AS member_name
    FROM generations g
    LEFT JOIN api_keys k ON k.hash = g.key_hash
    LEFT JOIN workspaces w ON w.id = g.workspace_id
    LEFT JOIN members m ON m.id = g.member_id
    WHERE g.id = :id
"""
_EARLIER: Final = """
    SELECT g.id, g.provider, g.created_at_ms FROM generations g
    WHERE g.conversation = :conversation AND g.created_at_ms < :created_at_ms AND g.organization_id = :organization_id
"""
_NEWEST: Final = " ORDER BY g.created_at_ms DESC LIMIT 1"
_UNCERTAIN: Final = """
    SELECT e.credit, e.amount_nusd FROM entries e WHERE e.generation_id = :id AND e.kind <> 'charge'
        AND e.kind = 'uncertain' AND NOT EXISTS (
        SELECT 1 FROM entries c WHERE c.generation_id = e.generation_id AND c.kind <> 'charge' AND c.kind = 'cleared' AND c.debit = e.credit
    )
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """Whose receipts may be told: those of an organisation; with a `member_id`, only that member's."""

    organization_id: str
    member_id: str | None = None


def looking(connection: sa.Connection) -> Look:
    """Look through a connection of the engine."""

    def look(statement: str, values: Mapping[str, Any]) -> list[Row]:
        return [dict(row) for row in connection.execute(sa.text(statement), values).mappings()]

    return look


def find_story(look: Look, generation_id: str, seen: Seen | None) -> Story | None:
    """Give the story of a request; None when there is no receipt that may be seen. `seen` is None for the operator, who sees all."""
    limits, values = _limits(seen)
    rows = look(_RECEIPT + limits, {"id": generation_id, **values})
    if not rows:
        return None
    row = rows[0]
    for name in ("parts", "plan", "attempts", "inputs"):
        row[name] = None if row[name] is None else msgspec.json.decode(row[name])
    return Story(row, _earlier(look, row, limits, values), _uncertain(look, row), feature_words())


def _limits(seen: Seen | None) -> tuple[str, dict[str, str]]:
    """What confines a search to what may be seen, and its values."""
    if seen is None:
        return "", {}
    if seen.member_id is None:
        return " AND g.organization_id = :seen_organization", {"seen_organization": seen.organization_id}
    return (
        " AND g.organization_id = :seen_organization AND g.member_id = :seen_member",
        {"seen_organization": seen.organization_id, "seen_member": seen.member_id},
    )


def _earlier(look: Look, row: Row, limits: str, values: Mapping[str, str]) -> Row | None:
    """The receipt before this one in its conversation."""
    if row["conversation"] is None:
        return None
    place = {name: row[name] for name in ("conversation", "created_at_ms", "organization_id")}
    rows = look(_EARLIER + limits + _NEWEST, {**place, **values})
    return rows[0] if rows else None


def _uncertain(look: Look, row: Row) -> dict[str, int]:
    """What attempts of unknown fate may cost, by provider. The books have no index for it, so they are asked only then."""
    unknown = {kind for kind, verdict in VERDICTS.items() if verdict.unknown}
    if not any(attempt["fault"] in unknown for attempt in row["attempts"]):
        return {}
    found: dict[str, int] = {}
    for entry in look(_UNCERTAIN, {"id": row["id"]}):
        provider = entry["credit"].partition(":")[2]
        found[provider] = found.get(provider, 0) + entry["amount_nusd"]
    return found


def feature_words() -> dict[str, str]:
    """Words for features; empty for those that say nothing about a request, because every request is looked through for them."""
    features = load_kinds(bundled_kinds()).features.values()
    return {feature.id: "" if feature.inside else feature.what for feature in features}
