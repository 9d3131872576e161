"""Batches on SQLite.

Why the statements run on the event loop and only the commit in a thread: a thread that runs many small statements beside a busy
loop waits for the interpreter lock after each of them (measured 11 ms against 0.2 ms a batch), while the commit is one
call that spends its time in fsync, outside the lock.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from modelgates_server.storage.hot import Lockable, Statement, Text, id_list
from modelgates_server.storage.rows import Rows, wanted
from modelgates_server.storage.writer import RETRY_S, Item, Writer

log = logging.getLogger(__name__)

BUSY_UNITS, GATHER_UNITS, GATHER_S = 4, 32, 0.001
"""After a batch of so many units the process is busy: unless many wait already, the next batch is given a millisecond to
fill, which halves the commits. A quiet process never waits."""

BUSY_WAIT_S = 2.0
"""How long a batch waits while another process (the CLI) holds the write lock."""


class SqliteWriter(Writer):
    """Owns the write connection."""

    def __init__(self, connection: sqlite3.Connection, tables: Iterable[Lockable]) -> None:
        super().__init__(tables)
        self._connection = connection
        self._connection.execute("PRAGMA busy_timeout=0")  # the loop never waits inside SQLite
        self._busy_since_s: float | None = None
        self._orders: SimpleQueue[list[Item] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._commit, name="commit")
        self._thread.start()

    async def close(self) -> None:
        """Stop the commit thread and close the connection."""
        self._orders.put(None)
        self._thread.join()
        self._connection.close()

    def _start(self) -> None:
        self._loop.call_soon(self._run)

    # One batch: `_run` decides and writes on the loop, `_commit` waits in the thread, `_finish` tells everybody.

    def _run(self) -> None:
        if not self._queue:
            self._rest()
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._locked(error)
            return
        self._busy_since_s = None
        items = self._take()
        try:
            self._apply(items)
        except sqlite3.OperationalError as error:
            self._undo()
            self._fail(items, error)
            return
        except Exception:  # noqa: BLE001 - a row the database refuses, or one that cannot be bound
            self._undo()
            self._alone(deque(items))
            return
        self._orders.put(items)

    def _apply(self, items: Sequence[Item]) -> None:
        live = self._live(items)
        rows = read(self._connection, self._tables, wanted(item.unit.needs() for item in live))
        self._decide(live, rows)
        flush(self._connection, rows)

    def _commit(self) -> None:
        """The commit thread: one order is one COMMIT. It touches the connection only while a batch waits for it."""
        while (items := self._orders.get()) is not None:
            failure: Exception | None = None
            try:
                self._connection.execute("COMMIT")
            except Exception as error:  # noqa: BLE001 - told to the loop, which decides
                failure = error
            self._loop.call_soon_threadsafe(self._finish, items, failure)

    def _finish(self, items: list[Item], failure: BaseException | None) -> None:
        if failure is not None:
            self._undo()
            self._fail(items, failure)
            return
        self.away = False
        self._committed(items)
        if len(items) >= BUSY_UNITS and len(self._queue) < GATHER_UNITS:
            self._loop.call_later(GATHER_S, self._run)
        else:
            self._run()

    def _alone(self, items: deque[Item]) -> None:
        """A row was refused. Run the units one by one, so that only the one to blame fails."""
        if not items:
            self._run()
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._apply([items[0]])
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._undo()
            self._fail(list(items), error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this unit's own
            self._undo()
            self._refused(items.popleft(), error)
        else:
            self._committed([items.popleft()])
        self._loop.call_soon(self._alone, items)

    def _locked(self, error: sqlite3.Error) -> None:
        """Another process holds the write lock: come back in two milliseconds, for at most two seconds."""
        now_s = self._loop.time()
        self._busy_since_s = self._busy_since_s or now_s
        if now_s - self._busy_since_s < BUSY_WAIT_S:
            self._loop.call_later(0.002, self._run)
            return
        self._busy_since_s = None
        items, self._queue = list(self._queue), deque()
        self._fail(items, error)

    def _fail(self, items: Sequence[Item], failure: BaseException) -> None:
        self._failed(items, failure)
        self._loop.call_later(RETRY_S, self._run)

    def _undo(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def read(connection: sqlite3.Connection, tables: Mapping[str, Lockable], needs: Mapping[str, Iterable[Any]]) -> Rows:
    """A working copy of every row that is named, with one statement per table."""
    rows = Rows(tables)
    for name, ids in needs.items():
        rows.put(name, connection.execute(tables[name].select, (id_list(ids),)))
    return rows


def flush(connection: sqlite3.Connection, rows: Rows) -> None:
    """Send all changes to the database."""
    for name, table in rows.tables.items():
        if rows.deleted[name]:
            table.delete.run(connection, [{"key": key} for key in rows.deleted[name]])
        if rows.saved[name]:
            table.save.run(connection, rows.saved[name].values())
    for statement, values in rows.writes.items():
        if isinstance(statement, Statement):
            statement.run(connection, values)
        else:
            connection.executemany(statement.sql if isinstance(statement, Text) else statement, values)
