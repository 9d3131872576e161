"""The group-commit writer: the one door through which the serving process changes the database.

It gathers units that arrive while the previous batch is being committed, and runs them as one transaction: read the rows
that all of them name in one statement per table, let each unit decide in turn on the batch's working copy, write what changed,
commit. It knows no domain words. When idle, a unit runs at once: nothing ever waits for a batch to fill.

Here is what both stores have in common: the queue, and what becomes of units when the store is away. `sqlite_writer.py` and
`postgres_writer.py` run the batches.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from modelgates_server.errors import StoreUnavailable
from modelgates_server.storage.hot import Lockable, Row
from modelgates_server.storage.rows import Rows, Unit

log = logging.getLogger(__name__)

BATCH_UNITS_MAX = 256
"""Beyond this a larger batch gains nothing (measured), and the loop would be held longer than 10 ms."""

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Where units say how much they write: more would take PostgreSQL longer than a batch may take, again and again."""

QUEUE_UNITS_MAX = 20_000
"""About a second of work at full speed; past it the store counts as unavailable instead of growing a queue."""

KEEP_WAIT_S = 30.0
"""Whoever waits for a unit that must not be lost, and that no journal could take, is told after this long that the store is away."""

RETRY_S = 0.25
"""Pause before units that must not be lost are tried again after the database failed."""


class Journal(Protocol):
    """Keeps records of units on this machine while the store is away. `storage/journal.py` is the one there is."""

    def write(self, records: Sequence[Row]) -> asyncio.Future[None]:
        """Write the records durably; the future fails when that is not possible."""
        ...

    def settled(self, count: int) -> None:
        """So many of the records reached the store; when none is left the journal begins anew."""
        ...


class Refused(StoreUnavailable):
    """The database serves, but does not take this one unit, nor its plainer form."""


class Noted:
    """What a waiter gets for a unit that stands in the journal, not yet in the store."""


NOTED = Noted()


class Item:
    """A unit in the queue, and who waits for it. `noted` is the journal's write of it, done or not, unless that failed."""

    __slots__ = ("error", "failing_since_s", "future", "noted", "result", "unit")

    def __init__(self, unit: Unit, future: asyncio.Future[Any]) -> None:
        self.unit = unit
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None
        self.failing_since_s: float | None = None
        self.noted: asyncio.Future[None] | None = None

    def resolve(self) -> None:
        """Tell whoever waits, or the unit itself when nobody does any more."""
        if self.future.done():
            if self.error is None:
                self.unit.abandoned(self.result)
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """The queue of units. Use it from the event loop only."""

    def __init__(self, tables: Iterable[Lockable]) -> None:
        self._tables = {table.name: table for table in tables}
        self._queue: deque[Item] = deque()
        self._running = False
        self._loop = asyncio.get_running_loop()
        self._idle: list[asyncio.Future[None]] = []
        self.journal: Journal | None = None
        self.away = False
        self.batches = 0
        self.units = 0
        self.refused = 0

    def submit(self, unit: Unit) -> asyncio.Future[Any]:
        """Queue a unit, synchronously: from here on it runs whatever happens to the caller.

        The future gives what `decide` returned, after the commit is durable; or `NOTED`, when the store is away and the journal
        took a unit that must not be lost. Raises StoreUnavailable when too much is waiting, or the store is away.
        """
        future = self._loop.create_future()
        if not unit.keep and (self.away or len(self._queue) >= QUEUE_UNITS_MAX):
            raise StoreUnavailable
        item = Item(unit, future)
        self._queue.append(item)
        if self.away:
            self._note([item])
        if not self._running:
            self._running = True
            self._start()
        return future

    async def drain(self, limit_s: float) -> bool:
        """Wait until everything queued is committed; False when the limit passed first."""
        if not self._running:
            return True
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._idle.append(waiter)
        with suppress(TimeoutError):
            await asyncio.wait_for(waiter, limit_s)
            return True
        return False

    async def close(self) -> None:
        """Give back what the writer holds of the database."""
        raise NotImplementedError

    def _start(self) -> None:
        """There is something in the queue, and nobody works on it."""
        raise NotImplementedError

    def _take(self) -> list[Item]:
        queue, size_bytes = self._queue, 0
        taken: list[Item] = []
        while queue and len(taken) < BATCH_UNITS_MAX and size_bytes < BATCH_BYTES_MAX:
            item = queue.popleft()
            taken.append(item)
            size_bytes += item.unit.size_bytes
        return taken

    def _live(self, items: Sequence[Item]) -> list[Item]:
        """Those that somebody still wants. A unit that nobody waits for any more, and that may be given up, writes nothing."""
        live = []
        for item in items:
            if item.unit.keep or not item.future.done():
                live.append(item)
            else:
                item.error = StoreUnavailable()
        return live

    @staticmethod
    def _decide(items: Sequence[Item], rows: Rows) -> None:
        for item in items:
            item.result, item.error = None, None
            try:
                item.result = item.unit.decide(rows)
            except Exception as error:  # noqa: BLE001 - one unit's failure is its own
                item.error = error

    def _committed(self, items: Sequence[Item]) -> None:
        self.batches += 1
        self.units += len(items)
        for item in items:
            if item.error is not None:
                if item.unit.keep:
                    self._refused(item, item.error)
                    continue
                if not item.future.done():  # somebody who left while waiting is nothing to report
                    log.error("unit_refused", extra={"reason": str(item.error), "kept": False})
            elif (more := item.unit.follow(item.result)) is not None:
                item.unit = more
                self._queue.append(item)
                continue
            if item.noted is not None:
                item.noted.add_done_callback(self._settled)
            item.resolve()

    def _refused(self, item: Item, error: Exception) -> None:
        """The database does not take a unit, or the unit fails by itself: it would again. Its plainer form, if it has one, goes on.

        One that has none is given up, or it would be in everybody's way for ever; what must not be lost goes into the journal.
        """
        reason = _reason(error)
        log.error("unit_refused", extra={"reason": reason, "kept": item.unit.keep}, exc_info=error)
        if (plainer := _plainer(item.unit, reason)) is not None:
            item.unit = plainer
            item.result = item.error = None
            self._queue.append(item)
            return
        item.error = Refused(f"the database refused a change: {reason}")
        if not item.unit.keep:
            item.resolve()
            return
        self.refused += 1
        log.critical("unit_given_up", extra={"reason": reason})
        if item.noted is None and self.journal is not None:
            if item.future.done():  # written down also when nobody waits for it any more
                item.future = self._loop.create_future()
            self._note([item])
        if item.noted is None:
            item.resolve()

    def _settled(self, written: asyncio.Future[None]) -> None:
        """A unit that the journal took is in the store; one that it did not take it has not counted."""
        if self.journal is not None and not written.cancelled() and written.exception() is None:
            self.journal.settled(1)

    def _failed(self, items: Sequence[Item], failure: BaseException, *, unsure: bool = False) -> None:
        """The database did not take the batch: refuse what can be refused, keep what must not be lost at the queue's head."""
        log.error("store_failed", extra={"reason": str(failure) or type(failure).__name__, "units": len(items)})
        kept = []
        for item in items:
            if item.unit.keep:
                kept.append(item)
                continue
            if unsure and item.error is None:
                item.unit.unsure(item.result)
            item.error = StoreUnavailable()
            item.resolve()
        for item in kept:
            item.result, item.error = None, None
            self._tire(item)
        self._queue.extendleft(reversed(kept))
        self._note([item for item in kept if not item.noted])

    def _refuse_waiting(self) -> None:
        """The store is away: nobody waits for it who may be told so, and when nothing is owed, nobody who drains either."""
        waiting, self._queue = self._queue, deque()
        for item in waiting:
            if item.unit.keep:
                self._queue.append(item)
            else:
                item.error = StoreUnavailable()
                item.resolve()
        self._note([item for item in self._queue if not item.noted])
        if not self._queue:
            self._rest()

    def _note(self, items: Sequence[Item]) -> None:
        """Write units that must not be lost into the journal, and then let go whoever waits for them."""
        if self.journal is None:
            return
        told = [
            (item, record) for item in items if not item.future.done() and (record := item.unit.record()) is not None
        ]
        if not told:
            return
        written = self.journal.write([record for _, record in told])
        for item, _ in told:
            item.noted = written
        written.add_done_callback(lambda done: _let_go([item for item, _ in told], done))

    def _weary(self, items: Sequence[Item]) -> None:
        """They have waited too long: refuse what can be refused, note the rest."""
        for item in items:
            if item.unit.keep:
                self._tire(item)
            else:
                item.error = StoreUnavailable()
                item.resolve()
        self._note([item for item in items if item.unit.keep and not item.noted])

    def _tire(self, item: Item) -> None:
        """Tell whoever waits for a unit that keeps failing; the unit itself is tried again."""
        now_s = self._loop.time()
        if item.failing_since_s is None:
            item.failing_since_s = now_s
        elif now_s - item.failing_since_s > KEEP_WAIT_S and not item.future.done():
            item.future.set_exception(StoreUnavailable())

    def _rest(self) -> None:
        self._running = False
        waiters, self._idle = self._idle, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


Run = Callable[[Sequence[Unit]], Awaitable[list[Any]]]
"""Runs units as one batch, ahead of the queue, and gives their results."""


class Distributed(Writer):
    """A writer whose store can go away and come back without its newest commits.

    `returning` is awaited after every new connection but the first, before anything else is admitted.
    """

    returning: Callable[[Run], Awaitable[None]] | None = None

    async def return_anew(self) -> None:
        """Do the same as after an outage, between two batches. Raises StoreUnavailable."""
        raise NotImplementedError


def _let_go(items: Sequence[Item], written: asyncio.Future[None]) -> None:
    if written.cancelled() or (error := written.exception()) is not None:
        reason = "cancelled" if written.cancelled() else str(error)
        log.error("journal_failed", extra={"reason": reason, "units": len(items)})
        for item in items:
            item.noted = None  # they wait for the store, as if there were no journal
            if isinstance(item.error, Refused):
                item.resolve()
        return
    for item in items:
        if not item.future.done():
            item.future.set_result(NOTED)


def _reason(error: Exception) -> str:
    """Why, without the row: PostgreSQL adds it to what it says, and drivers quote what they cannot send."""
    if isinstance(error, ValueError):
        return type(error).__name__
    return str(error).partition("\n")[0] or type(error).__name__


def _plainer(unit: Unit, why: str) -> Unit | None:
    try:
        return unit.plainer(why)
    except Exception:
        log.exception("no_plainer_form")
        return None


Decide = Callable[[Rows], Any]
"""The shape of `Unit.decide`, for units made from a function."""


class Plain:
    """What most units have in common: nothing to begin with, nothing to take back, nothing for the journal."""

    keep = False
    size_bytes = 0

    def seed(self, _table: str, _key: Any) -> Row | None:
        return None

    def abandoned(self, result: Any) -> None:
        """Nothing to take back."""

    def follow(self, _result: Any) -> Unit | None:
        return None

    def unsure(self, result: Any) -> None:
        """Nothing to take back."""

    def plainer(self, _why: str) -> Unit | None:
        return None

    def record(self) -> Row | None:
        return None


class Simple(Plain):
    """A unit made from a function, for changes that need no class of their own."""

    def __init__(self, decide: Decide, needs: Mapping[str, Iterable[Any]] | None = None, *, keep: bool = False) -> None:
        self.keep = keep
        self._decide = decide
        self._needs = needs or {}

    def needs(self) -> Mapping[str, Iterable[Any]]:
        return self._needs

    def decide(self, rows: Rows) -> Any:
        return self._decide(rows)
