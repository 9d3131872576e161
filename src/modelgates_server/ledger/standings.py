"""What stands on meters now, for whoever shows budgets: one look-up for any number of them."""

from __future__ import annotations

from collections.abc import Iterable

from modelgates_server.limits import MeterRef
from modelgates_server.storage.hot import Row
from modelgates_server.storage.reader import Reader

NOTHING: Row = {"posted": 0, "held": 0, "limit": None}
"""A meter that nobody used yet has no row."""


async def standings(reader: Reader, refs: Iterable[MeterRef], now_s: float) -> dict[MeterRef, Row]:
    """Give `posted`, `held` and `limit` of each meter, in its unit. Raises StoreUnavailable.

    The row's limit is that of the last admission; only for credit it is the limit in force.
    """
    ids = {ref: ref.row_id(now_s) for ref in refs}
    if not ids:
        return {}
    names = {f"m{place}": row_id for place, row_id in enumerate(sorted(set(ids.values())))}
    listed = ", ".join(f":{name}" for name in names)
    rows = await reader.all(f'SELECT id, posted, held, "limit" FROM meters WHERE id IN ({listed})', names)  # noqa: S608 - our own names
    known = {row["id"]: row for row in rows}
    return {ref: known.get(row_id, NOTHING) for ref, row_id in ids.items()}
