"""What a process that died left on this machine is booked by whichever process still runs on the same data directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway, ask, open_gateway, until

from modelgates_server.clock import ManualClock
from modelgates_server.storage.journal import PATTERN
from modelgates_server.upkeep import mend_days


async def test_a_running_neighbour_books_a_dead_ones_journal(postgres_url: str, tmp_path: Path) -> None:
    """A journal without an owner appears beside a running gateway: it is booked and gone, without a restart."""
    async with open_gateway(tmp_path / "gateway", database_url=postgres_url) as gateway:
        told = await gateway.send(ask(max_tokens=5))
        record = await abandoned(gateway, told.id)
        file = gateway.config.data_dir / PATTERN.replace("*", "dead")
        file.write_text(json.dumps(record) + "\n")

        await until(lambda: not file.exists(), "nobody books the journal", 20)

        (row,) = gateway.rows("SELECT cost_nusd FROM generations WHERE id = 'gen-dead'")
        assert row["cost_nusd"] == record["bill"]["charged_nusd"]
        assert gateway.problems() == []


async def test_what_the_version_before_left_out_is_added(postgres_url: str, tmp_path: Path) -> None:
    """Its journal knows no days: they are made good by the next look at the roll-ups, and every sum agrees again."""
    async with open_gateway(tmp_path / "gateway", database_url=postgres_url) as gateway:
        told = await gateway.send(ask(max_tokens=5))
        record = await abandoned(gateway, told.id)
        file = gateway.config.data_dir / PATTERN.replace("*", "old")
        file.write_text(json.dumps(record | {"also": record["also"][:2]}) + "\n")
        await until(lambda: not file.exists(), "nobody books the journal", 20)
        before = {problem.kind for problem in gateway.problems()}
        with gateway.engine() as (engine, now_s):
            mend_days(engine, ManualClock(now_s))

        assert before == {"days"}
        assert gateway.problems() == []


async def abandoned(gateway: Gateway, generation_id: str) -> dict[str, Any]:
    """A record like that of a real request, under the id of one that never reached the store."""
    (receipt,) = gateway.rows("SELECT * FROM generations WHERE id = :id", id=generation_id)
    (hour,) = gateway.rows("SELECT * FROM activity_hours WHERE key_hash = :key", key=receipt["key_hash"])
    (day,) = gateway.rows("SELECT * FROM activity_days WHERE key_hash = :key", key=receipt["key_hash"])
    ledger = gateway.application.ledger
    caller = await gateway.application.context.directory.identify([gateway.key])
    lines = [
        [ref.row_id(receipt["created_at_ms"] / 1000), str(ref.unit), receipt["held_nusd"]] for ref in caller.meters
    ]
    return {
        "row": {
            "id": "gen-dead", "organization_id": receipt["organization_id"], "epoch": ledger.epoch,
            "created_at_s": receipt["created_at_ms"] // 1000, "amount_nusd": receipt["held_nusd"], "floor_nusd": 1,
            "progress_nusd": None, "lines": json.dumps(lines), "context": "{}",
        },
        "bill": {"charged_nusd": receipt["cost_nusd"], "provider": receipt["provider"]},
        "also": [
            ["insert generations", receipt | {"id": "gen-dead"}], ["accumulate activity_hours", hour], ["accumulate activity_days", day],
        ],
        "now_s": receipt["created_at_ms"] // 1000,
    }  # fmt: skip


async def test_a_journal_that_cannot_be_booked_is_kept_and_stops_nobody(postgres_url: str, tmp_path: Path) -> None:
    """One line that this version cannot read: the gateway goes on, and books the other journals."""
    folder = tmp_path / "gateway"
    async with open_gateway(folder, database_url=postgres_url) as gateway:
        told = await gateway.send(ask(max_tokens=5))
        good = await abandoned(gateway, told.id)
        places = [gateway.config.data_dir / PATTERN.replace("*", name) for name in ("dead", "later")]
        for place, also in zip(places, ([["a statement of another version", {}]], good["also"]), strict=True):
            place.write_text(json.dumps(good | {"also": also}) + "\n")

        await until(lambda: not places[1].exists(), "the second journal is not booked", 20)

        assert places[0].exists()
        assert len(gateway.rows("SELECT id FROM generations WHERE id = 'gen-dead'")) == 1
