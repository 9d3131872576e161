"""Several processes may find the holds of a dead one at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.store import ORG, USD, Bank, open_branch

from modelgates_server.activity import generation
from modelgates_server.activity.generation import Origin
from modelgates_server.ledger import credit
from modelgates_server.ledger.values import Hold, HoldRequest

HOLDS = 40
CREDIT = credit.credit_meter(ORG)


def asked(bank: Bank, amount_nusd: int) -> HoldRequest:
    """A request whose hold says everything that a receipt needs."""
    plain = bank.request(amount_nusd)
    origin = Origin(plain.id, ORG, "w", None, "key-test", 1_800_000_000_000, "m", "m", streamed=True)
    return HoldRequest(
        plain.id, ORG, 1, plain.meters, amount_nusd, amount_nusd // 10, 10, generation.context(origin, "sim", "t"),
        plain.now_s,
    )  # fmt: skip


async def test_sweepers_settle_each_hold_once_as_an_estimate(postgres_url: str, tmp_path: Path) -> None:
    """Three processes sweep together: every hold is settled by one of them, and none takes another's estimate for the truth."""
    async with (
        open_branch(postgres_url, tmp_path, credit_nusd=1000 * USD) as first,
        open_branch(postgres_url, tmp_path) as second,
        open_branch(postgres_url, tmp_path) as third,
    ):
        async with open_branch(postgres_url, tmp_path) as dead:
            held = [await dead.ledger.hold(asked(dead, USD)) for _ in range(HOLDS)]
        assert all(isinstance(hold, Hold) for hold in held)
        swept = await asyncio.gather(
            *(bank.ledger.sweep(bank.serving, generation.lost) for bank in (first, second, third))
        )
        for bank in (first, second, third):
            await bank.writer.drain(5)
        rows = first.reader.all("SELECT outcome, estimated, cost_nusd FROM generations")

        assert sum(swept) == HOLDS
        assert {tuple(row.values()) for row in rows} == {("lost", 1, USD // 10)}
        assert len(rows) == HOLDS
        assert (first.meter(CREDIT)["posted"], first.meter(CREDIT)["held"]) == (HOLDS * USD // 10, 0)
