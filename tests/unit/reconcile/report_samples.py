"""Receipts, bookings and reports for the tests of reconciliation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.values import Usage
from modelgates_server.errors import ReportFailed
from modelgates_server.reconcile.compare import Pricing
from modelgates_server.reconcile.run import Account
from modelgates_server.reconcile.values import DAY_S, Booked, Counted, Doubt, Invoiced, Reported, start_s
from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, open_engine, reading, transaction

DAY, NEXT = "2026-11-20", "2026-11-21"
LATER_S = start_s(DAY) + 10 * DAY_S
OPUS, HAIKU = "claude-opus-4-8", "claude-haiku-4-5"
ORG = "org-1"
CENT = 10_000_000


def pricing() -> Pricing:
    """The bundled catalogue at a provider that names its models as Anthropic does."""
    catalogue = load_catalogue(bundled())
    endpoints = {
        model.id: Endpoint("anthropic", "anthropic", model, model.id, catalogue.modifiers)
        for model in catalogue.models.values()
    }
    return Pricing(catalogue, endpoints)


def booked(nusd: int, day: str = DAY, model: str = OPUS, **more: Any) -> dict[tuple[str, str], Booked]:
    return {(day, model): Booked(day, model, more.pop("requests", 1), nusd, **more)}


def doubt(most_nusd: int, generation_id: str = "gen-1", **more: Any) -> Doubt:
    return Doubt(generation_id, ORG, "anthropic", DAY, OPUS, most_nusd, **more)


def asks(nusd: int, day: str = DAY, model: str = OPUS, **usage: int) -> Reported:
    """A report of one model on one day."""
    counted = (Counted(day, model, Usage(**usage), (0, 200_000)),) if usage else ()
    return Reported(frozenset({DAY, NEXT}), counted, (Invoiced(day, "tokens", model, nusd),) if nusd else ())


@dataclass
class Rows:
    """Rows that tests plant, and what they find there afterwards."""

    engine: sa.Engine
    made: int = field(default=0)

    def receipt(self, nusd: int = CENT, at_s: float = start_s(DAY) + 3600, **more: Any) -> str:
        """A receipt at the provider ``anthropic``; `more` are its columns."""
        self.made += 1
        generation_id = f"gen-{self.made:06d}"
        counts = dict.fromkeys(
            ("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_5m_tokens",
             "cache_write_1h_tokens", "web_searches", "cache_discount_nusd", "estimated", "streamed"), 0,
        )  # fmt: skip
        row = counts | {
            "id": generation_id, "organization_id": ORG, "workspace_id": "ws", "key_hash": "k",
            "created_at_ms": int(at_s * 1000), "requested_model": OPUS, "model": f"anthropic/{OPUS}",
            "provider": "anthropic", "upstream_model": OPUS, "api_type": "messages", "outcome": "completed",
            "generation_ms": 1000, "cost_nusd": nusd, "upstream_cost_nusd": nusd, "held_nusd": nusd, "price_version": "t",
            "parts": "[]", "plan": "[]", "attempts": "[]",
        }  # fmt: skip
        with transaction(self.engine) as connection:
            connection.execute(sa.insert(schema.generations).values(row | more))
        return generation_id

    def uncertain(self, nusd: int, generation_id: str, slug: str = "anthropic") -> None:
        """What a settlement books for an attempt of unknown fate."""
        with transaction(self.engine) as connection:
            connection.execute(
                sa.insert(schema.entries).values(
                    organization_id=ORG, created_at_s=0, kind="uncertain", debit="operator:uncertain",
                    credit=f"provider:{slug}", amount_nusd=nusd, generation_id=generation_id,
                )
            )  # fmt: skip

    def all(self, query: sa.Select[Any]) -> list[Mapping[str, Any]]:
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def balance(self, account: str) -> int:
        """What an account received, less what it gave."""
        entries = schema.entries.c
        rows = self.all(sa.select(entries.debit, entries.credit, entries.amount_nusd))
        signed = ((row["credit"] == account) - (row["debit"] == account) for row in rows)
        return sum(sign * row["amount_nusd"] for sign, row in zip(signed, rows, strict=True))

    def stored(self) -> list[Mapping[str, Any]]:
        return self.all(sa.select(schema.reconciliations).order_by(schema.reconciliations.c.day))

    def alerts(self) -> list[Mapping[str, Any]]:
        return self.all(sa.select(schema.alerts))


@dataclass
class Told:
    """A provider whose report is given, after `broken` failures; it notes what it was asked for."""

    reported: Reported
    asked: list[tuple[bool, list[str]]] = field(default_factory=list)
    fast: bool = False
    broken: int = 0

    def account(self) -> Account:
        def report(fast: bool) -> Told:
            self.fast = fast
            return self

        return Account(("anthropic",), pricing(), report)

    async def fetch(self, days: Any) -> Reported:
        self.asked.append((self.fast, list(days)))
        if self.broken:
            self.broken -= 1
            raise ReportFailed
        return self.reported


@contextmanager
def open_rows(url: str) -> Iterator[Rows]:
    """A database with two organisations; the older one is the operator's."""
    engine = open_engine(database_of(url))
    try:
        with transaction(engine) as connection:
            for created_at_s, organization_id in enumerate(("org-operator", ORG)):
                row = {"id": organization_id, "name": organization_id, "created_at_s": created_at_s}
                connection.execute(sa.insert(schema.organizations).values(row))
        yield Rows(engine)
    finally:
        engine.dispose()


def read_attempts(*attempts: tuple[str, int, str | None, str]) -> str:
    """The attempts of a receipt: provider, status, fault, model."""
    return json.dumps([
        {"provider": provider, "status": status, "fault": fault, "model": model, "ms": 1}
        for provider, status, fault, model in attempts
    ])  # fmt: skip
