"""Keys as a long list for people: newest first, a page at a time by key instead of offset, with the names of what they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.management.key_values import KeyRow
from modelgates_server.management.keys import key_row
from modelgates_server.management.names import NAME_CHARACTERS_MAX
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

DAY_S: Final = 86_400
State = Literal["active", "disabled", "expired"]

_KEYS = schema.api_keys
_MEMBERS = schema.members
_SPACES = schema.workspaces
_GIVEN = schema.guardrail_keys
_GUARDRAILS = schema.guardrails


@dataclass(frozen=True, slots=True)
class KeysWanted:
    """Which keys: None lets all pass. `text` is a part of the name or of the masked label."""

    key_class: KeyClass = KeyClass.INFERENCE
    member_id: str | None = None
    workspace_id: str | None = None
    state: State | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key and the names of what it belongs to: None where it belongs to nobody, or has no guardrail of its own."""

    row: KeyRow
    member_name: str | None
    workspace_name: str
    guardrail_id: str | None
    guardrail_name: str | None

    def state(self, now_s: float) -> State:
        """Whether it admits requests. A key that is off and expired is off."""
        if self.row.disabled:
            return "disabled"
        return "expired" if self.row.expires_at_s is not None and self.row.expires_at_s <= now_s else "active"


@dataclass(frozen=True, slots=True)
class KeySlice:
    """A page of keys; `older` is the cursor of the next page, None on the last."""

    entries: tuple[KeyEntry, ...]
    older: str | None


@dataclass(frozen=True, slots=True)
class KeyGlance:
    """What a list shows of a key's use: nano-USD in its life and in this month (UTC), and its last request (Unix milliseconds)."""

    life_nusd: int = 0
    month_nusd: int = 0
    last_used_ms: int | None = None


def slice_keys(
    engine: sa.Engine, organization_id: str, wanted: KeysWanted, before: str | None, limit: int, now_s: float
) -> KeySlice:
    """Give up to `limit` keys that are not deleted, newest first, from those before a cursor. Raises BadRequest for no cursor of ours."""
    query = _entries(organization_id).where(_KEYS.c["class"] == str(wanted.key_class), *_conditions(wanted, now_s))
    if before is not None:
        query = query.where(_before(before))
    query = query.order_by(_KEYS.c.created_at_s.desc(), _KEYS.c.hash.desc()).limit(limit + 1)
    with reading(engine) as connection:
        found = [_entry(row) for row in connection.execute(query).mappings()]
    kept = found[:limit]
    older = f"{kept[-1].row.created_at_s}.{kept[-1].row.hash}" if len(found) > limit else None
    return KeySlice(tuple(kept), older)


def find_entry(engine: sa.Engine, organization_id: str, key_hash: str, only_member_id: str | None = None) -> KeyEntry:
    """Give one key with its names; with `only_member_id` only if it is theirs. Raises NotFound."""
    query = _entries(organization_id).where(_KEYS.c.hash == key_hash, _KEYS.c["class"] == str(KeyClass.INFERENCE))
    if only_member_id is not None:
        query = query.where(_KEYS.c.member_id == only_member_id)
    with reading(engine) as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such key. It may have been deleted.")
    return _entry(row)


def glances(engine: sa.Engine, organization_id: str, rows: Sequence[KeyRow], now_s: float) -> dict[str, KeyGlance]:
    """Give the use of each key, by hash: from its meter, the roll-up by day, and the end of its stretch of an index."""
    hashes = [row.hash for row in rows]
    life = {MeterRef(Scope.KEY, one, Unit.NUSD, Window.LIFE).row_id(now_s): one for one in hashes}
    days, meters = schema.activity_days.c, schema.meters.c
    month = (
        sa.select(days.key_hash, sa.cast(sa.func.sum(days.cost_nusd), sa.BigInteger).label("nusd"))
        .where(
            days.organization_id == organization_id,
            days.day_s >= Window.MONTH.bounds_s(now_s)[0],
            days.key_hash.in_(hashes),
        )
        .group_by(days.key_hash)
    )
    receipts = schema.generations.c
    last = sa.select(sa.func.max(receipts.created_at_ms)).where(receipts.key_hash == _KEYS.c.hash).scalar_subquery()
    with reading(engine) as connection:
        posted = connection.execute(sa.select(meters.id, meters.posted).where(meters.id.in_(list(life))))
        used = {life[row.id]: row.posted for row in posted}
        months = {row.key_hash: row.nusd for row in connection.execute(month)}
        seen = connection.execute(sa.select(_KEYS.c.hash, last.label("ms")).where(_KEYS.c.hash.in_(hashes)))
        lasts = {row.hash: row.ms for row in seen}
    return {one: KeyGlance(used.get(one, 0), months.get(one, 0), lasts.get(one)) for one in hashes}


def days_of(
    engine: sa.Engine, organization_id: str, key_hash: str, days: int, now_s: float
) -> list[tuple[int, int, int]]:
    """Give the last days of a key, today included (UTC): the day's beginning, its requests, and what it used in nano-USD."""
    today_s = int(now_s) // DAY_S * DAY_S
    table = schema.activity_days.c
    query = (
        sa.select(
            table.day_s,
            sa.cast(sa.func.sum(table.requests), sa.BigInteger).label("requests"),
            sa.cast(sa.func.sum(table.cost_nusd), sa.BigInteger).label("nusd"),
        )
        .where(
            table.organization_id == organization_id,
            table.day_s > today_s - days * DAY_S,
            table.key_hash == key_hash,
        )
        .group_by(table.day_s)
    )
    with reading(engine) as connection:
        found = {row.day_s: (row.requests, row.nusd) for row in connection.execute(query)}
    wanted = range(today_s - (days - 1) * DAY_S, today_s + 1, DAY_S)
    return [(day_s, *found.get(day_s, (0, 0))) for day_s in wanted]


def workspaces_for(engine: sa.Engine, organization_id: str, member_id: str | None) -> list[tuple[str, str]]:
    """Give id and name of the workspaces that somebody may make keys in, the default one first; None: of all."""
    query = sa.select(_SPACES.c.id, _SPACES.c.name).where(
        _SPACES.c.organization_id == organization_id, _SPACES.c.deleted_at_s.is_(None)
    )
    query = query.order_by(_SPACES.c.created_at_s, _SPACES.c.id)
    places = schema.workspace_members.c
    with reading(engine) as connection:
        found = [(row.id, row.name) for row in connection.execute(query)]
        if member_id is None:
            return found
        joined = set(connection.execute(sa.select(places.workspace_id).where(places.member_id == member_id)).scalars())
    return [one for place, one in enumerate(found) if place == 0 or one[0] in joined]


def _entries(organization_id: str) -> sa.Select[Any]:
    joined = (
        _KEYS.outerjoin(_MEMBERS, _MEMBERS.c.id == _KEYS.c.member_id)
        .join(_SPACES, _SPACES.c.id == _KEYS.c.workspace_id)
        .outerjoin(_GIVEN, _GIVEN.c.key_hash == _KEYS.c.hash)
        .outerjoin(_GUARDRAILS, _GUARDRAILS.c.id == _GIVEN.c.guardrail_id)
    )
    names = (
        _MEMBERS.c.name.label("member_name"),
        _SPACES.c.name.label("workspace_name"),
        _GUARDRAILS.c.id.label("guardrail_id"),
        _GUARDRAILS.c.name.label("guardrail_name"),
    )
    return (
        sa.select(_KEYS, *names)
        .select_from(joined)
        .where(_KEYS.c.organization_id == organization_id, _KEYS.c.deleted_at_s.is_(None))
    )


def _conditions(wanted: KeysWanted, now_s: float) -> list[sa.ColumnElement[bool]]:
    expired = sa.and_(_KEYS.c.expires_at_s.is_not(None), _KEYS.c.expires_at_s <= int(now_s))
    states: dict[str, sa.ColumnElement[bool]] = {
        "active": sa.and_(_KEYS.c.disabled == 0, sa.not_(expired)),
        "disabled": _KEYS.c.disabled == 1,
        "expired": sa.and_(_KEYS.c.disabled == 0, expired),
    }
    found: list[sa.ColumnElement[bool]] = []
    if wanted.member_id is not None:
        found.append(_KEYS.c.member_id == wanted.member_id)
    if wanted.workspace_id is not None:
        found.append(_KEYS.c.workspace_id == wanted.workspace_id)
    if wanted.state is not None:
        found.append(states[wanted.state])
    if wanted.text:
        if len(wanted.text) > NAME_CHARACTERS_MAX:  # SQLite refuses long patterns
            raise BadRequest(f"search for at most {NAME_CHARACTERS_MAX} characters: no name has more")
        part = wanted.text.lower()
        found.append(
            sa.or_(
                sa.func.lower(_KEYS.c.name).contains(part, autoescape=True),
                sa.func.lower(_KEYS.c.label).contains(part, autoescape=True),
            )
        )
    return found


def _before(cursor: str) -> sa.ColumnElement[bool]:
    created, _, key_hash = cursor.partition(".")
    if not (created.isascii() and created.isdecimal() and len(created) <= 15 and key_hash):
        raise BadRequest("This page's address is cut off. Open the list again.")
    created_at_s = int(created)
    return sa.or_(
        _KEYS.c.created_at_s < created_at_s,
        sa.and_(_KEYS.c.created_at_s == created_at_s, _KEYS.c.hash < key_hash),
    )


def _entry(row: sa.RowMapping) -> KeyEntry:
    return KeyEntry(key_row(row), row["member_name"], row["workspace_name"], row["guardrail_id"], row["guardrail_name"])
