"""A world of serving processes around one ledger, moved by a seeded scheduler: every run of a seed is the same run.

Everything that decides about money is the real thing: `Ledger`, the units, the writer's queue and failure handling, the statements,
SQLite. What is played is when things happen: whose batch comes next and whether its commit is heard, who dies, stops, wakes or
comes back, what the clocks say, and which message arrives twice.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.store import ORG

from modelgates_server.activity import generation
from modelgates_server.activity.generation import Cost, Generation, Origin
from modelgates_server.clock import SteadyClock
from modelgates_server.dialects.values import Usage
from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger import credit, owner
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.ledger.units import TABLES
from modelgates_server.ledger.values import Bill, Hold, HoldRequest, Refusal
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.storage.hot import Row
from modelgates_server.storage.rows import Unit as Change
from modelgates_server.storage.rows import wanted
from modelgates_server.storage.sqlite_writer import flush, read
from modelgates_server.storage.writer import NOTED, Distributed, Item

START_S = 1_798_760_700.0
"""A quarter of an hour before a day, a month and a year end together."""

TRUE = "outcome <> 'lost' OR estimated = 0"
"""Receipts that say what a request cost, not what a sweeper supposed."""

TURNS = 6
"""Turns of the loop after each step: enough for every callback that the step set off."""


@dataclass
class Machine:
    """A machine's clocks. The wall clock may be set to anything; the monotonic one is the truth that nobody can change."""

    world: World
    skew_s: float = 0.0

    def now_s(self) -> float:
        return self.world.true_s + self.skew_s

    def monotonic_s(self) -> float:
        return self.world.true_s - START_S


class PlayedReader:
    """Reads what is committed."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def all(self, statement: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        cursor = self._world.connection.execute(statement, values or {})
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, found, strict=True)) for found in cursor]

    async def one(self, statement: str, values: Mapping[str, Any] | None = None) -> Row | None:
        rows = await self.all(statement, values)
        return rows[0] if rows else None

    async def close(self) -> None:
        """The world owns the connection."""


class PlayedWriter(Distributed):
    """The writer's own queue, one batch at a time, when the scheduler says so."""

    def __init__(self, world: World) -> None:
        super().__init__(TABLES)
        self._world = world

    def _start(self) -> None:
        """The scheduler looks for work by itself."""

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def step(self, count: int, fate: str) -> None:
        """Run a batch of at most `count` units. `fate` is heard, refused (rolled back) or unheard (committed, nobody knows)."""
        items = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        if fate == "refused":
            self.away = True
            self._failed(items, OSError("played"))
            self._refuse_waiting()
            return
        self._commit(items)
        if fate == "heard":
            self._committed(items)
            return
        self.away = True
        self._failed(items, OSError("played"), unsure=True)
        self._refuse_waiting()

    async def run(self, units: Sequence[Change]) -> list[Any]:
        items = [Item(unit, self._loop.create_future()) for unit in units]
        self._commit(items)
        return [item.result for item in items]

    def _commit(self, items: Sequence[Item]) -> None:
        live = self._live(items)
        with self._world.connection:
            rows = read(self._world.connection, self._tables, wanted(item.unit.needs() for item in live))
            before = {key: dict(row) for key, row in rows._rows["meters"].items()}
            self._decide(live, rows)
            flush(self._world.connection, rows)
        self._world.committed(before, [item for item in live if item.error is None])


class PlayedJournal:
    """What a machine's disk keeps when its process dies."""

    def __init__(self) -> None:
        self.records: list[Row] = []
        self._open = 0

    def write(self, records: Sequence[Row]) -> asyncio.Future[None]:
        self.records += records
        self._open += len(records)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.set_result(None)
        return written

    def settled(self, count: int) -> None:
        self._open -= count
        if self._open <= 0:
            self.records, self._open = [], 0


@dataclass
class Process:
    """One life of a serving process."""

    machine: Machine
    clock: SteadyClock
    writer: PlayedWriter
    journal: PlayedJournal
    ledger: Ledger
    stopped: bool = False
    holds: dict[str, Hold] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


@dataclass
class World:
    """The store, the processes, and what is known to be true about them."""

    connection: sqlite3.Connection
    dice: random.Random
    true_s: float = START_S
    processes: list[Process] = field(default_factory=list)
    journals: list[list[Row]] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    promised: dict[str, int] = field(default_factory=dict)
    """By hold: what a settlement costs that some client was told is booked."""
    origins: dict[str, Origin] = field(default_factory=dict)
    costs: dict[str, int] = field(default_factory=dict)
    forgiven: set[str] = field(default_factory=set)
    """What a store that lost its newest commits took with it: only a synchronous replica could have kept that."""
    told_off: dict[str, Process] = field(default_factory=dict)
    """Requests that were told that the store is away, and by whom: nobody may be charged for them."""
    snapshot: bytes = b""
    events: Counter[str] = field(default_factory=Counter)

    # What a step can be.

    async def start(self) -> None:
        """A process starts: it takes an epoch and books what dead ones left."""
        machine = Machine(self, self.dice.choice((0.0, 0.0, 3.0, -8.0, -3600.0, 40 * 86_400.0)))
        writer, journal = PlayedWriter(self), PlayedJournal()
        clock = SteadyClock(machine, self.true_s)
        reader = PlayedReader(self)
        epoch = await owner.begin(lambda unit: _first(writer.run([unit])), reader, "played", clock.now_s())
        ledger = Ledger(writer, clock, epoch, name="played", distributed=True)
        writer.journal = journal
        self.processes.append(Process(machine, clock, writer, journal, ledger))
        left, self.journals = self.journals, []
        for records in left:
            await self._replay(self.processes[-1], records)

    async def _replay(self, process: Process, records: list[Row]) -> None:
        task = asyncio.get_running_loop().create_task(process.ledger.replay(records))
        while not task.done():
            process.writer.step(256, "heard")
            await turns()
        await task
        self.events["replayed"] += len(records)

    def ask(self, process: Process) -> None:
        """A request arrives."""
        self.asked += 1
        number = self.dice.randrange(3)
        key, member = f"k{number}", f"m{number % 2}"
        meters = (
            MeterRef(Scope.KEY, key, Unit.REQUESTS, Window.MINUTE, self.limits["requests"]),
            MeterRef(Scope.KEY, key, Unit.PARALLEL, Window.LIFE, self.limits["parallel"]),
            MeterRef(Scope.MEMBER, member, Unit.NUSD, Window.DAY, self.limits[member]),
            MeterRef(Scope.WORKSPACE, "w", Unit.SPEND, Window.MONTH, self.limits["w"]),
            MeterRef(Scope.KEY, key, Unit.NUSD, Window.LIFE),
            credit.credit_meter(ORG),
        )
        now_s, amount = process.clock.now_s(), self.dice.randint(1, 100)
        origin = Origin(f"gen-{self.asked:06d}", ORG, "w", member, key, int(now_s * 1000), "m", "m", streamed=True)
        self.origins[origin.id] = origin
        request = HoldRequest(
            origin.id,
            ORG,
            self.version(),
            meters,
            amount,
            amount // 4,
            10,
            generation.context(origin, "sim", "t"),
            now_s,
        )
        process.tasks.append(asyncio.get_running_loop().create_task(self._hold(process, request)))

    async def _hold(self, process: Process, request: HoldRequest) -> None:
        try:
            result = await process.ledger.hold(request)
        except StoreUnavailable:
            self.events["unavailable"] += 1
            self.told_off[request.id] = process
            return
        if isinstance(result, Hold):
            process.holds[result.id] = result
            self.events["held"] += 1
        elif isinstance(result, Refusal):
            self.events[f"refused {result.scope} {result.unit}"] += 1
        else:
            self.events["stale"] += 1

    def settle(self, process: Process, hold: Hold, *, twice: bool) -> None:
        """An answer ends; now and then the settlement comes twice, or the provider broke the bound."""
        if not twice:
            del process.holds[hold.id]
        cost = self.costs.setdefault(hold.id, self.dice.randint(0, hold.amount_nusd * 5 // 4))
        charged = min(cost, hold.amount_nusd)
        origin = self.origins[hold.id]
        usage = Usage(estimated=self.dice.random() < 0.2)
        receipt = Generation(origin, "completed", usage, Cost(charged, cost, 0, hold.amount_nusd, "t"), provider="sim")
        done = process.ledger.settle(hold, Bill(cost, tokens=7, provider="sim"), generation.rows(receipt))
        done.add_done_callback(lambda done: self._told(hold.id, charged, done))

    def _told(self, hold_id: str, charged: int, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        result = done.result()
        if result is NOTED:
            self.events["noted"] += 1
            self.promised.setdefault(hold_id, charged)
        elif not result.late:
            self.promised[hold_id] = charged

    async def sweep(self, process: Process) -> None:
        """Somebody looks for holds of the dead."""
        task = asyncio.get_running_loop().create_task(process.ledger.sweep(PlayedReader(self), generation.lost))
        for _ in range(20):
            process.writer.step(256, "heard")
            await turns()
            if task.done():
                break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def come_back(self, process: Process) -> None:
        """The store answers again: a new epoch, then everything that is open under it."""
        await process.ledger.come_back(process.writer.run, PlayedReader(self))
        process.writer.away = False
        self.events["came back"] += 1

    def die(self, process: Process) -> None:
        """Nothing is left of it but its journal."""
        for task in process.tasks:
            task.cancel()
        self.processes.remove(process)
        self.journals.append(process.journal.records)
        self.events["died"] += 1

    def fail_over(self) -> None:
        """The store comes back as it was some time ago; every connection is broken."""
        self.connection.close()
        self.connection = open_copy(self.snapshot)
        known = {row[0] for row in self.connection.execute(f"SELECT id FROM generations WHERE {TRUE}")}
        self.forgiven |= set(self.promised) - known
        for process in self.processes:
            process.writer.away = True
            process.writer._refuse_waiting()
        self.events["failed over"] += 1

    def change_limit(self) -> None:
        """Somebody changes a limit."""
        name = self.dice.choice([name for name in self.limits if name not in {"requests", "parallel"}])
        self.limits[name] = self.dice.randint(0, 800)
        with self.connection:
            self.connection.execute("UPDATE policy SET version = version + 1")

    def version(self) -> int:
        return int(self.connection.execute("SELECT version FROM policy").fetchone()[0])

    # What must be true after every step.

    def committed(self, before: Mapping[str, Row], items: Sequence[Item]) -> None:
        """An admission never lifts a meter above its limit; whatever else happens, what is held is what open holds hold."""
        admitted = {line.meter_id for item in items if isinstance(item.result, Hold) for line in item.result.lines}
        query = "SELECT h.id FROM holds h JOIN processes p ON p.epoch = h.epoch WHERE p.ended_at_s IS NOT NULL"
        orphans = {row[0] for row in self.connection.execute(query)}
        assert not orphans & {item.result.id for item in items if isinstance(item.result, Hold)}, "held by a dead owner"
        cursor = self.connection.execute('SELECT id, "limit", posted, held, unit FROM meters')
        held = Counter[str]()
        for (lines,) in self.connection.execute("SELECT lines FROM holds"):
            for meter_id, _, amount in _json(lines):
                held[meter_id] += amount
        for meter_id, limit, posted, held_now, unit in cursor:
            assert held_now == held[meter_id], (meter_id, held_now, held[meter_id])
            grew = held_now > before.get(meter_id, {"held": 0})["held"]
            if limit is not None and grew and meter_id in admitted and unit != "tokens":
                assert posted + held_now <= limit, (meter_id, posted, held_now, limit)

    def check(self) -> None:
        """The books: every charge once, meters are the sums of their charges."""
        query = "SELECT generation_id, COUNT(*) FROM entries WHERE kind = 'charge' GROUP BY 1 HAVING COUNT(*) > 1"
        assert self.connection.execute(query).fetchall() == []
        query = "SELECT COALESCE(SUM(CASE WHEN debit = :me THEN amount_nusd ELSE -amount_nusd END), 0) FROM entries"
        booked = self.connection.execute(
            query + " WHERE kind <> 'grant' AND :me IN (debit, credit)", {"me": f"customer:{ORG}"}
        )
        posted = self.connection.execute(
            "SELECT posted FROM meters WHERE id = ?", (credit.credit_meter(ORG).row_id(0),)
        )
        assert booked.fetchone() == posted.fetchone()

    def check_promises(self) -> None:
        """Whatever a client was told is booked costs exactly that, in the end; at most what was left of a budget is missing."""
        found = dict(self.connection.execute(f"SELECT id, cost_nusd FROM generations WHERE {TRUE}"))
        for hold_id, process in self.told_off.items():
            assert process not in self.processes or not found.get(hold_id), (hold_id, "charged, but was told off")
        for hold_id, charged in self.promised.items():
            if hold_id in self.forgiven:
                continue
            assert found.get(hold_id, -1) <= charged, hold_id
            missing = charged - found[hold_id]
            query = "SELECT COALESCE(SUM(amount_nusd), 0) FROM entries WHERE kind = 'overrun' AND generation_id = ?"
            (operator,) = self.connection.execute(query, (hold_id,)).fetchone()
            assert missing == 0 or operator >= missing, (hold_id, charged, found[hold_id], operator)


def open_copy(data: bytes) -> sqlite3.Connection:
    """A database in memory that begins as `data`."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(data)
    return connection


def _json(text: str) -> Any:
    return generation.msgspec.json.decode(text)


async def _first(run: Any) -> Any:
    return (await run)[0]


async def turns() -> None:
    """Let everything happen that is due."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


__all__ = ["ORG", "Process", "Usage", "World", "turns"]
