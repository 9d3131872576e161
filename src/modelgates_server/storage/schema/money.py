"""How much, and what happened: the rows that are written with every request."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Text
from sqlalchemy import text as sql

from modelgates_server.storage.schema.columns import BIG, integer, table, text

FEW = "kind <> 'charge'"
"""A query that says so, word for word, is helped by the indexes on entries; an index on all would cost every request."""

processes = table(
    "processes",
    integer("epoch", key=True),
    text("name"),  # host and process id, for people
    integer("started_at_s"),
    integer("seen_at_s"),  # by the store's clock; a lease of ten seconds hangs on it
    integer("ended_at_s", null=True),  # fenced: whatever this epoch still holds belongs to whoever sweeps it
    fill=50,
)
"""One row per life of a serving process. Holds name their owner's epoch."""

meters = table(
    "meters",
    text("id", key=True),
    text("organization_id"),
    text("scope"),
    text("scope_id"),
    text("unit"),  # nusd (credit) | spend (credit and own provider keys) | requests | tokens | parallel
    text("window"),  # life | minute | day | week | month
    integer("starts_at_s"),
    integer("ends_at_s", null=True),
    integer("limit", null=True),  # null only counts
    integer("posted", default="0"),
    integer("held", default="0"),
    integer("closed", default="0"),
    CheckConstraint("posted >= 0 AND held >= 0", name="meters_not_negative"),
    Index("meters_ends", "unit", "ends_at_s"),
    rowid=False,
    fill=50,
)

holds = table(
    "holds",
    text("id", key=True),  # the generation's id
    text("organization_id"),
    integer("epoch"),  # which life of which process owns it
    integer("created_at_s"),
    integer("amount_nusd"),
    integer("floor_nusd"),  # what the input alone costs: the least that a lost request is settled at
    integer(
        "progress_nusd", null=True
    ),  # the last checkpoint of a running stream; below zero when an own key serves it
    text("lines"),  # JSON [[meter id, unit, held amount], …], fixed at hold time
    text("context"),  # JSON: what a receipt needs if nobody comes back to settle
    CheckConstraint("amount_nusd >= 0 AND floor_nusd >= 0", name="holds_not_negative"),
)
"""Open holds only: settling one deletes it in the transaction that writes its generation."""

entries = table(
    "entries",
    Column("id", BIG, primary_key=True, autoincrement=True),
    text("organization_id"),
    integer("created_at_s"),
    text(
        "kind"
    ),  # grant | topup | transfer | refund | correction change the credit; charge | adjustment use it; overrun | uncertain | cleared
    text("debit"),  # the account that gives
    text("credit"),  # the account that receives
    integer("amount_nusd"),
    text("generation_id", null=True),
    text("note", null=True),
    text("author", null=True),
    CheckConstraint("amount_nusd > 0", name="entries_positive"),
    CheckConstraint("debit <> credit", name="entries_two_sides"),
    # what a request paid is the many: nobody looks for one of those by organisation, and its receipt names the amount
    Index("entries_few", "organization_id", "id", sqlite_where=sql(FEW), postgresql_where=sql(FEW)),
    Index("entries_few_generation", "generation_id", sqlite_where=sql(FEW), postgresql_where=sql(FEW)),
)
"""Double entry: each row moves an amount from one account to another, so all balances always sum to zero."""

generations = table(
    "generations",
    text("id", key=True),
    text("organization_id"),
    text("workspace_id"),
    text("member_id", null=True),
    text("key_hash"),
    integer("created_at_ms"),
    text("requested_model"),
    text("model"),  # slug
    text("provider", null=True),
    text("upstream_model", null=True),
    text("upstream_id", null=True),
    text("upstream_request_id", null=True),
    text("session_id", null=True),
    text("external_user", null=True),
    text("app", null=True),
    text("user_agent", null=True),
    text("api_type"),
    integer("streamed"),
    text("outcome"),  # completed | failed | cancelled | broken | lost
    text("finish_reason", null=True),
    integer("estimated"),
    integer("latency_ms", null=True),  # to the first content
    integer("generation_ms", null=True),
    integer("input_tokens"),
    integer("output_tokens"),
    integer("thinking_tokens"),
    integer("cache_read_tokens"),
    integer("cache_write_5m_tokens"),
    integer("cache_write_1h_tokens"),
    integer("web_searches"),
    text("service_tier", null=True),
    text("speed", null=True),
    integer("cost_nusd"),  # what the budgets were charged
    integer("upstream_cost_nusd"),  # what the provider asks; the difference is operator loss
    integer("cache_discount_nusd"),
    integer("held_nusd"),
    text("price_version"),
    text("parts"),  # JSON: the lines of the bill
    text("plan"),  # JSON: each endpoint with its place or its exclusion, and why
    text("attempts"),  # JSON: each try with status, class and time
    text("conversation", null=True),  # where stickiness looks it up; null when there was no choice of provider
    text("inputs", null=True),  # JSON: what the plan was decided on, without the prompt: `replay` decides on it again
    integer("byok_cost_nusd", default="0"),  # what the organisation's own provider account is asked for, at list price
    Index(
        "generations_conversation",
        "conversation",
        "created_at_ms",
        sqlite_where=sql("conversation IS NOT NULL"),
        postgresql_where=sql("conversation IS NOT NULL"),
    ),
    Index("generations_key_time", "key_hash", "created_at_ms"),
    Index("generations_organization_time", "organization_id", "created_at_ms"),
    Index(
        "generations_session",
        "organization_id",
        "session_id",
        "created_at_ms",
        sqlite_where=sql("session_id IS NOT NULL"),
        postgresql_where=sql("session_id IS NOT NULL"),
    ),
)

generation_feedback = table(
    "generation_feedback",
    text("id", key=True),
    text("organization_id"),
    Column("generation_id", Text, ForeignKey("generations.id"), nullable=False),
    text("category"),
    text("comment", null=True),
    text("author"),
    integer("created_at_s"),
    Index("generation_feedback_generation", "generation_id"),
)

activity_hours = table(
    "activity_hours",
    integer("hour_s", key=True),
    text("organization_id", key=True),
    text("key_hash", key=True),
    text("model", key=True),
    text("provider", key=True),
    text("workspace_id"),
    text("member_id", null=True),
    integer("requests"),
    integer("failures"),
    integer("input_tokens"),
    integer("output_tokens"),
    integer("thinking_tokens"),
    integer("cache_read_tokens"),
    integer("cache_write_tokens"),
    integer("cost_nusd"),
    integer("byok_cost_nusd", default="0"),
    Index("activity_hours_key", "key_hash", "hour_s"),
    Index("activity_hours_organization", "organization_id", "hour_s"),
    rowid=False,
    fill=70,
)
"""Roll-ups written in the settlement's own transaction: they can neither lag behind nor drift from the generations."""

activity_days = table(
    "activity_days",
    text("organization_id", key=True),
    integer("day_s", key=True),
    text("key_hash", key=True),
    text("model", key=True),
    text("provider", key=True),
    text("app", key=True),  # empty when the client named none
    text("workspace_id"),
    text("member_id", null=True),
    integer("requests"),
    integer("failures"),
    integer("input_tokens"),
    integer("output_tokens"),
    integer("thinking_tokens"),
    integer("cache_read_tokens"),
    integer("cache_write_tokens"),
    integer("cost_nusd"),
    integer("byok_cost_nusd"),
    integer("cache_discount_nusd"),
    rowid=False,
    fill=70,
)
"""The same by day and app, for months and years: a year is read in a blink."""

provider_hours = table(
    "provider_hours",
    text("organization_id", key=True),
    text("provider", key=True),
    integer("hour_s", key=True),
    integer("attempts"),
    integer("answered"),
    integer("limited"),  # 429: neither up nor down
    integer("answer_ms"),  # of all that answered, to the first content
    rowid=False,
    fill=70,
)
"""What each provider did with what it was asked: every attempt counts, also those that another provider made good."""
