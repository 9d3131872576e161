"""A real, initialised database of either kind, and other processes' views of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from modelgates_server.accounts.directory import Directory
from modelgates_server.clock import ManualClock
from modelgates_server.management.setup import Initialised, initialise
from modelgates_server.storage.engine import Database, open_engine
from modelgates_server.storage.maintenance import upgrade
from modelgates_server.storage.reader import Reader, open_reader
from modelgates_server.storage.upgrades import as_database


@dataclass(frozen=True)
class House:
    database: Database
    engine: sa.Engine
    pepper: bytes
    clock: ManualClock
    made: Initialised
    readers: list[Reader]

    @property
    def path(self) -> Path:
        """The file, where it is one."""
        return self.database.path

    def directory(self, pepper: bytes | None = None) -> Directory:
        """Another process's view of the same database."""
        self.readers.append(open_reader(self.database))
        return Directory(self.readers[-1], pepper or self.pepper, self.clock)


@contextmanager
def open_house(where: Path | Database) -> Iterator[House]:
    """Make the database there, initialise it, and close everything at the end. A path means SQLite."""
    pepper, clock, database = bytes(range(32)), ManualClock(), as_database(where)
    upgrade(database)
    engine = open_engine(database)
    house = House(database, engine, pepper, clock, initialise(engine, pepper, 100 * 10**9, clock.now_s()), [])
    try:
        yield house
    finally:
        for reader in house.readers:
            with suppress(StopIteration):
                reader.close().send(None)  # type: ignore[attr-defined] # it waits for nothing, and the loop is gone
        engine.dispose()
