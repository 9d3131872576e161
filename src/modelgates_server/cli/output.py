"""What commands print: exact JSON for programs, aligned tables and sentences for people. Pure."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from modelgates_server.money import dollars, picodollars, usd_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "COLUMNS", "clean", "dollars", "encode", "facts", "in_usd", "indented", "listing", "moment", "noted", "picodollars", "rfc3339",
    "shortened", "table", "usd_number",
]  # fmt: skip

COLUMNS = 100
"""What a terminal of today shows without breaking lines; longer texts are broken between words."""

_NARROWEST = 30
_NOTE = "    "

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
"""Names come from people and clients: what they put into them must not steer somebody else's terminal."""


def encode(data: object) -> str:
    """One JSON value on one line."""
    return msgspec.json.encode(data).decode()


def usd_number(nusd: int | None) -> msgspec.Raw | None:
    """Nano-USD as a JSON number in USD with every digit; no float comes near it."""
    return None if nusd is None else msgspec.Raw(usd_text(nusd).encode())


def moment(unix_s: float | None, *, seconds: bool = False) -> str:
    """Write a time in UTC for people; a dash for None."""
    if unix_s is None:
        return "-"
    form = "%Y-%m-%d %H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC"
    return datetime.fromtimestamp(unix_s, UTC).strftime(form)


def rfc3339(unix_s: float) -> str:
    """Write a time for programs, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clean(text: object) -> str:
    """Any value as one line that cannot steer a terminal."""
    return str(text).translate(_CONTROL)


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = (), width: int | None = None
) -> str:
    """Columns under their heads, two spaces apart; the columns in `right` are flush right.

    With a `width` the last column is broken into lines, so that no line is longer.
    """
    lines = [[clean(cell) for cell in row] for row in (head, *rows)]
    if width is not None:
        before = sum(max(map(len, column)) + 2 for column in zip(*(line[:-1] for line in lines), strict=True))
        lines = [broken for line in lines for broken in _broken(line, width - before)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    flush_right = frozenset(right)

    def aligned(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if place in flush_right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join(map(aligned, lines))


def listing(head: Sequence[str], rows: Iterable[Sequence[object]], empty: str, *, right: Iterable[int] = ()) -> str:
    """A table, or a sentence where there is nothing to list: a head alone looks like a mistake."""
    rows = list(rows)
    return table(head, rows, right=right) if rows else empty


def noted(
    head: Sequence[str], rows: Sequence[Sequence[object]], notes: Iterable[str], *, right: Iterable[int] = ()
) -> str:
    """A table with a note under each row, broken between words; an empty note takes no line."""
    first, *lines = table(head, rows, right=right).split("\n")
    under = [indented("\n".join(textwrap.wrap(clean(note), COLUMNS - len(_NOTE))), _NOTE) for note in notes]
    return "\n".join([first, *(line for pair in zip(lines, under, strict=True) for line in pair if line)])


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters; dots say that there is more of it."""
    return text if len(text) <= most else text[: most - 3] + "..."


def _broken(line: Sequence[str], width: int) -> Iterator[list[str]]:
    """A row as several, its last cell broken between words."""
    *cells, last = line
    parts = textwrap.wrap(last, max(width, _NARROWEST), break_long_words=False, break_on_hyphens=False) or [""]
    yield [*cells, parts[0]]
    for part in parts[1:]:
        yield [*("" for _ in cells), part]


def facts(pairs: Iterable[tuple[str, object]], *, indent: str = "", width: int | None = None) -> str:
    """Names and values in two columns; with a `width`, long values are broken into lines."""
    lines = [(name, clean(value)) for name, value in pairs]
    names = max((len(name) for name, _ in lines), default=0)
    if width is not None:
        lines = [(one, two) for line in lines for one, two in _broken(line, width - len(indent) - names - 2)]
    return "\n".join(f"{indent}{name.ljust(names)}  {value}".rstrip() for name, value in lines)


def indented(text: str, indent: str = "  ") -> str:
    """Every line of a text moved to the right."""
    return "\n".join(indent + line if line else "" for line in text.splitlines())


def in_usd(data: dict[str, Any]) -> dict[str, Any]:
    """Every ``<name>_nusd`` member renamed to ``<name>`` and written as an exact number in USD."""
    return {
        name.removesuffix("_nusd"): usd_number(value) if name.endswith("_nusd") else value
        for name, value in data.items()
    }
