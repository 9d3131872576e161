"""Who is given which guardrail. A key has at most one of its own, a member too: a new one replaces it (product-surface 2.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.guardrails import GuardrailRow, count_under, guardrail_in
from modelgates_server.management.members import member_in
from modelgates_server.management.paging import Page, page
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.portable import upsert

BATCH_MAX: Final = 1_000

_OF_KEYS = schema.guardrail_keys
_OF_MEMBERS = schema.guardrail_members


@dataclass(frozen=True, slots=True)
class KeyAssignment:
    """A key that a guardrail is given to."""

    id: str
    guardrail_id: str
    key_hash: str
    key_name: str
    key_label: str
    assigned_by: str
    created_at_s: int


@dataclass(frozen=True, slots=True)
class MemberAssignment:
    """A member that a guardrail is given to."""

    id: str
    guardrail_id: str
    user_id: str
    organization_id: str
    assigned_by: str
    created_at_s: int


def assign_keys(
    engine: sa.Engine, organization_id: str, guardrail_id: str, key_hashes: Sequence[str], actor: str, now_s: float
) -> int:
    """Give a guardrail to keys, all of them or none; count them. Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        return give_to_keys(changing, organization_id, guardrail_id, key_hashes, actor)


def give_to_keys(
    changing: Change, organization_id: str, guardrail_id: str, key_hashes: Sequence[str], actor: str
) -> int:
    """Give a guardrail to keys as part of a larger change; count them. Raises BadRequest, NotFound."""
    row = _assignable(changing, organization_id, guardrail_id, key_hashes)
    hashes = list(dict.fromkeys(key_hashes))
    for key_hash in hashes:
        _check_key(changing.connection, organization_id, key_hash)
    changing.bump_policy()
    for key_hash in hashes:
        _give(changing, _OF_KEYS, "key_hash", key_hash, row, actor)
    count_under(changing, row, Scope.KEY, hashes)
    changing.note(Note(organization_id, actor, "guardrail.assign", row.id, {"keys": hashes}))
    return len(hashes)


def take_from_key(changing: Change, organization_id: str, key_hash: str, actor: str) -> None:
    """Take whatever guardrail a key has of its own from it, as part of a larger change."""
    mine = (_OF_KEYS.c.key_hash == key_hash, _OF_KEYS.c.organization_id == organization_id)
    guardrail_id = changing.connection.execute(sa.select(_OF_KEYS.c.guardrail_id).where(*mine)).scalar_one_or_none()
    if guardrail_id is None:
        return
    changing.bump_policy()
    changing.connection.execute(sa.delete(_OF_KEYS).where(*mine))
    changing.note(Note(organization_id, actor, "guardrail.unassign", guardrail_id, {"key_hash": [key_hash]}))


def assign_members(
    engine: sa.Engine, organization_id: str, guardrail_id: str, member_ids: Sequence[str], actor: str, now_s: float
) -> int:
    """Give a guardrail to members, all of them or none; count them. Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        row = _assignable(changing, organization_id, guardrail_id, member_ids)
        ids = [member_in(changing.connection, organization_id, one).id for one in dict.fromkeys(member_ids)]
        changing.bump_policy()
        for member_id in ids:
            _give(changing, _OF_MEMBERS, "member_id", member_id, row, actor)
        count_under(changing, row, Scope.MEMBER, ids)
        changing.note(Note(organization_id, actor, "guardrail.assign", row.id, {"members": ids}))
        return len(ids)


def unassign_keys(
    engine: sa.Engine, organization_id: str, guardrail_id: str, key_hashes: Sequence[str], actor: str, now_s: float
) -> int:
    """Take a guardrail from keys; count those that had it. Raises BadRequest, NotFound."""
    return _take(engine, organization_id, guardrail_id, (_OF_KEYS, "key_hash", key_hashes), actor, now_s)


def unassign_members(
    engine: sa.Engine, organization_id: str, guardrail_id: str, member_ids: Sequence[str], actor: str, now_s: float
) -> int:
    """Take a guardrail from members; count those that had it. Raises BadRequest, NotFound."""
    return _take(engine, organization_id, guardrail_id, (_OF_MEMBERS, "member_id", member_ids), actor, now_s)


def list_key_assignments(
    engine: sa.Engine, organization_id: str, guardrail_id: str | None = None, offset: int = 0, limit: int | None = None
) -> Page[KeyAssignment]:
    """Give the keys that have a guardrail (None: any), the first assigned first. Raises NotFound."""
    keys = schema.api_keys.c
    query = (
        sa.select(_OF_KEYS, keys.name.label("key_name"), keys.label.label("key_label"))
        .join(schema.api_keys, keys.hash == _OF_KEYS.c.key_hash)
        .where(_OF_KEYS.c.organization_id == organization_id, keys.deleted_at_s.is_(None))
        .order_by(_OF_KEYS.c.created_at_s, _OF_KEYS.c.id)
    )
    with reading(engine) as connection:
        if guardrail_id is not None:
            row = guardrail_in(connection, organization_id, guardrail_id)
            query = query.where(_OF_KEYS.c.guardrail_id == row.id)
        return page(connection, query, _key_assignment, offset, limit)


def list_member_assignments(
    engine: sa.Engine, organization_id: str, guardrail_id: str | None = None, offset: int = 0, limit: int | None = None
) -> Page[MemberAssignment]:
    """Give the members that have a guardrail (None: any), the first assigned first. Raises NotFound."""
    query = (
        sa.select(_OF_MEMBERS, _OF_MEMBERS.c.member_id.label("user_id"))
        .where(_OF_MEMBERS.c.organization_id == organization_id)
        .order_by(_OF_MEMBERS.c.created_at_s, _OF_MEMBERS.c.id)
    )
    with reading(engine) as connection:
        if guardrail_id is not None:
            row = guardrail_in(connection, organization_id, guardrail_id)
            query = query.where(_OF_MEMBERS.c.guardrail_id == row.id)
        return page(connection, query, _member_assignment, offset, limit)


def _assignable(changing: Change, organization_id: str, guardrail_id: str, whom: Sequence[str]) -> GuardrailRow:
    row = guardrail_in(changing.connection, organization_id, guardrail_id)
    _check_batch(whom)
    if row.is_default:
        raise BadRequest("a workspace's default guardrail holds for everybody there; it is not assigned")
    return row


def _check_batch(whom: Sequence[str]) -> None:
    if not 1 <= len(whom) <= BATCH_MAX:
        raise BadRequest(f"name from 1 to {BATCH_MAX:,} at once")


def _check_key(connection: sa.Connection, organization_id: str, key_hash: str) -> None:
    keys = schema.api_keys.c
    own = (keys.hash == key_hash, keys.organization_id == organization_id, keys.deleted_at_s.is_(None))
    if connection.execute(sa.select(keys.hash).where(*own)).one_or_none() is None:
        raise NotFound(
            "there is no such key", remedy="GET /api/v1/keys and `modelgates keys list` show names and hashes"
        )


def _give(changing: Change, table: sa.Table, whose: str, one: str, row: GuardrailRow, actor: str) -> None:
    values = {
        "id": changing.new_id("gra"),
        "guardrail_id": row.id,
        "assigned_by": actor,
        "created_at_s": changing.now_s,
    }
    statement = upsert(changing.connection, table).values(
        {whose: one, "organization_id": row.organization_id, **values}
    )
    changing.connection.execute(statement.on_conflict_do_update(index_elements=[whose], set_=values))


def _take(
    engine: sa.Engine,
    organization_id: str,
    guardrail_id: str,
    whom: tuple[sa.Table, str, Sequence[str]],
    actor: str,
    now_s: float,
) -> int:
    table, whose, ids = whom
    with change(engine, now_s) as changing:
        row = guardrail_in(changing.connection, organization_id, guardrail_id)
        _check_batch(ids)
        changing.bump_policy()
        mine = (table.c.guardrail_id == row.id, table.c[whose].in_(list(ids)))
        done = changing.connection.execute(sa.delete(table).where(*mine))
        changing.note(Note(organization_id, actor, "guardrail.unassign", row.id, {whose: sorted(set(ids))}))
        return int(done.rowcount)


def _key_assignment(row: Any) -> KeyAssignment:
    return KeyAssignment(**{name: row[name] for name in KeyAssignment.__slots__})


def _member_assignment(row: Any) -> MemberAssignment:
    return MemberAssignment(**{name: row[name] for name in MemberAssignment.__slots__})
