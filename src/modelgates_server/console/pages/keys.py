"""Keys: the list, and making one. A key's text is shown once, on the page that answers the form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, cast

from modelgates_server.console.key_forms import KeyChoices, choices, guardrail_typed, key_typed, owner_typed
from modelgates_server.console.limit_bars import LimitBar, bar, per
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import Page, Visit
from modelgates_server.limits import Scope
from modelgates_server.management.budgets import list_budgets, spent_nusd
from modelgates_server.management.key_lists import (
    KeyEntry,
    KeyGlance,
    KeysWanted,
    State,
    glances,
    slice_keys,
)
from modelgates_server.management.key_values import KeyRow, NewKey
from modelgates_server.management.limits_over import OF_THE_KEY, LimitOver, limits_over
from modelgates_server.management.own_keys import create_own, create_with_guardrail

ROWS_MAX: Final = 50
STATES: Final = ("active", "disabled", "expired")


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A key in the list. Nano-USD; times in Unix seconds, the last use in milliseconds. `limits` are those of this key alone."""

    hash: str
    name: str
    label: str
    state: str
    member_id: str | None
    member: str | None
    workspace: str
    guardrail: str | None
    used_nusd: int
    month_nusd: int
    limits: tuple[LimitBar, ...]
    last_used_ms: int | None
    expires_at_s: int | None
    created_at_s: int


@dataclass(frozen=True, slots=True)
class KeysPage:
    """The list: `older` is the cursor of the next page. `shares` are the visitor's own, where they have some."""

    keys: tuple[KeyLine, ...]
    older: str | None
    filtered: bool
    shares: tuple[LimitBar, ...]
    choices: KeyChoices


@dataclass(frozen=True, slots=True)
class KeyMadePage:
    """A new key. `secret` is its text: nothing shows it a second time."""

    secret: str
    hash: str
    name: str
    label: str
    management: bool
    base_url: str
    management_url: str


def show(visit: Visit) -> Page:
    """The keys that the visitor may see, newest first."""
    house, now_s = visit.house, visit.now_s
    wanted = KeysWanted(
        member_id=visit.only_member_id or visit.query.get("member") or None,
        workspace_id=visit.query.get("workspace") or None,
        state=cast("State", visit.query.get("state")) if visit.query.get("state") in STATES else None,
        text=visit.query.get("q") or None,
    )
    cursor = visit.query.get("before") or None
    found = slice_keys(house.engine, visit.organization_id, wanted, cursor, ROWS_MAX, now_s)
    rows = [entry.row for entry in found.entries]
    used = glances(house.engine, visit.organization_id, rows, now_s)
    over = limits_over(house.engine, visit.organization_id, rows, now_s)
    lines = tuple(_line(entry, used[entry.row.hash], over[entry.row.hash], now_s) for entry in found.entries)
    filtered = cursor is not None or any(visit.query.get(name) for name in ("member", "workspace", "state", "q"))
    return Page("keys.html", KeysPage(lines, found.older, filtered, shares(visit), choices(visit)))


def create(visit: Visit) -> Page:
    """Make a key and show its text, this once. Raises BadRequest, NotFound."""
    house = visit.house
    wanted = NewKey(name=visit.form.get("name"), **key_typed(visit))
    if visit.is_admin:
        owned = replace(wanted, member_id=owner_typed(visit))
        secret, row = create_with_guardrail(
            house.engine, house.secret, visit.organization_id, owned, guardrail_typed(visit), visit.actor, visit.now_s
        )
    else:
        secret, row = create_own(
            house.engine, house.secret, visit.organization_id, visit.member.id, wanted, visit.actor, visit.now_s
        )
    return made(visit, secret, row, management=False)


def made(visit: Visit, secret: str, row: KeyRow, *, management: bool) -> Page:
    """The page that shows a new key."""
    context = KeyMadePage(secret, row.hash, row.name, row.label, management, visit.base_url, visit.management_url)
    return Page("key_made.html", context)


def shares(visit: Visit) -> tuple[LimitBar, ...]:
    """What the visitor may spend with all their keys together."""
    found = list_budgets(visit.house.engine, visit.organization_id, Scope.MEMBER, visit.member.id)
    spent = spent_nusd(visit.house.engine, [row.meter for row in found], visit.now_s)
    return tuple(
        LimitBar(
            title="Your share",
            per=per(row.window),
            used_nusd=spent[row.meter.row_id(visit.now_s)],
            held_nusd=0,
            limit_nusd=row.limit_nusd,
            resets_at_s=row.window.bounds_s(visit.now_s)[1],
            soft=row.meter.limit is None,
        )
        for row in found
    )


def _line(entry: KeyEntry, used: KeyGlance, over: tuple[LimitOver, ...], now_s: float) -> KeyLine:
    row = entry.row
    own = (one for one in over if one.layer in OF_THE_KEY)
    return KeyLine(
        hash=row.hash,
        name=row.name,
        label=row.label,
        state=entry.state(now_s),
        member_id=row.member_id,
        member=entry.member_name,
        workspace=entry.workspace_name,
        guardrail=entry.guardrail_name,
        used_nusd=used.life_nusd,
        month_nusd=used.month_nusd,
        limits=tuple(bar(one, entry.member_name, entry.workspace_name) for one in own),
        last_used_ms=used.last_used_ms,
        expires_at_s=row.expires_at_s,
        created_at_s=row.created_at_s,
    )


ROUTES = (get("/keys", show), post("/keys", create, again=show))
