"""API keys: make, find, limit, switch off and on, delete. A key's text is shown once and never stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from modelgates_server.accounts import keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import LIMIT_RESETS, MeterRef, Scope, Unit, Window
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.money import check_limit, count_spent
from modelgates_server.management.workspaces import stored_routing
from modelgates_server.privacy import visible
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

NAME_CHARACTERS_MAX = 100
RATE_MAX = 10**9
HASH_PREFIX_MIN = 8
"""Fewer characters of a hash could be a name."""

_KEYS = schema.api_keys
_CONVERTED = frozenset({"key_class", "disabled", "allowed_models"})


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is asked for. Amounts in nano-USD, `limit_reset` daily, weekly, monthly or None (never), times in Unix seconds.

    Without `workspace_id` it belongs to the oldest workspace. `allowed_models` are slugs; None allows all.
    """

    name: str
    key_class: KeyClass = KeyClass.INFERENCE
    limit_nusd: int | None = None
    limit_reset: str | None = None
    expires_at_s: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    workspace_id: str | None = None
    member_id: str | None = None
    allowed_models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as it is stored. `hash` is its public name; `label` is the masked form that people know it by.

    `routing` holds its provider preferences as JSON, None when it has none.
    """

    hash: str
    organization_id: str
    workspace_id: str
    member_id: str | None
    name: str
    label: str
    key_class: KeyClass
    disabled: bool
    limit_nusd: int | None
    limit_reset: str | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    allowed_models: tuple[str, ...] | None
    expires_at_s: int | None
    created_at_s: int
    updated_at_s: int
    routing: str | None

    @property
    def limit_meter(self) -> MeterRef:
        """The meter that carries the key's own limit: that of its window, or of its lifetime."""
        window = LIMIT_RESETS.get(self.limit_reset or "", Window.LIFE)
        return MeterRef(Scope.KEY, self.hash, Unit.NUSD, window, self.limit_nusd)


def create_key(engine: sa.Engine, pepper: bytes, wanted: NewKey, actor: str, now_s: float) -> tuple[str, KeyRow]:
    """Make a key; give its text, which nobody can read again, and its row. Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        return add_key(changing, pepper, wanted, actor)


def add_key(changing: Change, pepper: bytes, wanted: NewKey, actor: str) -> tuple[str, KeyRow]:
    """Make a key as part of a larger change."""
    _check(wanted, changing.now_s)
    minted = keys.mint(wanted.key_class)
    workspace = _workspace(changing.connection, wanted.workspace_id)
    _check_member(changing.connection, workspace.organization_id, wanted.member_id)
    row = {
        "hash": keys.digest(pepper, minted.secret),
        "organization_id": workspace.organization_id,
        "workspace_id": workspace.id,
        "member_id": wanted.member_id,
        "name": visible(wanted.name, NAME_CHARACTERS_MAX),
        "label": minted.label,
        "class": str(wanted.key_class),
        "disabled": 0,
        "limit_nusd": wanted.limit_nusd,
        "limit_reset": wanted.limit_reset,
        "requests_per_minute": wanted.requests_per_minute,
        "tokens_per_minute": wanted.tokens_per_minute,
        "allowed_models": None if wanted.allowed_models is None else json.dumps(wanted.allowed_models),
        "expires_at_s": wanted.expires_at_s,
        "created_at_s": changing.now_s,
        "updated_at_s": changing.now_s,
        "deleted_at_s": None,
    }
    changing.connection.execute(sa.insert(_KEYS).values(row))
    shown = {name: row[name] for name in ("name", "class", "limit_nusd", "limit_reset", "expires_at_s")}
    changing.note(Note(workspace.organization_id, actor, "key.create", row["hash"], shown))
    return minted.secret, _found(changing.connection, row["hash"])


def list_keys(engine: sa.Engine, organization_id: str | None = None) -> list[KeyRow]:
    """Give every key that is not deleted, oldest first; of one organisation or, in the terminal, of all."""
    query = sa.select(_KEYS).where(_KEYS.c.deleted_at_s.is_(None)).order_by(_KEYS.c.created_at_s, _KEYS.c.hash)
    if organization_id is not None:
        query = query.where(_KEYS.c.organization_id == organization_id)
    with reading(engine) as connection:
        return [_key_row(row) for row in connection.execute(query).mappings()]


def find_key(engine: sa.Engine, selector: str) -> KeyRow:
    """Find a key by its hash, by a beginning of it (8 characters or more) or by its exact name.

    Raises NotFound, or BadRequest when more than one fits. A key's own text is no selector.
    """
    found = list_keys(engine)
    exact = [row for row in found if row.hash == selector]
    fitting = exact or [
        row
        for row in found
        if row.name == selector or (len(selector) >= HASH_PREFIX_MIN and row.hash.startswith(selector))
    ]
    if not fitting:
        raise NotFound("there is no such key", remedy="modelgates keys list shows names and hashes")
    if len(fitting) > 1:
        listed = ", ".join(f"{row.hash[:12]} ({row.name})" for row in fitting[:5])
        raise BadRequest(f"{len(fitting)} keys fit: {listed}", remedy="name one by its hash")
    return fitting[0]


def set_key_disabled(engine: sa.Engine, key_hash: str, disabled: bool, actor: str, now_s: float) -> KeyRow:  # noqa: FBT001 - the state itself
    """Switch a key off or on. Once this returns, no process admits a request of a key that is off (design decision 14)."""
    with change(engine, now_s) as changing:
        row = _found(changing.connection, key_hash)
        _store(changing, row, {"disabled": int(disabled)}, "key.disable" if disabled else "key.enable", actor)
        _close_meters(changing.connection, key_hash, int(disabled))
        return _found(changing.connection, key_hash)


def delete_key(engine: sa.Engine, key_hash: str, actor: str, now_s: float) -> None:
    """Delete a key for good; its past use stays in the books. Raises NotFound."""
    with change(engine, now_s) as changing:
        row = _found(changing.connection, key_hash)
        _store(changing, row, {"deleted_at_s": changing.now_s}, "key.delete", actor)
        _close_meters(changing.connection, key_hash, 1)


def update_key_limit(
    engine: sa.Engine, key_hash: str, limit_nusd: int | None, limit_reset: str | None, actor: str, now_s: float
) -> KeyRow:
    """Change or (with None) lift a key's limit; what it used in the window counts. Raises BadRequest, NotFound."""
    _check_reset(limit_nusd, limit_reset)
    with change(engine, now_s) as changing:
        row = _found(changing.connection, key_hash)
        _store(changing, row, {"limit_nusd": limit_nusd, "limit_reset": limit_reset}, "key.limit", actor)
        changed = _found(changing.connection, key_hash)
        if limit_nusd is not None and changed.limit_meter.window is not Window.LIFE:
            count_spent(changing, changed.limit_meter, row.organization_id)
        return changed


def set_rates(
    engine: sa.Engine,
    key_hash: str,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    actor: str,
    now_s: float,
) -> KeyRow:
    """Change or (with None) lift a key's rates. Raises BadRequest, NotFound."""
    _check_rates(requests_per_minute, tokens_per_minute)
    rates = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    with change(engine, now_s) as changing:
        _store(changing, _found(changing.connection, key_hash), rates, "key.rates", actor)
        return _found(changing.connection, key_hash)


def set_key_routing(engine: sa.Engine, key_hash: str, routing: str | None, actor: str, now_s: float) -> KeyRow:
    """Set or (with None) take back a key's provider preferences (see `stored_routing`). Raises BadRequest, NotFound."""
    stored = stored_routing(routing)
    with change(engine, now_s) as changing:
        row = _found(changing.connection, key_hash)
        if row.key_class is not KeyClass.INFERENCE:
            raise BadRequest("a management key sends no requests, so it has no routing; name an inference key")
        _store(changing, row, {"routing": stored}, "key.routing", actor)
        return _found(changing.connection, key_hash)


def _store(changing: Change, row: KeyRow, values: dict[str, Any], action: str, actor: str) -> None:
    changing.connection.execute(
        sa.update(_KEYS).where(_KEYS.c.hash == row.hash).values(updated_at_s=changing.now_s, **values)
    )
    changing.bump_policy()
    changing.note(Note(row.organization_id, actor, action, row.hash, values))


def _close_meters(connection: sa.Connection, key_hash: str, closed: int) -> None:
    """Holds look at this very row, so none can be taken after the change, whatever a process remembers."""
    meters = schema.meters
    mine = (meters.c.scope == str(Scope.KEY), meters.c.scope_id == key_hash)
    connection.execute(sa.update(meters).where(*mine).values(closed=closed))


def _found(connection: sa.Connection, key_hash: str) -> KeyRow:
    query = sa.select(_KEYS).where(_KEYS.c.hash == key_hash, _KEYS.c.deleted_at_s.is_(None))
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such key", remedy="modelgates keys list shows names and hashes")
    return _key_row(row)


def _key_row(row: sa.RowMapping) -> KeyRow:
    allowed = row["allowed_models"]
    same = {column: row[column] for column in KeyRow.__slots__ if column not in _CONVERTED}
    return KeyRow(
        key_class=KeyClass(row["class"]),
        disabled=bool(row["disabled"]),
        allowed_models=None if allowed is None else tuple(json.loads(allowed)),
        **same,
    )


def _workspace(connection: sa.Connection, workspace_id: str | None) -> sa.Row[Any]:
    spaces = schema.workspaces
    query = sa.select(spaces).order_by(spaces.c.created_at_s, spaces.c.id).limit(1)
    if workspace_id is not None:
        query = query.where(spaces.c.id == workspace_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("there is no such workspace")
    return row


def _check_member(connection: sa.Connection, organization_id: str, member_id: str | None) -> None:
    members = schema.members.c
    own = sa.select(members.id).where(members.id == member_id, members.organization_id == organization_id)
    if member_id is not None and connection.execute(own).one_or_none() is None:
        raise NotFound("there is no such member")


def _check(wanted: NewKey, now_s: int) -> None:
    if not visible(wanted.name, NAME_CHARACTERS_MAX):
        raise BadRequest("a key needs a name")
    if keys.well_formed(wanted.name.strip()) is not None:
        raise BadRequest("the name is a key; a key is not written anywhere, so it cannot be a name")
    _check_reset(wanted.limit_nusd, wanted.limit_reset)
    _check_rates(wanted.requests_per_minute, wanted.tokens_per_minute)
    if wanted.expires_at_s is not None and wanted.expires_at_s <= now_s:
        raise BadRequest("the expiry is in the past")


def _check_reset(limit_nusd: int | None, limit_reset: str | None) -> None:
    check_limit(limit_nusd)
    if limit_reset is None:
        return
    if limit_reset not in LIMIT_RESETS:
        raise BadRequest(f"limit_reset must be one of {', '.join(LIMIT_RESETS)}, or be left out")
    if limit_nusd is None:
        raise BadRequest("limit_reset says how often a limit starts again, so it needs a limit")


def _check_rates(*rates: int | None) -> None:
    for rate in rates:
        if rate is not None and not 1 <= rate <= RATE_MAX:
            raise BadRequest(f"a rate must be from 1 to {RATE_MAX} a minute; to stop a key altogether, disable it")
