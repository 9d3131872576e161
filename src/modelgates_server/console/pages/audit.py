"""The audit log: who changed what and when, whether the log is whole, and a signed copy to take away. For administrators."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from modelgates_server.accounts.quotas import AUDIT_CHECKS
from modelgates_server.activity.daily import day_text
from modelgates_server.console.key_forms import Option
from modelgates_server.console.log_filters import moment_ms
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import ADMIN, Download, Page, Visit, whole
from modelgates_server.management.audit import AuditFilter, AuditRow, Verdict, audit_before, verify, words_of
from modelgates_server.management.audit_extract import extract
from modelgates_server.management.audit_words import named, names_of, parts, who

ROWS_MAX: Final = 50
NUMBER_MAX: Final = 10**18
TEXT_MAX: Final = 300
DAY_MS: Final = 86_400_000

FIELDS: Final = ("action", "actor", "target", "from", "to")
"""The fields of the address that filter."""


@dataclass(frozen=True, slots=True)
class Said:
    """One detail of a change, in words."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """A change. `who` and `whom` are `actor` and `target` as people know them; `digest` is its link of the chain."""

    created_at_s: int
    actor: str
    who: str
    action: str
    target: str
    whom: str
    said: tuple[Said, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """The page. `older` is where the next one begins. `is_whole` is None until somebody asks; `broken` says where the chain breaks."""

    changes: tuple[ChangeLine, ...]
    older: int | None
    newest: bool
    filtered: bool
    actions: tuple[str, ...]
    actors: tuple[Option, ...]
    is_whole: bool | None = None
    broken: str | None = None


def show(visit: Visit) -> Page:
    """Changes, newest first."""
    return Page("audit.html", _context(visit))


def check(visit: Visit) -> Page:
    """Walk the whole chain, and say whether it is whole."""
    house = visit.house
    with house.quotas.spend(AUDIT_CHECKS, visit.member.id, house.clock.monotonic_s()):
        verdict = verify(house.engine)
    return Page("audit.html", _context(visit, verdict))


def download(visit: Visit) -> Download:
    """The organisation's rows with a signature, as lines of JSON."""
    house = visit.house
    lines = extract(house.engine, house.secret, visit.organization_id, visit.now_s)
    name = f"modelgates-audit-{day_text(int(visit.now_s))}.jsonl"
    return Download(name, "application/jsonl", (f"{line}\n".encode() for line in lines))


def _context(visit: Visit, verdict: Verdict | None = None) -> AuditPage:
    engine, organization_id = visit.house.engine, visit.organization_id
    before = whole(visit, "before", 1, NUMBER_MAX) if visit.query.get("before") else None
    found = audit_before(engine, organization_id, _wanted(visit), before, ROWS_MAX + 1)
    rows = [row for _, row in found[:ROWS_MAX]]
    words = words_of(engine, organization_id)
    texts = (text for row in rows for text in (row.actor, row.target, row.details))
    names = names_of(engine, organization_id, (*texts, *words.actors))
    return AuditPage(
        changes=tuple(_line(row, names) for row in rows),
        older=found[ROWS_MAX - 1][0] if len(found) > ROWS_MAX else None,
        newest=before is None,
        filtered=any(visit.query.get(name) for name in FIELDS),
        actions=_with(words.actions, visit.query.get("action")),
        actors=tuple(Option(one, who(one, names)) for one in _with(words.actors, visit.query.get("actor"))),
        is_whole=None if verdict is None else verdict.broken is None,
        broken=None if verdict is None else verdict.broken,
    )


def _wanted(visit: Visit) -> AuditFilter:
    """What is asked for; a day as the end includes that day. Raises BadRequest."""
    query = visit.query
    since_ms = moment_ms(query.get("from"), "from")
    until_ms = moment_ms(query.get("to"), "to")
    if until_ms is not None and len(query.get("to")) == len("2026-11-26"):
        until_ms += DAY_MS
    return AuditFilter(
        action=query.get("action")[:TEXT_MAX] or None,
        actor=query.get("actor")[:TEXT_MAX] or None,
        target=query.get("target")[:TEXT_MAX] or None,
        since_s=None if since_ms is None else -(-since_ms // 1000),
        until_s=None if until_ms is None else -(-until_ms // 1000),
    )


def _line(row: AuditRow, names: dict[str, str]) -> ChangeLine:
    said = tuple(Said(name, value) for name, value in parts(json.loads(row.details), names))
    return ChangeLine(
        row.created_at_s, row.actor, who(row.actor, names), row.action, row.target, named(row.target, names), said,
        row.digest,
    )  # fmt: skip


def _with(known: tuple[str, ...], asked: str) -> tuple[str, ...]:
    """The words that are offered, with the one that is asked for."""
    return known if not asked or asked in known else tuple(sorted((*known, asked[:TEXT_MAX])))


ROUTES = (
    get("/audit", show, ADMIN),
    post("/audit/verify", check, ADMIN, again=show),
    get("/audit.jsonl", download, ADMIN),
)
