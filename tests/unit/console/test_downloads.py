"""Files that pages give: sent in pieces that are worth a trip, and nothing lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from modelgates_server.console.rendering import PIECE_BYTES, gathered


@given(st.lists(st.binary(max_size=20_000), max_size=30))
def test_pieces_are_the_same_bytes(chunks: list[bytes]) -> None:
    """In order, and all but the last are large."""
    pieces = list(gathered(chunks))

    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) >= PIECE_BYTES for piece in pieces[:-1])


def test_a_long_file_begins_before_it_ends() -> None:
    """A line is taken only when there is room for it: a year of requests needs no memory."""
    taken = []

    def lines() -> Iterator[bytes]:
        for number in range(10_000):
            taken.append(number)
            yield b"x" * 1_000

    next(gathered(lines()))

    assert len(taken) == -(-PIECE_BYTES // 1_000)
