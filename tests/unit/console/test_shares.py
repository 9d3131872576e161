"""A person's share in one field: what people write, and what is shown to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from modelgates_server.console.shares import read_shares, shares_text
from modelgates_server.errors import BadRequest
from modelgates_server.limits import Window

USD = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("20 a week", {Window.WEEK: 20 * USD}),
        ("$20 a week", {Window.WEEK: 20 * USD}),
        ("20/week", {Window.WEEK: 20 * USD}),
        ("20 $ per week", {Window.WEEK: 20 * USD}),
        ("20 USD weekly", {Window.WEEK: 20 * USD}),
        (" 12.50 ", {Window.MONTH: 12_500_000_000}),
        ("0.000001 a day", {Window.DAY: 1000}),
        ("1,000 a month", {Window.MONTH: 1000 * USD}),
        ("1'000.50 in all", {Window.LIFE: 1_000_500_000_000}),
        ("5 a day, 50 a month", {Window.DAY: 5 * USD, Window.MONTH: 50 * USD}),
        ("5 a day and 20 a week; 50", {Window.DAY: 5 * USD, Window.WEEK: 20 * USD, Window.MONTH: 50 * USD}),
        ("0 a month", {Window.MONTH: 0}),
        ("none", {}),
        ("None", {}),
        ("", {}),
        ("-", {}),
    ],
)
def test_shares_are_read_as_people_write_them(text: str, shares: dict[Window, int]) -> None:
    """An amount alone is for a month; nothing and none are no share."""
    assert read_shares(text) == shares


@pytest.mark.parametrize(
    "text",
    ["a week", "20 a year", "20 a minute", "-5 a day", "twenty", "5 a day, 6 a day", "12,50 a week", "20 a week,", "1e3", "5 5",
     "2000000", "0.0000000001 a day", "٣ a day", "5 a day <b>", "x" * 10_000, "5" * 10_000],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    """With how to write it, and without repeating all of it."""
    with pytest.raises(BadRequest) as refused:
        read_shares(text)
    assert len(refused.value.message) < 300


@given(some.dictionaries(some.sampled_from(["day", "week", "month", "life"]), some.integers(0, 10**15)))
def test_what_is_shown_is_read_again(shares: dict[str, int]) -> None:
    """So that saving a field that nobody touched changes nothing."""
    assert read_shares(shares_text(shares.items())) == {Window(name): nusd for name, nusd in shares.items()}
