"""What a chart shows. Drawn by Chart.js in the browser (static/console.js); pages give the same numbers as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

Unit = Literal["nusd", "count", "ms", "percent"]
"""How numbers are written: nano-USD as dollars, counts with thousands apart, milliseconds, percent."""


@dataclass(frozen=True, slots=True)
class Row:
    """One group: its name, a number for each label, and where a click on it leads."""

    name: str
    values: tuple[int | float | None, ...]
    href: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A stacked bar chart, or lines. `hrefs` are where a click on a label's column leads, when it leads somewhere."""

    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    unit: Unit = "count"
    kind: Literal["bar", "line"] = "bar"
    hrefs: tuple[str, ...] = ()


def chart_json(chart: Chart) -> str:
    """The chart as the script reads it."""
    return msgspec.json.encode(chart).decode()
