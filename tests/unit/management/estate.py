"""Two organisations in one database, and requests that spend in them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.support.store import USD, Bank, open_branch
from tests.unit.accounts.house import House

from modelgates_server.accounts.values import Caller
from modelgates_server.activity.generation import Cost, Generation, Origin, rows
from modelgates_server.ledger.values import Bill, Hold, HoldRequest, Refusal, Stale
from modelgates_server.management.key_values import KeyRow, NewKey
from modelgates_server.management.keys import create_key
from modelgates_server.management.members import MemberRow, NewMember, add_member
from modelgates_server.management.organizations import Founded, NewOrganization, create_organization
from modelgates_server.management.workspaces import find_workspace
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading


@dataclass(frozen=True)
class Asked:
    """A request, and what its settlement writes."""

    request: HoldRequest
    bill: Bill
    receipt: Any


@dataclass
class Estate:
    """The house's own organisation, and a foreign one that must never be seen."""

    house: House
    foreign: Founded
    folder: Path
    asked: int = 0

    @property
    def engine(self) -> sa.Engine:
        return self.house.engine

    @property
    def org(self) -> str:
        return self.house.made.organization_id

    @property
    def now_s(self) -> float:
        return self.house.clock.now_s()

    @property
    def workspace(self) -> str:
        return find_workspace(self.engine, self.org).id

    def member(self, name: str = "Ann", **wanted: str) -> MemberRow:
        self.house.clock.advance(1)  # lists are in the order of time
        return add_member(self.engine, self.org, NewMember(name, **wanted), "test", self.now_s)

    def key(self, name: str = "k", **wanted: object) -> tuple[str, KeyRow]:
        return create_key(self.engine, self.house.pepper, self.org, NewKey(name, **wanted), "test", self.now_s)

    async def caller(self, secret: str) -> Caller:
        """The caller as a process sees it that remembers nothing."""
        return await self.house.directory().identify([secret])

    async def spend(
        self, secret: str, usd: int, *, byok_usd: int = 0, app: str | None = None
    ) -> Hold | Refusal | Stale:
        """Run a request through the ledger and settle it with its receipt."""
        asked = await self.asked_for(secret, usd, byok_usd=byok_usd, app=app)
        async with self.bank() as bank:
            hold = await bank.ledger.hold(asked.request)
            if isinstance(hold, Hold):
                await bank.ledger.settle(hold, asked.bill, asked.receipt)
            return hold

    async def asked_for(self, secret: str, usd: int, *, byok_usd: int = 0, app: str | None = None) -> Asked:
        """A request that costs so much, with what it is settled by."""
        caller = await self.caller(secret)
        self.asked += 1
        nusd, byok_nusd = usd * USD, byok_usd * USD
        origin = Origin(
            id=f"gen-{self.asked}", organization_id=caller.organization_id, workspace_id=caller.workspace_id,
            member_id=caller.member_id, key_hash=caller.key_hash, created_at_ms=int(self.now_s * 1000),
            requested_model="m", model="a/m", streamed=False, app=app,
        )  # fmt: skip
        request = HoldRequest(
            origin.id, caller.organization_id, caller.policy_version, caller.meters_for(app), nusd, 0, 10,
            '{"provider": "p"}', self.now_s, nusd + byok_nusd,
        )  # fmt: skip
        receipt = Generation(origin, "completed", cost=Cost(nusd, nusd, byok_nusd=byok_nusd))
        return Asked(request, Bill(nusd, provider="p", byok_nusd=byok_nusd), rows(receipt))

    async def refused(self, secret: str, usd: int, **more: object) -> tuple[str, str] | None:
        """Spend; give the scope and the label of what refused, None when nothing did."""
        told = await self.spend(secret, usd, **more)
        return (str(told.scope), told.label) if isinstance(told, Refusal) else None

    def bank(self) -> AbstractAsyncContextManager[Bank]:
        """A serving process's ledger over the same database, in a life of its own."""
        return open_branch(self.house.database.url, self.folder, clock=self.house.clock)

    def noted(self) -> list[str]:
        """The actions of the audit log, oldest first."""
        with reading(self.engine) as connection:
            found = connection.execute(sa.select(schema.audit.c.action).order_by(schema.audit.c.id))
            return list(found.scalars())

    def version(self) -> int:
        with reading(self.engine) as connection:
            return int(connection.execute(sa.select(schema.policy.c.version)).scalar_one())


def open_estate(house: House, folder: Path) -> Estate:
    """Found the foreign organisation beside the house's own."""
    wanted = NewOrganization("Foreign", grant_nusd=50 * USD)
    founded = create_organization(house.engine, house.pepper, wanted, "test", house.clock.now_s())
    return Estate(house, founded, folder)
