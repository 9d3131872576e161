"""How much room a request's limits leave, from the rows that its hold has just read: what the client is told beside its answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from modelgates_server.limits import Scope, Window


class Room(msgspec.Struct, frozen=True):
    """A limit in nano-USD, what was used of it before this request (open requests not counted), and when it starts anew.

    `unit` is nusd, or spend where what own provider accounts are asked counts too.
    """

    scope: str
    unit: str
    window: str
    limit_nusd: int
    used_nusd: int
    resets_at_s: int | None


def rooms(rows: Iterable[dict[str, Any]]) -> tuple[Room | None, Room | None]:
    """Give the limit that leaves least in USD, and the budget of which the largest share is used. Pure; about a microsecond.

    The organisation's credit is no budget: of everything ever granted most is always used.
    """
    least: dict[str, Any] | None = None
    fullest: dict[str, Any] | None = None
    left = share_limit = share_used = 0
    for row in rows:
        limit = row["limit"]
        if limit is None or row["unit"] not in _MONEY:
            continue
        used = row["posted"]
        if least is None or limit - used < left:
            least, left = row, limit - used
        if (fullest is None or used * share_limit > share_used * limit) and not _is_credit(row):
            fullest, share_used, share_limit = row, used, limit
    return _room(least), _room(fullest)


_MONEY = ("nusd", "spend")


def _is_credit(row: dict[str, Any]) -> bool:
    return bool(row["scope"] == Scope.ORGANIZATION and row["window"] == Window.LIFE)


def _room(row: dict[str, Any] | None) -> Room | None:
    if row is None:
        return None
    return Room(row["scope"], row["unit"], row["window"], row["limit"], row["posted"], row["ends_at_s"])
