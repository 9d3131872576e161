"""Point reads for the serving process, and look-ups for the terminal. Statements name their values ``:name``.

On SQLite a read takes about 10 µs on the event loop, less than handing it to a thread; on PostgreSQL it is awaited. Reports that
scan use the engine in a thread.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import sqlalchemy as sa

from modelgates_server.errors import StoreUnavailable
from modelgates_server.storage.engine import Database, open_engine, reading
from modelgates_server.storage.hot import Row

if TYPE_CHECKING:
    import psycopg

READ_S: Final = 0.6
WAIT_S: Final = 0.3
CONNECT_WITHIN_S: Final = 0.9
"""A read that takes longer, or that gets no connection in time, means that the store is away: callers are told within a second
(design decision 14)."""

CONNECTIONS_MAX: Final = 4
"""Point reads take a millisecond: more would only queue up in the database instead of here."""

_NAME: Final = re.compile(r"(?<![:\w]):([a-z_]\w*)")

Values = Mapping[str, Any]


class Reader(Protocol):
    """Reads rows as dicts. Raises StoreUnavailable when the database cannot serve."""

    async def all(self, statement: str, values: Values | None = None) -> list[Row]:
        """Every row."""
        ...

    async def one(self, statement: str, values: Values | None = None) -> Row | None:
        """The first row, or None."""
        ...

    async def close(self) -> None: ...


class SqliteReader:
    """One read-only connection."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=0.1,
            )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"cannot open the database {path}: {error}") from error

    async def all(self, statement: str, values: Values | None = None) -> list[Row]:
        try:
            cursor = self._connection.execute(statement, values or {})
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, found, strict=True)) for found in cursor]
        except sqlite3.Error as error:
            raise StoreUnavailable from error

    async def one(self, statement: str, values: Values | None = None) -> Row | None:
        rows = await self.all(statement, values)
        return rows[0] if rows else None

    async def close(self) -> None:
        self._connection.close()


class PostgresReader:
    """A few connections, opened as they are needed. One that failed is thrown away, and the read is tried on a fresh one once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._idle: list[psycopg.AsyncConnection[Any]] = []
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)

    async def all(self, statement: str, values: Values | None = None) -> list[Row]:
        from modelgates_server.storage.postgres import AWAY, awake_for  # noqa: PLC0415 - the driver is loaded where it is used

        sql = percent(statement)
        try:
            async with awake_for(WAIT_S):
                await self._free.acquire()
            try:
                if self._idle:  # it may have died while nobody looked
                    try:
                        return await self._read(self._idle.pop(), sql, values)
                    except TimeoutError:
                        raise
                    except AWAY:
                        self._forget()
                async with awake_for(CONNECT_WITHIN_S):
                    connection = await self._connect()
                return await self._read(connection, sql, values)
            finally:
                self._free.release()
        except AWAY as error:
            raise StoreUnavailable from error

    async def one(self, statement: str, values: Values | None = None) -> Row | None:
        rows = await self.all(statement, values)
        return rows[0] if rows else None

    async def close(self) -> None:
        self._forget()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        from modelgates_server.storage.postgres import connect  # noqa: PLC0415

        return await connect(self._database)

    async def _read(self, connection: psycopg.AsyncConnection[Any], sql: str, values: Values | None) -> list[Row]:
        from modelgates_server.storage.postgres import Deadline, drop  # noqa: PLC0415

        try:
            with Deadline(connection, READ_S):
                cursor = await connection.execute(sql, values or {})
                found = await cursor.fetchall()
        except BaseException:
            drop(connection)  # whatever was on its way is not read by the next one
            raise
        names = [column.name for column in cursor.description or ()]
        self._idle.append(connection)
        return [dict(zip(names, row, strict=True)) for row in found]

    def _forget(self) -> None:
        from modelgates_server.storage.postgres import drop  # noqa: PLC0415

        idle, self._idle = self._idle, []
        for connection in idle:
            drop(connection)


class Lookups:
    """The same questions for the terminal, which has no event loop: through the engine, each in a snapshot of its own."""

    def __init__(self, where: Database | Path) -> None:
        self._engine = open_engine(where)

    def all(self, statement: str, values: Values | None = None) -> list[Row]:
        """Every row. Raises StoreUnavailable."""
        with reading(self._engine) as connection:
            return [dict(row) for row in connection.execute(sa.text(statement), values or {}).mappings()]

    def one(self, statement: str, values: Values | None = None) -> Row | None:
        """The first row, or None."""
        rows = self.all(statement, values)
        return rows[0] if rows else None

    def close(self) -> None:
        self._engine.dispose()


def open_reader(database: Database) -> Reader:
    """The reader for a database. Raises StoreUnavailable when SQLite's file cannot be opened."""
    return SqliteReader(database.path) if database.kind == "sqlite" else PostgresReader(database)


@lru_cache(maxsize=512)
def percent(statement: str) -> str:
    """A statement with ``:name`` as PostgreSQL's driver takes it."""
    return _NAME.sub(r"%(\1)s", statement.replace("%", "%%"))
