"""The organisation: people, guardrails, rates, sealed credentials, alerts, idempotency, and lives of processes.

Everything is added, nothing is taken away: a server of the version before goes on working on the new schema.
"""

from __future__ import annotations

from typing import NamedTuple

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, Table, Text, text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

metadata = MetaData()

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _table(name: str, *columns: Column[object] | CheckConstraint | Index, fill: int = 100) -> Table:
    return Table(name, metadata, *columns, sqlite_strict=True, postgresql_with={"fillfactor": fill})


def _text(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, Text, nullable=null, primary_key=key, server_default=default)


def _int(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, _BIG, nullable=null, primary_key=key, server_default=default, autoincrement=False)


for _known, _key in (
    ("organizations", "id"),
    ("workspaces", "id"),
    ("members", "id"),
    ("api_keys", "hash"),
    ("generations", "id"),
):
    Table(_known, metadata, Column(_key, Text, primary_key=True))  # what the new tables point at

_KNOWN = frozenset(metadata.tables)

processes = _table(
    "processes",
    _int("epoch", key=True),
    _text("name"),  # host and process id, for people
    _int("started_at_s"),
    _int("seen_at_s"),  # by the store's clock; a lease of ten seconds hangs on it
    _int("ended_at_s", null=True),  # fenced: whatever this epoch still holds belongs to whoever sweeps it
    fill=50,
)

workspace_members = _table(
    "workspace_members",
    Column("workspace_id", Text, ForeignKey("workspaces.id"), primary_key=True),
    Column("member_id", Text, ForeignKey("members.id"), primary_key=True),
    _text("organization_id"),
    _int("created_at_s"),
)

invitations = _table(
    "invitations",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("email"),
    _text("name"),
    _text("role"),
    _text("workspace_id", null=True),
    _int("share_nusd", null=True),  # the budget that the member gets on acceptance
    _text("share_window", null=True),  # day | week | month | life; null without a share
    _text("token_hash"),  # SHA-256; the link is shown once
    _text("invited_by"),
    _int("created_at_s"),
    _int("expires_at_s"),
    _int("accepted_at_s", null=True),
    _int("revoked_at_s", null=True),
    _text("member_id", null=True),  # who accepted it
    Index("invitations_token", "token_hash", unique=True),
)

rates = _table(
    "rates",
    _text("scope", key=True),  # organization | workspace | member
    _text("scope_id", key=True),
    _text("organization_id"),
    _int("requests_per_minute", null=True),
    _int("tokens_per_minute", null=True),
    _int("parallel_max", null=True),
)

guardrails = _table(
    "guardrails",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workspace_id", Text, ForeignKey("workspaces.id"), nullable=False),
    _text("name"),
    _text("description", null=True),
    _int("is_default", default="0"),  # the workspace's own: it needs no assignment
    _int("limit_nusd", null=True),
    _text("reset_interval", null=True),  # daily | weekly | monthly
    _text("mode", default="hard"),
    _int("include_byok", default="0"),
    _text("allowed_models", null=True),  # JSON lists of slugs; null allows all
    _text("ignored_models", null=True),
    _text("allowed_providers", null=True),
    _text("ignored_providers", null=True),
    _text("settings", null=True),  # JSON: ZDR and training switches, content filters
    _int("created_at_s"),
    _int("updated_at_s"),
    Index("guardrails_workspace", "workspace_id"),
    CheckConstraint("limit_nusd IS NULL OR limit_nusd >= 0", name="guardrails_limit"),
)

guardrail_keys = _table(
    "guardrail_keys",
    Column("key_hash", Text, ForeignKey("api_keys.hash"), primary_key=True),  # one guardrail per key
    _text("id"),
    _text("organization_id"),
    Column("guardrail_id", Text, ForeignKey("guardrails.id"), nullable=False),
    _text("assigned_by"),
    _int("created_at_s"),
    Index("guardrail_keys_guardrail", "guardrail_id"),
)

guardrail_members = _table(
    "guardrail_members",
    Column("member_id", Text, ForeignKey("members.id"), primary_key=True),
    _text("id"),
    _text("organization_id"),
    Column("guardrail_id", Text, ForeignKey("guardrails.id"), nullable=False),
    _text("assigned_by"),
    _int("created_at_s"),
    Index("guardrail_members_guardrail", "guardrail_id"),
)

provider_credentials = _table(
    "provider_credentials",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("workspace_id", null=True),  # null: every workspace of the organisation
    _text("provider"),  # the slug of the configured provider whose key it replaces
    _text("name"),
    _text("label"),  # the masked form that people see
    _text("base_url"),  # where it may be sent: bound into the sealed secret, never chosen apart
    _text("sealed"),  # the secret, encrypted (vault/envelope.py)
    _text("kek_id"),  # which key-encryption key wraps it
    _int("is_fallback", default="0"),
    _int("disabled", default="0"),
    _text("allowed_models", null=True),  # JSON lists; null allows all
    _text("allowed_key_hashes", null=True),
    _text("allowed_member_ids", null=True),
    _int("sort_order", default="0"),
    _int("created_at_s"),
    _int("updated_at_s"),
    Index("provider_credentials_organization", "organization_id", "provider"),
)

generation_feedback = _table(
    "generation_feedback",
    _text("id", key=True),
    _text("organization_id"),
    Column("generation_id", Text, ForeignKey("generations.id"), nullable=False),
    _text("category"),
    _text("comment", null=True),
    _text("author"),
    _int("created_at_s"),
    Index("generation_feedback_generation", "generation_id"),
)

idempotency = _table(
    "idempotency",
    _text("organization_id", key=True),
    _text("key", key=True),
    _text("request_digest"),  # of method, path and body: another request under the same key is refused
    _int("status", null=True),  # null while the first is still running
    _text("sealed", null=True),  # the answer, encrypted: it may show a new key
    _int("created_at_s"),
)

alerts = _table(
    "alerts",
    _text("id", key=True),
    _text("organization_id"),
    _text("dedupe"),  # what it is about, once: a second process that sees the same says nothing
    _text("kind"),  # budget | credit | topup | reconciliation
    _text("severity"),  # info | warning | critical
    _text("message"),
    _text("details"),  # JSON
    _int("created_at_s"),
    _int("cleared_at_s", null=True),  # hysteresis: it may be raised again after this
    Index("alerts_dedupe", "organization_id", "dedupe", unique=True),
    Index("alerts_organization_time", "organization_id", "created_at_s"),
)

alert_channels = _table(
    "alert_channels",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("kind"),  # webhook | email
    _text("target"),  # the URL or the address
    _text("sealed", null=True),  # the webhook's signing secret, encrypted
    _text("kek_id", null=True),
    _int("enabled", default="1"),
    _int("created_at_s"),
)

alert_deliveries = _table(
    "alert_deliveries",
    _text("alert_id", key=True),
    _text("channel_id", key=True),
    _text("organization_id"),
    _int("attempts", default="0"),
    _int("next_at_s", null=True),  # null: delivered, or given up
    _int("delivered_at_s", null=True),
    _text("last_error", null=True),
    Index("alert_deliveries_next", "next_at_s"),
)

reconciliations = _table(
    "reconciliations",
    _text("provider", key=True),
    _text("day", key=True),  # 2026-11-26, UTC
    _text("model", key=True),  # the provider's own name
    _int("ours_nusd"),
    _int("theirs_nusd"),
    _int("estimated_nusd"),  # how much of ours is marked as an estimate
    _int("checked_at_s"),
)

_COLUMNS = {
    "organizations": (_text("settings", null=True),),
    "workspaces": (
        _text("description", null=True),
        _text("settings", null=True),
        _int("updated_at_s", null=True),
        _int("deleted_at_s", null=True),
    ),
    "members": (_int("removed_at_s", null=True),),
    "api_keys": (_int("parallel_max", null=True), _int("include_byok_in_limit", default="0")),
    "budgets": (_text("mode", default="hard"), _int("include_byok", default="0"), _int("updated_at_s", null=True)),
    "generations": (_int("byok_cost_nusd", default="0"),),
    "activity_hours": (_int("byok_cost_nusd", default="0"),),
}


class IndexAhead(NamedTuple):
    """An index on a table that may be large: on PostgreSQL it is built beforehand, beside a running server."""

    name: str
    table: str
    columns: tuple[str, ...]
    where: str | None = None


INDEXES = (
    IndexAhead("members_email", "members", ("organization_id", "email")),
    IndexAhead("entries_few", "entries", ("organization_id", "id"), "kind <> 'charge'"),
    IndexAhead("entries_few_generation", "entries", ("generation_id",), "kind <> 'charge'"),
    IndexAhead("activity_hours_organization", "activity_hours", ("organization_id", "hour_s")),
)


def upgrade() -> None:
    made = [table for name, table in metadata.tables.items() if name not in _KNOWN]
    metadata.create_all(op.get_bind(), tables=made, checkfirst=False)  # a table of that name is somebody else's
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    for index in INDEXES:
        where = text(index.where) if index.where else None
        op.create_index(
            index.name, index.table, list(index.columns), sqlite_where=where, postgresql_where=where, if_not_exists=True
        )
