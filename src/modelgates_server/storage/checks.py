"""Comparing everything in the database with what it is the sum of, in one snapshot, while a server runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.storage import books, chain, schema
from modelgates_server.storage.portable import is_postgres

EXAMPLES_MAX: Final = 20
"""Of one kind, this many are listed; one is enough to know, and a damaged table would list thousands."""

AUDIT_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the database that cannot be right. `kind` names the check, `detail` what it found."""

    kind: str
    detail: str


def problems(connection: sa.Connection) -> list[Problem]:
    """Run every check over the connection's snapshot. Empty when all is well."""
    try:
        if is_postgres(connection):
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))  # as long as it takes
        else:
            broken = [text for text in _limited(connection, "PRAGMA integrity_check") if text != "ok"]
            if broken:
                return [Problem("integrity", text) for text in broken]
        return list(_in_books(connection))
    except sa.exc.DatabaseError as error:
        if is_postgres(connection):
            raise
        return [Problem("integrity", str(error.orig))]


def _in_books(connection: sa.Connection) -> Iterator[Problem]:
    version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if version != schema.SCHEMA_VERSION:
        yield Problem("schema", f"the schema is not {schema.SCHEMA_VERSION}: run modelgates db upgrade")
        return
    for kind, query in (*books.references(), *books.sums(connection)):
        for text in _limited(connection, query):
            yield Problem(kind, text)
    if (broken := _audit(connection)) is not None:
        yield Problem("audit", broken)
    if is_postgres(connection):
        yield from _sequences(connection)


def _audit(connection: sa.Connection) -> str | None:
    head = connection.execute(sa.text("SELECT value FROM meta WHERE key = 'audit_head'")).scalar_one_or_none()
    query = sa.select(schema.audit).order_by(schema.audit.c.id)
    rows = connection.execute(query, execution_options={"yield_per": AUDIT_BATCH})
    return chain.first_break((dict(row) for row in rows.mappings()), head or chain.START)


def _sequences(connection: sa.Connection) -> Iterator[Problem]:
    """PostgreSQL numbers rows from a counter of its own, which must not give a number twice."""
    for table, column in numbered():
        given = connection.execute(
            sa.text("SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:table, :column) AS regclass))"),
            {"table": table.name, "column": column.name},
        ).scalar_one()
        highest = connection.execute(sa.select(sa.func.max(column))).scalar_one()
        if highest is not None and (given or 0) < highest:
            yield Problem("sequences", f"{table.name} has a row {highest}, but counts on from {given or 0}")


def numbered() -> list[tuple[sa.Table, sa.Column[int]]]:
    """The tables whose rows the database numbers, with the column."""
    found = [(table, table.autoincrement_column) for table in schema.metadata.sorted_tables]
    return [(table, column) for table, column in found if column is not None]


def _limited(connection: sa.Connection, query: str) -> list[str]:
    with connection.execute(sa.text(query.replace(":", "\\:"))) as result:
        return [str(text) for (text,) in result.fetchmany(EXAMPLES_MAX)]
