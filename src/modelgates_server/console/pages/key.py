"""One key: what it used, every limit over it, its form, and switching it off, on, or deleting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from modelgates_server.activity.daily import day_text
from modelgates_server.console.charts import Chart, Row
from modelgates_server.console.forms import refuse_older, shown
from modelgates_server.console.key_forms import KeyChoices, choices, expiry_shown, guardrail_typed, key_typed
from modelgates_server.console.limit_bars import LimitBar, bar
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import Moved, Page, Visit
from modelgates_server.management.key_lists import KeyEntry, days_of, find_entry, glances
from modelgates_server.management.keys import delete_key, set_key_disabled
from modelgates_server.management.limits_over import limits_over
from modelgates_server.management.own_keys import KEEP, delete_own, switch_own, update_own, update_with_guardrail
from modelgates_server.money import usd_text

DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class DayOfKey:
    """A day of a key's use: its beginning (Unix seconds, UTC), requests, nano-USD."""

    day_s: int
    requests: int
    used_nusd: int


@dataclass(frozen=True, slots=True)
class KeyFields:
    """What the form shows: as it is stored, in the words of the fields."""

    name: str
    limit: str
    limit_reset: str
    include_byok_in_limit: bool
    expires: str
    workspace_id: str
    guardrail_id: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    parallel_max: int | None
    allowed_models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyPage:
    """A key. Nano-USD; times in Unix seconds, the last use in milliseconds. `days` are the last thirty, today included.

    `shown` names what the form shows: it comes back with the form.
    """

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
    last_used_ms: int | None
    expires_at_s: int | None
    created_at_s: int
    limits: tuple[LimitBar, ...]
    days: tuple[DayOfKey, ...]
    chart: Chart
    fields: KeyFields
    shown: str
    choices: KeyChoices


def show(visit: Visit) -> Page:
    """The key. Raises NotFound for somebody else's."""
    entry = _entry(visit)
    row, engine = entry.row, visit.house.engine
    used = glances(engine, visit.organization_id, [row], visit.now_s)[row.hash]
    over = limits_over(engine, visit.organization_id, [row], visit.now_s)[row.hash]
    days = tuple(DayOfKey(*one) for one in days_of(engine, visit.organization_id, row.hash, DAYS, visit.now_s))
    context = KeyPage(
        hash=row.hash,
        name=row.name,
        label=row.label,
        state=entry.state(visit.now_s),
        member_id=row.member_id,
        member=entry.member_name,
        workspace=entry.workspace_name,
        guardrail=entry.guardrail_name,
        used_nusd=used.life_nusd,
        month_nusd=used.month_nusd,
        last_used_ms=used.last_used_ms,
        expires_at_s=row.expires_at_s,
        created_at_s=row.created_at_s,
        limits=tuple(bar(one, entry.member_name, entry.workspace_name) for one in over),
        days=days,
        chart=Chart(
            labels=tuple(day_text(one.day_s)[5:] for one in days),
            rows=(Row("Spend", tuple(one.used_nusd for one in days)),),
            unit="nusd",
        ),
        fields=_fields(entry),
        shown=shown(_fields(entry)),
        choices=choices(visit, row),
    )
    return Page("key.html", context)


def update(visit: Visit) -> Moved:
    """Change what was changed in the form. Raises BadRequest, NotFound."""
    entry = _entry(visit)
    row, house = entry.row, visit.house
    refuse_older(visit, _fields(entry), "this key")
    typed = {"name": visit.form.get("name"), **key_typed(visit)}
    if visit.form.get("expires") == expiry_shown(row.expires_at_s):
        typed["expires_at_s"] = row.expires_at_s  # the hour of that day stays
    changes: dict[str, Any] = {name: value for name, value in typed.items() if value != getattr(row, name)}
    if not visit.is_admin:
        if changes:
            update_own(
                house.engine, visit.organization_id, visit.member.id, row.hash, changes, visit.actor, visit.now_s
            )
        return _back(row.hash, "saved")
    chosen = guardrail_typed(visit)
    guardrail = KEEP if chosen == entry.guardrail_id else chosen
    if changes or guardrail != KEEP:
        update_with_guardrail(
            house.engine, visit.organization_id, row.hash, changes, guardrail, visit.actor, visit.now_s
        )
    return _back(row.hash, "saved")


def disable(visit: Visit) -> Moved:
    """Switch the key off: no request that begins after the answer is admitted."""
    return _switch(visit, disabled=True)


def enable(visit: Visit) -> Moved:
    """Switch the key on again."""
    return _switch(visit, disabled=False)


def delete(visit: Visit) -> Moved:
    """Delete the key for good."""
    key_hash, house = visit.path["key_hash"], visit.house
    if visit.is_admin:
        delete_key(house.engine, visit.organization_id, key_hash, visit.actor, visit.now_s)
    else:
        delete_own(house.engine, visit.organization_id, visit.member.id, key_hash, visit.actor, visit.now_s)
    return Moved("/keys", said="key-deleted")


def _switch(visit: Visit, *, disabled: bool) -> Moved:
    key_hash, house = visit.path["key_hash"], visit.house
    if visit.is_admin:
        set_key_disabled(house.engine, visit.organization_id, key_hash, disabled, visit.actor, visit.now_s)
    else:
        switch_own(house.engine, visit.organization_id, visit.member.id, key_hash, disabled, visit.actor, visit.now_s)
    return _back(key_hash, "key-disabled" if disabled else "key-enabled")


def _entry(visit: Visit) -> KeyEntry:
    return find_entry(visit.house.engine, visit.organization_id, visit.path["key_hash"], visit.only_member_id)


def _fields(entry: KeyEntry) -> KeyFields:
    row = entry.row
    return KeyFields(
        name=row.name,
        limit="" if row.limit_nusd is None else usd_text(row.limit_nusd),
        limit_reset=row.limit_reset or "",
        include_byok_in_limit=row.include_byok_in_limit,
        expires=expiry_shown(row.expires_at_s),
        workspace_id=row.workspace_id,
        guardrail_id=entry.guardrail_id or "",
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        parallel_max=row.parallel_max,
        allowed_models=row.allowed_models or (),
    )


def _back(key_hash: str, said: str) -> Moved:
    return Moved(f"/keys/{key_hash}", said=said)


ROUTES = (
    get("/keys/{key_hash}", show),
    post("/keys/{key_hash}", update, again=show),
    post("/keys/{key_hash}/disable", disable),
    post("/keys/{key_hash}/enable", enable),
    post("/keys/{key_hash}/delete", delete),
)
