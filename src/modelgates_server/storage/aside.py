"""Units that need rows which somebody else keeps locked in PostgreSQL: they wait aside, so that everybody else's go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import psycopg

from modelgates_server.storage.hot import Lockable
from modelgates_server.storage.rows import Unit
from modelgates_server.storage.writer import Item

LOOK_AGAIN_S: Final = 0.05
"""Between two looks at rows that others keep."""

Key = tuple[str, Any]
"""A table's name and a row's key."""


class Aside:
    """Who waits for which rows. `patience_s` is how long anybody does who may be told that the store does not serve."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waiting: list[tuple[float, Item]] = []
        self._look_at_s = 0.0
        self.kept: set[Key] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def due(self, now_s: float) -> bool:
        """Whether it is time to look again."""
        return bool(self._waiting) and now_s >= self._look_at_s

    def keep_from(self, kept: set[Key], now_s: float) -> None:
        """These rows are locked by others."""
        self.kept |= kept
        self._look_at_s = now_s + LOOK_AGAIN_S

    def part(self, items: Sequence[Item], now_s: float) -> list[Item]:
        """Take those in that need such rows; gives the others."""
        others = []
        for item in items:
            if self._needs_kept(item):
                self._waiting.append((now_s + self._patience_s, item))
            else:
                others.append(item)
        return others

    def again(self, kept: set[Key], now_s: float) -> tuple[list[Item], list[Item]]:
        """Only these rows are kept by now: gives the units that may go on, and those that have waited too long.

        Of the latter, those that must not be lost wait on all the same.
        """
        self.kept, self._look_at_s = kept, now_s + LOOK_AGAIN_S
        waiting, self._waiting = self._waiting, []
        free, late = [], []
        for until_s, item in waiting:
            if not self._needs_kept(item):
                free.append(item)
                continue
            if now_s >= until_s:
                late.append(item)
            if now_s < until_s or item.unit.keep:
                self._waiting.append((until_s, item))
        if not self._waiting:
            self.kept = set()
        return free, late

    def everybody(self) -> list[Item]:
        """Give all of them back, and forget the rows."""
        waiting, self._waiting, self.kept = self._waiting, [], set()
        return [item for _, item in waiting]

    def _needs_kept(self, item: Item) -> bool:
        return any((name, key) in self.kept for name, ids in needs_of(item.unit).items() for key in ids)


async def kept_by_others(
    connection: psycopg.AsyncConnection[Any], tables: Mapping[str, Lockable], keys: Iterable[Key]
) -> set[Key]:
    """Which of the rows somebody has locked just now. Waits for nobody, and locks nothing beyond this one trip."""
    needs: dict[str, list[Any]] = {}
    for name, key in keys:
        needs.setdefault(name, []).append(key)
    cursors = {}
    async with connection.pipeline():
        for name, ids in needs.items():
            table = tables[name]
            cursors[name] = await connection.execute(
                f'WITH free AS ({table.lock} SKIP LOCKED) SELECT "{table.key}" FROM "{name}"'  # noqa: S608 - names from the schema
                f' WHERE "{table.key}" = ANY(%s) AND "{table.key}" NOT IN (SELECT "{table.key}" FROM free)',
                (ids, ids),
            )
    return {(name, key) for name, cursor in cursors.items() for (key,) in await cursor.fetchall()}


def needs_of(unit: Unit) -> Mapping[str, Iterable[Any]]:
    """The rows that it needs; none, should it fail to say so: then it fails in its own turn."""
    try:
        return unit.needs()
    except Exception:  # noqa: BLE001 - whatever a unit raises, the writer goes on
        return {}


def is_free(unit: Unit) -> bool:
    """Whether it needs no rows of anybody."""
    try:
        return not unit.needs()
    except Exception:  # noqa: BLE001 - whatever a unit raises, the writer goes on
        return False


def keys_of(items: Iterable[Item]) -> set[Key]:
    """Every row that they need."""
    return {(name, key) for item in items for name, ids in needs_of(item.unit).items() for key in ids}
