"""`audit`: the log of all changes, whether it is whole, and a signed copy of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modelgates_server.cli.files import write_new_lines
from modelgates_server.cli.frame import EXIT_FAILED, Options, Report
from modelgates_server.cli.local import opened
from modelgates_server.cli.output import moment, noted, rfc3339
from modelgates_server.cli.people import owner_names
from modelgates_server.errors import BadRequest
from modelgates_server.management import audit
from modelgates_server.management.audit import AuditFilter
from modelgates_server.management.audit_words import named, parts

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AuditFilter", "export", "show", "verify"]

_ID_SHOWN = 24
"""Ids begin with their time, so this much names one; `--json` shows all of it."""


def show(options: Options, limit: int, wanted: AuditFilter) -> Report:
    """List changes, newest first."""
    with opened(options) as place:
        found = audit.list_audit(place.engine, place.organization_id, wanted, 0, limit)
        names = owner_names(place)
    data = [
        {
            "id": row.digest,
            "created_at": rfc3339(row.created_at_s),
            "actor": row.actor,
            "action": row.action,
            "target": row.target,
            "details": json.loads(row.details),
        }
        for row in found.rows
    ]
    lines = [
        (
            moment(row.created_at_s, seconds=True), named(row.actor, names, _ID_SHOWN), row.action,
            named(row.target, names, _ID_SHOWN),
        )
        for row in found.rows
    ]  # fmt: skip
    said = [", ".join(f"{name} {value}" for name, value in parts(one["details"], names)) for one in data]
    text = noted(("When", "Who", "What", "To"), lines, said) if lines else "There is no such change."
    more = f"\n\n{found.total - len(lines)} older ones are not shown" if found.total > len(lines) else ""
    return Report({"data": data, "total_count": found.total}, text + more)


def verify(options: Options, file: Path | None) -> Report:
    """Walk the chain, and compare it with an export. Exit 1 when it is broken."""
    with opened(options) as place:
        lines = [] if file is None else _lines(file)
        verdict = audit.verify_export(place.engine, place.pepper, lines) if file else audit.verify(place.engine)
    data = {"whole": verdict.broken is None, "rows": verdict.rows, "broken": verdict.broken}
    whole = f"The log is whole: {verdict.rows} rows"
    text = f"The log is broken: {verdict.broken}" if verdict.broken else whole + (f", as in {file}" if file else "")
    return Report(data, text, EXIT_FAILED if verdict.broken else 0)


def export(options: Options, target: Path) -> Report:
    """Write the log with its signed head. Raises ConfigError when the file exists or cannot be written."""
    with opened(options) as place:
        lines = audit.export(place.engine, place.pepper, place.now_s)
        rows = write_new_lines(target, (f"{line}\n" for line in lines)) - 1
    return Report({"file": str(target), "rows": rows}, f"{target}: {rows} rows and the signed head")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read {file}: {error}") from error
