"""Copies of a whole database while it is in use, and databases made from them.

A copy of SQLite is a file of SQLite. A copy of PostgreSQL is one file that needs no tool of PostgreSQL and fits both kinds: lines of JSON,
compressed with gzip. First an object with the format and the schema's version; then for each table an object with its name and
columns, and its rows as arrays; last an object with the number of rows and the digest of every table, and the SHA-256 of all
lines before it. Amounts and times are the columns' own; no secret key is in it, nor anything that is not in the database.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import sqlalchemy as sa

from modelgates_server.errors import ConfigError, StoreMismatch, StoreUnavailable
from modelgates_server.storage import schema
from modelgates_server.storage.copying import Copied, Table, Tables, Tallies, Tally, Values, fill, read_all
from modelgates_server.storage.engine import Database, connect, translated
from modelgates_server.storage.upgrades import alone, as_database, looking, version_in

FORMAT: Final = "modelgates backup 1"
COMPRESSION: Final = 6

_SQLITE, _GZIP = b"SQLite format 3\0", b"\x1f\x8b"
_DAMAGED: Final = "use another copy: this one is cut off or damaged"


def backup(database: Database, target: Path) -> None:
    """Copy the database while it is in use, as of one moment, into a folder that exists.

    Raises ConfigError when the target exists or cannot be made, StoreUnavailable.
    """
    if database.kind == "sqlite" and not database.path.exists():
        raise StoreUnavailable(
            f"there is no database at {database.path}", remedy="run modelgates init, or name another --data-dir"
        )
    try:
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError as error:
        raise ConfigError(
            f"cannot write {target}: there is no folder {target.parent}",
            remedy="make the folder, or name a file in one that exists",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror}", remedy="name a file that does not exist yet"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            if database.kind == "sqlite":
                _copy(database.path, target)
            else:
                _dump(database, file)
            file.flush()
            os.fsync(file.fileno())
    except (sqlite3.Error, OSError, StoreUnavailable) as error:
        target.unlink(missing_ok=True)
        raise StoreUnavailable(f"the copy failed: {error}") from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _copy(path: Path, target: Path) -> None:
    with closing(connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it


def _dump(database: Database, file: BinaryIO) -> None:
    seen = hashlib.sha256()
    with looking(database) as connection, gzip.GzipFile(fileobj=file, mode="wb", compresslevel=COMPRESSION) as packed:

        def say(value: object, *, last: bool = False) -> None:
            line = msgspec.json.encode(value) + b"\n"
            packed.write(line)
            if not last:
                seen.update(line)

        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        say({"format": FORMAT, "schema": version_in(connection, database)})
        tallies = {}
        for table, rows in read_all(connection):
            say({"table": table.name, "columns": table.columns})
            tallies[table.name] = Tally()
            for values in tallies[table.name].counted(rows):
                say(values)
        say({"tables": _told(tallies), "sha256": seen.hexdigest()}, last=True)


def restore(source: Path, database: Database) -> Copied:
    """Make an empty database what the copy says, of either kind, at this version's schema; whole or not at all.

    Copies of older versions are brought to this one. What was wrong in the books stays wrong, and is told. Raises ConfigError when
    the database is not empty, or the copy is none, damaged, newer or cannot be read; StoreUnavailable.
    """
    try:
        return _restored(source, database)
    except StoreMismatch as error:  # the wrong file or the wrong database was named: nothing is wrong with the store
        raise ConfigError(error.message, remedy=error.remedy) from error


def _restored(source: Path, database: Database) -> Copied:
    try:
        with source.open("rb") as file:
            start = file.read(len(_SQLITE))
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {error.strerror}", remedy="name a file of db backup") from error
    if start == _SQLITE:
        return _restore_sqlite(as_database(source), database)
    if start.startswith(_GZIP):
        return _restore_lines(source, database)
    raise StoreMismatch(f"{source} is no copy of a database of ModelGates", remedy="name a file of db backup")


def _restore_sqlite(copy: Database, database: Database) -> Copied:
    _check_sqlite(copy)
    with looking(copy) as connection:
        version = _known(version_in(connection, copy), copy.shown)
        try:
            with alone(database) as target, translated(), target.begin():
                return fill(target, database, version, read_all(connection))
        except sa.exc.IntegrityError as error:
            raise StoreMismatch(f"cannot restore {copy.path}: {error.orig}", remedy=_DAMAGED) from error


def _check_sqlite(copy: Database) -> None:
    """Read all pages of a copy before anything is made of it. Raises StoreMismatch when it is damaged."""
    try:
        with looking(copy) as connection:
            found = str(connection.execute(sa.text("PRAGMA quick_check(1)")).scalar_one())
    except StoreUnavailable as error:
        cause = getattr(error.__cause__, "orig", error.__cause__)
        if isinstance(cause, sqlite3.OperationalError):  # it is locked or away, which says nothing about what is in it
            raise
        found = str(cause)
    if found != "ok":
        raise StoreMismatch(f"cannot restore {copy.path}: {' '.join(found.split())}", remedy=_DAMAGED)


def _restore_lines(source: Path, database: Database) -> Copied:
    try:
        end = _verified(source)
        with gzip.open(source) as packed:
            lines = _Lines(packed)
            version = _known(lines.version(), str(source))
            with alone(database) as target, translated(), target.begin():
                copied = fill(target, database, version, lines.tables())
                if end.get("tables") != _told(copied.tallies):
                    raise StoreMismatch(f"{source} does not hold what it says: nothing was kept of it", remedy=_DAMAGED)
                return copied
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, sa.exc.IntegrityError) as error:
        raise StoreMismatch(f"cannot restore {source}: {error}", remedy=_DAMAGED) from error


def _verified(source: Path) -> dict[str, Any]:
    """The last line, if it is the sum of those before it and the first is that of a copy. Raises StoreMismatch."""
    seen, last = hashlib.sha256(), b""
    with gzip.open(source) as packed:
        head = packed.readline()
        known = msgspec.json.decode(head) if head else None
        if not isinstance(known, dict) or known.get("format") != FORMAT or not isinstance(known.get("schema"), str):
            raise StoreMismatch(f"{source} is no copy that this version can read", remedy="name a file of db backup")
        for line in packed:
            seen.update(last or head)
            last = line
    end = msgspec.json.decode(last) if last else None
    if not isinstance(end, dict) or end.get("sha256") != seen.hexdigest():
        raise StoreMismatch(f"{source} is not what was written", remedy=_DAMAGED)
    return end


def _told(tallies: Tallies) -> dict[str, Any]:
    return {name: {"rows": tally.rows, "digest": tally.digest} for name, tally in tallies.items()}


def _known(version: str | None, name: str) -> str:
    if version is None:
        raise StoreMismatch(f"there is nothing in {name}", remedy="name another copy")
    if version > schema.SCHEMA_VERSION:
        raise StoreMismatch(f"{name} was made by a newer version", remedy="use the version of ModelGates that made it")
    return version


class _Lines:
    """A verified copy as it is read."""

    def __init__(self, packed: BinaryIO | gzip.GzipFile) -> None:
        self._packed = packed
        self._line: Any = None
        self._next()

    def version(self) -> str:
        """The version of the schema, which the first line names."""
        version = str(self._line["schema"])
        self._next()
        return version

    def tables(self) -> Tables:
        """Every table with its rows."""
        while "columns" in self._line:
            table = Table(self._line["table"], tuple(self._line["columns"]))
            self._next()
            yield table, self._rows()

    def _rows(self) -> Iterator[Values]:
        while isinstance(self._line, list):
            yield tuple(self._line)
            self._next()

    def _next(self) -> None:
        self._line = msgspec.json.decode(self._packed.readline())
