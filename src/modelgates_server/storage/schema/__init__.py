"""Every table, once, in SQLAlchemy Core. Migrations bring an older database to exactly this (a test compares them).

Conventions: ids are text; amounts are 64-bit integers in nano-USD (`_nusd`); times are Unix seconds (`_s`) or milliseconds
(`_ms`), UTC; every row of the business carries its `organization_id`. SQLite tables are STRICT; small rows that are written with every
request are WITHOUT ROWID, which spares them a second B-tree (wide rows would spill out of an index's pages).
"""

from __future__ import annotations

from modelgates_server.storage.schema.columns import metadata
from modelgates_server.storage.schema.money import (
    FEW,
    activity_hours,
    entries,
    generation_feedback,
    generations,
    holds,
    meters,
    processes,
)
from modelgates_server.storage.schema.people import (
    api_keys,
    budgets,
    guardrail_keys,
    guardrail_members,
    guardrails,
    invitations,
    members,
    meta,
    organizations,
    policy,
    provider_credentials,
    rates,
    sessions,
    sign_in_links,
    workspace_members,
    workspaces,
)
from modelgates_server.storage.schema.records import (
    alert_channels,
    alert_deliveries,
    alerts,
    audit,
    idempotency,
    reconciliations,
)

SCHEMA_VERSION = "0003"
"""The newest migration. `serve` refuses a database with another one and says what to run."""

__all__ = [
    "FEW",
    "SCHEMA_VERSION",
    "activity_hours",
    "alert_channels",
    "alert_deliveries",
    "alerts",
    "api_keys",
    "audit",
    "budgets",
    "entries",
    "generation_feedback",
    "generations",
    "guardrail_keys",
    "guardrail_members",
    "guardrails",
    "holds",
    "idempotency",
    "invitations",
    "members",
    "meta",
    "metadata",
    "meters",
    "organizations",
    "policy",
    "processes",
    "provider_credentials",
    "rates",
    "reconciliations",
    "sessions",
    "sign_in_links",
    "workspace_members",
    "workspaces",
]
