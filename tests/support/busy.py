"""A database with everything in it: what the real ledger books, on every kind of meter, and a row in every other table."""

from __future__ import annotations

import random
from pathlib import Path

import sqlalchemy as sa
from msgspec.structs import replace

from modelgates_server import management
from modelgates_server.activity.generation import Cost, Generation, Origin, context, rows
from modelgates_server.activity.generation import lost as lost_receipt
from modelgates_server.dialects.values import Usage
from modelgates_server.ledger.values import Bill, Hold
from modelgates_server.limits import Scope, Window
from modelgates_server.management import Budget, NewKey
from modelgates_server.storage import schema
from modelgates_server.storage.copying import tally
from modelgates_server.storage.engine import Database, open_engine, transaction
from modelgates_server.storage.upgrades import looking
from tests.support.store import USD, Bank, open_branch
from tests.unit.accounts.house import House

ODD = "naïve — 数据 \t 'quote' \"double\" back\\slash \U0001f600 %s :name {brace} $1"
"""Texts that one store or another might take for something else."""


async def make_busy(house: House, folder: Path, *, requests: int = 40, open_: int = 3) -> None:
    """Set limits, run requests of all outcomes for days, leave some open, and put a row into every table that has none."""
    secrets = _policies(house)
    house.clock.advance(40 * 86400)  # every window begins anew: from here on, meters must say exactly what was used
    chance = random.Random(4)
    async with open_branch(house.database.url, folder, clock=house.clock) as bank:
        for number in range(requests):
            await one_request(house, bank, chance.choice(secrets), number, chance)
            house.clock.advance(chance.choice([1, 600, 30_000]))
        for number in range(requests, requests + open_):
            await take(house, bank, secrets[0], number, 2 * USD)
    with transaction(house.engine) as connection:
        fill_empty_tables(connection)


def _policies(house: House) -> list[str]:
    org, now_s = house.made.organization_id, house.clock.now_s()
    with house.engine.connect() as connection:
        workspace = connection.execute(sa.select(schema.workspaces.c.id)).scalars().first()
        member = connection.execute(sa.select(schema.members.c.id)).scalars().first()
    budgets = (
        Budget(Scope.WORKSPACE, workspace or "", Window.MONTH, 900 * USD),
        Budget(Scope.MEMBER, member or "", Window.DAY, 50 * USD, include_byok=True),
        Budget(Scope.MEMBER, member or "", Window.WEEK, 90 * USD, mode="soft"),
        Budget(Scope.APP, "Claude Code", Window.MONTH, 500 * USD),
        Budget(Scope.ORGANIZATION, org, Window.DAY, 800 * USD),
    )
    for budget in budgets:
        management.set_budget(house.engine, org, budget, "test", now_s)
    keys = (
        NewKey(ODD, limit_nusd=70 * USD, limit_reset="daily", member_id=member),
        NewKey(
            "weekly", limit_nusd=400 * USD, limit_reset="weekly", requests_per_minute=10**6, tokens_per_minute=10**9
        ),
    )
    made = [management.create_key(house.engine, house.pepper, org, key, "test", now_s)[0] for key in keys]
    return [house.made.api_key or "", *made]


async def take(
    house: House, bank: Bank, secret: str, number: int, amount_nusd: int, app: str | None = None
) -> tuple[Hold, Origin]:
    """Hold money for a request."""
    caller = await house.directory().identify([secret])
    meters = caller.app_meters.get(app, caller.meters) if app else caller.meters
    origin = Origin(
        id=f"gen-{number:06d}", organization_id=caller.organization_id, workspace_id=caller.workspace_id,
        member_id=caller.member_id, key_hash=caller.key_hash, created_at_ms=int(bank.clock.now_s() * 1000),
        requested_model="m", model="a/m", streamed=False, app=app, user_agent=ODD, session_id=f"s{number % 3}",
    )  # fmt: skip
    request = replace(
        bank.request(amount_nusd, meters=meters, version=caller.policy_version), id=origin.id,
        organization_id=caller.organization_id, context=context(origin, "p", "1"),
    )  # fmt: skip
    hold = await bank.ledger.hold(request)
    assert isinstance(hold, Hold), hold
    return hold, origin


async def one_request(
    house: House, bank: Bank, secret: str, number: int, chance: random.Random, most_nusd: int = 3 * USD
) -> None:
    """One request from hold to receipt, of any outcome: charged, free, over its bound, uncertain, on an own account, lost."""
    hold, origin = await take(
        house, bank, secret, number, chance.randrange(1, most_nusd), chance.choice([None, "Claude Code"])
    )
    cost = chance.choice([0, hold.amount_nusd // 2, hold.amount_nusd])
    loss, own = chance.choice([(0, 0), (0, 0), (7, 0), (0, 11)])
    unsure = chance.choice([(), (("q", 5),)])
    if chance.random() < 0.1:  # as a sweeper settles it
        bill = Bill(cost, provider="p")
        stored = {"context": context(origin, "p", "1"), "amount_nusd": hold.amount_nusd}
        await bank.ledger.settle(hold, bill, lost_receipt(stored, bill))
        return
    receipt = Generation(
        origin, chance.choice(["completed", "failed", "cancelled"]),
        usage=Usage(input_tokens=chance.randrange(1000), output_tokens=chance.randrange(1000)),
        cost=Cost(cost, cost + loss, held_nusd=hold.amount_nusd, byok_nusd=own), provider=chance.choice(["p", None]),
        inputs=b'{"text": "\\u0000"}', conversation=f"c{number % 5}",
    )  # fmt: skip
    await bank.ledger.settle(hold, Bill(cost, loss, chance.randrange(100), "p", unsure, own), rows(receipt))


def fill_empty_tables(connection: sa.Connection) -> None:
    """Put one row into every table without any; references point at rows that are there."""
    for table in schema.metadata.sorted_tables:
        if connection.execute(sa.select(sa.literal(1)).select_from(table)).first() is None:
            connection.execute(
                sa.insert(table).values({column.name: _value(connection, column) for column in table.columns})
            )


def _value(connection: sa.Connection, column: sa.Column[object]) -> object:
    named = {"organization_id": schema.organizations.c.id, "workspace_id": schema.workspaces.c.id}
    for key in column.foreign_keys:
        return connection.execute(sa.select(key.column)).scalars().first()
    if column.name in named:
        return connection.execute(sa.select(named[column.name])).scalars().first()
    if isinstance(column.type, sa.Text):
        return f"{column.name} {ODD}"
    return None if column.nullable else 9_223_372_036_854_775_807


def tallies(database: Database) -> dict[str, tuple[int, str]]:
    """Rows and digest of every table."""
    with looking(database) as connection:
        return {name: (found.rows, found.digest) for name, found in tally(connection).items()}


def execute(database: Database, statement: str) -> None:
    """Run a statement."""
    engine = open_engine(database)
    with transaction(engine) as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
