"""An organisation's own part of the audit log, to take away: its rows and no others', signed by the installation.

The whole log's chain runs through the rows of all organisations, so an extract cannot be walked by itself. Its signature covers its
rows, their number and the head of the log at that time; whoever holds it can prove later that a row was there and what it said.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.management.change import AUDIT_HEAD
from modelgates_server.storage import chain, schema
from modelgates_server.storage.engine import reading

SIGNED: Final = ("organization_id", "rows", "digest", "head", "exported_at_s")

_AUDIT = schema.audit.c
_PURPOSE: Final = b"modelgates audit extract, version 1"
_ROWS_AT_ONCE: Final = 1_000


def extract(engine: sa.Engine, secret: bytes, organization_id: str, now_s: float) -> Iterator[str]:
    """Give an organisation's rows as lines of JSON, oldest first; the last line is signed.

    Between two batches no connection is held: whoever takes the lines may be slow, or stop. Rows that come while it runs are left out.
    """
    count, digest = 0, hashlib.sha256()
    newest_id, head = _ends(engine, organization_id)
    for row in _batches(engine, organization_id, newest_id):
        line = _line(row)
        count += 1
        digest.update(line.encode() + b"\n")
        yield line
    told = {
        "organization_id": organization_id,
        "rows": count,
        "digest": digest.hexdigest(),
        "head": head,
        "exported_at_s": int(now_s),
    }
    yield json.dumps(told | {"signature": _signature(secret, told)}, sort_keys=True)


def first_difference(
    engine: sa.Engine, secret: bytes, rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any]
) -> str | None:
    """Say where an extract is not ours, not whole, or not what the log says now; None when nothing is wrong with it."""
    if not hmac.compare_digest(str(told.get("signature")), _signature(secret, told)):
        return "the export was not signed by this installation, or its last line was altered"
    digest = hashlib.sha256(b"".join(_line(row).encode() + b"\n" for row in rows)).hexdigest()
    if len(rows) != told["rows"] or digest != told["digest"]:
        return "rows of the export were altered, are missing or were added"
    with reading(engine) as connection:
        coming = iter(_rows(connection, str(told["organization_id"])))
        for row in rows:
            known = next(coming, None)
            if known is None or _line(known) != _line(row):
                return f"row {row['id']} of the export is not what the log says now"
    return None


def _ends(engine: sa.Engine, organization_id: str) -> tuple[int, str]:
    """The number of the organisation's newest row, 0 without any, and then the head of the whole log: no row lies behind it."""
    newest = sa.select(sa.func.max(_AUDIT.id)).where(_AUDIT.organization_id == organization_id)
    head = sa.select(schema.meta.c.value).where(schema.meta.c.key == AUDIT_HEAD)
    with reading(engine) as connection:
        return connection.execute(newest).scalar() or 0, connection.execute(head).scalar_one_or_none() or chain.START


def _batches(engine: sa.Engine, organization_id: str, newest_id: int) -> Iterator[Mapping[str, Any]]:
    """An organisation's rows up to one, some at a time."""
    after_id = 0
    while after_id < newest_id:
        between = (_AUDIT.id > after_id, _AUDIT.id <= newest_id)
        some = sa.select(schema.audit).where(_AUDIT.organization_id == organization_id, *between).order_by(_AUDIT.id)
        with reading(engine) as connection:
            found = [dict(row) for row in connection.execute(some.limit(_ROWS_AT_ONCE)).mappings()]
        yield from found
        after_id = found[-1]["id"] if found else newest_id


def _rows(connection: sa.Connection, organization_id: str) -> Iterable[Mapping[str, Any]]:
    mine = sa.select(schema.audit).where(_AUDIT.organization_id == organization_id).order_by(_AUDIT.id)
    yield from map(dict, connection.execute(mine.execution_options(yield_per=_ROWS_AT_ONCE)).mappings())


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


def _signature(secret: bytes, told: Mapping[str, Any]) -> str:
    key = hmac.digest(secret, _PURPOSE, hashlib.sha256)
    text = json.dumps({name: told.get(name) for name in SIGNED}, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
