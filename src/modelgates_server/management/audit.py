"""The audit log: reading it, proving that it is whole, and taking it away signed.

The chain runs through the rows of all organisations in their order; each organisation is shown only its own. Whoever can write to
the database could cut rows off the end and move the head back; an export that was taken before, with the head signed by the
installation's secret, still proves what was there (reliability-security 2, audit; row 99).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest
from modelgates_server.management import audit_extract
from modelgates_server.management.change import AUDIT_HEAD
from modelgates_server.management.paging import Page, page
from modelgates_server.storage import chain, schema
from modelgates_server.storage.engine import reading

_AUDIT = schema.audit.c
_ROWS_AT_ONCE: Final = 1_000
_WORDS_OF_ROWS: Final = 5_000
_PURPOSE: Final = b"modelgates audit head, version 1"
"""Keeps this use of the secret apart from every other."""

_HEAD: Final = ("head", "rows", "exported_at_s")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change. `digest` is its name to the outside; `details` is the JSON that the digest covers."""

    created_at_s: int
    actor: str
    action: str
    target: str
    details: str
    digest: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which changes: every field that is not None must fit. Times in Unix seconds, the end exclusive."""

    action: str | None = None
    actor: str | None = None
    target: str | None = None
    since_s: int | None = None
    until_s: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the chain is whole: `broken` says where it is not. `rows` counts those of all organisations."""

    broken: str | None
    rows: int


def list_audit(
    engine: sa.Engine, organization_id: str, wanted: AuditFilter, offset: int, limit: int | None
) -> Page[AuditRow]:
    """Give an organisation's changes, newest first."""
    conditions = _conditions(organization_id, wanted)
    columns = [_AUDIT[name] for name in AuditRow.__slots__]
    query = sa.select(*columns).where(*conditions).order_by(_AUDIT.id.desc())
    with reading(engine) as connection:
        return page(connection, query, lambda row: AuditRow(**row), offset, limit)


@dataclass(frozen=True, slots=True)
class Words:
    """Actions and actors of an organisation's newest changes, each once and sorted."""

    actions: tuple[str, ...]
    actors: tuple[str, ...]


def audit_before(
    engine: sa.Engine, organization_id: str, wanted: AuditFilter, before: int | None, limit: int
) -> list[tuple[int, AuditRow]]:
    """Give changes older than the one with number `before`, or the newest, newest first, each with its number."""
    conditions = _conditions(organization_id, wanted)
    conditions += [] if before is None else [_AUDIT.id < before]
    columns = [_AUDIT[name] for name in AuditRow.__slots__]
    query = sa.select(_AUDIT.id, *columns).where(*conditions).order_by(_AUDIT.id.desc()).limit(limit)
    with reading(engine) as connection:
        return [(row[0], AuditRow(*row[1:])) for row in connection.execute(query)]


def words_of(engine: sa.Engine, organization_id: str) -> Words:
    """Give what the newest changes can be filtered by."""
    mine = sa.select(_AUDIT.action, _AUDIT.actor).where(_AUDIT.organization_id == organization_id)
    newest = mine.order_by(_AUDIT.id.desc()).limit(_WORDS_OF_ROWS).subquery()
    with reading(engine) as connection:
        found = connection.execute(sa.select(newest.c.action, newest.c.actor).distinct()).all()
    return Words(*(tuple(sorted({row[place] for row in found})) for place in (0, 1)))


def verify(engine: sa.Engine) -> Verdict:
    """Walk the whole chain. Raises StoreUnavailable."""
    counted = _Counted()
    with reading(engine) as connection:
        head = _head(connection)
        broken = chain.first_break(counted.through(_rows(connection)), head)
    return Verdict(broken, counted.rows)


def export(engine: sa.Engine, secret: bytes, now_s: float) -> Iterator[str]:
    """Give the log of all organisations as lines of JSON, oldest first; the last one is the signed head."""
    with reading(engine) as connection:
        rows = 0
        for row in _rows(connection):
            rows += 1
            yield json.dumps(row, sort_keys=True)
        yield json.dumps(signed_head(secret, _head(connection), rows, now_s), sort_keys=True)


def signed_head(secret: bytes, head: str, rows: int, now_s: float) -> dict[str, Any]:
    """Give the head of a chain of so many rows with a signature that only this installation can make."""
    told = {"head": head, "rows": rows, "exported_at_s": int(now_s)}
    return told | {"signature": _signature(secret, told)}


def verify_export(engine: sa.Engine, secret: bytes, lines: Iterable[str]) -> Verdict:
    """Compare an export with the log: it must be ours and whole, and the log must still begin with it.

    Of an extract (`audit_extract.py`) the log must still have every row. Raises BadRequest for a file that is no export.
    """
    *rows, told = _parsed(lines)
    if "organization_id" in told:
        return Verdict(audit_extract.first_difference(engine, secret, rows, told), len(rows))
    if not hmac.compare_digest(str(told.get("signature")), _signature(secret, told)):
        return Verdict("the export was not signed by this installation, or its last line was altered", len(rows))
    if len(rows) != told["rows"]:
        return Verdict("rows of the export are missing or were added", len(rows))
    broken = chain.first_break(rows, told["head"])
    if broken is not None:
        return Verdict(f"the export itself is not whole: {broken}", len(rows))
    counted = _Counted(told["rows"])
    with reading(engine) as connection:
        head = _head(connection)
        broken = chain.first_break(counted.through(_rows(connection)), head)
    if broken is None and counted.marked != told["head"]:
        fewer = f"the log has only {counted.rows} rows" if counted.rows < told["rows"] else "the log was rewritten"
        broken = f"the export holds {told['rows']} rows; {fewer}"
    return Verdict(broken, counted.rows)


def _conditions(organization_id: str, wanted: AuditFilter) -> list[sa.ColumnElement[bool]]:
    equal = ((_AUDIT.action, wanted.action), (_AUDIT.actor, wanted.actor), (_AUDIT.target, wanted.target))
    conditions = [_AUDIT.organization_id == organization_id]
    conditions += [column == value for column, value in equal if value is not None]
    if wanted.since_s is not None:
        conditions.append(_AUDIT.created_at_s >= wanted.since_s)
    if wanted.until_s is not None:
        conditions.append(_AUDIT.created_at_s < wanted.until_s)
    return conditions


class _Counted:
    """Counts rows that pass, and remembers the digest of the row with number `mark`."""

    def __init__(self, mark: int = 0) -> None:
        self.rows = 0
        self.marked = chain.START
        self._mark = mark

    def through(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for row in rows:
            self.rows += 1
            if self.rows == self._mark:
                self.marked = row["digest"]
            yield row


def _rows(connection: sa.Connection) -> Iterator[Mapping[str, Any]]:
    """Every row in the chain's order, read as they are taken."""
    query = sa.select(schema.audit).order_by(_AUDIT.id).execution_options(yield_per=_ROWS_AT_ONCE)
    yield from map(dict, connection.execute(query).mappings())


def _head(connection: sa.Connection) -> str:
    query = sa.select(schema.meta.c.value).where(schema.meta.c.key == AUDIT_HEAD)
    found: str = connection.execute(query).scalar_one_or_none() or chain.START
    return found


def _signature(secret: bytes, told: Mapping[str, Any]) -> str:
    key = hmac.digest(secret, _PURPOSE, hashlib.sha256)
    text = json.dumps({name: told.get(name) for name in _HEAD}, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _parsed(lines: Iterable[str]) -> list[dict[str, Any]]:
    try:
        found = [json.loads(line) for line in lines if line.strip()]
    except json.JSONDecodeError as error:
        raise BadRequest(f"this is no export of the audit log: {error}") from error
    if not found or not all(isinstance(row, dict) for row in found) or not set(_HEAD) <= set(found[-1]):
        raise BadRequest("this is no export of the audit log: the signed head is missing at its end")
    if not all({"id", "previous", "digest"} <= set(row) for row in found[:-1]):
        raise BadRequest("this is no export of the audit log: a line is not one of its rows")
    return found
