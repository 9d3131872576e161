"""Where the time of a request went, and what is said about it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.activity.crowd import MODELS, NOW_S, ORG
from tests.unit.activity.written import Asked, write

from modelgates_server.activity.logs_usual import usual_before
from modelgates_server.activity.timeline import SCALE, Usual, pace, timeline, tokens_per_s, usual
from modelgates_server.storage.engine import reading

USUAL = Usual(312, 900, 2_900, 60)


def attempt(ms: int, provider: str = "anthropic", fault: str | None = None) -> dict[str, Any]:
    return {"provider": provider, "ms": ms, "fault": fault, "status": 529 if fault else 200}


def receipt(**told: Any) -> dict[str, Any]:
    known = {
        "attempts": [attempt(1_000)], "latency_ms": 1_000, "generation_ms": 3_000, "output_tokens": 120, "streamed": 1,
        "provider": "anthropic", "thinking_tokens": 0, "input_tokens": 10, "cache_read_tokens": 0,
        "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0,
    }  # fmt: skip
    return known | told


def test_bars_follow_one_another() -> None:
    """What the gateway had, a failed attempt, the one that answered, the writing: without gaps, to the end."""
    tries = [attempt(2_000, fault="overloaded"), attempt(3_000, "bedrock")]
    told = timeline(receipt(attempts=tries, latency_ms=6_000, generation_ms=10_000, provider="bedrock"))

    assert told.total_ms == 10_000
    assert [(bar.kind, bar.label, bar.starts_ms, bar.took_ms, bar.x, bar.width) for bar in told.bars] == [
        ("gateway", "gateway", 0, 1_000, 0, 100),
        ("failed", "anthropic", 1_000, 2_000, 100, 200),
        ("answered", "bedrock", 3_000, 3_000, 300, 300),
        ("writing", "bedrock", 6_000, 4_000, 600, 400),
    ]
    assert (told.bars[1].status, told.bars[1].fault) == (529, "overloaded")


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=8),
    st.none() | st.integers(0, 10**6),
    st.none() | st.integers(0, 10**7),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_every_bar_stays_on_the_line(
    tries: list[tuple[int, bool]], latency: int | None, total: int | None, tokens: int, streamed: bool
) -> None:
    """Whatever clocks wrote, bars lie on the line, can be seen, and words come out."""
    attempts = [attempt(ms, fault="overloaded" if bad else None) for ms, bad in tries]
    row = receipt(
        attempts=attempts, latency_ms=latency, generation_ms=total, output_tokens=tokens, streamed=int(streamed)
    )
    told = timeline(row)

    assert all(0 <= bar.x < SCALE and bar.width > 0 and bar.x + bar.width <= SCALE for bar in told.bars)
    assert pace(row, Usual()).headline
    assert pace(row, USUAL).headline


def test_the_largest_cause_is_named() -> None:
    """Failed attempts, the gateway, a slow provider, slow writing, a long answer: the one that cost most time is said first."""
    slow, late = [attempt(8_000)], [attempt(9_000, fault="timeout"), attempt(900)]
    for row, word in (
        (receipt(attempts=late, latency_ms=9_900, generation_ms=12_000), "1 attempt failed before and took 9.0 s"),
        (receipt(latency_ms=9_000, generation_ms=11_000), "8.0 s passed in the gateway"),
        (receipt(attempts=slow, latency_ms=8_000, generation_ms=10_000), "anthropic needed 7.1 s more than usual for its first content"),
        (receipt(generation_ms=13_000), "written at 10 tokens per second, where 60 are usual"),
        (receipt(generation_ms=101_000, output_tokens=6_500), "the answer is long: 6,500 tokens"),
    ):  # fmt: skip
        assert word in pace(row, USUAL).headline, row
    assert pace(receipt(), USUAL).headline == "Nothing stands out: it took about what is usual, or less."
    assert pace(receipt(latency_ms=1_800, generation_ms=6_000, output_tokens=200), USUAL).headline == (
        "It took 6.0 s, where 2.9 s is usual; no single cause stands out."
    )
    assert "too little before it" in pace(receipt(), Usual()).headline
    assert pace(receipt(generation_ms=None), USUAL).headline == "How long it took was not recorded."


def test_details_give_the_figures() -> None:
    """Each part of the time in a sentence, with what is usual beside it."""
    row = receipt(attempts=[attempt(500, fault="overloaded"), attempt(1_000)], latency_ms=2_000, thinking_tokens=100,
                  input_tokens=60_000, cache_read_tokens=40_000)  # fmt: skip

    assert pace(row, USUAL).details == (
        "1 attempt failed and took 500 ms in all; the attempts below say what went wrong.",
        "500 ms passed in the gateway: planning, waiting for room in a budget that other requests held, pauses between attempts.",
        (
            "anthropic needed 1.0 s for its first content. Usual for it and this model: 900 ms (the median of 312 requests in"
            " the 24 hours before)."
        ),
        "120 tokens came at 120 per second; 60 are usual.",
        "100 of them were thinking, which comes before the text.",
        "The prompt has 100,000 tokens, of which 40,000 came from a cache; the rest had to be read.",
    )


def test_speed_is_of_the_writing() -> None:
    """A streamed answer's speed counts from its first content, a whole one's from the beginning."""
    assert tokens_per_s(receipt()) == 60
    assert tokens_per_s(receipt(streamed=0)) == 40
    assert tokens_per_s(receipt(output_tokens=0)) is None
    assert tokens_per_s(receipt(generation_ms=None)) is None
    assert tokens_per_s(receipt(generation_ms=1_000)) is None
    assert usual([receipt(latency_ms=ms) for ms in (5, 1, 9, None)]).latency_ms == 5


def test_usual_is_what_was_before_of_the_same_kind(either_engine: sa.Engine) -> None:
    """The median counts the same provider, model and way of asking in the day before, for a member only their own."""
    at = NOW_S * 1000
    before = [
        Asked(at - 1_000 - number, key=number % 2 + 1, member=number % 2, latency_ms=100 + number, number=number)
        for number in range(9)
    ]
    others = [
        Asked(at - 500, latency_ms=9_000, number=20, provider="bedrock"),
        Asked(at - 500, latency_ms=9_000, number=21, model=MODELS[1]),
        Asked(at - 500, latency_ms=9_000, number=22, streamed=False),
        Asked(at - 86_400_001, latency_ms=9_000, number=23),
        Asked(at + 1, latency_ms=9_000, number=24),
    ]
    write(either_engine, [*before, *others])
    row = {"provider": "anthropic", "model": MODELS[0], "streamed": 1, "created_at_ms": at}
    with reading(either_engine) as connection:
        assert usual_before(connection, ORG, row, None) == Usual(9, 104, 2_000, 11)
        assert usual_before(connection, ORG, row, f"{ORG}-member-1") == Usual(4, 103, 2_000, 11)
        assert usual_before(connection, ORG, row | {"provider": None}, None) == Usual()
