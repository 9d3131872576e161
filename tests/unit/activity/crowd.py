"""Receipts of many requests of two organisations, kept as the gateway keeps them: one by one, and added up by the hour and by the day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import sqlalchemy as sa

from modelgates_server.activity.generation import SUMS, Cost, Generation, Origin, rows
from modelgates_server.dialects.values import Usage
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.storage.portable import upsert

ORG, OTHER = "org-a", "org-b"
NOW_S = 1_800_000_000
"""2027-01-15 08:00:00 UTC, a Friday."""

MODELS = ("anthropic/claude-opus-4.8", "anthropic/claude-haiku-4.5")
PROVIDERS = ("anthropic", "bedrock", None)


@dataclass(frozen=True)
class Did:
    """One request, in the few facts that reports tell apart."""

    ago_ms: int = 60_000
    organization_id: str = ORG
    key: int = 0
    model: str = MODELS[0]
    provider: str | None = "anthropic"
    outcome: str = "completed"
    tokens: tuple[int, int, int, int, int, int] = (100, 20, 5, 30, 4, 2)
    cost_nusd: int = 1_000
    byok_nusd: int = 0
    latency_ms: int | None = 500
    generation_ms: int | None = 2_000
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def at_ms(self) -> int:
        return NOW_S * 1000 - self.ago_ms

    @property
    def key_hash(self) -> str:
        return f"{self.organization_id}-key-{self.key}"

    @property
    def member_id(self) -> str | None:
        """Key 0 is nobody's."""
        return f"{self.organization_id}-member-{self.key % 2}" if self.key else None

    @property
    def workspace_id(self) -> str:
        return f"{self.organization_id}-workspace-{self.key % 2}"

    def generation(self, number: int) -> Generation:
        origin = Origin(
            id=f"gen-{self.at_ms:014d}-{number:06d}", organization_id=self.organization_id, key_hash=self.key_hash,
            workspace_id=self.workspace_id, member_id=self.member_id, created_at_ms=self.at_ms, requested_model="m",
            model=self.model, streamed=bool(number % 2), **self.more,
        )  # fmt: skip
        put, out, thought, read, short, long = self.tokens
        usage = Usage(
            input_tokens=put, output_tokens=out, thinking_tokens=thought, cache_read_tokens=read,
            cache_write_5m_tokens=short, cache_write_1h_tokens=long,
        )  # fmt: skip
        cost = Cost(self.cost_nusd, self.cost_nusd + 7, 3, 0, "t", byok_nusd=self.byok_nusd)
        return Generation(
            origin, self.outcome, usage, cost, self.provider, finish_reason="end_turn" if self.provider else None,
            latency_ms=self.latency_ms, generation_ms=self.generation_ms,
        )  # fmt: skip


def settle(engine: sa.Engine, crowd: Iterable[Did], *, days: bool = True) -> list[str]:
    """Write the receipts with their hours and days; gives the ids. A server of the version before writes no `days`."""
    receipts, tables = [], [schema.activity_hours, *([schema.activity_days] if days else [])]
    sums: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {table.name: {} for table in tables}
    for number, did in enumerate(crowd):
        (_, receipt), (_, share), *_ = rows(did.generation(number))
        receipts.append(receipt)
        for table in tables:
            row = {column.name: share[column.name] for column in table.columns}
            known = sums[table.name].setdefault(tuple(row[column.name] for column in table.primary_key.columns), row)
            if known is not row:
                known |= {name: known[name] + row[name] for name in _added(table)}
    with transaction(engine) as connection:
        if not receipts:
            return []
        connection.execute(sa.insert(schema.generations), receipts)
        for table in tables:
            adding = upsert(connection, table)
            changes = {name: table.c[name] + adding.excluded[name] for name in _added(table)}
            keys = list(table.primary_key.columns)
            connection.execute(
                adding.on_conflict_do_update(index_elements=keys, set_=changes), list(sums[table.name].values())
            )
    return [receipt["id"] for receipt in receipts]


def _added(table: sa.Table) -> list[str]:
    return [name for name in (*SUMS, "cache_discount_nusd") if name in table.columns]


def found_organizations(engine: sa.Engine) -> None:
    """Two organisations with the same shape: two workspaces, two members, four keys."""
    with transaction(engine) as connection:
        for org in (ORG, OTHER):
            at = {"organization_id": org, "created_at_s": 1}
            connection.execute(sa.insert(schema.organizations).values(id=org, name=org, created_at_s=1))
            for number in range(2):
                place, member = f"{org}-workspace-{number}", f"{org}-member-{number}"
                connection.execute(
                    sa.insert(schema.workspaces).values(id=place, slug=place, name=f"Place {number}", **at)
                )
                connection.execute(
                    sa.insert(schema.members).values(
                        id=member, name=f"Member {number}", email=f"{number}@{org}.example", role="member", **at
                    )
                )
            for number in range(4):
                values = {"hash": f"{org}-key-{number}", "name": f"key {number}", "label": "sk-…", "class": "inference"}
                connection.execute(
                    sa.insert(schema.api_keys).values(
                        **values, workspace_id=f"{org}-workspace-{number % 2}", updated_at_s=1, **at
                    )
                )


def someone(random: Random, days: int = 20) -> Did:
    """A request that might have happened."""
    return Did(
        ago_ms=random.randrange(days * 86_400_000),
        organization_id=random.choice((ORG, ORG, OTHER)),
        key=random.randrange(4),
        model=random.choice(MODELS),
        provider=random.choice(PROVIDERS),
        outcome=random.choice(("completed", "completed", "failed", "broken", "cancelled", "lost")),
        tokens=tuple(random.randrange(3_000) for _ in range(6)),
        cost_nusd=random.randrange(10**9),
        byok_nusd=random.choice((0, 0, random.randrange(10**9))),
        latency_ms=random.choice((None, random.randrange(5_000))),
        generation_ms=random.choice((None, random.randrange(60_000))),
        more={"app": random.choice((None, "desk")), "session_id": random.choice((None, "s-1", "s-2"))},
    )
