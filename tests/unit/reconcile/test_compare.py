"""Our books beside a report: what is drift, what is explained, and what a report proves. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.reconcile.report_samples import CENT, DAY, HAIKU, LATER_S, NEXT, OPUS, asks, booked, doubt, pricing

from modelgates_server.dialects.values import Usage
from modelgates_server.reconcile.compare import compare
from modelgates_server.reconcile.values import DAY_S, Counted, Doubt, Invoiced, Line, Reported, start_s

USD = 100 * CENT


def one_line(ours: Any, reported: Reported, *doubts: Doubt, now_s: float = LATER_S, day: str = DAY) -> Line:
    """The only line of a day."""
    (line,) = compare([day], ours, doubts, reported, pricing(), now_s)
    return line


def test_what_agrees_is_ok() -> None:
    """Tokens at the catalogue's price are what was booked and what is asked for: nothing differs."""
    line = one_line(booked(30 * CENT), asks(30 * CENT, input_tokens=10_000, output_tokens=10_000))
    assert (line.state, line.difference_nusd, line.unexplained_nusd, line.because) == ("ok", 0, 0, "")
    assert (line.counted_nusd, line.theirs_tokens.output) == (30 * CENT, 10_000)


@pytest.mark.parametrize(
    ("theirs", "state"), [(USD + 1_000_001, "ok"), (USD + 1_002_100, "drift"), (USD - 1_001_100, "drift")]
)
def test_a_thousandth_is_the_limit(theirs: int, state: str) -> None:
    """More than 0.1 % of the larger side is drift, in either direction."""
    assert one_line(booked(USD), asks(theirs)).state == state


def test_a_nano_dollar_a_receipt_is_rounding() -> None:
    """Each receipt is rounded up once, so a thousand may ask for less together, even where that is much of the sum."""
    line = one_line(booked(2_000, requests=1_000), asks(1_100))
    assert (line.state, line.unexplained_nusd, line.because) == ("ok", 0, "rounding")


DRIFTS = {
    "we booked nothing": ({}, asks(USD, input_tokens=200_000)),
    "the provider asks for nothing": (booked(USD), asks(0)),
    "the tokens differ": (booked(USD), asks(2 * USD, input_tokens=400_000)),
    "the tokens agree, the price does not": (booked(USD), asks(2 * USD, input_tokens=200_000)),
    "tokens and price differ": (booked(USD), asks(2 * USD, input_tokens=100_000)),
    "the catalogue does not know": (booked(USD, model="claude-new"), asks(2 * USD, model="claude-new", input_tokens=1)),
    "the report has nothing for this day": (booked(USD), Reported(frozenset({NEXT}), (), ())),
}


@pytest.mark.parametrize("because", DRIFTS)
def test_drift_says_what_kind_of_difference_it_is(because: str) -> None:
    """The first thing to know when looking for a cause: their tokens, their price, or somebody else's key."""
    line = one_line(*DRIFTS[because])
    assert line.state == "drift"
    assert because in line.because


@pytest.mark.parametrize(
    ("theirs", "state"), [(USD + 5 * CENT, "ok"), (USD - 5 * CENT, "ok"), (USD + 6 * CENT, "drift")]
)
def test_estimates_may_be_wrong_by_all_of_themselves(theirs: int, state: str) -> None:
    """Five cents of estimates explain five cents either way, and no sixth."""
    line = one_line(booked(USD, estimated_nusd=5 * CENT), asks(theirs))
    assert (line.state, line.estimated_nusd) == (state, 5 * CENT)
    assert line.unexplained_nusd in {0, CENT - 2}  # one receipt and one line of theirs are rounded


def test_a_lost_request_may_have_cost_what_was_held() -> None:
    """Nobody saw its end: up to the hold it explains more, and nothing less."""
    ours = booked(USD, lost_nusd=50 * CENT)
    assert one_line(ours, asks(USD + 50 * CENT)).because == "rounding, lost requests"
    assert one_line(ours, asks(USD - 50 * CENT)).state == "drift"


def test_requests_past_midnight_may_be_counted_on_the_next_day() -> None:
    """What ended on the next day explains less on the first day and more on the second, by no more than it cost."""
    ours = booked(USD, late_nusd=10 * CENT) | booked(USD, day=NEXT)
    report = Reported(
        frozenset({DAY, NEXT}),
        (),
        (Invoiced(DAY, "tokens", OPUS, 90 * CENT), Invoiced(NEXT, "tokens", OPUS, 110 * CENT)),
    )
    lines = compare([DAY, NEXT], ours, [], report, pricing(), LATER_S)
    assert [line.state for line in lines] == ["ok", "ok"]
    alone = compare([NEXT], ours, [], report, pricing(), LATER_S)
    assert [(line.day, line.state) for line in alone] == [(NEXT, "ok")]


def test_a_day_counts_when_it_is_a_day_old() -> None:
    """Until then the report may still grow: nothing is drift, and nothing is proven."""
    end_s = start_s(DAY) + DAY_S
    young = one_line(booked(USD), asks(0), doubt(CENT), now_s=end_s + DAY_S - 1)
    assert (young.state, young.cleared) == ("open", ())
    assert one_line(booked(USD), asks(0), now_s=end_s + DAY_S).state == "drift"


def test_names_of_a_model_are_one_line() -> None:
    """We ask for the short name, the report has the snapshot's."""
    line = one_line(booked(CENT, model=HAIKU), asks(CENT, model="claude-haiku-4-5-20251001", output_tokens=2_000))
    assert (line.model, line.state, line.counted_nusd) == (HAIKU, "ok", CENT)


def test_fees_have_a_line_of_their_own() -> None:
    """Web searches are charged for all models together; what we do not book at all is drift by its name."""
    usage = Usage(input_tokens=2_000, web_searches=3)
    costs = (
        Invoiced(DAY, "tokens", OPUS, CENT),
        Invoiced(DAY, "web_search", None, 3 * CENT),
        Invoiced(DAY, "code_execution", None, 7),
    )
    report = Reported(frozenset({DAY}), (Counted(DAY, OPUS, usage, (0, 200_000)),), costs)
    ours = booked(CENT) | booked(3 * CENT, model="web_search", requests=3)
    lines = {line.model: line for line in compare([DAY], ours, [], report, pricing(), LATER_S)}
    assert {name: line.state for name, line in lines.items()} == {
        "code_execution": "drift",
        OPUS: "ok",
        "web_search": "ok",
    }
    assert lines["web_search"].counted_nusd == 3 * CENT


def test_the_priority_tier_is_not_in_the_costs() -> None:
    """It is paid for by commitment: what was used of it counts at our price, so that it is no difference."""
    usage = Usage(input_tokens=2_000, service_tier="priority")
    report = Reported(frozenset({DAY}), (Counted(DAY, OPUS, usage, (0, 200_000)),), ())
    assert one_line(booked(CENT), report).state == "ok"


def test_a_window_that_does_not_tell_the_tier_has_no_price() -> None:
    """Haiku 5.5 is dearer beyond 100,000 tokens, and the report only says "up to 200,000": costs are compared, counts are not."""
    line = one_line(booked(CENT, model="claude-haiku-5-5"), asks(CENT, model="claude-haiku-5-5", input_tokens=100_000))
    assert (line.state, line.counted_nusd, line.theirs_tokens.input) == ("ok", None, 100_000)


@pytest.mark.parametrize(
    ("more", "billed"),
    [
        (0, [0, 0]),
        (50 * CENT, [30 * CENT, 20 * CENT]),
        (10 * CENT, [10 * CENT, 0]),
        (40 * CENT, [30 * CENT, 10 * CENT]),
    ],
)
def test_a_report_proves_what_attempts_of_unknown_fate_cost(more: int, billed: list[int]) -> None:
    """None, all, or exactly the difference: then they are doubts no longer, and the line agrees."""
    doubts = doubt(30 * CENT), doubt(20 * CENT, "gen-2")
    line = one_line(booked(USD), asks(USD + more), *doubts)
    assert [proof.billed_nusd for proof in line.cleared] == billed
    assert (line.state, line.ours_nusd, line.uncertain_nusd, line.difference_nusd) == ("ok", USD + more, 0, 0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (booked(USD, estimated_nusd=20 * CENT), USD + 10 * CENT),
        (booked(USD, late_nusd=20 * CENT), USD + 10 * CENT),
        (booked(USD, lost_nusd=20 * CENT), USD + 10 * CENT),
        (booked(USD), USD - 10 * CENT),
        (booked(USD), USD + 60 * CENT),
    ],
    ids=[
        "an estimate may be it",
        "midnight may be it",
        "a lost one may be it",
        "less than we booked",
        "more than they can have cost",
    ],
)
def test_what_may_have_another_cause_proves_nothing(ours: Any, theirs: int) -> None:
    """A doubt stays one while another reading is possible; it explains what it can."""
    line = one_line(ours, asks(theirs), doubt(50 * CENT))
    assert (line.cleared, line.uncertain_nusd) == ((), 50 * CENT)


def test_estimates_within_one_per_cent_still_prove() -> None:
    """Estimates are exact to a hundredth (R23): a report that is that near says that the attempts cost nothing."""
    ours = booked(USD, estimated_nusd=10 * CENT)
    assert [proof.billed_nusd for proof in one_line(ours, asks(USD + CENT // 20), doubt(50 * CENT)).cleared] == [0]
    assert one_line(ours, asks(USD + CENT // 20), doubt(CENT // 20)).cleared == ()  # it could be the attempt as well


@pytest.mark.parametrize(("theirs", "billed"), [(USD, [0]), (USD - 10 * CENT, [0]), (USD + 40 * CENT, [50 * CENT])])
def test_a_provider_counts_by_the_beginning_or_by_the_end(theirs: int, billed: list[int]) -> None:
    """What runs past midnight is counted on one of the two days: a report that fits either proves."""
    line = one_line(booked(USD, late_nusd=10 * CENT), asks(theirs), doubt(50 * CENT))
    assert [proof.billed_nusd for proof in line.cleared] == billed


def test_what_was_found_before_is_ours() -> None:
    """A second look at the same day finds nothing to clear and nothing to explain."""
    line = one_line(booked(USD), asks(USD + CENT), doubt(0, found_nusd=CENT))
    assert (line.state, line.ours_nusd, line.difference_nusd, line.cleared) == ("ok", USD + CENT, 0, ())
