"""`activity`: what was used, by whom, at what cost; on the screen and as a table in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from modelgates_server.activity import analytics, daily
from modelgates_server.activity.exports import csv_lines
from modelgates_server.activity.questions import Order, Question
from modelgates_server.cli.files import write_lines
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import opened
from modelgates_server.cli.output import dollars, in_usd, rfc3339, table
from modelgates_server.clock import SystemClock
from modelgates_server.storage.engine import reading

if TYPE_CHECKING:
    from pathlib import Path

_DIMENSIONS: Final = {
    "model": "model",
    "key": "api_key_id",
    "member": "user",
    "workspace": "workspace",
    "provider": "provider",
}
_METRICS: Final = (
    "total_usage",
    "credits_usage",
    "byok_usage",
    "request_count",
    "failure_count",
    "tokens_prompt",
    "tokens_completion",
    "cached_tokens",
)
_ROWS_MAX: Final = 10_000
_PATIENCE_S: Final = 600.0
"""In a terminal nobody else waits for it."""


def show(options: Options, days: int, by: str) -> Report:
    """Sum up the last `days` days, today included, by one thing."""
    with opened(options) as place:
        today_s = int(place.now_s) // daily.DAY_S * daily.DAY_S
        since_s, until_s = today_s - (days - 1) * daily.DAY_S, today_s + daily.DAY_S
        order = Order("total_usage", descending=True)
        asked = Question(_METRICS, since_s * 1000, until_s * 1000, (_DIMENSIONS[by],), order_by=order, limit=_ROWS_MAX)
        found = analytics.ask(place.engine, place.organization_id, asked, SystemClock(), _PATIENCE_S)
    total = {name: sum(row[name] for row in found.rows) for name in _summed()}
    data = {
        "since": rfc3339(since_s),
        "until": rfc3339(until_s),
        "by": by,
        "data": [in_usd(row) for row in found.rows],
        "total": in_usd(total),
        "truncated": found.truncated,
    }
    head = (
        by.capitalize(),
        "Requests",
        "Failed",
        "Prompt tokens",
        "Cached",
        "Completion tokens",
        "Spent",
        "By own keys",
    )
    lines = [_line(row[_DIMENSIONS[by]] or "-", row) for row in found.rows]
    text = "Nothing was used."
    if lines:
        text = table(head, [*lines, _line("Total", total)], right=range(1, len(head)))
    return Report(data, f"{daily.day_text(since_s)} to {daily.day_text(today_s)} (UTC)\n\n{text}")


def export(options: Options, target: Path, first: str | None, last: str | None) -> Report:
    """Write the table. Raises BadRequest for days that cannot be, ConfigError when the file cannot be written."""
    with opened(options) as place, reading(place.engine) as connection:
        which = daily.days(place.now_s, first, last)
        rows = daily.export(connection, place.organization_id, which)
        written = write_lines(target, csv_lines(daily.EXPORT_HEAD, rows)) - 1
    days = f"{daily.day_text(which.since_s)} to {daily.day_text(which.until_s - daily.DAY_S)}"
    data = {"file": str(target), "rows": written, "since": rfc3339(which.since_s), "until": rfc3339(which.until_s)}
    return Report(data, f"{target}: {written} row{'' if written == 1 else 's'}, {days} (UTC)")


def _summed() -> list[str]:
    return [f"{name}_nusd" if name.endswith("_usage") else name for name in _METRICS]


def _line(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    counts = ("request_count", "failure_count", "tokens_prompt", "cached_tokens", "tokens_completion")
    money = ("total_usage_nusd", "byok_usage_nusd")
    return (name, *(f"{row[count]:,}" for count in counts), *(dollars(row[amount]) for amount in money))
