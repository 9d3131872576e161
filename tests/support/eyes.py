"""Reads a database of either kind from outside: plain drivers, nothing of the product in between."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.rows import dict_row

OVER = 'SELECT id, posted, held, "limit" FROM meters WHERE "limit" IS NOT NULL AND posted + held > "limit"'
"""Meters that break the promise."""

_NAME = re.compile(r"(?<![:\w]):([a-z_]\w*)")

AWAY = (psycopg.OperationalError, psycopg.InterfaceError)
"""What looking raises while PostgreSQL is away."""


class Eyes:
    """One connection, for one thread at a time; opened again after PostgreSQL was away. Values are written ``:name``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.postgres = not url.startswith("sqlite:")
        self._connection: Any = None

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """What a query finds."""
        if self._connection is not None:
            try:
                return self._read(statement, values)
            except AWAY:  # it was, and this connection died of it
                self.close()
        self._connection = self._open()
        return self._read(statement, values)

    def one(self, statement: str, **values: Any) -> dict[str, Any]:
        """The one row that a query finds."""
        (row,) = self.rows(statement, **values)
        return row

    def overspent(self) -> list[dict[str, Any]]:
        return self.rows(OVER)

    def now_or_never(self) -> list[dict[str, Any]]:
        """Meters that break the promise; none are seen while the database is away."""
        try:
            return self.overspent()
        except AWAY:
            return []

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything that is read inside was true at one moment."""
        self.rows("SELECT 1 AS one")
        self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if self.postgres else "BEGIN")
        try:
            yield
        finally:
            with suppress(*AWAY):
                self._connection.execute("ROLLBACK")

    def change(self, statement: str, **values: Any) -> None:
        """Change something beside the product: on PostgreSQL only, where tests let time pass."""
        assert self.postgres
        self.rows(f"{statement} RETURNING 1 AS one", **values)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        if self.postgres:
            statement = _NAME.sub(r"%(\1)s", statement.replace("%", "%%"))
            return list(self._connection.execute(statement, values).fetchall())
        return [dict(row) for row in self._connection.execute(statement, values)]

    def _open(self) -> Any:
        if self.postgres:
            return psycopg.connect(
                self.url, autocommit=True, row_factory=dict_row, connect_timeout=5, application_name="tests"
            )  # type: ignore[type-var]
        path = "/" + unquote(urlsplit(self.url).path).lstrip("/")
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection


def pass_time(eyes: Eyes, pid: int | None = None) -> None:
    """Let the lease of a dead process run out; of every process that did not end in order, when none is named."""
    eyes.change(
        "UPDATE processes SET seen_at_s = seen_at_s - 60 WHERE ended_at_s IS NULL AND name LIKE :name",
        name="%" if pid is None else f"%:{pid}:%",
    )
