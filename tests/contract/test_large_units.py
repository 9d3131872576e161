"""Units that write much: they share no batch that would take too long, on either store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.store import open_branch
from tests.unit.accounts.house import House

from modelgates_server.storage.rows import Rows
from modelgates_server.storage.writer import BATCH_BYTES_MAX, Simple


async def test_large_units_come_in_several_batches(house: House, tmp_path: Path) -> None:
    """As many together as fit; one that is larger than that alone; small ones all at once."""

    def nothing(_rows: Rows) -> None:
        return None

    async with open_branch(house.database.url, tmp_path) as bank:
        taken = []
        for size_bytes in (0, BATCH_BYTES_MAX // 2, 3 * BATCH_BYTES_MAX):
            units = [Simple(nothing, keep=True) for _ in range(8)]
            for unit in units:
                unit.size_bytes = size_bytes
            await bank.writer.drain(5)
            before = bank.writer.batches
            await asyncio.gather(*map(bank.writer.submit, units))
            taken.append(bank.writer.batches - before)

    assert taken[1:] == [4, 8]
    assert taken[0] <= 2
