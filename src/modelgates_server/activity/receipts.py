"""Lists of receipts, newest first, a page at a time: for scripts, and for the console's log."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from modelgates_server.activity.measures import Column
from modelgates_server.clock import Clock
from modelgates_server.errors import BadRequest
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.hot import Row
from modelgates_server.storage.patience import within

PATIENCE_S: Final = 5.0
"""A filter that hardly any receipt meets is looked for this long."""

_EACH = schema.generations.c
_LARGE: Final = frozenset({"plan", "parts", "inputs", "conversation"})
"""What a list does not show; `reports.generation` gives all of one receipt."""

_SHOWN: Final = [column for column in schema.generations.columns if column.name not in _LARGE]
_FAILURES: Final = {
    "failed": "No provider answered",
    "broken": "The answer broke off",
    "lost": "The gateway stopped before the answer was complete",
}
_CURSOR: Final = re.compile(r"(\d{1,15}):([0-9A-Za-z_-]{1,100})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which receipts: every field that is not None must fit. Times in Unix milliseconds, the end exclusive."""

    key_hash: str | None = None
    member_id: str | None = None
    workspace_id: str | None = None
    model: str | None = None
    provider: str | None = None
    outcome: str | None = None
    session_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Receipts:
    """A page of receipts, and the cursor of the next one; None when there is none."""

    rows: list[Row]
    next_cursor: str | None


def receipt(engine: sa.Engine, organization_id: str, generation_id: str) -> Row | None:
    """One receipt, if it belongs to the organisation."""
    query = sa.select(*_SHOWN).where(_EACH.id == generation_id, _EACH.organization_id == organization_id)
    with reading(engine) as connection:
        row = connection.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def receipts(
    engine: sa.Engine, organization_id: str, wanted: Wanted, limit: int, cursor: str | None, clock: Clock
) -> Receipts:
    """Give a page. Pages neither repeat nor miss a receipt, whatever comes in between.

    Raises BadRequest for a cursor that was not given out here, TookTooLong, StoreUnavailable.
    """
    conditions = [*_conditions(organization_id, wanted), *([] if cursor is None else _after(cursor))]
    newest_first = (_EACH.created_at_ms.desc(), _EACH.id.desc())
    query = sa.select(*_SHOWN).where(*conditions).order_by(*newest_first).limit(limit + 1)
    with reading(engine) as connection, within(connection, PATIENCE_S, clock):
        found = [dict(row) for row in connection.execute(query).mappings()]
    rows = found[:limit]
    return Receipts(rows, _cursor(rows[-1]) if len(found) > limit else None)


def _conditions(organization_id: str, wanted: Wanted) -> list[Column]:
    equal = (
        (_EACH.key_hash, wanted.key_hash),
        (_EACH.member_id, wanted.member_id),
        (_EACH.workspace_id, wanted.workspace_id),
        (_EACH.model, wanted.model),
        (_EACH.provider, wanted.provider),
        (_EACH.outcome, wanted.outcome),
        (_EACH.session_id, wanted.session_id),
    )
    fitting = [_EACH.organization_id == organization_id]
    fitting += [column == value for column, value in equal if value is not None]
    if wanted.since_ms is not None:
        fitting.append(_EACH.created_at_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        fitting.append(_EACH.created_at_ms < wanted.until_ms)
    return fitting


def _cursor(row: Row) -> str:
    return base64.urlsafe_b64encode(f"{row['created_at_ms']}:{row['id']}".encode()).decode().rstrip("=")


def _after(cursor: str) -> list[Column]:
    """Conditions for what comes after a row; the first one alone lets the index begin in the right place."""
    at_ms, id_ = _read(cursor)
    return [_EACH.created_at_ms <= at_ms, sa.or_(_EACH.created_at_ms < at_ms, _EACH.id < id_)]


def _read(cursor: str) -> tuple[int, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise BadRequest("cursor: this is not one; take next_cursor of the page before")
    return int(found[1]), found[2]


def failure(row: Row) -> dict[str, Any] | None:
    """What went wrong with a request, None when nothing did: the last fault, and those of the attempts before it.

    Faults are told by class and status. What a provider wrote is not repeated: it may quote the prompt.
    """
    sentence = _FAILURES.get(row["outcome"])
    if sentence is None:
        return None
    faults = [attempt for attempt in msgspec.json.decode(row["attempts"]) if attempt["fault"] is not None]
    last = faults[-1] if faults else None
    return {
        "message": sentence if last is None else f"{sentence}: {last['fault']}",
        "provider_name": row["provider"] if last is None else last["provider"],
        "status": None if last is None else last["status"] or None,
        "raw": None,
        "previous_errors": [_attempt(attempt) for attempt in faults[:-1]],
    }


def _attempt(attempt: Row) -> dict[str, Any]:
    return {
        "provider": attempt["provider"],
        "provider_name": attempt["provider"],
        "status": attempt["status"],
        "code": attempt["status"],
        "message": attempt["fault"],
        "raw": None,
    }
