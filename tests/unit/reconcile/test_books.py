"""What our rows say, and what a reconciliation leaves behind, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.reconcile.report_samples import (
    CENT,
    DAY,
    HAIKU,
    LATER_S,
    NEXT,
    OPUS,
    ORG,
    Rows,
    Told,
    asks,
    open_rows,
    pricing,
    read_attempts,
)  # fmt: skip

from modelgates_server.alerts.outbox import Outbox
from modelgates_server.clock import ManualClock
from modelgates_server.errors import BadRequest
from modelgates_server.reconcile import books
from modelgates_server.reconcile.run import Daily, days_between, due, reconcile, usual_days
from modelgates_server.reconcile.values import DAY_S, WEB_SEARCH, Booked, Doubt, Line, Reported, Tokens, start_s
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

START_S = start_s(DAY)
SILENT = ("anthropic", 0, "no_answer", HAIKU)


@pytest.fixture
def rows(store_url: str) -> Iterator[Rows]:
    with open_rows(store_url) as opened:
        yield opened


def read_booked(rows: Rows, *slugs: str, days: tuple[str, ...] = (DAY,)) -> dict[tuple[str, str], Booked]:
    with reading(rows.engine) as connection:
        return books.booked(connection, slugs or ("anthropic",), days, pricing().search_pusd, pricing().name)


def read_doubts(rows: Rows, *slugs: str) -> list[Doubt]:
    with reading(rows.engine) as connection:
        return books.doubts(connection, slugs or ("anthropic",), [DAY], pricing().name)


async def run(rows: Rows, reported: Reported, now_s: float = LATER_S) -> list[Line]:
    return await reconcile(rows.engine, Told(reported).account(), [DAY], Outbox(), now_s)


def test_receipts_add_up_by_day_and_model(rows: Rows) -> None:
    """A day is from midnight to midnight, UTC; spellings of a model are one; other providers and days are not in it."""
    rows.receipt(5, START_S, input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_5m_tokens=4)
    rows.receipt(7, START_S + DAY_S - 2, cache_write_1h_tokens=6, upstream_model=None)
    rows.receipt(11, upstream_model="claude-haiku-4-5-20251001")
    rows.receipt(100, START_S - 0.001)
    rows.receipt(100, START_S + DAY_S)
    rows.receipt(100, provider="bedrock")
    assert read_booked(rows) == {
        (DAY, OPUS): Booked(DAY, OPUS, 2, 12, tokens=Tokens(1, 2, 3, 10)),
        (DAY, HAIKU): Booked(DAY, HAIKU, 1, 11),
    }
    assert read_booked(rows, "anthropic", "bedrock")[DAY, OPUS].nusd == 112


def test_what_the_provider_asks_counts_not_what_customers_pay(rows: Rows) -> None:
    """A failure that customers do not pay for is in the provider's bill; a customer's own account (BYOK) is not."""
    rows.receipt(0, upstream_cost_nusd=9, outcome="broken")
    rows.receipt(0, byok_cost_nusd=50, input_tokens=10)
    assert read_booked(rows) == {(DAY, OPUS): Booked(DAY, OPUS, 1, 9)}


def test_estimates_lost_requests_and_late_ones_are_told_apart(rows: Rows) -> None:
    """How much of the sum is an estimate, what a dead process may have hidden, and what ended on the next day."""
    rows.receipt(5)
    rows.receipt(6, estimated=1, outcome="cancelled", held_nusd=100)
    rows.receipt(7, estimated=1, outcome="lost", held_nusd=100, upstream_model=None, generation_ms=None)
    rows.receipt(8, START_S + DAY_S - 1)
    assert read_booked(rows)[DAY, OPUS] == Booked(DAY, OPUS, 4, 26, 13, 93, 8)


def test_fees_of_searches_are_taken_out_of_the_model(rows: Rows) -> None:
    """Two searches are two cents on a line of their own; a receipt that asks for less has no fee in it."""
    rows.receipt(5 + 2 * CENT, web_searches=2)
    rows.receipt(0, web_searches=1)
    found = read_booked(rows)
    assert (found[DAY, OPUS].nusd, found[DAY, WEB_SEARCH].nusd, found[DAY, WEB_SEARCH].requests) == (5, 2 * CENT, 3)


def test_attempts_of_unknown_fate_are_found_with_their_model(rows: Rows) -> None:
    """Also where another provider answered at last: the attempt's own model and provider count, not the receipt's."""
    served = ("bedrock", 200, None, f"anthropic.{OPUS}")
    first = rows.receipt(
        5, provider="bedrock", attempts=read_attempts(("anthropic", 500, "broken", OPUS), SILENT, served)
    )
    rows.uncertain(CENT, first)
    rows.uncertain(CENT, rows.receipt(5, START_S + DAY_S), "anthropic")
    rows.uncertain(CENT, rows.receipt(5), "bedrock")
    assert read_doubts(rows) == [Doubt(first, ORG, "anthropic", DAY, HAIKU, CENT)]


@pytest.mark.parametrize(("more", "found"), [(0, 0), (CENT // 2, CENT // 2), (CENT, CENT)])
async def test_a_proven_attempt_leaves_the_account(rows: Rows, more: int, found: int) -> None:
    """What it did not cost is taken back, what it did cost stays owed and is the operator's loss; customers pay nothing."""
    rows.uncertain(CENT, rows.receipt(5 * CENT, attempts=read_attempts(("anthropic", 0, "no_answer", OPUS))))
    (line,) = await run(rows, asks(5 * CENT + more))

    assert (line.state, line.uncertain_nusd, [proof.billed_nusd for proof in line.cleared]) == ("ok", 0, [found])
    assert rows.balance("operator:uncertain") == 0
    assert (rows.balance("operator:loss"), rows.balance("provider:anthropic")) == (-found, found)
    assert rows.all(sa.select(schema.meters)) == []
    booked = rows.all(sa.select(schema.entries.c.author).where(schema.entries.c.kind == "cleared"))
    assert {row["author"] for row in booked} == {"reconcile"}


async def test_a_second_run_clears_nothing_again(rows: Rows) -> None:
    """The same report once more gives the same line and books nothing."""
    rows.uncertain(CENT, rows.receipt(5 * CENT, attempts=read_attempts(("anthropic", 0, "no_answer", OPUS))))
    await run(rows, asks(6 * CENT))
    before = rows.all(sa.select(schema.entries))
    (line,) = await run(rows, asks(6 * CENT), LATER_S + 5)

    assert (line.state, line.ours_nusd, line.cleared) == ("ok", 6 * CENT, ())
    assert rows.all(sa.select(schema.entries)) == before
    assert [row["checked_at_s"] for row in rows.stored()] == [LATER_S + 5]


async def test_two_processes_at_once_clear_it_once(rows: Rows) -> None:
    """Both saw the doubt before either took it off: the second finds it gone. There is one alert, and one row a line."""
    rows.uncertain(CENT, rows.receipt(5 * CENT, attempts=read_attempts(("anthropic", 0, "no_answer", OPUS))))
    rows.receipt(5 * CENT, upstream_model=HAIKU)
    await asyncio.gather(*(run(rows, asks(6 * CENT)) for _ in range(3)))

    assert (rows.balance("operator:uncertain"), rows.balance("operator:loss")) == (0, -CENT)
    assert (len(rows.alerts()), len(rows.stored())) == (1, 2)


async def test_drift_is_stored_and_told_once(rows: Rows) -> None:
    """The figures stand in `reconciliations`; the operator's organisation gets one alert, which names day and model."""
    rows.receipt(5 * CENT)
    for _ in range(2):
        (line,) = await run(rows, asks(6 * CENT))
    assert line.state == "drift"
    (stored,) = rows.stored()
    assert (stored["ours_nusd"], stored["theirs_nusd"], stored["provider"], stored["model"]) == (
        5 * CENT,
        6 * CENT,
        "anthropic",
        OPUS,
    )
    (alert,) = rows.alerts()
    assert (alert["organization_id"], alert["kind"], alert["cleared_at_s"]) == ("org-operator", "reconciliation", None)
    assert DAY in alert["message"]
    assert f"{OPUS}: ours $0.05, theirs $0.06" in alert["message"]


async def test_an_alert_ends_when_the_report_agrees(rows: Rows) -> None:
    """A report that was corrected clears its day's alert."""
    rows.receipt(5 * CENT)
    await run(rows, asks(6 * CENT))
    await run(rows, asks(5 * CENT), LATER_S + 60)
    (alert,) = rows.alerts()
    assert alert["cleared_at_s"] == LATER_S + 60


async def test_an_open_day_leaves_nothing_behind(rows: Rows) -> None:
    """While the report may grow, nothing is stored, told or cleared."""
    rows.uncertain(CENT, rows.receipt(5 * CENT))
    (line,) = await run(rows, asks(0), START_S + DAY_S + 60)
    assert line.state == "open"
    assert (rows.stored(), rows.alerts(), rows.balance("operator:uncertain")) == ([], [], -CENT)


async def test_the_report_is_asked_for_fast_mode_only_when_it_was_used(rows: Rows) -> None:
    """An organisation without fast mode may not name it."""
    told = Told(asks(0))
    await reconcile(rows.engine, told.account(), [DAY], Outbox(), LATER_S)
    rows.receipt(5, speed="fast")
    await reconcile(rows.engine, told.account(), [DAY], Outbox(), LATER_S)
    assert told.asked == [(False, [DAY]), (True, [DAY])]


async def test_once_a_day_is_enough(rows: Rows) -> None:
    """An account is due when it was not compared for 23 hours, in whichever process that was."""
    account = Told(asks(0)).account()
    rows.receipt(5)
    assert due(rows.engine, [account], LATER_S) == [account]
    await run(rows, asks(5))
    assert due(rows.engine, [account], LATER_S + 22 * 3600) == []
    assert due(rows.engine, [account], LATER_S + 23 * 3600) == [account]


async def test_the_daily_look_is_once_a_day_and_survives_a_bad_report(rows: Rows) -> None:
    """It asks for the last seven days; a report that cannot be had is asked for again at the next look; an idle account is left alone."""
    clock, told = ManualClock(float(LATER_S)), Told(asks(0))
    daily = Daily(rows.engine, [told.account()], Outbox(), clock)
    told.broken = 1
    for _ in range(4):
        await daily.look()
        clock.advance(3600)
    assert told.asked == [(False, usual_days(LATER_S))] * 2

    clock.advance(20 * 3600)
    await daily.look()
    assert len(told.asked) == 3


def test_days_are_checked() -> None:
    """From a week ago to yesterday unless told; no day that has not come, none backwards, no more than a year."""
    now_s = start_s(NEXT) + 10
    assert usual_days(now_s) == [f"2026-11-{day}" for day in range(14, 21)]
    assert days_between(DAY, NEXT, now_s) == [DAY, NEXT]
    for first, last in ((NEXT, DAY), (DAY, "2026-11-22"), ("2025-11-01", DAY)):
        with pytest.raises(BadRequest):
            days_between(first, last, now_s)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "20261120", "2026-11-20T00:00"])
def test_a_day_is_written_as_one(text: Any) -> None:
    """A day is a date, in one form."""
    with pytest.raises(BadRequest, match="write it like 2026-11-25"):
        start_s(text)
