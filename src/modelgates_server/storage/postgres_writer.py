"""Batches on PostgreSQL: two pipelined trips each, and what is done when the store goes away and comes back.

First trip: begin, lock every row that the units name, in one order for all processes (tables in theirs, ids in theirs). Then the
units decide, and the second trip writes and commits. Without the order, batches of several processes would deadlock
(reliability-security 5.5). Rows that several processes may make at once are made before they are locked.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg

from modelgates_server.errors import StoreUnavailable
from modelgates_server.storage.aside import LOOK_AGAIN_S, Aside, Key, is_free, kept_by_others, keys_of
from modelgates_server.storage.engine import Database
from modelgates_server.storage.hot import Lockable, Statement, Text, row_list
from modelgates_server.storage.postgres import (
    AGAIN,
    AWAY,
    LOCK_MS,
    SILENT_S,
    TOO_MUCH,
    Countdown,
    Deadline,
    connect,
    cut,
    drop,
    end_stalled,
)
from modelgates_server.storage.reader import percent
from modelgates_server.storage.rows import Rows, Unit, wanted
from modelgates_server.storage.writer import RETRY_S, Distributed, Item

log = logging.getLogger(__name__)

PATIENCE_S: Final = 0.9
"""Nobody waits longer for a batch, whatever becomes of it: requests are refused within a second (design decision 14)."""

RETURN_S: Final = 5.0
"""How long taking up work again may take: what is re-asserted then can be thousands of holds."""

AGAIN_TIMES_MAX: Final = 8
"""How often a batch that gave way to another process is run again at once."""

KNOWN_ROWS_MAX: Final = 100_000
"""Ids of rows that exist, remembered so that they are not made again with every batch; values are never remembered."""

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class _NotSeeded(Exception):
    """A row that was known to exist is gone."""


class PostgresWriter(Distributed):
    """Owns one connection. `spawn` starts its task and owns it."""

    def __init__(self, database: Database, tables: Iterable[Lockable], spawn: Spawn) -> None:
        super().__init__(tables)
        self._database = database
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._known: dict[tuple[str, Any], None] = {}
        self._wake = asyncio.Event()
        self._begun = self._closed = self._started_fresh = self._told = False
        self._rolled_back = 0
        self._asked: asyncio.Future[None] | None = None
        self._aside = Aside(PATIENCE_S - LOCK_MS / 1000)
        self._task = spawn(self._work(), "store writer")

    async def close(self) -> None:
        """Stop the task and close the connection."""
        self._closed = True
        self._wake.set()
        if self._connection is not None:
            cut(self._connection)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._hang_up()

    async def return_anew(self) -> None:
        if self._asked is None:
            self._asked = self._loop.create_future()
        self._wake.set()
        await asyncio.shield(self._asked)

    def _start(self) -> None:
        self._wake.set()

    # The task: batch after batch while the store answers; while it is away, attempts to come back.

    async def _work(self) -> None:
        while not self._closed:
            try:
                await self._turns()
            except Exception:  # without this task every request would wait for ever
                log.exception("writer_failed")
                self._hang_up()
                self.away = True
                await asyncio.sleep(RETRY_S)

    async def _turns(self) -> None:
        while not self._closed:
            if self._asked is not None:
                self._hang_up()
                self.away = True
            if self._connection is None and (self.away or self._queue) and not await self._come_back():
                await asyncio.sleep(RETRY_S)
                continue
            if self._aside and self._aside.due(self._loop.time()):
                await self._look_again()
                continue
            if self._queue:
                await self._next()
                continue
            self._wake.clear()
            if self._aside:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), LOOK_AGAIN_S)
                continue
            self._rest()
            if not self._queue:
                await self._wake.wait()
            self._running = True

    async def _next(self) -> None:
        items = self._take()
        if self._aside.kept:
            items = self._aside.part(items, self._loop.time())
        if items:
            with Countdown(PATIENCE_S, lambda: self._let_down(items)):
                await self._try(items)

    def _let_down(self, items: Sequence[Item]) -> None:
        """This takes too long: tell everybody who waits, in the batch and behind it. A hold that is made all the same is given back.

        Units that need no rows have nobody behind them who waits for an answer.
        """
        waiting, self._queue = self._queue, deque()
        for item in (*items, *waiting):
            if not (item.unit.keep or item.future.done() or is_free(item.unit)):
                item.future.set_exception(StoreUnavailable())
        self._queue.extend(item for item in waiting if item.unit.keep or not item.future.done())
        kept = dict.fromkeys((*items, *self._queue))  # a unit that goes on is in both
        self._note([item for item in kept if item.unit.keep and not item.noted])

    async def _try(self, items: Sequence[Item]) -> None:
        late_s = self._loop.time() + PATIENCE_S - LOCK_MS / 1000
        for attempt in range(AGAIN_TIMES_MAX):
            try:
                await self._batch(items, SILENT_S)
            except AGAIN as error:
                if not await self._roll_back():
                    self._failed(items, error)
                    return
                if isinstance(error, psycopg.errors.LockNotAvailable):
                    items = await self._without_kept(items)
                else:
                    await asyncio.sleep(random.random() * 0.005)  # noqa: S311 - so that the same two do not meet again
                if attempt == AGAIN_TIMES_MAX - 1 or self._loop.time() > late_s:
                    await self._give_way(items, error)
                    return
            except _NotSeeded:
                self._known.clear()
                if not await self._roll_back():
                    self._failed(items, TimeoutError())
                    return
            except AWAY as error:
                if isinstance(error, TOO_MUCH):
                    await self._alone(items)
                else:
                    self._lost(items, error)
                return
            except Exception:  # noqa: BLE001 - a row that the database refuses, or one that cannot be sent
                await self._alone(items)
                return
            else:
                self._started_fresh = False
                self._committed(items)
                return
        self._failed(items, TimeoutError("the batch gave way to others again and again"))

    async def _without_kept(self, items: Sequence[Item]) -> Sequence[Item]:
        """Others keep rows for too long: units that need those wait aside. Gives the others, which are all when it was over just now."""
        kept: set[Key] = set()
        with suppress(psycopg.Error, *AWAY), Deadline(self._open, SILENT_S):  # whoever is next finds it out as well
            await end_stalled(self._open)
            kept = await kept_by_others(self._open, self._tables, keys_of(items))
        if not kept:
            return items
        log.warning("rows_kept_by_others", extra={"rows": len(kept), "units": len(items)})
        self._aside.keep_from(kept, self._loop.time())
        return self._aside.part(items, self._loop.time())

    async def _give_way(self, items: Sequence[Item], error: BaseException) -> None:
        """Somebody stands in the way all the time. Units that need no rows are run: the lease of this process is one."""
        self._failed([item for item in items if not is_free(item.unit)], error)
        if free := [item for item in items if is_free(item.unit)]:
            await self._alone(free)

    async def _look_again(self) -> None:
        """See which rows are still kept. Units that got what they need go on; who has waited too long is told."""
        try:
            with Deadline(self._open, SILENT_S):
                kept = await kept_by_others(self._open, self._tables, self._aside.kept)
        except (psycopg.Error, *AWAY):
            self._hang_up()
            return
        free, late = self._aside.again(kept, self._loop.time())
        self._queue.extendleft(reversed(free))
        self._weary(late)

    def _lost(self, items: Sequence[Item], error: BaseException) -> None:
        """The connection broke. What was not sent yet may be tried on a fresh one, once; the fate of a commit is unknown."""
        unsure = bool(self._sent)
        self._hang_up()
        fresh_start = not (unsure or self._started_fresh or self.away or isinstance(error, TimeoutError))
        self._started_fresh = fresh_start
        self.away = True
        if fresh_start:
            self._queue.extendleft(reversed(items))
            return
        self._failed(items, error, unsure=unsure)
        self._refuse_waiting()

    async def _come_back(self) -> bool:
        """Connect, and take up work again. While that fails, nobody waits who may be told."""
        try:
            self._connection = await connect(self._database)
            await end_stalled(self._connection)
            if self._begun and self.returning is not None:
                self._known.clear()
                await self.returning(self._run)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            self._hang_up()
            if not self._told:
                log.warning("store_away", extra={"reason": str(error).partition("\n")[0] or type(error).__name__})
            self.away = self._told = True
            self._refuse_waiting()
            self._answer(StoreUnavailable())
            return False
        if self.away:
            log.warning("store_back")
        self._begun, self.away, self._told = True, False, False
        self._answer(None)
        return True

    def _answer(self, failure: StoreUnavailable | None) -> None:
        """Tell whoever asked for a new life."""
        asked, self._asked = self._asked, None
        if asked is None or asked.done():
            return
        if failure is None:
            asked.set_result(None)
        else:
            asked.set_exception(failure)

    async def _run(self, units: Sequence[Unit]) -> list[Any]:
        items = [Item(unit, self._loop.create_future()) for unit in units]
        for attempt in range(AGAIN_TIMES_MAX):
            try:
                await self._batch(items, RETURN_S)
                break
            except AGAIN:
                if not await self._roll_back() or attempt == AGAIN_TIMES_MAX - 1:
                    raise
        for item in items:
            if item.error is not None:
                raise item.error
        return [item.result for item in items]

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        self._queue.extend(self._aside.everybody())
        if connection is not None:
            drop(connection)

    async def _roll_back(self) -> bool:
        """End a transaction that failed; False when the connection is of no more use.

        The driver believes that what it prepared in a pipeline that failed is there, and forgets it only at a ROLLBACK whose text it
        has not seen before (psycopg 3.3): without that, every later batch would be refused.
        """
        self._rolled_back += 1
        try:
            with Deadline(self._open, SILENT_S):
                await self._open.execute(f"ROLLBACK /* {self._rolled_back} */", prepare=False)
        except (psycopg.Error, *AWAY):
            self._hang_up()
            self.away = True
            return False
        return True

    @property
    def _open(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            raise TimeoutError("there is no connection")
        return self._connection

    async def _alone(self, items: Sequence[Item]) -> None:
        """A row was refused. Run the units one by one, so that only the one to blame fails."""
        if not await self._roll_back():
            self._failed(items, TimeoutError())
            return
        for at, item in enumerate(items):
            try:
                await self._batch([item], SILENT_S)
            except (_NotSeeded, *AGAIN):
                self._known.clear()
                await self._roll_back()
                self._queue.extendleft(reversed(items[at:]))
                return
            except Exception as error:  # noqa: BLE001 - it is this unit's own, unless the store is away
                if isinstance(error, AWAY) and not isinstance(error, TOO_MUCH):
                    self._lost(items[at:], error)
                    return
                self._refused(item, error)
                if not await self._roll_back():
                    self._failed(items[at + 1 :], TimeoutError())
                    return
            else:
                self._committed([item])

    # One batch.

    async def _batch(self, items: Sequence[Item], limit_s: float) -> None:
        self._sent = False
        live = self._live(items)
        if not live:
            return
        with Deadline(self._open, limit_s):
            needs = wanted(item.unit.needs() for item in live)
            await self._seed(live, needs)
            rows = await self._locked(needs)
            self._decide(live, rows)
            await self._write(rows)

    _sent = False
    """Whether the commit of the running batch may have reached the database."""

    async def _seed(self, items: Sequence[Item], needs: dict[str, set[Any]]) -> None:
        """Make the rows that several processes may make at once, before anybody locks them."""
        for name, ids in needs.items():
            missing = [key for key in ids if (name, key) not in self._known]
            if not missing:
                continue
            seeds = {}
            for item in items:
                for key in missing:
                    if key not in seeds and (row := item.unit.seed(name, key)) is not None:
                        seeds[key] = row
            if seeds:
                await self._open.execute(self._tables[name].seed, (row_list(seeds.values()),))
                if len(self._known) > KNOWN_ROWS_MAX:
                    self._known.clear()
                self._known.update(dict.fromkeys((name, key) for key in seeds))

    async def _locked(self, needs: dict[str, set[Any]]) -> Rows:
        rows = Rows(self._tables)
        cursors = {}
        async with self._open.pipeline():
            await self._open.execute("BEGIN")
            for name, table in self._tables.items():
                if ids := needs.get(name):
                    cursors[name] = await self._open.execute(table.lock, (list(ids),))
        for name, cursor in cursors.items():
            rows.put(name, await cursor.fetchall())
            if any(key not in rows.known[name] and (name, key) in self._known for key in needs[name]):
                raise _NotSeeded
        return rows

    async def _write(self, rows: Rows) -> None:
        connection = self._open
        async with connection.pipeline():
            for name, table in self._tables.items():
                if rows.deleted[name]:
                    await connection.execute(table.delete.postgres, (list(rows.deleted[name]),))
                saved, known = rows.saved[name], rows.known.get(name, frozenset())
                if fresh := [row for key, row in saved.items() if key not in known]:
                    await connection.execute(table.insert, (row_list(fresh),))
                if changed := [row for key, row in saved.items() if key in known]:
                    await connection.execute(table.save.postgres, (row_list(changed),))
            for statement, values in rows.writes.items():
                if isinstance(statement, Statement):
                    await connection.execute(statement.postgres, (row_list(values),))
                    continue
                sql = percent(statement.postgres if isinstance(statement, Text) else statement)
                for row in values:
                    await connection.execute(sql, row)
            self._sent = True
            await connection.execute("COMMIT")
