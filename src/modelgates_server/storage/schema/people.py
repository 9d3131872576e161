"""Who: organisations, workspaces, members, keys, and what limits them."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Text

from modelgates_server.storage.schema.columns import integer, table, text

meta = table("meta", text("key", key=True), text("value"))
"""Facts about the database itself: the fingerprint of its secret, whether it was initialised, the owner's epoch."""

policy = table("policy", integer("id", key=True), integer("version"))
"""One row. Its version rises with every change of who may do what; caches and holds compare with it."""

organizations = table(
    "organizations",
    text("id", key=True),
    text("name"),
    integer("created_at_s"),
    text("settings", null=True),  # JSON: alert thresholds, low-balance alert, the rule for top-ups
)

workspaces = table(
    "workspaces",
    text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    text("slug"),
    text("name"),
    integer("created_at_s"),
    text("routing", null=True),  # JSON: the provider preferences of all its keys
    text("description", null=True),
    text("settings", null=True),  # JSON: what the API keeps about a workspace besides (default models, flags)
    integer("updated_at_s", null=True),
    integer("deleted_at_s", null=True),
)

members = table(
    "members",
    text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    text("name"),
    text("email", null=True),
    text("role"),  # admin | member
    integer("created_at_s"),
    integer("removed_at_s", null=True),
    text("password_hash", null=True),  # argon2id, in the PHC string format; null: links or the identity provider only
    integer("password_set_at_s", null=True),
    text(
        "oidc_subject", null=True
    ),  # issuer, a space, subject: set at the first sign-in there, never by an address alone
    Index("members_email", "organization_id", "email"),
    Index("members_oidc_subject", "oidc_subject"),
)

workspace_members = table(
    "workspace_members",
    Column("workspace_id", Text, ForeignKey("workspaces.id"), primary_key=True),
    Column("member_id", Text, ForeignKey("members.id"), primary_key=True),
    text("organization_id"),
    integer("created_at_s"),
)

invitations = table(
    "invitations",
    text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    text("email"),
    text("name"),
    text("role"),
    text("workspace_id", null=True),
    integer("share_nusd", null=True),  # the budget that the member gets on acceptance
    text("share_window", null=True),  # day | week | month | life; null without a share
    text("token_hash"),  # SHA-256; the link is shown once
    text("invited_by"),
    integer("created_at_s"),
    integer("expires_at_s"),
    integer("accepted_at_s", null=True),
    integer("revoked_at_s", null=True),
    text("member_id", null=True),  # who accepted it
    Index("invitations_token", "token_hash", unique=True),
)

api_keys = table(
    "api_keys",
    text("hash", key=True),  # HMAC-SHA256(pepper, key), hex; the key itself is never stored
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workspace_id", Text, ForeignKey("workspaces.id"), nullable=False),
    Column("member_id", Text, ForeignKey("members.id"), nullable=True),
    text("name"),
    text("label"),  # the masked form that people see
    text("class"),  # inference | management
    integer("disabled", default="0"),
    integer("limit_nusd", null=True),
    text("limit_reset", null=True),  # daily | weekly | monthly; null never resets
    integer("requests_per_minute", null=True),
    integer("tokens_per_minute", null=True),
    text("allowed_models", null=True),  # JSON list of slugs; null allows all
    integer("expires_at_s", null=True),
    integer("created_at_s"),
    integer("updated_at_s"),
    integer("deleted_at_s", null=True),
    text("routing", null=True),  # JSON: provider preferences, on top of the workspace's
    integer("parallel_max", null=True),  # requests at the same time
    integer("include_byok_in_limit", default="0"),
    CheckConstraint("limit_nusd IS NULL OR limit_nusd >= 0", name="api_keys_limit"),
)

budgets = table(
    "budgets",
    text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    text("scope"),  # organization | workspace | app | member
    text("scope_id"),
    text("window"),  # day | week | month | life
    integer("limit_nusd"),
    integer("created_at_s"),
    text("mode", default="hard"),  # hard refuses; soft only counts and alerts
    integer("include_byok", default="0"),
    integer("updated_at_s", null=True),
    CheckConstraint("limit_nusd >= 0", name="budgets_limit"),
)
"""Spending limits of organisations, workspaces, apps and members. A key's own limit stands in its row."""

rates = table(
    "rates",
    text("scope", key=True),  # organization | workspace | member
    text("scope_id", key=True),
    text("organization_id"),
    integer("requests_per_minute", null=True),
    integer("tokens_per_minute", null=True),
    integer("parallel_max", null=True),
)
"""Rate and concurrency limits above the key's own, which stand in its row."""

guardrails = table(
    "guardrails",
    text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workspace_id", Text, ForeignKey("workspaces.id"), nullable=False),
    text("name"),
    text("description", null=True),
    integer("is_default", default="0"),  # the workspace's own: it needs no assignment
    integer("limit_nusd", null=True),
    text("reset_interval", null=True),  # daily | weekly | monthly
    text("mode", default="hard"),
    integer("include_byok", default="0"),
    text("allowed_models", null=True),  # JSON lists of slugs; null allows all
    text("ignored_models", null=True),
    text("allowed_providers", null=True),
    text("ignored_providers", null=True),
    text("settings", null=True),  # JSON: ZDR and training switches, content filters
    integer("created_at_s"),
    integer("updated_at_s"),
    Index("guardrails_workspace", "workspace_id"),
    CheckConstraint("limit_nusd IS NULL OR limit_nusd >= 0", name="guardrails_limit"),
)

guardrail_keys = table(
    "guardrail_keys",
    Column("key_hash", Text, ForeignKey("api_keys.hash"), primary_key=True),  # one guardrail per key
    text("id"),
    text("organization_id"),
    Column("guardrail_id", Text, ForeignKey("guardrails.id"), nullable=False),
    text("assigned_by"),
    integer("created_at_s"),
    Index("guardrail_keys_guardrail", "guardrail_id"),
)

guardrail_members = table(
    "guardrail_members",
    Column("member_id", Text, ForeignKey("members.id"), primary_key=True),
    text("id"),
    text("organization_id"),
    Column("guardrail_id", Text, ForeignKey("guardrails.id"), nullable=False),
    text("assigned_by"),
    integer("created_at_s"),
    Index("guardrail_members_guardrail", "guardrail_id"),
)

provider_credentials = table(
    "provider_credentials",
    text("id", key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    text("workspace_id", null=True),  # null: every workspace of the organisation
    text("provider"),  # the slug of the configured provider whose key it replaces
    text("name"),
    text("label"),  # the masked form that people see
    text("base_url"),  # where it may be sent: bound into the sealed secret, never chosen apart
    text("sealed"),  # the secret, encrypted (vault/envelope.py)
    text("kek_id"),  # which key-encryption key wraps it
    integer("is_fallback", default="0"),
    integer("disabled", default="0"),
    text("allowed_models", null=True),  # JSON lists; null allows all
    text("allowed_key_hashes", null=True),
    text("allowed_member_ids", null=True),
    integer("sort_order", default="0"),
    integer("created_at_s"),
    integer("updated_at_s"),
    Index("provider_credentials_organization", "organization_id", "provider"),
)

sign_in_links = table(
    "sign_in_links",
    text("token_hash", key=True),
    text("member_id"),
    integer("expires_at_s"),
    integer("used_at_s", null=True),
)

sessions = table(
    "sessions",
    text("token_hash", key=True),
    text("organization_id"),
    text("member_id"),
    integer("created_at_s"),
    integer("last_seen_at_s"),
    integer("expires_at_s"),
)

sign_in_failures = table(
    "sign_in_failures",
    text("subject", key=True),  # SHA-256 of an account or of a network: whom a wrong password slows down
    integer("failures"),
    integer("last_at_s"),
    integer("retry_at_s"),
    Index("sign_in_failures_last", "last_at_s"),
)

sign_in_states = table(
    "sign_in_states",
    text("state_hash", key=True),  # SHA-256 of what the identity provider gives back
    integer("expires_at_s"),
)
"""Sign-ins at the identity provider that are done: what it gave back works once."""

passes = table(
    "passes",
    text("hash", key=True),  # HMAC-SHA256(pepper, pass), like a key's
    text("organization_id"),
    Column("key_hash", Text, ForeignKey("api_keys.hash"), nullable=False),
    text("made_by"),
    integer("created_at_s"),
    integer("expires_at_s"),
    Index("passes_expires", "expires_at_s"),
)
"""Credentials that live for a minute and are their key in everything: the doctor asks as that caller without knowing the key."""
