"""CSV that means the same to every reader, and that no spreadsheet computes."""

from __future__ import annotations

import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelgates_server.activity.exports import cell, csv_lines


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff20"])
def test_formulas_become_text(first: str) -> None:
    """Whatever could begin a formula is prefixed; the same inside a text is left alone."""
    evil = f'{first}HYPERLINK("http://x")'
    (_, line) = csv_lines(("name",), [(evil,)])

    assert next(csv.reader(StringIO(line, newline=""))) == [f"'{evil}"]
    assert cell(f"a{evil}") == f"a{evil}"


def test_numbers_stay_numbers() -> None:
    """Whole numbers may be negative, nothing is an empty cell."""
    assert list(csv_lines(("a", "b", "c"), [(-5, None, "0.25")])) == ["a,b,c\r\n", "-5,,0.25\r\n"]


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=5))
def test_readers_get_back_what_was_written(rows: list[list[str]]) -> None:
    """Quotes, commas and line ends survive, but for the guard at the front."""
    text = "".join(csv_lines(("x", "y"), rows))
    read = list(csv.reader(StringIO(text, newline="")))

    assert read == [["x", "y"], *([cell(value) for value in row] for row in rows)]
    assert not any(value.startswith(("=", "+", "-", "@")) for row in read for value in row)
