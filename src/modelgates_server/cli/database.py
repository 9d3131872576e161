"""`db`: create or upgrade the database, check its books, copy it, restore a copy, move it to PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelgates_server.cli.frame import EXIT_FAILED, Options, Report
from modelgates_server.cli.local import configured, existing, translated
from modelgates_server.cli.output import table
from modelgates_server.cli.reaching import reach
from modelgates_server.clock import SystemClock
from modelgates_server.errors import ConfigError
from modelgates_server.storage import maintenance
from modelgates_server.storage.engine import database_of
from modelgates_server.storage.schema import SCHEMA_VERSION
from modelgates_server.vault.secret import load_secret, make_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from modelgates_server.storage.copying import Copied
    from modelgates_server.storage.maintenance import Problem

_DONE = {"empty": "created", "old": "upgraded"}
_KEEP = "Keep the secret too (secret.key or MODELGATES_SECRET): without it no key of this copy works."


def upgrade(options: Options) -> Report:
    """Create the database or bring it to this version's schema; harmless when it is there already."""
    database = database_of(configured(options).database.url)
    with translated():
        done = _DONE.get(maintenance.upgrade(database), "unchanged")
    data = {"database": database.shown, "schema": SCHEMA_VERSION, "result": done}
    return Report(data, f"{database.shown}: {done}, schema {SCHEMA_VERSION}")


def check(options: Options) -> Report:
    """Compare every sum in the books with what it is the sum of."""
    with translated():
        database = existing(configured(options))
        problems = maintenance.check(database)
    data = {
        "ok": not problems,
        "database": database.shown,
        "problems": _as_data(problems),
    }
    return Report(data, f"{database.shown}: {_findings(problems)}", EXIT_FAILED if problems else 0)


def backup(options: Options, target: Path | None) -> Report:
    """Copy the database while it is in use; only the usual folder is made. Raises ConfigError when the target cannot be."""
    from modelgates_server.storage import backups  # noqa: PLC0415 - only where it is used

    config = configured(options)
    with translated():
        database = existing(config)
        usual = config.data_dir / "backups"
        chosen = target or usual / _file_name("db" if database.kind == "sqlite" else "jsonl.gz")
        if chosen.absolute().parent == usual.absolute():
            _make(usual)
        backups.backup(database, chosen)
    size = chosen.stat().st_size
    data = {"database": database.shown, "backup": str(chosen), "size_bytes": size}
    return Report(data, f"{chosen}: {size:,} bytes\n{_KEEP}")


def _make(folder: Path) -> None:
    """Make the folder of backups in the data directory, both for their owner only."""
    try:
        make_private(folder.parent)
        make_private(folder)
    except OSError as error:
        raise ConfigError(
            f"cannot make the folder {folder}: {error.strerror}", remedy="name a file in a folder that exists"
        ) from error


def restore(options: Options, source: Path) -> Report:
    """Make an empty database what a copy says."""
    from modelgates_server.storage import backups  # noqa: PLC0415

    database = database_of(configured(options).database.url)
    reach(database, "[database] url")
    with translated():
        copied = backups.restore(source, database)
    return _proof(
        copied, {"backup": str(source), "database": database.shown}, f"{source} is restored to {database.shown}"
    )


def move(options: Options, to: str) -> Report:
    """Move everything from SQLite to an empty database of PostgreSQL, and prove both equal."""
    from modelgates_server.storage import moving  # noqa: PLC0415

    config = configured(options)
    target = database_of(to)
    with translated():
        source = existing(config)
        reach(target, "--to")
        copied = moving.move(source, target, load_secret(config, create=False))
    said = (
        f"{source.shown} is moved to {target.shown}.\n"
        "Set [database] url or MODELGATES_DATABASE_URL to it; the secret stays the same, and the old file is served no more."
    )
    return _proof(copied, {"database": source.shown, "moved_to": target.shown}, said)


def _proof(copied: Copied, what: dict[str, Any], said: str) -> Report:
    """Both sides counted alike: what was read, and what is in the database now."""
    tables = [{"table": name, "rows": tally.rows, "digest": tally.digest} for name, tally in copied.tallies.items()]
    rows = sum(tally.rows for tally in copied.tallies.values())
    head = ("Table", "Rows", "Digest, equal on both sides")
    listed = table(head, [tuple(line.values()) for line in tables], right=[1])
    found = _findings(copied.problems)
    text = f"{listed}\n\n{rows:,} rows in {len(tables)} tables are equal. In the books {found}\n{said}"
    data = {**what, "equal": True, "rows": rows, "tables": tables, "problems": _as_data(copied.problems)}
    return Report(data, text, EXIT_FAILED if copied.problems else 0)


def _as_data(problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [{"kind": problem.kind, "detail": problem.detail} for problem in problems]


def _findings(problems: Sequence[Problem]) -> str:
    if not problems:
        return "every sum agrees"
    lines = [f"{problem.kind}: {problem.detail}" for problem in problems]
    return "\n".join([f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", *lines])


def _file_name(ending: str) -> str:
    return f"modelgates-{datetime.fromtimestamp(SystemClock().now_s(), UTC):%Y%m%dT%H%M%SZ}.{ending}"
