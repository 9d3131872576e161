"""Every table, once, in SQLAlchemy Core. Migrations bring an older database to exactly this (a test compares them).

Conventions: ids are text; amounts are 64-bit integers in nano-USD (`_nusd`); times are Unix seconds (`_s`) or milliseconds
(`_ms`), UTC; every row of the business carries its `organization_id`. SQLite tables are STRICT; small rows that are written with every
request are WITHOUT ROWID, which spares them a second B-tree (wide rows would spill out of an index's pages).
"""

from __future__ import annotations

from modelgates_server.storage.schema.columns import metadata
from modelgates_server.storage.schema.money import (
    FEW,
    activity_days,
    activity_hours,
    entries,
    generation_feedback,
    generations,
    holds,
    meters,
    processes,
    provider_hours,
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
    passes,
    policy,
    provider_credentials,
    rates,
    sessions,
    sign_in_failures,
    sign_in_links,
    sign_in_states,
    workspace_members,
    workspaces,
)
from modelgates_server.storage.schema.records import (
    alert_channels,
    alert_deliveries,
    alerts,
    audit,
    contents,
    idempotency,
    reconciliations,
)

SCHEMA_VERSION = "0004"
"""The newest migration. `serve` refuses a database with another one and says what to run."""

__all__ = [
    "FEW",
    "SCHEMA_VERSION",
    "activity_days",
    "activity_hours",
    "alert_channels",
    "alert_deliveries",
    "alerts",
    "api_keys",
    "audit",
    "budgets",
    "contents",
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
    "passes",
    "policy",
    "processes",
    "provider_credentials",
    "provider_hours",
    "rates",
    "reconciliations",
    "sessions",
    "sign_in_failures",
    "sign_in_links",
    "sign_in_states",
    "workspace_members",
    "workspaces",
]
