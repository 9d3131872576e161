"""Tables as CSV (RFC 4180) that a spreadsheet cannot be tricked with: what could be a formula is made text.

Names of keys, members and models come from people and clients; a cell that begins with ``=`` runs in Excel (reliability row 90).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Final

CONTENT_TYPE: Final = "text/csv; charset=utf-8; header=present"

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the wide forms of the first: Excel takes them, too."""


def csv_lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Give the table line by line; None becomes an empty cell."""
    page = StringIO()
    writer = csv.writer(page, lineterminator="\r\n")
    writer.writerow(head)
    yield _taken(page)
    for row in rows:
        writer.writerow([cell(value) for value in row])
        yield _taken(page)


def cell(value: object) -> str:
    """One value as text that no spreadsheet computes; numbers stay numbers."""
    if value is None or isinstance(value, int):
        return "" if value is None else str(value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _taken(page: StringIO) -> str:
    text = page.getvalue()
    page.seek(0)
    page.truncate()
    return text
