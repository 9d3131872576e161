"""What pages for people need: passwords and the identity provider, days of activity, uptime of providers, prompts that were opted in.

Everything is added, nothing is taken away: a server of the version before goes on working on the new schema. It does not write the
days and the uptime; `activity/rollups.py` makes good what it left out.
"""

from __future__ import annotations

from typing import NamedTuple

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, Table, Text, text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

metadata = MetaData()

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _table(name: str, *columns: Column[object] | CheckConstraint | Index, rowid: bool = True, fill: int = 100) -> Table:
    return Table(
        name, metadata, *columns, sqlite_strict=True, sqlite_with_rowid=rowid, postgresql_with={"fillfactor": fill}
    )


def _text(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, Text, nullable=null, primary_key=key, server_default=default)


def _int(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, _BIG, nullable=null, primary_key=key, server_default=default, autoincrement=False)


Table("api_keys", metadata, Column("hash", Text, primary_key=True))  # what a new table points at

_KNOWN = frozenset(metadata.tables)

sign_in_failures = _table(
    "sign_in_failures",
    _text("subject", key=True),  # SHA-256 of an account or of a network: whom a wrong password slows down
    _int("failures"),
    _int("last_at_s"),
    _int("retry_at_s"),
    Index("sign_in_failures_last", "last_at_s"),
)

sign_in_states = _table(
    "sign_in_states",
    _text("state_hash", key=True),  # SHA-256 of what the identity provider gives back
    _int("expires_at_s"),
)

passes = _table(
    "passes",
    _text("hash", key=True),  # HMAC-SHA256(pepper, pass), like a key's
    _text("organization_id"),
    Column("key_hash", Text, ForeignKey("api_keys.hash"), nullable=False),
    _text("made_by"),
    _int("created_at_s"),
    _int("expires_at_s"),
    Index("passes_expires", "expires_at_s"),
)

activity_days = _table(
    "activity_days",
    _text("organization_id", key=True),
    _int("day_s", key=True),
    _text("key_hash", key=True),
    _text("model", key=True),
    _text("provider", key=True),
    _text("app", key=True),  # empty when the client named none
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
    _int("byok_cost_nusd"),
    _int("cache_discount_nusd"),
    rowid=False,
    fill=70,
)

provider_hours = _table(
    "provider_hours",
    _text("organization_id", key=True),
    _text("provider", key=True),
    _int("hour_s", key=True),
    _int("attempts"),
    _int("answered"),
    _int("limited"),  # 429: neither up nor down
    _int("answer_ms"),  # of all that answered, to the first content
    rowid=False,
    fill=70,
)

contents = _table(
    "contents",
    _text("generation_id", key=True),
    _text("organization_id"),
    _text("workspace_id"),
    _int("created_at_s"),
    _int("expires_at_s"),
    _text("kek_id"),
    _text("sealed"),  # request and answer, encrypted (vault/envelope.py) for this generation
    _int("size_bytes"),  # before encryption
    Index("contents_expires", "expires_at_s"),
    Index("contents_workspace", "workspace_id", "created_at_s"),
)

_COLUMNS = {
    "members": (
        _text("password_hash", null=True),
        _int("password_set_at_s", null=True),
        _text("oidc_subject", null=True),
    ),
}


class IndexAhead(NamedTuple):
    """An index on a table that may be large: on PostgreSQL it is built beforehand, beside a running server."""

    name: str
    table: str
    columns: tuple[str, ...]
    where: str | None = None


INDEXES = (IndexAhead("members_oidc_subject", "members", ("oidc_subject",)),)

_DAYS = """
    INSERT INTO activity_days
    SELECT organization_id, created_at_ms / 86400000 * 86400, key_hash, model, COALESCE(provider, ''), COALESCE(app, ''),
           MAX(workspace_id), MAX(member_id), COUNT(*), SUM(CASE WHEN outcome IN ('failed', 'broken') THEN 1 ELSE 0 END),
           SUM(input_tokens), SUM(output_tokens), SUM(thinking_tokens), SUM(cache_read_tokens),
           SUM(cache_write_5m_tokens + cache_write_1h_tokens), SUM(cost_nusd), SUM(byok_cost_nusd), SUM(cache_discount_nusd)
    FROM generations GROUP BY 1, 2, 3, 4, 5, 6
"""


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
    op.execute(_DAYS)
