"""Privacy in plain words: what is recorded of a request, whose prompts are stored, for how long and who may read them.

Everybody who is signed in sees it for the workspaces that they work in; administrators switch storing on and off, and delete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Final
from urllib.parse import quote

from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit, whole
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.contents import Stored, delete_contents, stored_contents
from modelgates_server.management.key_lists import KeysWanted, slice_keys, workspaces_for
from modelgates_server.management.keys import find_key
from modelgates_server.management.members import ADMIN as ADMINISTRATOR
from modelgates_server.management.members import list_members
from modelgates_server.management.prompt_log import (
    EVERY_PPM,
    KEYS_MAX,
    RETENTION_DAYS,
    RETENTION_DAYS_MAX,
    PromptLog,
    prompt_log_of,
    set_prompt_log,
)
from modelgates_server.management.workspaces import WorkspaceRow, find_workspace, list_workspaces

NAMES_MAX: Final = 20
"""So many names are listed; of more it is only told how many there are."""

MEMBERS_MAX: Final = 1_000
SHARE_CHARACTERS_MAX: Final = 20
_PPM_PER_PERCENT: Final = EVERY_PPM // 100


@dataclass(frozen=True, slots=True)
class PlaceLine:
    """A workspace and its rule. `share` is in percent, as text.

    `keys` are the names of those whose prompts are stored, None for all; `mine` are the visitor's own among them, None for an
    administrator. `stored` is how many are there now, None for whom that is no business.
    """

    slug: str
    name: str
    keeps: bool
    retention_days: int
    share: str
    keys: tuple[str, ...] | None
    mine: tuple[str, ...] | None
    stored: int | None
    oldest_at_s: int | None


@dataclass(frozen=True, slots=True)
class PrivacyPage:
    """The page. `readers` are administrators by name, `more_readers` how many there are besides."""

    places: tuple[PlaceLine, ...]
    readers: tuple[str, ...]
    more_readers: int
    days_default: int
    days_max: int


@dataclass(frozen=True, slots=True)
class RulePage:
    """One workspace's rule, to be changed. `named` are its keys' hashes and names, a line each."""

    place: PlaceLine
    named: str
    days_max: int
    keys_max: int


def show(visit: Visit) -> Page:
    """What holds now, in the visitor's workspaces."""
    house, organization_id = visit.house, visit.organization_id
    visible = {id_ for id_, _ in workspaces_for(house.engine, organization_id, visit.only_member_id)}
    rows = [row for row in list_workspaces(house.engine, organization_id).rows if row.id in visible]
    stored = stored_contents(house.engine, organization_id, visit.now_s) if visit.is_admin else {}
    people = list_members(house.engine, organization_id, 0, MEMBERS_MAX).rows
    readers = [one.name for one in people if one.role == ADMINISTRATOR]
    context = PrivacyPage(
        places=tuple(_line(visit, row, stored.get(row.id, Stored())) for row in rows),
        readers=tuple(readers[:NAMES_MAX]),
        more_readers=max(0, len(readers) - NAMES_MAX),
        days_default=RETENTION_DAYS,
        days_max=RETENTION_DAYS_MAX,
    )
    return Page("privacy.html", context)


def one(visit: Visit) -> Page:
    """One workspace's rule, and the form that changes it. Raises NotFound."""
    row = _workspace(visit)
    stored = stored_contents(visit.house.engine, visit.organization_id, visit.now_s).get(row.id, Stored())
    named = "\n".join(prompt_log_of(row).key_hashes or ())
    return Page("privacy_rule.html", RulePage(_line(visit, row, stored), named, RETENTION_DAYS_MAX, KEYS_MAX))


def change(visit: Visit) -> Moved:
    """Switch storing on or off, or change its rule. Raises BadRequest, NotFound."""
    row, form = _workspace(visit), visit.form
    if not form.has("keeps"):
        wanted = replace(prompt_log_of(row), enabled=False)
    else:
        wanted = PromptLog(
            enabled=True,
            retention_days=whole(visit, "days", 1, RETENTION_DAYS_MAX, RETENTION_DAYS),
            key_hashes=_hashes(visit),
            sampling_ppm=_ppm(form.get("share", "100")),
        )
    set_prompt_log(visit.house.engine, visit.organization_id, row.id, wanted, visit.actor, visit.now_s)
    return Moved("/privacy", said="prompts-stored" if wanted.enabled else "prompts-not-stored")


def forget(visit: Visit) -> Moved:
    """Delete everything that is stored of a workspace. Raises NotFound."""
    row = _workspace(visit)
    delete_contents(visit.house.engine, visit.organization_id, row.id, visit.actor, visit.now_s)
    return Moved("/privacy", said="prompts-deleted")


def _workspace(visit: Visit) -> WorkspaceRow:
    return find_workspace(visit.house.engine, visit.organization_id, visit.path["workspace"])


def _line(visit: Visit, row: WorkspaceRow, stored: Stored) -> PlaceLine:
    log = prompt_log_of(row)
    return PlaceLine(
        slug=quote(row.slug),
        name=row.name,
        keeps=log.enabled,
        retention_days=log.retention_days,
        share=f"{Decimal(log.sampling_ppm) / _PPM_PER_PERCENT:f}",
        keys=None if log.key_hashes is None else _key_names(visit, row, log.key_hashes),
        mine=None if visit.is_admin else _own_keys(visit, row, log),
        stored=stored.count if visit.is_admin else None,
        oldest_at_s=stored.oldest_at_s,
    )


def _key_names(visit: Visit, row: WorkspaceRow, hashes: tuple[str, ...]) -> tuple[str, ...]:
    """The rule's keys by name; a member is told of their own ones only."""
    if not visit.is_admin:
        return ()
    found = slice_keys(
        visit.house.engine, visit.organization_id, KeysWanted(workspace_id=row.id), None, MEMBERS_MAX, visit.now_s
    )
    names = {entry.row.hash: entry.row.name for entry in found.entries}
    return tuple(names.get(one, one[:12]) for one in hashes)


def _own_keys(visit: Visit, row: WorkspaceRow, log: PromptLog) -> tuple[str, ...]:
    """The visitor's own keys whose prompts are stored."""
    if not log.enabled:
        return ()
    wanted = KeysWanted(member_id=visit.only_member_id, workspace_id=row.id)
    found = slice_keys(visit.house.engine, visit.organization_id, wanted, None, KEYS_MAX, visit.now_s).entries
    return tuple(one.row.name for one in found if log.key_hashes is None or one.row.hash in log.key_hashes)


def _hashes(visit: Visit) -> tuple[str, ...] | None:
    """The keys that are named, a line each, by hash or by name; None when none is. Raises BadRequest."""
    lines = [line.strip() for line in visit.form.get("keys").splitlines() if line.strip()]
    if len(lines) > KEYS_MAX:
        raise BadRequest(f"Name at most {KEYS_MAX} keys, or none to store the prompts of all keys")
    found = []
    for line in lines:
        try:
            found.append(find_key(visit.house.engine, visit.organization_id, line).hash)
        except NotFound as unknown:
            raise BadRequest(f"There is no key {line[:60]!r}. The Keys page shows names and hashes.") from unknown
    return tuple(dict.fromkeys(found)) or None


def _ppm(text: str) -> int:
    try:
        share = Decimal(text.removesuffix("%").strip()[:SHARE_CHARACTERS_MAX])
    except InvalidOperation:
        share = Decimal(-1)
    if not share.is_finite() or not 0 <= share <= 100:  # before it is made an integer: 1e999999 has a million digits
        raise BadRequest(f"{text[:20]!r} is no share. Write a number of percent from 0.01 to 100.")
    return int((share * _PPM_PER_PERCENT).to_integral_value())


ROUTES = (
    get("/privacy", show),
    get("/privacy/{workspace}", one, ADMIN),
    post("/privacy/{workspace}", change, ADMIN, again=one),
    post("/privacy/{workspace}/forget", forget, ADMIN),
)
