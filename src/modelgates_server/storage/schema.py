"""Every table, once, in SQLAlchemy Core. Migrations bring an older database to exactly this (a test compares them).

Conventions: ids are text; amounts are 64-bit integers in nano-USD (`_nusd`); times are Unix seconds (`_s`) or milliseconds
(`_ms`), UTC; every row of the business carries its `organization_id`. SQLite tables are STRICT; small rows that are written with every
request are WITHOUT ROWID, which spares them a second B-tree (wide rows would spill out of an index's pages).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, Table, Text, text

SCHEMA_VERSION = "0002"
"""The newest migration. `serve` refuses a database with another one and says what to run."""

metadata = MetaData()

_BIG = BigInteger().with_variant(Integer, "sqlite")  # a STRICT table knows no BIGINT; its INTEGER has 64 bits


def _table(name: str, *columns: Column[object] | CheckConstraint | Index, rowid: bool = True) -> Table:
    return Table(name, metadata, *columns, sqlite_strict=True, sqlite_with_rowid=rowid)


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[object]:
    return Column(name, Text, nullable=null, primary_key=key)


def _int(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, _BIG, nullable=null, primary_key=key, server_default=default, autoincrement=False)


meta = _table("meta", _text("key", key=True), _text("value"))
"""Facts about the database itself: the fingerprint of its secret, whether it was initialised, the owner's epoch."""

policy = _table("policy", _int("id", key=True), _int("version"))
"""One row. Its version rises with every change of who may do what; caches and holds compare with it."""

organizations = _table("organizations", _text("id", key=True), _text("name"), _int("created_at_s"))

workspaces = _table(
    "workspaces",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("slug"),
    _text("name"),
    _int("created_at_s"),
    _text("routing", null=True),  # JSON: the provider preferences of all its keys
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
    CheckConstraint("limit_nusd IS NULL OR limit_nusd >= 0", name="api_keys_limit"),
)

budgets = _table(
    "budgets",
    _text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    _text("scope"),  # workspace | member
    _text("scope_id"),
    _text("window"),  # day | week | month | life
    _int("limit_nusd"),
    _int("created_at_s"),
    CheckConstraint("limit_nusd >= 0", name="budgets_limit"),
)
"""Spending limits of workspaces and members. A key's own limit stands in its row."""

meters = _table(
    "meters",
    _text("id", key=True),
    _text("organization_id"),
    _text("scope"),
    _text("scope_id"),
    _text("unit"),  # nusd | requests | tokens
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
)
"""Open holds only: settling one deletes it in the transaction that writes its generation."""

entries = _table(
    "entries",
    Column("id", Integer, primary_key=True, autoincrement=True),
    _text("organization_id"),
    _int("created_at_s"),
    _text("kind"),  # grant | charge | overrun | adjustment
    _text("debit"),  # the account that gives
    _text("credit"),  # the account that receives
    _int("amount_nusd"),
    _text("generation_id", null=True),
    _text("note", null=True),
    _text("author", null=True),
    CheckConstraint("amount_nusd > 0", name="entries_positive"),
    CheckConstraint("debit <> credit", name="entries_two_sides"),
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
    Index("generations_conversation", "conversation", "created_at_ms", sqlite_where=text("conversation IS NOT NULL")),
    Index("generations_key_time", "key_hash", "created_at_ms"),
    Index("generations_organization_time", "organization_id", "created_at_ms"),
    Index(
        "generations_session",
        "organization_id",
        "session_id",
        "created_at_ms",
        sqlite_where=text("session_id IS NOT NULL"),
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
    Column("id", Integer, primary_key=True, autoincrement=True),
    _text("organization_id"),
    _int("created_at_s"),
    _text("actor"),
    _text("action"),
    _text("target"),
    _text("details"),
    _text("previous"),
    _text("digest"),  # SHA-256 over `previous` and this row: a removed or altered row breaks the chain
)
