"""Whose holds these are: lives of serving processes, their leases, and what becomes of the holds of a life that ended.

Every hold names the epoch of its owner. On SQLite the serving lock proves that every other epoch is over. On PostgreSQL an epoch lives
as long as its lease is renewed by the store's own clock; one that is not renewed for ten seconds is ended by whichever process
sees it, which settles its holds. An owner that was only stopped finds its epoch ended and takes a new one before it admits more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger.units import PROCESSES
from modelgates_server.storage.hot import Row, Text
from modelgates_server.storage.reader import Reader
from modelgates_server.storage.rows import Rows
from modelgates_server.storage.writer import Plain, Writer

log = logging.getLogger(__name__)

LEASE_S: Final = 10
"""Design decision 11. A stall that long is a dead process for all that the others can know."""

KEPT_S: Final = 7 * 24 * 3600
"""Rows of ended lives are kept for a week, for whoever looks into what happened."""

REGISTER_TRIES_MAX: Final = 20
"""Replicas that start together may want the same number."""

ORPHANS_MAX: Final = 500
"""Settled in one go; the next round takes the rest."""

_STORE_NOW: Final = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)"
_NEWEST: Final = """
    SELECT CAST(MAX(epoch) AS BIGINT) AS epoch
    FROM (SELECT epoch FROM processes UNION ALL SELECT epoch FROM holds UNION ALL SELECT 0) AS known
"""
_RENEW: Final = Text(
    "renew a lease",
    "UPDATE processes SET seen_at_s = :now_s WHERE epoch = :epoch",
    f"UPDATE processes SET seen_at_s = {_STORE_NOW} WHERE epoch = :epoch",  # noqa: S608 - a constant
)
_END: Final = Text("end a life", "UPDATE processes SET ended_at_s = :now_s WHERE epoch = :epoch AND ended_at_s IS NULL")
_END_OTHERS: Final = Text(
    "end other lives", "UPDATE processes SET ended_at_s = :now_s WHERE epoch <> :epoch AND ended_at_s IS NULL"
)
_END_EXPIRED: Final = Text(
    "end lives whose lease ran out",
    "UPDATE processes SET ended_at_s = :now_s"  # noqa: S608 - constants
    f" WHERE epoch <> :epoch AND ended_at_s IS NULL AND seen_at_s < :now_s - {LEASE_S}",
    f"UPDATE processes SET ended_at_s = {_STORE_NOW}"  # noqa: S608 - constants
    f" WHERE epoch <> :epoch AND ended_at_s IS NULL AND seen_at_s < {_STORE_NOW} - {LEASE_S}",
)
_FORGET: Final = Text(
    "forget old lives",
    "DELETE FROM processes WHERE ended_at_s < :before_s AND epoch NOT IN (SELECT epoch FROM holds)",
)
_ORPHANS: Final = f"""
    SELECT h.* FROM holds h LEFT JOIN processes p ON p.epoch = h.epoch
    WHERE h.epoch <> :epoch AND (p.ended_at_s IS NOT NULL OR (p.epoch IS NULL AND h.created_at_s < :strays_before_s))
    ORDER BY h.id LIMIT {ORPHANS_MAX}
"""  # noqa: S608 - a constant
"""A hold whose epoch has no row at all was left by an older version, or by a store that lost its newest commits."""

STRAYS_S: Final = 60
"""Its owner may be about to take such a hold up again."""


class _Register(Plain):
    """Begin a life. A number that another process took in this moment is refused by the primary key."""

    def __init__(self, epoch: int, name: str, now_s: float) -> None:
        self._row = {
            "epoch": epoch,
            "name": name,
            "started_at_s": int(now_s),
            "seen_at_s": int(now_s),
            "ended_at_s": None,
        }

    def needs(self) -> dict[str, Any]:
        return {PROCESSES.name: (self._row["epoch"],)}

    def decide(self, rows: Rows) -> bool:
        if rows.get(PROCESSES.name, self._row["epoch"]) is not None:
            return False
        rows.save(PROCESSES.name, self._row)
        rows.write(_RENEW, {"epoch": self._row["epoch"], "now_s": self._row["seen_at_s"]})
        return True


async def register(writer: Writer, reader: Reader, name: str, now_s: float) -> int:
    """Begin a new life and give its epoch. Raises StoreUnavailable."""

    async def submit(unit: _Register) -> Any:
        return await writer.submit(unit)

    return await begin(submit, reader, name, now_s)


async def begin(run: Any, reader: Reader, name: str, now_s: float) -> int:
    """The same with another way to run a unit: ``await run(unit)`` gives its result."""
    failure: StoreUnavailable | None = None
    for attempt in range(REGISTER_TRIES_MAX):
        newest = await reader.one(_NEWEST)
        epoch = int(newest["epoch"] if newest else 0) + 1
        try:
            if await run(_Register(epoch, name, now_s)):
                return epoch
        except StoreUnavailable as error:  # refused by the primary key, or away
            failure = error
        await asyncio.sleep(0.005 * attempt)
    raise failure or StoreUnavailable("no number was free for this process")


def renewal(epoch: int, now_s: float) -> tuple[Text, Row]:
    """The statement that says that this process lives."""
    return _RENEW, {"epoch": epoch, "now_s": int(now_s)}


def farewell(epoch: int, now_s: float) -> tuple[Text, Row]:
    """The statement that says that it ended in order."""
    return _END, {"epoch": epoch, "now_s": int(now_s)}


def obituaries(epoch: int, now_s: float, *, distributed: bool) -> list[tuple[Text, Row]]:
    """The statements that end lives that are over, and forget those that ended long ago.

    Where several processes may serve, a life is over when its lease ran out; elsewhere every other life is.
    """
    return [
        (_END_EXPIRED if distributed else _END_OTHERS, {"epoch": epoch, "now_s": int(now_s)}),
        (_FORGET, {"before_s": int(now_s) - KEPT_S}),
    ]


async def orphans(reader: Reader, epoch: int, now_s: float, *, distributed: bool) -> list[Row]:
    """Holds whose owner's life ended. Where there can be no other process, every hold of another epoch is one."""
    before_s = int(now_s) - STRAYS_S if distributed else int(now_s) + 1
    return await reader.all(_ORPHANS, {"epoch": epoch, "strays_before_s": before_s})
