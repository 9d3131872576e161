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
