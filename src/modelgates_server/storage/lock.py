"""One serving process per SQLite database: an advisory lock on a file beside it, released by the kernel when the owner dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from modelgates_server.errors import StoreUnavailable
from modelgates_server.storage.engine import Database

OR_ANOTHER: Final = "stop it first, or start this one with another --data-dir"


class ServingLock:
    """Held for the life of a serving process. Whoever gets it knows that every earlier owner is dead."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self, remedy: str = OR_ANOTHER) -> None:
        """Take the lock. Raises StoreUnavailable, with the remedy, when another process serves this database."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StoreUnavailable("another process is serving this database", remedy=remedy) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def serving_lock(database: Database, remedy: str = OR_ANOTHER) -> Iterator[None]:
    """Hold what serving this database needs: SQLite's lock; PostgreSQL takes any number of processes. Raises StoreUnavailable."""
    if database.distributed:
        yield
        return
    lock = ServingLock(database.path)
    lock.acquire(remedy)
    try:
        yield
    finally:
        lock.release()
