"""An organisation's own provider keys (BYOK): stored sealed, shown masked, and sent to one address only.

A credential stands in for the operator's key at a provider that the operator configured. The address is the configured one, stored
and sealed with the key: destination and credential are one record, and nobody who may store a key may choose where it goes
(reliability-security 2.1). The key can be written and replaced, never read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import sqlalchemy as sa

from modelgates_server.accounts import keys
from modelgates_server.catalogue.kinds import Kind
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.errors import BadRequest, Conflict, NotFound, UnknownModel
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.describe import rfc3339
from modelgates_server.management.names import stored_name
from modelgates_server.management.paging import Page, page
from modelgates_server.privacy import visible
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.vault.ring import open_vault

FILTER_ENTRIES_MAX: Final = 100
SORT_ORDER_MAX: Final = 1_000_000
CREDENTIALS_MAX: Final = 200
"""Of one organisation: every live one may become an endpoint of each request."""

KEY_CHARACTERS_MAX: Final = 4096
KEY_FORM: Final = re.compile(rf"[!-~]{{8,{KEY_CHARACTERS_MAX}}}")
HASH_FORM: Final = re.compile(r"[0-9a-f]{64}")
SHOWN_KEY_MIN: Final = 24
"""Of a shorter key, six and four letters would be too much to show."""

_ROWS: Final = schema.provider_credentials
_LISTS: Final = ("allowed_models", "allowed_key_hashes", "allowed_member_ids")
_FLAGS: Final = ("is_fallback", "disabled")
_CHANGEABLE: Final = frozenset({"key", "name", "workspace_id", "sort_order", *_LISTS, *_FLAGS})


class Configured(Protocol):
    """A provider as the operator configured it: the part of the configuration that this needs."""

    @property
    def slug(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def traits(self) -> Kind: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a credential may be sent. `refusal` says why a kind of provider takes none; empty when it does."""

    slug: str
    base_url: str
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Safe:
    """What storing credentials needs: the installation's secret, and the configured providers by their slug."""

    secret: bytes = field(repr=False)
    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What is asked for. None in a list allows all; without a workspace it serves all of the organisation's.

    Those of lower `sort_order` are tried first, before the operator's own account; one that `is_fallback` only after it.
    """

    provider: str
    key: str = field(repr=False)
    name: str = ""
    workspace_id: str | None = None
    is_fallback: bool = False
    disabled: bool = False
    allowed_models: tuple[str, ...] | None = None
    allowed_key_hashes: tuple[str, ...] | None = None
    allowed_member_ids: tuple[str, ...] | None = None
    sort_order: int = 0


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A credential as people may see it: the key is only its `label`."""

    id: str
    organization_id: str
    workspace_id: str | None
    provider: str
    name: str
    label: str
    is_fallback: bool
    disabled: bool
    allowed_models: tuple[str, ...] | None
    allowed_key_hashes: tuple[str, ...] | None
    allowed_member_ids: tuple[str, ...] | None
    sort_order: int
    created_at_s: int
    updated_at_s: int


def places_of(providers: Iterable[Configured]) -> dict[str, Place]:
    """The configured providers as places for credentials."""
    return {one.slug: Place(one.slug, one.base_url, _refusal(one.traits)) for one in providers}


def add_credential(
    engine: sa.Engine, safe: Safe, organization_id: str, wanted: NewCredential, actor: str, now_s: float
) -> CredentialRow:
    """Store a key. Raises BadRequest for what cannot be, NotFound for a workspace, key or member of nobody here."""
    place = _place(safe, wanted.provider)
    with change(engine, now_s) as changing:
        changing.bump_policy()
        _check_room(changing.connection, organization_id)
        said = {name: getattr(wanted, name) for name in _CHANGEABLE}
        row: dict[str, Any] = {
            "id": changing.new_id("byok"),
            "organization_id": organization_id,
            "provider": place.slug,
            "base_url": place.base_url,
            "created_at_s": changing.now_s,
            "updated_at_s": changing.now_s,
        }
        row |= _values(changing.connection, organization_id, said, None)
        row["name"] = row["name"] or f"{place.slug} key"
        row |= _sealed(changing.connection, safe, row, wanted.key)
        changing.connection.execute(sa.insert(_ROWS).values(row))
        _note(changing, row, actor, "credential.add", {"provider": place.slug, "label": row["label"]})
        return _found(changing.connection, organization_id, row["id"])


def change_credential(  # noqa: PLR0913 - what a change is made of
    engine: sa.Engine,
    safe: Safe,
    organization_id: str,
    credential_id: str,
    said: Mapping[str, Any],
    actor: str,
    now_s: float,
) -> CredentialRow:
    """Change members of a credential, those that `said` names (as in NewCredential); a new `key` replaces the old one.

    Raises BadRequest, NotFound.
    """
    if unknown := said.keys() - _CHANGEABLE:
        raise BadRequest(f"{', '.join(sorted(unknown))} of a credential cannot be changed; add another one instead")
    with change(engine, now_s) as changing:
        changing.bump_policy()
        before = _found(changing.connection, organization_id, credential_id)
        values = _values(changing.connection, organization_id, said, before)
        if "name" in values and not values["name"]:
            values["name"] = f"{before.provider} key"
        if "key" in said:
            place = _place(safe, before.provider)
            values["base_url"] = place.base_url
            values |= _sealed(changing.connection, safe, {**_bound(before), **values}, said["key"])
        mine = (_ROWS.c.id == credential_id, _ROWS.c.organization_id == organization_id)
        changing.connection.execute(sa.update(_ROWS).where(*mine).values(values | {"updated_at_s": changing.now_s}))
        shown = {name: values[name] for name in ("label", *_CHANGEABLE) if name in values}
        _note(changing, _bound(before), actor, "credential.change", shown)
        return _found(changing.connection, organization_id, credential_id)


def remove_credential(engine: sa.Engine, organization_id: str, credential_id: str, actor: str, now_s: float) -> None:
    """Delete a credential; what it served stays in the books. Raises NotFound."""
    with change(engine, now_s) as changing:
        changing.bump_policy()
        row = _found(changing.connection, organization_id, credential_id)
        changing.connection.execute(sa.delete(_ROWS).where(_ROWS.c.id == row.id))
        _note(changing, _bound(row), actor, "credential.remove", {"provider": row.provider, "label": row.label})


def find_credential(engine: sa.Engine, organization_id: str, credential_id: str) -> CredentialRow:
    """Give one credential. Raises NotFound."""
    with reading(engine) as connection:
        return _found(connection, organization_id, credential_id)


def list_credentials(
    engine: sa.Engine,
    organization_id: str,
    workspace_id: str | None = None,
    offset: int = 0,
    limit: int | None = None,
) -> Page[CredentialRow]:
    """Give the organisation's credentials in the order of trying; with a workspace, those that serve it."""
    query = sa.select(_ROWS).where(_ROWS.c.organization_id == organization_id)
    if workspace_id is not None:
        query = query.where(_ROWS.c.workspace_id.is_(None) | (_ROWS.c.workspace_id == workspace_id))
    query = query.order_by(_ROWS.c.is_fallback, _ROWS.c.sort_order, _ROWS.c.created_at_s, _ROWS.c.id)
    with reading(engine) as connection:
        return page(connection, query, _row, offset, limit)


def credential_data(row: CredentialRow) -> dict[str, Any]:
    """Describe a credential with the fields of product-surface 2.8; of the key there is only the label."""
    return {
        "id": row.id,
        "workspace_id": row.workspace_id,
        "provider": row.provider,
        "name": row.name,
        "label": row.label,
        "is_fallback": row.is_fallback,
        "is_byok_only": False,
        "is_required": False,
        "declared_region": None,
        "declared_zdr": None,
        "disabled": row.disabled,
        "allowed_models": row.allowed_models,
        "allowed_api_key_hashes": row.allowed_key_hashes,
        "allowed_user_ids": row.allowed_member_ids,
        "sort_order": row.sort_order,
        "created_at": rfc3339(row.created_at_s),
        "updated_at": rfc3339(row.updated_at_s),
    }


def slugs_of(catalogue: Catalogue, names: Iterable[str] | None) -> tuple[str, ...] | None:
    """The slugs of models that people may name as they like; None stays None. Raises BadRequest for one that nobody knows."""
    if names is None:
        return None
    try:
        return tuple(catalogue.resolve(name).model.slug for name in names)
    except UnknownModel as error:
        raise BadRequest(f"allowed_models: {error.message}", remedy=error.remedy) from error


def _refusal(kind: Kind) -> str:
    name = kind.name or kind.word
    if not kind.auth:
        return f"{name} takes no key"
    if "key" not in kind.auth:
        return f"{name} takes no API key but the credentials of its cloud, which only the operator can configure"
    return ""


def _place(safe: Safe, slug: str) -> Place:
    place = safe.places.get(slug)
    if place is None:
        known = ", ".join(one.slug for one in safe.places.values() if not one.refusal) or "none that take a key"
        raise BadRequest(f"provider: {visible(slug, 64)!r} is not configured here; there are {known}")
    if place.refusal:
        raise BadRequest(f"provider: {place.refusal}")
    return place


def _check_room(connection: sa.Connection, organization_id: str) -> None:
    query = sa.select(sa.func.count()).select_from(_ROWS).where(_ROWS.c.organization_id == organization_id)
    if connection.execute(query).scalar_one() >= CREDENTIALS_MAX:
        raise Conflict(f"an organization may have {CREDENTIALS_MAX} credentials; remove one that is not used")


def _values(
    connection: sa.Connection, organization_id: str, said: Mapping[str, Any], before: CredentialRow | None
) -> dict[str, Any]:
    """What is stored of what was said, but for the key. Raises BadRequest, NotFound.

    Keys and members that were named `before` may be named again, also when they are gone by now.
    """
    values: dict[str, Any] = {name: int(said[name]) for name in _FLAGS if name in said}
    if "name" in said:
        whole = visible(said["name"] or "", KEY_CHARACTERS_MAX)  # what is too long for a name may hold a key
        if "key" in said and said["key"].strip() and said["key"].strip() in whole:
            raise BadRequest("the name holds the key; a key is not written anywhere, so it cannot be in a name")
        values["name"] = stored_name("a credential", said["name"] or "", needed=False)
    if "sort_order" in said:
        if not 0 <= said["sort_order"] <= SORT_ORDER_MAX:
            raise BadRequest(f"sort_order must be from 0 to {SORT_ORDER_MAX}")
        values["sort_order"] = said["sort_order"]
    if "workspace_id" in said:
        values["workspace_id"] = said["workspace_id"]
        if said["workspace_id"] is not None:
            spaces = schema.workspaces.c
            _check_all(connection, spaces.id, organization_id, [said["workspace_id"]], spaces.deleted_at_s.is_(None))
    for name in _LISTS:
        if name in said:
            values[name] = _list(name, said[name])
    if said.get("allowed_key_hashes"):
        if not all(map(HASH_FORM.fullmatch, said["allowed_key_hashes"])):
            raise BadRequest("allowed_key_hashes must be the hashes of keys, 64 hexadecimal digits each")
        hashes = schema.api_keys.c
        known = () if before is None else before.allowed_key_hashes or ()
        named = set(said["allowed_key_hashes"]).difference(known)
        _check_all(connection, hashes.hash, organization_id, named, hashes.deleted_at_s.is_(None))
    if said.get("allowed_member_ids"):
        members = schema.members.c
        known = () if before is None else before.allowed_member_ids or ()
        named = set(said["allowed_member_ids"]).difference(known)
        _check_all(connection, members.id, organization_id, named, members.removed_at_s.is_(None))
    return values


def _list(name: str, entries: Sequence[str] | None) -> str | None:
    if entries is None:
        return None
    entries = list(dict.fromkeys(entries))
    if not 1 <= len(entries) <= FILTER_ENTRIES_MAX:
        raise BadRequest(f"{name} must have from 1 to {FILTER_ENTRIES_MAX} entries; null allows all")
    return json.dumps(entries)


def _check_all(
    connection: sa.Connection, column: sa.ColumnElement[Any], organization_id: str, ids: Iterable[str], live: Any
) -> None:
    """Everybody named must be there and ours: a foreign id is as unknown as one that never was."""
    wanted = set(ids)
    table = column.table
    query = sa.select(column).where(column.in_(wanted), table.c.organization_id == organization_id, live)
    if len(connection.execute(query).all()) < len(wanted):
        raise NotFound(f"there is no such {_CALLED[table.name]}")


_CALLED: Final = {"workspaces": "workspace", "api_keys": "key", "members": "member"}


def _sealed(connection: sa.Connection, safe: Safe, row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The columns that hold the key: sealed for this organisation, record and address; and what people see of it."""
    key = key.strip()
    if not KEY_FORM.fullmatch(key):
        raise BadRequest("key: not the form of a key: 8 to 4096 visible ASCII characters without spaces")
    if keys.well_formed(key) is not None:
        raise BadRequest("key: this is a key of this gateway; it wants the key that the provider gave you")
    sealed = open_vault(connection, safe.secret, sealing=True).seal(
        key.encode(), organization_id=row["organization_id"], record_id=row["id"], destination=row["base_url"]
    )
    label = f"{key[:6]}...{key[-4:]}" if len(key) >= SHOWN_KEY_MIN else f"...{key[-2:]}"
    return {"label": label, "sealed": sealed.text, "kek_id": sealed.kek_id}


def _bound(row: CredentialRow) -> dict[str, Any]:
    return {"id": row.id, "organization_id": row.organization_id}


def _note(changing: Change, row: Mapping[str, Any], actor: str, action: str, details: dict[str, Any]) -> None:
    changing.note(Note(row["organization_id"], actor, action, row["id"], details))


def _found(connection: sa.Connection, organization_id: str, credential_id: str) -> CredentialRow:
    query = sa.select(_ROWS).where(_ROWS.c.id == credential_id, _ROWS.c.organization_id == organization_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(
            "there is no such credential", remedy="GET /api/v1/byok and `modelgates credentials list` show their ids"
        )
    return _row(row)


def _row(row: sa.RowMapping) -> CredentialRow:
    values: dict[str, Any] = {name: row[name] for name in CredentialRow.__slots__}
    values |= {name: None if row[name] is None else tuple(json.loads(row[name])) for name in _LISTS}
    values |= {name: bool(row[name]) for name in _FLAGS}
    return CredentialRow(**values)
