"""What a request holds, and in which windows."""

from __future__ import annotations

from pathlib import Path

from tests.support.store import ORG, USD, key_meter, open_bank
from tests.unit.routing.routing_samples import ask, endpoint

from modelgates_server.accounts.directory import Directory
from modelgates_server.accounts.values import Caller, KeyClass
from modelgates_server.activity.generation import Origin
from modelgates_server.limits import Window
from modelgates_server.relay.funds import Funds
from modelgates_server.relay.values import Settings


async def no_count() -> None:
    """Nobody counts."""


async def test_a_request_is_held_in_the_windows_of_its_receipt(tmp_path: Path) -> None:
    """Planned just before midnight and held just after it, it counts for the day that its receipt shows."""
    daily = key_meter(100 * USD, Window.DAY)
    async with open_bank(tmp_path / "a.db") as bank:
        clock = bank.clock
        clock.advance(86_400 - clock.now_s() % 86_400 - 0.5)
        origin = Origin("gen-1", ORG, "w", None, "key-test", int(clock.now_s() * 1000), "m", "m", streamed=True)
        (before,) = daily.row_id(clock.now_s()).rsplit(":", 1)[1:]
        clock.advance(1)
        caller = Caller(ORG, "w", None, "key-test", "k", KeyClass.INFERENCE, 1, (daily,))
        funds = Funds(bank.ledger, Directory(bank.serving, bytes(32), clock), clock, Settings())

        reserved = await funds.reserve(caller, ask(max_tokens=5), [endpoint("anthropic")], origin, no_count)

        assert [line.meter_id.rsplit(":", 1)[1] for line in reserved.hold.lines] == [before]
        assert daily.row_id(clock.now_s()).rsplit(":", 1)[1] != before
