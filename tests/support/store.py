"""A real database in a temporary folder, with one organisation's credit, for tests of what lies above it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from modelgates_server.clock import ManualClock, SystemClock
from modelgates_server.ledger import credit
from modelgates_server.ledger.ledger import HoldRequest, Ledger
from modelgates_server.ledger.owner import register
from modelgates_server.ledger.units import TABLES
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.storage import schema
from modelgates_server.storage.engine import Database, connect, database_of, open_engine, transaction
from modelgates_server.storage.opening import Store, open_store
from modelgates_server.storage.reader import Lookups, Reader, SqliteReader
from modelgates_server.storage.sqlite_writer import SqliteWriter
from modelgates_server.storage.writer import Distributed, Writer
from modelgates_server.tasks import Tasks

ORG = "org-test"
USD = 1_000_000_000


def make_database(where: Path | Database, credit_nusd: int) -> None:
    """Create the schema where it is missing, one policy row and a grant."""
    engine = open_engine(where)
    schema.metadata.create_all(engine)
    with transaction(engine) as connection:
        connection.execute(sa.insert(schema.policy).values(id=1, version=1))
        if credit_nusd:
            credit.grant(connection, ORG, credit_nusd, "test", "test", 0)
    engine.dispose()


@dataclass
class Bank:
    """A ledger over a real database."""

    path: Path
    ledger: Ledger
    writer: Writer
    reader: Lookups
    serving: Reader
    clock: ManualClock = field(default_factory=ManualClock)
    made: int = 0
    store: Store | None = None

    def request(
        self, amount_nusd: int, *, meters: tuple[MeterRef, ...] | None = None, tokens: int = 10, version: int = 1
    ) -> HoldRequest:
        """A request for a hold on the organisation's credit, and on a key's life meter."""
        self.made += 1
        meters = meters if meters is not None else (key_meter(), credit.credit_meter(ORG))
        return HoldRequest(
            f"gen-{self.ledger.epoch:03d}-{self.made:06d}", ORG, version, meters, amount_nusd, amount_nusd // 10, tokens,
            '{"origin": {}, "provider": "sim", "price_version": "t"}', self.clock.now_s(),
        )  # fmt: skip

    def meter(self, ref: MeterRef) -> dict[str, int]:
        """A meter's row; zeros when it does not exist."""
        row = self.reader.one("SELECT * FROM meters WHERE id = :id", {"id": ref.row_id(self.clock.now_s())})
        return row or {"posted": 0, "held": 0, "limit": 0}

    def overspent(self) -> list[dict[str, int]]:
        """Meters that break the promise."""
        return self.reader.all('SELECT * FROM meters WHERE "limit" IS NOT NULL AND posted + held > "limit"')

    def count(self, table: str) -> int:
        return self.reader.all(f"SELECT COUNT(*) AS n FROM {table}")[0]["n"]


def key_meter(limit: int | None = None, window: Window = Window.LIFE, unit: Unit = Unit.NUSD) -> MeterRef:
    return MeterRef(Scope.KEY, "key-test", unit, window, limit)


@asynccontextmanager
async def open_bank(path: Path, credit_nusd: int = 100 * USD, epoch: int = 1) -> AsyncIterator[Bank]:
    """A bank over the SQLite file `path`, made when it is not there."""
    if not path.exists():  # noqa: ASYNC240 - nothing else runs yet
        make_database(path, credit_nusd)
    clock = ManualClock()
    writer = SqliteWriter(connect(path), TABLES)
    reader, serving = Lookups(path), SqliteReader(path)
    try:
        yield Bank(path, Ledger(writer, clock, epoch), writer, reader, serving, clock)
    finally:
        await writer.drain(5)
        await writer.close()
        await serving.close()
        reader.close()


@asynccontextmanager
async def open_branch(
    url: str, folder: Path, *, credit_nusd: int | None = None, clock: ManualClock | None = None
) -> AsyncIterator[Bank]:
    """One serving process's bank on a database of either kind, with a life and a journal of its own.

    The first one gives `credit_nusd`, and so makes the database's rows.
    """
    database, clock, tasks = database_of(url), clock or ManualClock(), Tasks()
    if credit_nusd is not None:
        make_database(database, credit_nusd)
    try:
        async with open_store(database, TABLES, folder, SystemClock(), tasks.spawn) as store:
            epoch = await register(store.writer, store.reader, store.name, clock.now_s())
            ledger = Ledger(store.writer, clock, epoch, name=store.name, distributed=database.distributed)
            if isinstance(store.writer, Distributed):
                store.writer.returning = partial(ledger.come_back, reader=store.reader)
            reader = Lookups(database)
            yield Bank(folder, ledger, store.writer, reader, store.reader, clock, store=store)
            ledger.farewell()
            await store.writer.drain(5)
            reader.close()
    finally:
        await tasks.close()


@contextmanager
def engine_of(path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(path)
    try:
        yield engine
    finally:
        engine.dispose()
