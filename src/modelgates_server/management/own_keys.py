"""What people do with keys in one step: made or changed together with their guardrail, and what a member may do with their own.

A member makes keys that count against their share, and makes them stricter. What widens a key again is an administrator's:
otherwise whoever is limited would lift the limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, Forbidden, NotFound
from modelgates_server.management.assignments import give_to_keys, take_from_key
from modelgates_server.management.change import Change, change
from modelgates_server.management.key_values import KeyRow, NewKey
from modelgates_server.management.keys import add_key, change_key, delete_key, key_in
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

KEEP: Final = "keep"
"""Instead of a guardrail's id: whatever the key has stays."""

_CEILINGS: Final = frozenset({"limit_nusd", "expires_at_s", "requests_per_minute", "tokens_per_minute", "parallel_max"})
_NO_SUCH: Final = "There is no such key. It may have been deleted."
_STRICTER: Final = (
    "You can make your key stricter here, not wider. Ask an administrator for that, or make another key:"
    " all your keys count against your share."
)


def create_with_guardrail(  # noqa: PLR0913 - whose, what, who and when
    engine: sa.Engine,
    pepper: bytes,
    organization_id: str,
    wanted: NewKey,
    guardrail_id: str | None,
    actor: str,
    now_s: float,
) -> tuple[str, KeyRow]:
    """Make a key and give it a guardrail, both or neither; gives its text and its row. Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        secret, row = add_key(changing, pepper, organization_id, wanted, actor)
        if guardrail_id is not None:
            give_to_keys(changing, organization_id, guardrail_id, [row.hash], actor)
        return secret, row


def update_with_guardrail(  # noqa: PLR0913 - whose, what, who and when
    engine: sa.Engine,
    organization_id: str,
    key_hash: str,
    changes: Mapping[str, Any],
    guardrail_id: str | None,
    actor: str,
    now_s: float,
) -> KeyRow:
    """Change a key and its guardrail (`KEEP`: not that; None: take it), all or nothing. Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        row = change_key(changing, organization_id, key_hash, changes, "key.update", actor)
        if guardrail_id is None:
            take_from_key(changing, organization_id, key_hash, actor)
        elif guardrail_id != KEEP:
            give_to_keys(changing, organization_id, guardrail_id, [key_hash], actor)
        return row


def create_own(  # noqa: PLR0913 - whose, what, who and when
    engine: sa.Engine, pepper: bytes, organization_id: str, member_id: str, wanted: NewKey, actor: str, now_s: float
) -> tuple[str, KeyRow]:
    """Make a key of a member's own. Raises BadRequest, and NotFound for a workspace that they are not in."""
    with change(engine, now_s) as changing:
        if wanted.workspace_id is not None:
            _check_place(changing, organization_id, member_id, wanted.workspace_id)
        return add_key(changing, pepper, organization_id, replace(wanted, member_id=member_id), actor)


def update_own(  # noqa: PLR0913 - whose, what, who and when
    engine: sa.Engine,
    organization_id: str,
    member_id: str,
    key_hash: str,
    changes: Mapping[str, Any],
    actor: str,
    now_s: float,
) -> KeyRow:
    """Rename a member's own key, or make it stricter. Raises BadRequest for anything that would widen it, NotFound."""
    with change(engine, now_s) as changing:
        row = _own(changing.connection, organization_id, member_id, key_hash)
        if any(_widens(row, name, changes) for name in changes):
            raise BadRequest(_STRICTER)
        return change_key(changing, organization_id, key_hash, changes, "key.update", actor)


def switch_own(  # noqa: PLR0913 - whose, what, who and when
    engine: sa.Engine,
    organization_id: str,
    member_id: str,
    key_hash: str,
    disabled: bool,  # noqa: FBT001 - the state itself
    actor: str,
    now_s: float,
) -> KeyRow:
    """Switch a member's own key off, or on again if nobody else switched it off. Raises Forbidden, NotFound."""
    with change(engine, now_s) as changing:
        row = _own(changing.connection, organization_id, member_id, key_hash)
        if row.disabled is disabled:
            return row  # nothing is noted: the log goes on telling who switched it off
        if not disabled and _switched_off_by(changing.connection, organization_id, key_hash) != actor:
            raise Forbidden("An administrator switched this key off. Ask one to switch it on again.")
        action = "key.disable" if disabled else "key.enable"
        return change_key(changing, organization_id, key_hash, {"disabled": disabled}, action, actor)


def delete_own(
    engine: sa.Engine, organization_id: str, member_id: str, key_hash: str, actor: str, now_s: float
) -> None:
    """Delete a member's own key. Raises NotFound."""
    with reading(engine) as connection:
        _own(connection, organization_id, member_id, key_hash)
    delete_key(engine, organization_id, key_hash, actor, now_s)


def _own(connection: sa.Connection, organization_id: str, member_id: str, key_hash: str) -> KeyRow:
    """A member's own key. Raises NotFound, in the same words for somebody else's and for one that never was."""
    try:
        row = key_in(connection, organization_id, key_hash)
    except NotFound as unknown:
        raise NotFound(_NO_SUCH) from unknown
    if row.member_id != member_id:
        raise NotFound(_NO_SUCH)
    return row


def _check_place(changing: Change, organization_id: str, member_id: str, workspace_id: str) -> None:
    """The default workspace, which is the oldest, is everybody's."""
    spaces, places = schema.workspaces.c, schema.workspace_members.c
    live = sa.select(spaces.id).where(spaces.organization_id == organization_id, spaces.deleted_at_s.is_(None))
    default = changing.connection.execute(live.order_by(spaces.created_at_s, spaces.id).limit(1)).scalar_one()
    joined = sa.select(places.workspace_id).where(places.member_id == member_id, places.workspace_id == workspace_id)
    if workspace_id != default and changing.connection.execute(joined).first() is None:
        raise NotFound("There is no such workspace, or you are no member of it.")


def _widens(row: KeyRow, name: str, changes: Mapping[str, Any]) -> bool:
    """Whether a change lets more through than before. A limit that starts again later, or sooner, is another promise: it widens."""
    old, new = getattr(row, name), changes[name]
    if new == old or name == "name":
        return False
    if name in _CEILINGS:
        return new is None or (old is not None and new > old)
    if name == "limit_reset":
        return row.limit_nusd is not None
    if name == "allowed_models":
        return new is None or (old is not None and not set(new) <= set(old))
    return True


def _switched_off_by(connection: sa.Connection, organization_id: str, key_hash: str) -> str | None:
    """Who switched a key off last, by the audit log; None when nobody did, as when its member was removed."""
    audit = schema.audit.c
    query = (
        sa.select(audit.actor, audit.action, audit.details)
        .where(
            audit.organization_id == organization_id,
            audit.target == key_hash,
            audit.action.in_(["key.disable", "key.update"]),
        )
        .order_by(audit.id.desc())
    )
    for row in connection.execute(query):
        if json.loads(row.details).get("disabled") == 1:
            return str(row.actor)
    return None
