"""Whole tables from one place to another: read in one snapshot, written in one transaction, proven equal before it commits.

Two tables are equal when they have as many rows and the same digest: the sum of the SHA-256 of every row, so that it needs no order,
which two kinds of database would not agree on. A row is the JSON array of its values in the order of its columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from modelgates_server.errors import ConfigError, StoreMismatch, StoreUnavailable
from modelgates_server.storage import checks, schema, upgrades
from modelgates_server.storage.checks import Problem, numbered
from modelgates_server.storage.engine import Database
from modelgates_server.storage.portable import is_postgres

BATCH_ROWS: Final = 500
"""A receipt with its plan is a few kilobytes: so many at once stay below the size of one request."""

_DIGEST_BITS: Final = 256
_VERSIONS: Final = "alembic_version"

Values = Sequence[Any]


class Table(NamedTuple):
    """A table's name, and its columns in the order of its rows: by name, for a database may have them in any."""

    name: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """How many rows, and their digest."""

    rows: int = 0
    total: int = 0

    def add(self, values: Values) -> None:
        """Count a row."""
        self.rows += 1
        digest = hashlib.sha256(msgspec.json.encode(values)).digest()
        self.total = (self.total + int.from_bytes(digest)) % (1 << _DIGEST_BITS)

    def counted(self, rows: Iterable[Values]) -> Iterator[Values]:
        """Count rows as they pass."""
        for values in rows:
            self.add(values)
            yield values

    @property
    def digest(self) -> str:
        """The digest in hex."""
        return f"{self.total:064x}"


Tallies = Mapping[str, Tally]
Tables = Iterable[tuple[Table, Iterable[Values]]]
"""Every table with its rows, those before that others point at; the rows of one are read before the next is asked for."""


def tables_in(connection: sa.Connection) -> list[Table]:
    """Every table of a database of ModelGates, those before that others point at."""
    known = sa.MetaData()
    known.reflect(connection)
    return [
        Table(str(table.name), tuple(sorted(map(str, table.columns.keys()))))
        for table in known.sorted_tables
        if table.name != _VERSIONS
    ]


def read(connection: sa.Connection, table: Table) -> Iterator[Values]:
    """The rows of a table, a batch at a time."""
    query = sa.text(f"SELECT {_listed(table.columns)} FROM {_quoted(table.name)}")  # noqa: S608 - names from the database
    with connection.execute(query, execution_options={"yield_per": BATCH_ROWS}) as found:
        for row in found:
            yield tuple(row)


def read_all(connection: sa.Connection) -> Tables:
    """Every table with its rows."""
    for table in tables_in(connection):
        yield table, read(connection, table)


def tally(connection: sa.Connection) -> Tallies:
    """Count every table."""
    tallies = {}
    for table, rows in read_all(connection):
        tallies[table.name] = Tally()
        for values in rows:
            tallies[table.name].add(values)
    return tallies


@dataclass(frozen=True, slots=True)
class Copied:
    """What was read and is there now, alike on both sides; and what is wrong in the books, which came along."""

    tallies: Tallies
    problems: Sequence[Problem]


def fill(connection: sa.Connection, database: Database, version: str, tables: Tables) -> Copied:
    """Make the tables of `version`, fill them, prove them equal to what was read, bring them to this version, check the books.

    In the caller's transaction, which must end when this raises: ConfigError when the database is not empty, StoreMismatch when
    anything differs; StoreUnavailable.
    """
    clear(connection, database)
    upgrades.create(connection, version)
    known = {table.name: table for table in tables_in(connection)}
    told = {}
    for table, rows in tables:
        if table.name not in known or set(table.columns) != set(known[table.name].columns):
            raise StoreMismatch(f"the table {table.name} is none of schema {version}")
        told[table.name] = Tally()
        write(connection, table, told[table.name].counted(rows))
    if missing := known.keys() - told.keys():
        raise StoreMismatch(f"these tables are missing: {', '.join(sorted(missing))}")
    refuse_difference(told, tally(connection), known)
    if version != schema.SCHEMA_VERSION:
        upgrades.migrate(connection)
    renumber(connection)
    return Copied(told, checks.problems(connection))


def refuse_difference(told: Tallies, found: Tallies, tables: Iterable[str]) -> None:
    """Raise StoreMismatch when any table differs."""
    wrong = [name for name in sorted(tables) if told[name] != found[name]]
    if wrong:
        listed = ", ".join(f"{name} ({told[name].rows} rows read, {found[name].rows} written)" for name in wrong)
        raise StoreMismatch(f"the copy differs in {listed}: nothing was kept of it")


def clear(connection: sa.Connection, database: Database) -> None:
    """Remove the tables of a database that has none, or only empty ones. Raises ConfigError when it has rows."""
    if upgrades.version_in(connection, database) is None:
        return
    known = sa.MetaData()
    known.reflect(connection)
    for table in known.sorted_tables:
        if table.name != _VERSIONS and connection.execute(sa.select(sa.literal(1)).select_from(table)).first():
            raise ConfigError(f"the database {database.shown} is not empty", remedy="name one that nothing is in yet")
    known.drop_all(connection)


def write(connection: sa.Connection, table: Table, rows: Iterable[Values]) -> None:
    """Add rows to a table. Raises StoreMismatch for one that the database cannot hold."""
    if is_postgres(connection):
        _copy_in(connection, table, rows)
        return
    marks = ", ".join("?" * len(table.columns))
    statement = f"INSERT INTO {_quoted(table.name)} ({_listed(table.columns)}) VALUES ({marks})"  # noqa: S608
    coming = iter(rows)
    while batch := list(islice(coming, BATCH_ROWS)):
        connection.exec_driver_sql(statement, batch)


def _copy_in(connection: sa.Connection, table: Table, rows: Iterable[Values]) -> None:
    import psycopg  # noqa: PLC0415 - the driver is loaded where it is used

    cursor: psycopg.Cursor[Any] = connection.connection.cursor()  # type: ignore[assignment] # the driver's own
    statement = f"COPY {_quoted(table.name)} ({_listed(table.columns)}) FROM STDIN"
    try:
        with cursor, cursor.copy(statement) as copy:
            for values in rows:
                _refuse_nul(table, values)
                copy.write_row(values)
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        raise StoreMismatch(f"rows of {table.name} cannot stand beside each other: {error}") from error
    except psycopg.Error as error:
        raise StoreUnavailable(f"the database cannot serve: {error}") from error


def _refuse_nul(table: Table, values: Values) -> None:
    for column, value in zip(table.columns, values, strict=True):
        if isinstance(value, str) and "\0" in value:
            raise StoreMismatch(
                f"{table.name}.{column} has a NUL character, which PostgreSQL cannot keep: {value[:100]!r}",
                remedy="take it out of that row, and try again",
            )


def renumber(connection: sa.Connection) -> None:
    """Let the database count on after the rows that it was given."""
    if not is_postgres(connection):
        return
    for table, column in numbered():
        counter = sa.func.pg_get_serial_sequence(table.name, column.name)
        highest = connection.execute(sa.select(sa.func.max(column))).scalar_one()
        if highest is not None:
            connection.execute(sa.select(sa.func.setval(sa.cast(counter, sa.dialects.postgresql.REGCLASS), highest)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(_quoted(column) for column in columns)
