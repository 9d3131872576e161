"""The ledger's promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from tests.support.store import ORG, USD, key_meter, open_branch

from modelgates_server.activity.generation import Cost, Generation, Origin, rows
from modelgates_server.dialects.values import Usage
from modelgates_server.ledger import credit
from modelgates_server.ledger.values import Bill, Hold, Refusal, Stale
from modelgates_server.limits import Unit, Window
from modelgates_server.management.credits import refund_credits
from modelgates_server.storage.engine import database_of, open_engine

CREDIT = credit.credit_meter(ORG)


async def test_a_hold_reserves_in_every_scope_and_a_settlement_posts_what_it_cost(
    store_url: str, tmp_path: Path
) -> None:
    """Held rises by the bound, then falls to zero while posted rises by the charge."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await bank.ledger.hold(bank.request(5 * USD))
        assert isinstance(hold, Hold)
        held = bank.meter(CREDIT)["held"], bank.meter(key_meter())["held"]

        await bank.ledger.settle(hold, Bill(charged_nusd=2 * USD, provider="sim"))

        assert held == (5 * USD, 5 * USD)
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (2 * USD, 0)
        assert bank.count("holds") == 0


@pytest.mark.parametrize("affordable", [1, 7])
async def test_a_thousand_parallel_requests_cannot_overspend(store_url: str, tmp_path: Path, affordable: int) -> None:
    """With credit for N, exactly N of 1,000 parallel holds are admitted and nothing is left over."""
    async with open_branch(store_url, tmp_path, credit_nusd=affordable * USD) as bank:
        results = await asyncio.gather(*(bank.ledger.hold(bank.request(USD)) for _ in range(1000)))

        admitted = [result for result in results if isinstance(result, Hold)]

        assert len(admitted) == affordable
        assert bank.overspent() == []
        assert bank.meter(CREDIT)["held"] == affordable * USD


async def test_mixed_sizes_leave_less_than_the_smallest_refused(store_url: str, tmp_path: Path) -> None:
    """Whatever the sizes, nothing is overspent, and every refused request was larger than what was left."""
    sizes = random.Random(7).choices(range(1, 50), k=1000)
    async with open_branch(store_url, tmp_path, credit_nusd=1000) as bank:
        results = await asyncio.gather(*(bank.ledger.hold(bank.request(size)) for size in sizes))

        left = 1000 - bank.meter(CREDIT)["held"]
        refused = [size for size, result in zip(sizes, results, strict=True) if isinstance(result, Refusal)]

        assert bank.overspent() == []
        assert all(size > left for size in refused)


async def test_a_refusal_names_the_scope_and_holds_nothing_anywhere(store_url: str, tmp_path: Path) -> None:
    """A key limit that does not fit leaves the wider scopes untouched."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        meters = (key_meter(limit=USD, window=Window.DAY), CREDIT)

        refused = await bank.ledger.hold(bank.request(2 * USD, meters=meters))

        assert isinstance(refused, Refusal)
        assert (refused.scope, refused.available, refused.unheld) == ("key", USD, USD)
        assert refused.resets_at_s is not None
        assert bank.meter(CREDIT)["held"] == 0


async def test_settling_twice_changes_nothing(store_url: str, tmp_path: Path) -> None:
    """The second settlement of a hold finds its receipt and books nothing."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await bank.ledger.hold(bank.request(5 * USD))
        assert isinstance(hold, Hold)
        await bank.ledger.settle(hold, Bill(charged_nusd=USD, provider="sim"))

        again = await bank.ledger.settle(hold, Bill(charged_nusd=USD, provider="sim"))

        assert again.late
        assert bank.meter(CREDIT)["posted"] == USD


async def test_what_exceeds_the_hold_is_the_operators_loss(store_url: str, tmp_path: Path) -> None:
    """A provider that breaks its bound is paid in the books, but not from the budget."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await bank.ledger.hold(bank.request(USD))
        assert isinstance(hold, Hold)

        settled = await bank.ledger.settle(hold, Bill(charged_nusd=3 * USD, provider="sim"))

        booked = {row["kind"]: row["amount_nusd"] for row in bank.reader.all("SELECT * FROM entries")}
        assert (settled.charged_nusd, settled.overrun_nusd) == (USD, 2 * USD)
        assert booked == {"grant": 100 * USD, "charge": USD, "overrun": 2 * USD}


async def test_a_changed_policy_makes_the_hold_stale(store_url: str, tmp_path: Path) -> None:
    """No hold commits under a policy that was read before the last change."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        result = await bank.ledger.hold(bank.request(USD, version=0))

        assert isinstance(result, Stale)
        assert bank.count("holds") == 0


async def test_a_cancelled_caller_leaves_no_hold(store_url: str, tmp_path: Path) -> None:
    """Cancelled at any moment while its hold is being made, a request leaves nothing held."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        for rounds in range(6):
            task = asyncio.get_running_loop().create_task(bank.ledger.hold(bank.request(USD)))
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await bank.writer.drain(5)

        assert bank.count("holds") == 0
        assert bank.meter(CREDIT)["held"] == 0


async def test_requests_per_minute_are_exact(store_url: str, tmp_path: Path) -> None:
    """Of 50 parallel requests on a key with 20 a minute, 20 pass; the next minute starts anew."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        meters = (key_meter(limit=20, window=Window.MINUTE, unit=Unit.REQUESTS), CREDIT)
        results = await asyncio.gather(*(bank.ledger.hold(bank.request(1, meters=meters)) for _ in range(50)))
        passed = sum(isinstance(result, Hold) for result in results)

        bank.clock.advance(60)

        assert passed == 20
        assert isinstance(await bank.ledger.hold(bank.request(1, meters=meters)), Hold)


async def test_token_meters_hold_the_estimate_and_post_the_actual(store_url: str, tmp_path: Path) -> None:
    """An estimate of 10 tokens that turns out as 500 fills the minute for the next request."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        meters = (key_meter(limit=100, window=Window.MINUTE, unit=Unit.TOKENS), CREDIT)
        hold = await bank.ledger.hold(bank.request(USD, meters=meters, tokens=10))
        assert isinstance(hold, Hold)
        await bank.ledger.settle(hold, Bill(tokens=500))

        refused = await bank.ledger.hold(bank.request(USD, meters=meters, tokens=10))

        assert isinstance(refused, Refusal)
        assert refused.unit == "tokens"


async def test_a_new_owner_settles_what_the_dead_one_held(store_url: str, tmp_path: Path) -> None:
    """Holds of an earlier epoch are closed at the larger of their input cost and their last checkpoint."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        first = await bank.ledger.hold(bank.request(10 * USD))
        await bank.ledger.hold(bank.request(10 * USD))
        assert isinstance(first, Hold)
        bank.ledger.checkpoint([(first.id, 4 * USD)])
        await bank.writer.drain(5)

    async with open_branch(store_url, tmp_path) as bank:
        swept = await bank.ledger.sweep(bank.serving, lambda _row, _cost: ())

        assert swept == 2
        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (5 * USD, 0)


async def test_waiting_for_a_release_ends_when_one_comes(store_url: str, tmp_path: Path) -> None:
    """`released` is true after a settlement and false after its limit."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await bank.ledger.hold(bank.request(USD))
        assert isinstance(hold, Hold)
        waiting = asyncio.get_running_loop().create_task(bank.ledger.released(5))
        await asyncio.sleep(0)
        bank.ledger.settle(hold, Bill())

        assert await waiting
        assert not await bank.ledger.released(0.01)


async def test_a_late_settlement_corrects_the_estimate_once(store_url: str, tmp_path: Path) -> None:
    """After a sweep, the true cost becomes one adjustment of meters, entries, receipt and roll-ups; a second one changes nothing."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await bank.ledger.hold(bank.request(10 * USD))
        assert isinstance(hold, Hold)
    origin = Origin(hold.id, ORG, "w", None, "key-test", 0, "m", "m", streamed=True)
    async with open_branch(store_url, tmp_path) as bank:
        lost = Generation(origin, "lost", Usage(estimated=True), Cost(USD, USD, 0, 10 * USD, "t"), provider="sim")
        await bank.ledger.sweep(bank.serving, lambda _row, _cost: rows(lost))

        for _ in range(2):
            await bank.ledger.settle(hold, Bill(charged_nusd=3 * USD, provider="sim"))
            await bank.writer.drain(5)

        assert (bank.meter(CREDIT)["posted"], bank.meter(CREDIT)["held"]) == (3 * USD, 0)
        assert bank.reader.one("SELECT cost_nusd, estimated FROM generations") == {"cost_nusd": 3 * USD, "estimated": 0}
        assert bank.reader.one("SELECT cost_nusd FROM activity_hours") == {"cost_nusd": 3 * USD}
        assert bank.reader.one("SELECT cost_nusd FROM activity_days") == {"cost_nusd": 3 * USD}
        assert bank.count("entries") == 3


async def test_a_refund_of_an_estimate_is_not_given_back_twice(store_url: str, tmp_path: Path) -> None:
    """A lost request is refunded at what was supposed; its true cost comes late, and changes nothing any more."""
    async with open_branch(store_url, tmp_path, credit_nusd=100 * USD) as bank:
        hold = await bank.ledger.hold(bank.request(10 * USD))
        assert isinstance(hold, Hold)
    origin = Origin(hold.id, ORG, "w", None, "key-test", 0, "m", "m", streamed=True)
    async with open_branch(store_url, tmp_path) as bank:
        lost = Generation(origin, "lost", Usage(estimated=True), Cost(USD, USD, 0, 10 * USD, "t"), provider="sim")
        await bank.ledger.sweep(bank.serving, lambda _row, _cost: rows(lost))
        engine = open_engine(database_of(store_url))
        refund_credits(engine, ORG, hold.id, None, "lost", "ann", 1_800_000_000)
        engine.dispose()

        await bank.ledger.settle(hold, Bill(charged_nusd=USD // 4, provider="sim"))

        assert bank.meter(CREDIT)["limit"] - bank.meter(CREDIT)["posted"] == 100 * USD
