"""Receipts written by the very statements of the gateway, roll-ups included, without its writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from tests.unit.activity.crowd import NOW_S, ORG

from modelgates_server.activity.generation import Attempt, Cost, Generation, Origin, rows
from modelgates_server.dialects.values import Usage
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.storage.hot import Row, Statement, row_list
from modelgates_server.storage.portable import is_postgres

TABLES = (schema.generations, schema.activity_hours, schema.activity_days, schema.provider_hours)


@dataclass(frozen=True)
class Asked:
    """One request: what it was, and when."""

    at_ms: int = NOW_S * 1000 - 60_000
    key: int = 0
    member: int | None = None
    workspace: int = 0
    model: str = "anthropic/claude-opus-4.8"
    provider: str | None = "anthropic"
    outcome: str = "completed"
    finish_reason: str | None = "end_turn"
    output_tokens: int = 20
    cached: int = 0
    cost_nusd: int = 1_000
    byok_nusd: int = 0
    streamed: bool = True
    session_id: str | None = None
    external_user: str | None = None
    app: str | None = None
    latency_ms: int | None = 500
    generation_ms: int | None = 2_000
    organization_id: str = ORG
    attempts: tuple[Attempt, ...] = ()
    number: int = 0
    hash: str = ""
    who: str = ""
    cost: Cost | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"gen-{self.at_ms}-{self.number:06d}"

    @property
    def key_hash(self) -> str:
        return self.hash or f"{self.organization_id}-key-{self.key}"

    @property
    def member_id(self) -> str | None:
        return self.who or (None if self.member is None else f"{self.organization_id}-member-{self.member}")

    @property
    def workspace_id(self) -> str:
        return f"{self.organization_id}-workspace-{self.workspace}"

    def generation(self) -> Generation:
        origin = Origin(
            self.id, self.organization_id, self.workspace_id, self.member_id, self.key_hash, self.at_ms, "m", self.model,
            self.streamed, session_id=self.session_id, external_user=self.external_user, app=self.app,
        )  # fmt: skip
        return Generation(
            origin, self.outcome, Usage(input_tokens=100, output_tokens=self.output_tokens, cache_read_tokens=self.cached),
            self.cost or Cost(self.cost_nusd, self.cost_nusd, price_version="t", byok_nusd=self.byok_nusd), self.provider,
            finish_reason=self.finish_reason, latency_ms=self.latency_ms, generation_ms=self.generation_ms,
            attempts=self.attempts, **self.more,
        )  # fmt: skip


def write(engine: sa.Engine, asked: Iterable[Asked]) -> None:
    """Keep receipts and their roll-ups."""
    work: dict[str, tuple[Statement, list[Row]]] = {}
    for one in asked:
        for statement, row in rows(one.generation()):
            assert isinstance(statement, Statement)
            work.setdefault(statement.name, (statement, []))[1].append(row)
    with transaction(engine) as connection:
        for statement, together in work.values():
            if is_postgres(connection):
                connection.exec_driver_sql(statement.postgres, (row_list(together),))
            else:
                statement.run(connection.connection.driver_connection, together)


def forget(engine: sa.Engine) -> None:
    """Take all receipts away again."""
    with transaction(engine) as connection:
        connection.execute(sa.delete(schema.generation_feedback))
        for table in TABLES:
            connection.execute(sa.delete(table))
