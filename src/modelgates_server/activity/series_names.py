"""What people call what use is grouped by: names of keys, members and workspaces; models, providers and apps are their own names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.series_slice import By, Slice
from modelgates_server.errors import NotFound
from modelgates_server.storage import schema

IDS_AT_ONCE: Final = 500

_KEYS, _MEMBERS, _PLACES = schema.api_keys.c, schema.members.c, schema.workspaces.c

NOBODY: Final = {
    By.PROVIDER: "no provider",
    By.MEMBER: "nobody",
    By.APP: "no app named",
}
"""How groups without a value are called."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name, and what tells it from another of the same name."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """The table that knows names: its columns of ids and names, whose they are, and what is told besides."""

    id: sa.ColumnElement[Any]
    organization: sa.ColumnElement[Any]
    name: sa.ColumnElement[Any]
    note: sa.ColumnElement[Any]


_KNOWN: Final = {
    By.KEY: _Known(_KEYS.hash, _KEYS.organization_id, _KEYS.name, _KEYS.label),
    By.MEMBER: _Known(_MEMBERS.id, _MEMBERS.organization_id, _MEMBERS.name, _MEMBERS.email),
    By.WORKSPACE: _Known(_PLACES.id, _PLACES.organization_id, _PLACES.name, _PLACES.slug),
}


def names(connection: sa.Connection, organization_id: str, by: By, ids: Iterable[str]) -> dict[str, Named]:
    """Give a name for every id. What is deleted for good keeps its id for a name."""
    wanted = sorted(set(ids))
    found = {one: Named(one or NOBODY.get(by, "none")) for one in wanted}
    known = _KNOWN.get(by)
    if known is None:
        return found
    for start in range(0, len(wanted), IDS_AT_ONCE):
        mine = (known.organization == organization_id, known.id.in_(wanted[start : start + IDS_AT_ONCE]))
        for row in connection.execute(sa.select(known.id, known.name, known.note).where(*mine)):
            found[row[0]] = Named(row[1], row[2] or "")
    return found


def told_apart(found: Mapping[str, Named]) -> dict[str, str]:
    """One text for every id: the name, with its note where another has the same name."""
    counts: dict[str, int] = {}
    for one in found.values():
        counts[one.name] = counts.get(one.name, 0) + 1
    return {
        id_: f"{one.name} ({one.note})" if counts[one.name] > 1 and one.note else one.name for id_, one in found.items()
    }


def check_filters(connection: sa.Connection, organization_id: str, wanted: Slice) -> None:
    """Refuse filters that name a key, member or workspace of somebody else, with NotFound: nobody learns whether it exists."""
    only = wanted.only_member_id
    for by, value in wanted.filters.items():
        known = _KNOWN.get(by)
        if known is None or not value:
            continue
        mine = [known.organization == organization_id, known.id == value]
        if only is not None and by is By.KEY:
            mine.append(_KEYS.member_id == only)
        if only is not None and by is By.MEMBER:
            mine.append(known.id == only)
        found = connection.execute(sa.select(known.id).where(*mine)).one_or_none() is not None
        if found and only is not None and by is By.WORKSPACE:
            found = _is_or_was_in(connection, organization_id, only, value)
        if not found:
            raise NotFound(f"there is no such {by}")


def _is_or_was_in(connection: sa.Connection, organization_id: str, member_id: str, workspace_id: str) -> bool:
    """Whether a member knows a workspace: the oldest is everybody's; else they are in it, have a key there, or asked something there."""
    places, days = schema.workspace_members.c, schema.activity_days.c
    oldest = sa.select(_PLACES.id).where(_PLACES.organization_id == organization_id)
    ways = (
        sa.select(places.member_id).where(places.workspace_id == workspace_id, places.member_id == member_id),
        sa.select(_KEYS.hash).where(_KEYS.workspace_id == workspace_id, _KEYS.member_id == member_id).limit(1),
        sa.select(days.member_id)
        .where(days.organization_id == organization_id, days.workspace_id == workspace_id, days.member_id == member_id)
        .limit(1),
    )
    if connection.execute(oldest.order_by(_PLACES.created_at_s, _PLACES.id).limit(1)).scalar() == workspace_id:
        return True
    return any(connection.execute(way).first() is not None for way in ways)
