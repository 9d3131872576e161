"""Who manages: headers → `Manager`, read from the database each time, so that switching a key off bites at once."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from modelgates_server.accounts import directory, keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.api.house import House
from modelgates_server.errors import Unauthenticated, WrongKeyClass
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

HASH_SHOWN = 12
"""Enough characters of a hash to name a key in the audit log."""


@dataclass(frozen=True, slots=True)
class Manager:
    """A live management key. Every change is made in its organisation only; `actor` is what the audit log calls it."""

    organization_id: str
    workspace_id: str
    key_hash: str
    actor: str


def identify(house: House, headers: Iterable[tuple[bytes, bytes]]) -> Manager:
    """Give the manager of the first live key among the headers.

    Raises Unauthenticated, WrongKeyClass for a key of the other plane, StoreUnavailable.
    """
    reasons = []
    for text in keys.presented(headers):
        if keys.well_formed(text) is None:
            reasons.append(directory.malformed(text))
            continue
        row = _row(house, keys.digest(house.pepper, text))
        reason = _refusal(row, house.clock.now_s())
        if row is None or reason is not None:
            reasons.append(reason or directory.UNKNOWN)
            continue
        if row["class"] != KeyClass.MANAGEMENT:
            raise WrongKeyClass("Only management keys can perform this operation. They begin with sk-mg-mgmt-v1-.")
        actor = f"key:{row['hash'][:HASH_SHOWN]}"
        return Manager(row["organization_id"], row["workspace_id"], row["hash"], actor)
    raise Unauthenticated(directory.most_telling(reasons))


def _row(house: House, key_hash: str) -> sa.RowMapping | None:
    keys_, members = schema.api_keys, schema.members
    owned = keys_.outerjoin(members, members.c.id == keys_.c.member_id)
    query = sa.select(keys_, members.c.removed_at_s).select_from(owned).where(keys_.c.hash == key_hash)
    with reading(house.engine) as connection:
        row = connection.execute(query).mappings().one_or_none()
    return row if row is not None and hmac.compare_digest(row["hash"], key_hash) else None


def _refusal(row: sa.RowMapping | None, now_s: float) -> str | None:
    if row is None or row["deleted_at_s"] is not None:
        return directory.UNKNOWN
    if row["disabled"] or row["removed_at_s"] is not None:
        return directory.DISABLED
    if row["expires_at_s"] is not None and row["expires_at_s"] <= now_s:
        return directory.EXPIRED
    return None
