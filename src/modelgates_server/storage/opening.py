"""A serving process's way into its database: reader, writer, journal, and what the store says the time is."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelgates_server.clock import Clock, SteadyClock
from modelgates_server.storage.engine import Database, connect
from modelgates_server.storage.hot import Lockable
from modelgates_server.storage.journal import JournalFile
from modelgates_server.storage.reader import Reader, open_reader
from modelgates_server.storage.sqlite_writer import SqliteWriter
from modelgates_server.storage.writer import Writer

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]

_NOW = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms"


@dataclass(frozen=True, slots=True)
class Store:
    """An open database. `clock` is the store's time (`clock.SteadyClock`); `name` tells this process from others."""

    database: Database
    name: str
    reader: Reader
    writer: Writer
    journal: JournalFile
    clock: SteadyClock
    machine: Clock

    async def observe(self) -> None:
        """Ask the store for the time; SQLite has none but the machine's. Raises StoreUnavailable."""
        told_s = self.machine.now_s()
        if self.database.distributed:
            row = await self.reader.one(_NOW)
            told_s = (row["now_ms"] if row else 0) / 1000
        if not self.clock.observe(told_s):
            log.error("clock_jumped", extra={"told_s": int(told_s), "kept_s": int(self.clock.now_s())})


@asynccontextmanager
async def open_store(
    database: Database, tables: Iterable[Lockable], folder: Path, clock: Clock, spawn: Spawn
) -> AsyncIterator[Store]:
    """Open a database for serving; `folder` is where the journal lies. Raises StoreUnavailable when it cannot be reached."""
    name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    reader = open_reader(database)
    now_s = None
    if database.distributed:
        row = await reader.one(_NOW)
        now_s = (row["now_ms"] if row else 0) / 1000
    journal = JournalFile(folder, name.replace(":", "-"))
    writer = _writer(database, tables, spawn)
    writer.journal = journal
    try:
        yield Store(database, name, reader, writer, journal, SteadyClock(clock, now_s), clock)
    finally:
        await writer.close()
        journal.close()
        await reader.close()


def _writer(database: Database, tables: Iterable[Lockable], spawn: Spawn) -> Writer:
    if database.kind == "sqlite":
        return SqliteWriter(connect(database.path), tables)
    from modelgates_server.storage.postgres_writer import PostgresWriter  # noqa: PLC0415 - the driver is loaded where it is used

    return PostgresWriter(database, tables, spawn)
