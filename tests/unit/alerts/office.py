"""What the tests of alerts share: an organisation, what it used, and what it was told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import sqlalchemy as sa

from modelgates_server.alerts.budgets import watch_budgets
from modelgates_server.alerts.credit import watch_credit
from modelgates_server.alerts.outbox import Outbox
from modelgates_server.alerts.rules import AlertRules, all_rules
from modelgates_server.clock import ManualClock
from modelgates_server.ledger.credit import credit_meter
from modelgates_server.ledger.units import new_meter
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.management.key_values import NewKey
from modelgates_server.management.keys import create_key
from modelgates_server.management.members import NewMember, add_member
from modelgates_server.management.organizations import NewOrganization, create_organization
from modelgates_server.management.setup import initialise
from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, open_engine, reading, transaction
from modelgates_server.storage.portable import upsert

USD = 10**9
SECRET = bytes(range(32))
START_S = 1_800_000_000.0  # Friday, 2027-01-15 08:00 UTC


@dataclass
class Office:
    """An initialised database with 100 USD of credit; `engine` is this process, `another` makes those of others."""

    url: str
    engine: sa.Engine
    stack: ExitStack
    clock: ManualClock = field(default_factory=lambda: ManualClock(START_S))
    organization_id: str = ""
    outbox: Outbox = field(default_factory=Outbox)

    def another(self) -> sa.Engine:
        """Another process's engine on the same database."""
        engine = open_engine(database_of(self.url))
        self.stack.callback(engine.dispose)
        return engine

    @property
    def now_s(self) -> float:
        return self.clock.now_s()

    def key(self, name: str = "ci", **settings: Any) -> str:
        """Make a key; gives its hash."""
        return create_key(self.engine, SECRET, self.organization_id, NewKey(name, **settings), "ann", self.now_s)[
            1
        ].hash

    def member(self, name: str = "Ann") -> str:
        return add_member(self.engine, self.organization_id, NewMember(name), "ann", self.now_s).id

    def workspace(self) -> str:
        spaces = schema.workspaces.c
        query = sa.select(spaces.id).where(spaces.organization_id == self.organization_id)
        with reading(self.engine) as connection:
            return str(connection.execute(query).scalar_one())

    def second_organization(self, name: str = "Other") -> str:
        wanted = NewOrganization(name, grant_nusd=100 * USD)
        return create_organization(self.engine, SECRET, wanted, "operator", self.now_s).organization.id

    def use(self, ref: MeterRef, nusd: int, organization_id: str = "") -> None:
        """Post what requests used to a meter of the running window; below zero for a correction."""
        row = new_meter(ref, ref.row_id(self.now_s), organization_id or self.organization_id, self.now_s)
        with transaction(self.engine) as connection:
            statement = upsert(connection, schema.meters).values(row | {"posted": max(0, nusd)})
            more = {"posted": schema.meters.c.posted + nusd}
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=more))

    def use_key(self, key_hash: str, nusd: int, window: Window = Window.MONTH, unit: Unit = Unit.NUSD) -> None:
        self.use(MeterRef(Scope.KEY, key_hash, unit, window), nusd)

    def use_credit(self, nusd: int) -> None:
        self.use(credit_meter(self.organization_id), nusd)

    def rules(self, **wishes: Any) -> list[AlertRules]:
        return [AlertRules(self.organization_id, "Organization", **wishes)]

    def watch(self, engine: sa.Engine | None = None, now_s: float | None = None) -> int:
        """Look at every limit, as upkeep does."""
        engine = engine or self.engine
        thresholds = {rules.organization_id: rules.thresholds for rules in all_rules(engine)}
        return watch_budgets(engine, self.outbox, thresholds, self.now_s if now_s is None else now_s)

    def watch_credit(self, low_usd: int | None = 10, engine: sa.Engine | None = None) -> int:
        low_nusd = None if low_usd is None else low_usd * USD
        return watch_credit(engine or self.engine, self.outbox, self.rules(low_balance_nusd=low_nusd), self.now_s)

    def told(self, organization_id: str = "") -> list[dict[str, Any]]:
        """Every alert of the organisation, oldest first."""
        known = schema.alerts.c
        query = sa.select(schema.alerts).where(known.organization_id == (organization_id or self.organization_id))
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(known.id)).mappings().all()
        return [dict(row) | {"details": json.loads(row["details"])} for row in rows]

    def percents(self) -> list[int]:
        """The thresholds that the organisation was told of, oldest first."""
        return [alert["details"]["threshold_percent"] for alert in self.told()]

    def deliveries(self) -> list[dict[str, Any]]:
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(sa.select(schema.alert_deliveries)).mappings()]

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


@contextmanager
def open_office(url: str) -> Iterator[Office]:
    """Initialise the database, and close everything at the end."""
    with ExitStack() as stack:
        office = Office(url, open_engine(database_of(url)), stack)
        stack.callback(office.engine.dispose)
        office.organization_id = initialise(office.engine, SECRET, 100 * USD, office.now_s).organization_id
        yield office


def at_once(work: Callable[[int], Any], threads: int = 8) -> list[Any]:
    """Run the work in threads that begin together; it gets the thread's number."""
    gate = Barrier(threads)

    def begin(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))
