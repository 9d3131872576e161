"""The few places where SQLite and PostgreSQL write the same thing differently."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def upsert(connection: sa.Connection, table: sa.Table) -> Any:
    """An ``INSERT`` of the connection's dialect, with `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return postgresql.insert(table) if is_postgres(connection) else sqlite.insert(table)


def greatest(connection: sa.Connection, *values: Any) -> sa.Function[Any]:
    """The largest of some values of one row."""
    return sa.func.greatest(*values) if is_postgres(connection) else sa.func.max(*values)


def is_postgres(connection: sa.Connection) -> bool:
    """Whether the connection leads to PostgreSQL."""
    return connection.dialect.name == "postgresql"


def one_at_a_time(connection: sa.Connection, key: int) -> None:
    """Let no other transaction that asks for `key` go on before this one ends. SQLite's transactions are alone anyway."""
    if is_postgres(connection):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.cast(key, sa.BigInteger))))


def overwriting(connection: sa.Connection) -> None:
    """From now on, let this connection write zeros over what it deletes. PostgreSQL leaves that to its own vacuum."""
    if not is_postgres(connection):
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


def lines_of_holds(connection: sa.Connection) -> str:
    """A query of every line of every open hold: `hold`, `organization_id`, `epoch`, meter `id`, `unit`, `held`."""
    rows = "json_array_elements(CAST(h.lines AS json))" if is_postgres(connection) else "json_each(h.lines)"
    named = "line(value)" if is_postgres(connection) else "line"
    return f"""
        SELECT h.id AS hold, h.organization_id, h.epoch, line.value ->> 0 AS id, line.value ->> 1 AS unit,
            CAST(line.value ->> 2 AS BIGINT) AS held
        FROM holds h, {rows} AS {named}
    """  # noqa: S608 - constants
