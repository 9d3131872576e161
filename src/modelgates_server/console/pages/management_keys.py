"""Management keys: keys for programs that manage and cannot infer. For administrators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelgates_server.accounts.values import KeyClass
from modelgates_server.console.key_forms import expiry_typed
from modelgates_server.console.pages.keys import made
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit
from modelgates_server.errors import NotFound
from modelgates_server.management.key_lists import KeysWanted, slice_keys
from modelgates_server.management.key_values import NewKey
from modelgates_server.management.keys import create_key, delete_key, get_key, set_key_disabled

ROWS_MAX: Final = 50
HERE: Final = "/settings/management-keys"


@dataclass(frozen=True, slots=True)
class ManagementKeyLine:
    """A management key. Times in Unix seconds."""

    hash: str
    name: str
    label: str
    state: str
    expires_at_s: int | None
    created_at_s: int


@dataclass(frozen=True, slots=True)
class ManagementKeysPage:
    """The list: `older` is the cursor of the next page."""

    keys: tuple[ManagementKeyLine, ...]
    older: str | None
    api_url: str


def show(visit: Visit) -> Page:
    """The organisation's management keys, newest first."""
    cursor = visit.query.get("before") or None
    wanted = KeysWanted(key_class=KeyClass.MANAGEMENT)
    found = slice_keys(visit.house.engine, visit.organization_id, wanted, cursor, ROWS_MAX, visit.now_s)
    lines = tuple(
        ManagementKeyLine(
            one.row.hash,
            one.row.name,
            one.row.label,
            one.state(visit.now_s),
            one.row.expires_at_s,
            one.row.created_at_s,
        )
        for one in found.entries
    )
    return Page("management_keys.html", ManagementKeysPage(lines, found.older, visit.house.management_url))


def create(visit: Visit) -> Page:
    """Make one and show its text, this once. Raises BadRequest."""
    house = visit.house
    wanted = NewKey(visit.form.get("name"), KeyClass.MANAGEMENT, expires_at_s=expiry_typed(visit))
    secret, row = create_key(house.engine, house.secret, visit.organization_id, wanted, visit.actor, visit.now_s)
    return made(visit, secret, row, management=True)


def disable(visit: Visit) -> Moved:
    """Switch one off."""
    return _switch(visit, disabled=True)


def enable(visit: Visit) -> Moved:
    """Switch one on again."""
    return _switch(visit, disabled=False)


def delete(visit: Visit) -> Moved:
    """Delete one for good."""
    delete_key(visit.house.engine, visit.organization_id, _hash(visit), visit.actor, visit.now_s)
    return Moved(HERE, said="key-deleted")


def _switch(visit: Visit, *, disabled: bool) -> Moved:
    set_key_disabled(visit.house.engine, visit.organization_id, _hash(visit), disabled, visit.actor, visit.now_s)
    return Moved(HERE, said="key-disabled" if disabled else "key-enabled")


def _hash(visit: Visit) -> str:
    """The key of the path, which must be one that manages. Raises NotFound."""
    row = get_key(visit.house.engine, visit.organization_id, visit.path["key_hash"])
    if row.key_class is not KeyClass.MANAGEMENT:
        raise NotFound("There is no such management key.")
    return row.hash


ROUTES = (
    get(HERE, show, ADMIN),
    post(HERE, create, ADMIN, again=show),
    post(f"{HERE}/{{key_hash}}/disable", disable, ADMIN),
    post(f"{HERE}/{{key_hash}}/enable", enable, ADMIN),
    post(f"{HERE}/{{key_hash}}/delete", delete, ADMIN),
)
