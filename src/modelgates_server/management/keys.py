"""API keys: make, find, change, switch off and on, delete. A key's text is shown once and never stored.

Every function is told whose keys it may touch; a key of another organisation is answered like one that does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.accounts import keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope, Unit, Window
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.guardrails import count_moved
from modelgates_server.management.key_values import (
    CHANGEABLE,
    KeyFilter,
    KeyRow,
    NewKey,
    check_expiry,
    check_new,
    check_rates,
    check_reset,
    check_routing,
    key_name,
)
from modelgates_server.management.paging import Page, page
from modelgates_server.management.spent import count_spent
from modelgates_server.management.workspaces import join_with_key, stored_routing, workspace_in
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

MODELS_MAX = 200
HASH_PREFIX_MIN = 8
"""Fewer characters of a hash could be a name."""

_KEYS = schema.api_keys
_CONVERTED = frozenset({"key_class", "disabled", "allowed_models", "include_byok_in_limit"})
_NOTED: Final = ("name", "class", "workspace_id", "member_id", "limit_nusd", "limit_reset", "expires_at_s")
"""What the audit log says of a new key."""

_NO_SUCH: Final = "there is no such key"
_REMEDY: Final = "GET /api/v1/keys and `modelgates keys list` show names and hashes"


def create_key(
    engine: sa.Engine, pepper: bytes, organization_id: str, wanted: NewKey, actor: str, now_s: float
) -> tuple[str, KeyRow]:
    """Make a key; give its text, which nobody can read again, and its row. Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        return add_key(changing, pepper, organization_id, wanted, actor)


def add_key(changing: Change, pepper: bytes, organization_id: str, wanted: NewKey, actor: str) -> tuple[str, KeyRow]:
    """Make a key as part of a larger change."""
    check_new(wanted, changing.now_s)
    minted = keys.mint(wanted.key_class)
    workspace_id = workspace_in(changing.connection, organization_id, wanted.workspace_id).id
    _check_member(changing.connection, organization_id, wanted.member_id)
    join_with_key(changing, organization_id, workspace_id, wanted.member_id)
    key_hash = keys.digest(pepper, minted.secret)
    row = {
        "hash": key_hash,
        "organization_id": organization_id,
        "workspace_id": workspace_id,
        "member_id": wanted.member_id,
        "name": key_name(wanted.name),
        "label": minted.label,
        "class": str(wanted.key_class),
        "disabled": 0,
        "limit_nusd": wanted.limit_nusd,
        "limit_reset": wanted.limit_reset,
        "requests_per_minute": wanted.requests_per_minute,
        "tokens_per_minute": wanted.tokens_per_minute,
        "allowed_models": _stored_models(wanted.allowed_models),
        "expires_at_s": wanted.expires_at_s,
        "created_at_s": changing.now_s,
        "updated_at_s": changing.now_s,
        "deleted_at_s": None,
        "parallel_max": wanted.parallel_max,
        "include_byok_in_limit": int(wanted.include_byok_in_limit),
        "routing": stored_routing(wanted.routing),
    }
    changing.connection.execute(sa.insert(_KEYS).values(row))
    shown = {name: row[name] for name in _NOTED}
    changing.note(Note(organization_id, actor, "key.create", key_hash, shown))
    return minted.secret, key_in(changing.connection, organization_id, key_hash)


def list_keys(engine: sa.Engine, organization_id: str) -> list[KeyRow]:
    """Give every key of an organisation that is not deleted, oldest first."""
    return page_keys(engine, organization_id, KeyFilter(), 0, None, 0).rows


def page_keys(
    engine: sa.Engine, organization_id: str, wanted: KeyFilter, offset: int, limit: int | None, now_s: float
) -> Page[KeyRow]:
    """Give a page of the keys that are not deleted, oldest first, of one second by name.

    Raises NotFound for a workspace of somebody else.
    """
    query = _mine(organization_id).order_by(_KEYS.c.created_at_s, _KEYS.c.name, _KEYS.c.hash)
    if wanted.key_class is not None:
        query = query.where(_KEYS.c["class"] == str(wanted.key_class))
    if not wanted.disabled:
        query = query.where(_KEYS.c.disabled == 0)
    if not wanted.expired:
        query = query.where(_KEYS.c.expires_at_s.is_(None) | (_KEYS.c.expires_at_s > int(now_s)))
    with reading(engine) as connection:
        if not wanted.everywhere:
            workspace = workspace_in(connection, organization_id, wanted.workspace_id)
            query = query.where(_KEYS.c.workspace_id == workspace.id)
        return page(connection, query, key_row, offset, limit)


def get_key(engine: sa.Engine, organization_id: str, key_hash: str) -> KeyRow:
    """Give the key of that hash. Raises NotFound."""
    with reading(engine) as connection:
        return key_in(connection, organization_id, key_hash)


def find_key(engine: sa.Engine, organization_id: str, selector: str) -> KeyRow:
    """Find a key by its hash, by a beginning of it (8 characters or more) or by its exact name.

    Raises NotFound, or BadRequest when more than one fits. A key's own text is no selector.
    """
    found = list_keys(engine, organization_id)
    exact = [row for row in found if row.hash == selector]
    fitting = exact or [
        row
        for row in found
        if row.name == selector or (len(selector) >= HASH_PREFIX_MIN and row.hash.startswith(selector))
    ]
    if not fitting:
        raise NotFound(_NO_SUCH, remedy=_REMEDY)
    if len(fitting) > 1:
        listed = ", ".join(f"{row.hash[:12]} ({row.name})" for row in fitting[:5])
        raise BadRequest(f"{len(fitting)} keys fit: {listed}", remedy="name one by its hash")
    return fitting[0]


def update_key(
    engine: sa.Engine, organization_id: str, key_hash: str, changes: Mapping[str, Any], actor: str, now_s: float
) -> KeyRow:
    """Change several things about a key at once; what it used in the window of its limit counts.

    `changes` holds members of `CHANGEABLE`. Once this returns, no process admits a request of a key that is off
    (design decision 14). Raises BadRequest, NotFound.
    """
    with change(engine, now_s) as changing:
        return change_key(changing, organization_id, key_hash, changes, "key.update", actor)


def set_key_disabled(
    engine: sa.Engine,
    organization_id: str,
    key_hash: str,
    disabled: bool,  # noqa: FBT001 - the state itself
    actor: str,
    now_s: float,
) -> KeyRow:
    """Switch a key off or on. Once this returns, no process admits a request of a key that is off (design decision 14)."""
    with change(engine, now_s) as changing:
        action = "key.disable" if disabled else "key.enable"
        return change_key(changing, organization_id, key_hash, {"disabled": disabled}, action, actor)


def delete_key(engine: sa.Engine, organization_id: str, key_hash: str, actor: str, now_s: float) -> None:
    """Delete a key for good; its past use stays in the books. Raises NotFound."""
    with change(engine, now_s) as changing:
        row = key_in(changing.connection, organization_id, key_hash)
        _store(changing, row, {"deleted_at_s": changing.now_s}, "key.delete", actor)
        _close_meters(changing, key_hash, 1)
        assigned = schema.guardrail_keys
        changing.connection.execute(sa.delete(assigned).where(assigned.c.key_hash == key_hash))


def update_key_limit(  # noqa: PLR0913 - who, whose, what and when
    engine: sa.Engine,
    organization_id: str,
    key_hash: str,
    limit_nusd: int | None,
    limit_reset: str | None,
    actor: str,
    now_s: float,
) -> KeyRow:
    """Change or (with None) lift a key's limit; what it used in the window counts. Raises BadRequest, NotFound."""
    wanted = {"limit_nusd": limit_nusd, "limit_reset": limit_reset}
    with change(engine, now_s) as changing:
        return change_key(changing, organization_id, key_hash, wanted, "key.limit", actor)


def set_key_routing(
    engine: sa.Engine, organization_id: str, key_hash: str, routing: str | None, actor: str, now_s: float
) -> KeyRow:
    """Set or (with None) take back a key's provider preferences (see `stored_routing`). Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        return change_key(changing, organization_id, key_hash, {"routing": routing}, "key.routing", actor)


def change_key(
    changing: Change, organization_id: str, key_hash: str, changes: Mapping[str, Any], action: str, actor: str
) -> KeyRow:
    """Change a key as part of a larger change: see `update_key`. `action` is what the audit log calls it."""
    row = key_in(changing.connection, organization_id, key_hash)
    if unknown := changes.keys() - CHANGEABLE:
        raise AssertionError(f"{sorted(unknown)} cannot be changed")
    if "limit_nusd" in changes and changes["limit_nusd"] is None:
        changes = {"limit_reset": None, **changes}  # without a limit there is nothing to start again
    if "workspace_id" in changes:
        workspace = workspace_in(changing.connection, organization_id, changes["workspace_id"])
        changes = {**changes, "workspace_id": workspace.id}
    _check_changes(changing, row, changes)
    if changes.get("disabled") is False:
        _check_owner(changing.connection, row)
    _store(changing, row, _stored(changes), action, actor)
    changed = key_in(changing.connection, organization_id, key_hash)
    if changed.disabled is not row.disabled:
        _close_meters(changing, key_hash, int(changed.disabled))
    meter = changed.limit_meter
    lifelong = meter.window is Window.LIFE and meter.unit is Unit.NUSD  # that meter every request posts to anyway
    named = changes.keys() & {"limit_nusd", "limit_reset"}
    if changed.limit_nusd is not None and not lifelong and (named or meter != row.limit_meter):
        count_spent(changing, meter, organization_id)
    if changed.workspace_id != row.workspace_id:
        join_with_key(changing, organization_id, changed.workspace_id, changed.member_id)
        count_moved(changing, organization_id, changed.workspace_id, key_hash)
    return changed


def _check_changes(changing: Change, row: KeyRow, changes: Mapping[str, Any]) -> None:
    if "name" in changes:
        key_name(changes["name"])
    if changes.keys() & {"limit_nusd", "limit_reset"}:
        check_reset(changes.get("limit_nusd", row.limit_nusd), changes.get("limit_reset", row.limit_reset))
    check_rates(*(changes.get(name) for name in ("requests_per_minute", "tokens_per_minute", "parallel_max")))
    check_expiry(changes.get("expires_at_s"), changing.now_s)
    check_routing(row.key_class, changes.get("routing"))


def _stored(changes: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(changes)
    for flag in ("disabled", "include_byok_in_limit"):
        if flag in values:
            values[flag] = int(values[flag])
    if "name" in values:
        values["name"] = key_name(values["name"])
    if "allowed_models" in values:
        values["allowed_models"] = _stored_models(values["allowed_models"])
    if "routing" in values:
        values["routing"] = stored_routing(values["routing"])
    return values


def _stored_models(slugs: tuple[str, ...] | None) -> str | None:
    if slugs is None:
        return None
    if len(slugs) > MODELS_MAX:
        raise BadRequest(f"a key may name at most {MODELS_MAX} models")
    return json.dumps(slugs)


def _store(changing: Change, row: KeyRow, values: dict[str, Any], action: str, actor: str) -> None:
    changing.connection.execute(
        sa.update(_KEYS).where(_KEYS.c.hash == row.hash).values(updated_at_s=changing.now_s, **values)
    )
    changing.bump_policy()
    changing.note(Note(row.organization_id, actor, action, row.hash, values))


def _close_meters(changing: Change, key_hash: str, closed: int) -> None:
    """Holds look at this very row, so none can be taken after the change, whatever a process remembers."""
    meters = schema.meters
    mine = (meters.c.scope == str(Scope.KEY), meters.c.scope_id == key_hash)
    changing.lock_meters(*mine)
    changing.connection.execute(sa.update(meters).where(*mine).values(closed=closed))


def _mine(organization_id: str) -> sa.Select[Any]:
    return sa.select(_KEYS).where(_KEYS.c.organization_id == organization_id, _KEYS.c.deleted_at_s.is_(None))


def key_in(connection: sa.Connection, organization_id: str, key_hash: str) -> KeyRow:
    """Read a live key of the organisation on an open connection. Raises NotFound."""
    row = connection.execute(_mine(organization_id).where(_KEYS.c.hash == key_hash)).mappings().one_or_none()
    if row is None:
        raise NotFound(_NO_SUCH, remedy=_REMEDY)
    return key_row(row)


def key_row(row: sa.RowMapping) -> KeyRow:
    """Read a row of `api_keys`."""
    allowed = row["allowed_models"]
    same = {column: row[column] for column in KeyRow.__slots__ if column not in _CONVERTED}
    return KeyRow(
        key_class=KeyClass(row["class"]),
        disabled=bool(row["disabled"]),
        allowed_models=None if allowed is None else tuple(json.loads(allowed)),
        include_byok_in_limit=bool(row["include_byok_in_limit"]),
        **same,
    )


def _check_owner(connection: sa.Connection, row: KeyRow) -> None:
    """A key of somebody who was removed admits nothing, so it must not look as if it were on."""
    members = schema.members.c
    gone = sa.select(members.id).where(
        members.id == row.member_id,
        members.organization_id == row.organization_id,
        members.removed_at_s.is_not(None),
    )
    if row.member_id is not None and connection.execute(gone).one_or_none() is not None:
        raise BadRequest(
            "the key belongs to a member who was removed, so it stays off", remedy="make a new key for somebody else"
        )


def _check_member(connection: sa.Connection, organization_id: str, member_id: str | None) -> None:
    members = schema.members.c
    own = sa.select(members.id).where(
        members.id == member_id, members.organization_id == organization_id, members.removed_at_s.is_(None)
    )
    if member_id is not None and connection.execute(own).one_or_none() is None:
        raise NotFound("there is no such member")
