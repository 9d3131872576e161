"""The first schema.

A frozen copy of what `storage/schema.py` was at this version: a migration must not change when the schema goes on.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, Table, Text, text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

metadata = MetaData()

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _table(name: str, *columns: Column[object] | CheckConstraint | Index, rowid: bool = True, fill: int = 100) -> Table:
    return Table(
        name, metadata, *columns, sqlite_strict=True, sqlite_with_rowid=rowid, postgresql_with={"fillfactor": fill}
    )


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[object]:
    return Column(name, Text, nullable=null, primary_key=key)


def _int(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, _BIG, nullable=null, primary_key=key, server_default=default, autoincrement=False)


meta = _table("meta", _text("key", key=True), _text("value"))

policy = _table("policy", _int("id", key=True), _int("version"))

organizations = _table("organizations", _text("id", key=True), _text("name"), _int("created_at_s"))

workspaces = _table(
    "workspaces",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("slug"),
    _text("name"),
    _int("created_at_s"),
)

members = _table(
    "members",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("name"),
    _text("email", null=True),
    _text("role"),
    _int("created_at_s"),
)

api_keys = _table(
    "api_keys",
    _text("hash", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workspace_id", Text, ForeignKey("workspaces.id"), nullable=False),
    Column("member_id", Text, ForeignKey("members.id"), nullable=True),
    _text("name"),
    _text("label"),
    _text("class"),
    _int("disabled", default="0"),
    _int("limit_nusd", null=True),
    _text("limit_reset", null=True),
    _int("requests_per_minute", null=True),
    _int("tokens_per_minute", null=True),
    _text("allowed_models", null=True),
    _int("expires_at_s", null=True),
    _int("created_at_s"),
    _int("updated_at_s"),
    _int("deleted_at_s", null=True),
    CheckConstraint("limit_nusd IS NULL OR limit_nusd >= 0", name="api_keys_limit"),
)

budgets = _table(
    "budgets",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("scope"),
    _text("scope_id"),
    _text("window"),
    _int("limit_nusd"),
    _int("created_at_s"),
    CheckConstraint("limit_nusd >= 0", name="budgets_limit"),
)

meters = _table(
    "meters",
    _text("id", key=True),
    _text("organization_id"),
    _text("scope"),
    _text("scope_id"),
    _text("unit"),
    _text("window"),
    _int("starts_at_s"),
    _int("ends_at_s", null=True),
    _int("limit", null=True),
    _int("posted", default="0"),
    _int("held", default="0"),
    _int("closed", default="0"),
    CheckConstraint("posted >= 0 AND held >= 0", name="meters_not_negative"),
    Index("meters_ends", "unit", "ends_at_s"),
    rowid=False,
    fill=50,
)

holds = _table(
    "holds",
    _text("id", key=True),
    _text("organization_id"),
    _int("epoch"),
    _int("created_at_s"),
    _int("amount_nusd"),
    _int("floor_nusd"),
    _int("progress_nusd", null=True),
    _text("lines"),
    _text("context"),
    CheckConstraint("amount_nusd >= 0 AND floor_nusd >= 0", name="holds_not_negative"),
)

entries = _table(
    "entries",
    Column("id", _BIG, primary_key=True, autoincrement=True),
    _text("organization_id"),
    _int("created_at_s"),
    _text("kind"),
    _text("debit"),
    _text("credit"),
    _int("amount_nusd"),
    _text("generation_id", null=True),
    _text("note", null=True),
    _text("author", null=True),
    CheckConstraint("amount_nusd > 0", name="entries_positive"),
    CheckConstraint("debit <> credit", name="entries_two_sides"),
)

generations = _table(
    "generations",
    _text("id", key=True),
    _text("organization_id"),
    _text("workspace_id"),
    _text("member_id", null=True),
    _text("key_hash"),
    _int("created_at_ms"),
    _text("requested_model"),
    _text("model"),
    _text("provider", null=True),
    _text("upstream_model", null=True),
    _text("upstream_id", null=True),
    _text("upstream_request_id", null=True),
    _text("session_id", null=True),
    _text("external_user", null=True),
    _text("app", null=True),
    _text("user_agent", null=True),
    _text("api_type"),
    _int("streamed"),
    _text("outcome"),
    _text("finish_reason", null=True),
    _int("estimated"),
    _int("latency_ms", null=True),
    _int("generation_ms", null=True),
    _int("input_tokens"),
    _int("output_tokens"),
    _int("thinking_tokens"),
    _int("cache_read_tokens"),
    _int("cache_write_5m_tokens"),
    _int("cache_write_1h_tokens"),
    _int("web_searches"),
    _text("service_tier", null=True),
    _text("speed", null=True),
    _int("cost_nusd"),
    _int("upstream_cost_nusd"),
    _int("cache_discount_nusd"),
    _int("held_nusd"),
    _text("price_version"),
    _text("parts"),
    _text("plan"),
    _text("attempts"),
    Index("generations_key_time", "key_hash", "created_at_ms"),
    Index("generations_organization_time", "organization_id", "created_at_ms"),
    Index(
        "generations_session",
        "organization_id",
        "session_id",
        "created_at_ms",
        sqlite_where=text("session_id IS NOT NULL"),
        postgresql_where=text("session_id IS NOT NULL"),
    ),
)

activity_hours = _table(
    "activity_hours",
    _int("hour_s", key=True),
    _text("organization_id", key=True),
    _text("key_hash", key=True),
    _text("model", key=True),
    _text("provider", key=True),
    _text("workspace_id"),
    _text("member_id", null=True),
    _int("requests"),
    _int("failures"),
    _int("input_tokens"),
    _int("output_tokens"),
    _int("thinking_tokens"),
    _int("cache_read_tokens"),
    _int("cache_write_tokens"),
    _int("cost_nusd"),
    Index("activity_hours_key", "key_hash", "hour_s"),
    rowid=False,
    fill=70,
)

sign_in_links = _table(
    "sign_in_links",
    _text("token_hash", key=True),
    _text("member_id"),
    _int("expires_at_s"),
    _int("used_at_s", null=True),
)

sessions = _table(
    "sessions",
    _text("token_hash", key=True),
    _text("organization_id"),
    _text("member_id"),
    _int("created_at_s"),
    _int("last_seen_at_s"),
    _int("expires_at_s"),
)

audit = _table(
    "audit",
    Column("id", _BIG, primary_key=True, autoincrement=True),
    _text("organization_id"),
    _int("created_at_s"),
    _text("actor"),
    _text("action"),
    _text("target"),
    _text("details"),
    _text("previous"),
    _text("digest"),
)


def upgrade() -> None:
    """Create every table."""
    metadata.create_all(op.get_bind(), checkfirst=False)
