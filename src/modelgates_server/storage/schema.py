"""Every table, once, in SQLAlchemy Core. Migrations bring an older database to exactly this (a test compares them).

Conventions: ids are text; amounts are 64-bit integers in nano-USD (`_nusd`); times are Unix seconds (`_s`) or milliseconds
(`_ms`), UTC; every row of the business carries its `organization_id`. SQLite tables are STRICT; small rows that are written with every
request are WITHOUT ROWID, which spares them a second B-tree (wide rows would spill out of an index's pages).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, Table, Text, text

SCHEMA_VERSION = "0003"
"""The newest migration. `serve` refuses a database with another one and says what to run."""

metadata = MetaData()

_BIG = BigInteger().with_variant(Integer, "sqlite")  # a STRICT table knows no BIGINT; its INTEGER has 64 bits


def _table(name: str, *columns: Column[object] | CheckConstraint | Index, rowid: bool = True, fill: int = 100) -> Table:
    options = {"postgresql_with": {"fillfactor": fill}} if fill < 100 else {}  # room for updates within the page
    return Table(name, metadata, *columns, sqlite_strict=True, sqlite_with_rowid=rowid, **options)


def _text(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, Text, nullable=null, primary_key=key, server_default=default)


def _int(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, _BIG, nullable=null, primary_key=key, server_default=default, autoincrement=False)


meta = _table("meta", _text("key", key=True), _text("value"))
"""Facts about the database itself: the fingerprint of its secret, whether it was initialised, the owner's epoch."""

policy = _table("policy", _int("id", key=True), _int("version"))
"""One row. Its version rises with every change of who may do what; caches and holds compare with it."""

organizations = _table(
    "organizations",
    _text("id", key=True),
    _text("name"),
    _int("created_at_s"),
    _text("settings", null=True),  # JSON: alert thresholds, low-balance alert, the rule for top-ups
)

processes = _table(
    "processes",
    _int("epoch", key=True),
    _text("name"),  # host and process id, for people
    _int("started_at_s"),
    _int("seen_at_s"),  # by the store's clock; a lease of ten seconds hangs on it
    _int("ended_at_s", null=True),  # fenced: whatever this epoch still holds belongs to whoever sweeps it
    fill=50,
)
"""One row per life of a serving process. Holds name their owner's epoch."""

workspaces = _table(
    "workspaces",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("slug"),
    _text("name"),
    _int("created_at_s"),
    _text("routing", null=True),  # JSON: the provider preferences of all its keys
    _text("description", null=True),
    _text("settings", null=True),  # JSON: what the API keeps about a workspace besides (default models, flags)
    _int("updated_at_s", null=True),
    _int("deleted_at_s", null=True),
)

members = _table(
    "members",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("name"),
    _text("email", null=True),
    _text("role"),  # admin | member
    _int("created_at_s"),
    _int("removed_at_s", null=True),
    Index("members_email", "organization_id", "email"),
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
    _int("share_nusd", null=True),  # the monthly budget that the member gets on acceptance
    _text("token_hash"),  # SHA-256; the link is shown once
    _text("invited_by"),
    _int("created_at_s"),
    _int("expires_at_s"),
    _int("accepted_at_s", null=True),
    _int("revoked_at_s", null=True),
    _text("member_id", null=True),  # who accepted it
    Index("invitations_token", "token_hash", unique=True),
)

api_keys = _table(
    "api_keys",
    _text("hash", key=True),  # HMAC-SHA256(pepper, key), hex; the key itself is never stored
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workspace_id", Text, ForeignKey("workspaces.id"), nullable=False),
    Column("member_id", Text, ForeignKey("members.id"), nullable=True),
    _text("name"),
    _text("label"),  # the masked form that people see
    _text("class"),  # inference | management
    _int("disabled", default="0"),
    _int("limit_nusd", null=True),
    _text("limit_reset", null=True),  # daily | weekly | monthly; null never resets
    _int("requests_per_minute", null=True),
    _int("tokens_per_minute", null=True),
    _text("allowed_models", null=True),  # JSON list of slugs; null allows all
    _int("expires_at_s", null=True),
    _int("created_at_s"),
    _int("updated_at_s"),
    _int("deleted_at_s", null=True),
    _text("routing", null=True),  # JSON: provider preferences, on top of the workspace's
    _int("parallel_max", null=True),  # requests at the same time
    _int("include_byok_in_limit", default="0"),
    CheckConstraint("limit_nusd IS NULL OR limit_nusd >= 0", name="api_keys_limit"),
)

budgets = _table(
    "budgets",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("scope"),  # organization | workspace | app | member
    _text("scope_id"),
    _text("window"),  # day | week | month | life
    _int("limit_nusd"),
    _int("created_at_s"),
    _text("mode", default="hard"),  # hard refuses; soft only counts and alerts
    _int("include_byok", default="0"),
    _int("updated_at_s", null=True),
    CheckConstraint("limit_nusd >= 0", name="budgets_limit"),
)
"""Spending limits of organisations, workspaces, apps and members. A key's own limit stands in its row."""

rates = _table(
    "rates",
    _text("scope", key=True),  # organization | workspace | member
    _text("scope_id", key=True),
    _text("organization_id"),
    _int("requests_per_minute", null=True),
    _int("tokens_per_minute", null=True),
    _int("parallel_max", null=True),
)
"""Rate and concurrency limits above the key's own, which stand in its row."""

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

meters = _table(
    "meters",
    _text("id", key=True),
    _text("organization_id"),
    _text("scope"),
    _text("scope_id"),
    _text("unit"),  # nusd (credit) | spend (credit and own provider keys) | requests | tokens | parallel
    _text("window"),  # life | minute | day | week | month
    _int("starts_at_s"),
    _int("ends_at_s", null=True),
    _int("limit", null=True),  # null only counts
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
    _text("id", key=True),  # the generation's id
    _text("organization_id"),
    _int("epoch"),  # which life of which process owns it
    _int("created_at_s"),
    _int("amount_nusd"),
    _int("floor_nusd"),  # what the input alone costs: the least that a lost request is settled at
    _int("progress_nusd", null=True),  # the last checkpoint of a running stream
    _text("lines"),  # JSON [[meter id, unit, held amount], …], fixed at hold time
    _text("context"),  # JSON: what a receipt needs if nobody comes back to settle
    CheckConstraint("amount_nusd >= 0 AND floor_nusd >= 0", name="holds_not_negative"),
    Index("holds_epoch", "epoch"),
)
"""Open holds only: settling one deletes it in the transaction that writes its generation."""

entries = _table(
    "entries",
    Column("id", _BIG, primary_key=True, autoincrement=True),
    _text("organization_id"),
    _int("created_at_s"),
    _text(
        "kind"
    ),  # grant | topup | transfer | refund | correction change the credit; charge | adjustment use it; overrun | uncertain
    _text("debit"),  # the account that gives
    _text("credit"),  # the account that receives
    _int("amount_nusd"),
    _text("generation_id", null=True),
    _text("note", null=True),
    _text("author", null=True),
    CheckConstraint("amount_nusd > 0", name="entries_positive"),
    CheckConstraint("debit <> credit", name="entries_two_sides"),
    Index("entries_organization", "organization_id", "id"),
    Index(
        "entries_generation",
        "generation_id",
        sqlite_where=text("generation_id IS NOT NULL"),
        postgresql_where=text("generation_id IS NOT NULL"),
    ),
)
"""Double entry: each row moves an amount from one account to another, so all balances always sum to zero."""

generations = _table(
    "generations",
    _text("id", key=True),
    _text("organization_id"),
    _text("workspace_id"),
    _text("member_id", null=True),
    _text("key_hash"),
    _int("created_at_ms"),
    _text("requested_model"),
    _text("model"),  # slug
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
    _text("outcome"),  # completed | failed | cancelled | broken | lost
    _text("finish_reason", null=True),
    _int("estimated"),
    _int("latency_ms", null=True),  # to the first content
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
    _int("cost_nusd"),  # what the budgets were charged
    _int("upstream_cost_nusd"),  # what the provider asks; the difference is operator loss
    _int("cache_discount_nusd"),
    _int("held_nusd"),
    _text("price_version"),
    _text("parts"),  # JSON: the lines of the bill
    _text("plan"),  # JSON: each endpoint with its place or its exclusion, and why
    _text("attempts"),  # JSON: each try with status, class and time
    _text("conversation", null=True),  # where stickiness looks it up; null when there was no choice of provider
    _text("inputs", null=True),  # JSON: what the plan was decided on, without the prompt: `replay` decides on it again
    _int("byok_cost_nusd", default="0"),  # what the organisation's own provider account is asked for, at list price
    Index(
        "generations_conversation",
        "conversation",
        "created_at_ms",
        sqlite_where=text("conversation IS NOT NULL"),
        postgresql_where=text("conversation IS NOT NULL"),
    ),
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
    _int("byok_cost_nusd", default="0"),
    Index("activity_hours_key", "key_hash", "hour_s"),
    Index("activity_hours_organization", "organization_id", "hour_s"),
    rowid=False,
    fill=70,
)
"""Roll-ups written in the settlement's own transaction: they can neither lag behind nor drift from the generations."""

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
    _text("digest"),  # SHA-256 over `previous` and this row: a removed or altered row breaks the chain
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
"""The outbox: written with the alert, in one transaction, worked off by whichever process comes first."""

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
"""What we booked beside what the provider reports."""
