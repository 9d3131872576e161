"""The log: every request as a line, its sessions, and the same as a file. Members see their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from modelgates_server.activity.exports import CONTENT_TYPE, csv_lines
from modelgates_server.activity.logs import LogLine, LogPage, page_logs
from modelgates_server.activity.logs_filter import LogFilter
from modelgates_server.activity.sessions import SessionLine, page_sessions
from modelgates_server.console.log_filters import RARE, LogChoices, filtered, log_choices, log_filter
from modelgates_server.console.routes import get
from modelgates_server.console.visits import Download, Page, Visit
from modelgates_server.money import usd_text

LINES: Final = 50
SESSIONS: Final = 25
EXPORTED_AT_ONCE: Final = 500

_HEAD: Final = (
    "id", "time", "model", "provider", "workspace", "key", "key_hash", "member", "app", "session", "user", "outcome",
    "finish_reason", "streamed", "tries", "prompt_tokens", "cache_read_tokens", "output_tokens", "thinking_tokens", "cost_usd",
    "own_provider_cost_usd", "estimated", "first_content_ms", "total_ms", "tokens_per_second",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogsPage:
    """A page of the log. `newer` and `older` are cursors; `live` says that it is the newest page, which goes on by itself.

    `searched_ms` is how far back (in Unix milliseconds) it was searched when the page is not full because there was too much to look
    through. `rare` says that a filter is set that stands under "More filters".
    """

    lines: tuple[LogLine, ...]
    newer: str | None
    older: str | None
    searched_ms: int | None
    live: bool
    filtered: bool
    rare: bool
    choices: LogChoices


@dataclass(frozen=True, slots=True)
class SessionsPage:
    """A page of sessions, the last active first. `older` and `searched_ms` as in the log."""

    lines: tuple[SessionLine, ...]
    older: str | None
    searched_ms: int | None
    live: bool
    filtered: bool
    choices: LogChoices


def show(visit: Visit) -> Page:
    """The log, newest first. Raises BadRequest."""
    cursor = visit.query.get("at") or None
    found = _page(visit, log_filter(visit), cursor)
    if cursor is not None and found.newer is None and found.searched_ms is None and cursor.startswith("n"):
        cursor, found = None, _page(visit, log_filter(visit), None)  # the newest page is one, wherever one comes from
    context = LogsPage(
        lines=found.lines,
        newer=found.newer,
        older=found.older,
        searched_ms=found.searched_ms,
        live=cursor is None,
        filtered=filtered(visit),
        rare=any(visit.query.get(name) for name in RARE),
        choices=log_choices(visit),
    )
    return Page("logs.html", context)


def sessions(visit: Visit) -> Page:
    """The sessions. Raises BadRequest."""
    cursor = visit.query.get("at") or None
    house = visit.house
    found = page_sessions(house.engine, visit.organization_id, log_filter(visit), cursor, SESSIONS, house.clock)
    context = SessionsPage(
        lines=found.lines,
        older=found.older,
        searched_ms=found.searched_ms,
        live=cursor is None,
        filtered=filtered(visit),
        choices=log_choices(visit),
    )
    return Page("sessions.html", context)


def export(visit: Visit) -> Download:
    """Everything that fits, as CSV: written while it is read, so its length costs no memory. Raises BadRequest."""
    wanted = log_filter(visit)
    rows = (_row(line) for line in _all(visit, wanted))
    return Download("logs.csv", CONTENT_TYPE, (text.encode() for text in csv_lines(_HEAD, rows)))


def _page(visit: Visit, wanted: LogFilter, cursor: str | None, limit: int = LINES) -> LogPage:
    return page_logs(visit.house.engine, visit.organization_id, wanted, cursor, limit, visit.house.clock)


def _all(visit: Visit, wanted: LogFilter) -> Iterator[LogLine]:
    found = _page(visit, wanted, None, EXPORTED_AT_ONCE)
    yield from found.lines
    while found.older is not None:
        found = _page(visit, wanted, found.older, EXPORTED_AT_ONCE)
        yield from found.lines


def _row(line: LogLine) -> tuple[object, ...]:
    at = (
        datetime.fromtimestamp(line.created_at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
    return (
        line.id, at, line.model, line.provider, line.workspace_id, line.key_name, line.key_hash, line.member_name, line.app,
        line.session_id, line.external_user, line.outcome, line.finish_reason, int(line.streamed), line.tries,
        line.prompt_tokens, line.cache_read_tokens, line.output_tokens, line.thinking_tokens, usd_text(line.cost_nusd),
        usd_text(line.byok_cost_nusd), int(line.estimated), line.latency_ms, line.generation_ms, line.tokens_per_s,
    )  # fmt: skip


ROUTES = (get("/logs", show), get("/logs/sessions", sessions), get("/logs.csv", export))
