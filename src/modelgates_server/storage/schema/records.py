"""What is kept about changes and for people: audit, answers to repeated requests, alerts, reconciliations."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Text

from modelgates_server.storage.schema.columns import BIG, integer, table, text

audit = table(
    "audit",
    Column("id", BIG, primary_key=True, autoincrement=True),
    text("organization_id"),
    integer("created_at_s"),
    text("actor"),
    text("action"),
    text("target"),
    text("details"),
    text("previous"),
    text("digest"),  # SHA-256 over `previous` and this row: a removed or altered row breaks the chain
)

idempotency = table(
    "idempotency",
    text("organization_id", key=True),
    text("key", key=True),
    text("request_digest"),  # of method, path and body: another request under the same key is refused
    integer("status", null=True),  # null while the first is still running
    text("sealed", null=True),  # the answer, encrypted: it may show a new key
    integer("created_at_s"),
)

alerts = table(
    "alerts",
    text("id", key=True),
    text("organization_id"),
    text("dedupe"),  # what it is about, once: a second process that sees the same says nothing
    text("kind"),  # budget | credit | topup | reconciliation
    text("severity"),  # info | warning | critical
    text("message"),
    text("details"),  # JSON
    integer("created_at_s"),
    integer("cleared_at_s", null=True),  # hysteresis: it may be raised again after this
    Index("alerts_dedupe", "organization_id", "dedupe", unique=True),
    Index("alerts_organization_time", "organization_id", "created_at_s"),
)

alert_channels = table(
    "alert_channels",
    text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    text("kind"),  # webhook | email
    text("target"),  # the URL or the address
    text("sealed", null=True),  # the webhook's signing secret, encrypted
    text("kek_id", null=True),
    integer("enabled", default="1"),
    integer("created_at_s"),
)

alert_deliveries = table(
    "alert_deliveries",
    text("alert_id", key=True),
    text("channel_id", key=True),
    text("organization_id"),
    integer("attempts", default="0"),
    integer("next_at_s", null=True),  # null: delivered, or given up
    integer("delivered_at_s", null=True),
    text("last_error", null=True),
    Index("alert_deliveries_next", "next_at_s"),
)
"""The outbox: written with the alert, in one transaction, worked off by whichever process comes first."""

reconciliations = table(
    "reconciliations",
    text("provider", key=True),
    text("day", key=True),  # 2026-11-26, UTC
    text("model", key=True),  # the provider's own name
    integer("ours_nusd"),
    integer("theirs_nusd"),
    integer("estimated_nusd"),  # how much of ours is marked as an estimate
    integer("checked_at_s"),
)
"""What we booked beside what the provider reports."""

contents = table(
    "contents",
    text("generation_id", key=True),
    text("organization_id"),
    text("workspace_id"),
    integer("created_at_s"),
    integer("expires_at_s"),
    text("kek_id"),
    text("sealed"),  # request and answer, encrypted (vault/envelope.py) for this generation
    integer("size_bytes"),  # before encryption
    Index("contents_expires", "expires_at_s"),
    Index("contents_workspace", "workspace_id", "created_at_s"),
)
"""Prompts and answers of workspaces that opted in, and of no others. Reading one writes an audit row."""
