"""Routing: preferences of keys and workspaces, the conversation that a request belongs to, and the inputs of its plan."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("routing", sa.Text, nullable=True))
    op.add_column("workspaces", sa.Column("routing", sa.Text, nullable=True))
    op.add_column("generations", sa.Column("conversation", sa.Text, nullable=True))
    op.add_column("generations", sa.Column("inputs", sa.Text, nullable=True))
    op.create_index(
        "generations_conversation",
        "generations",
        ["conversation", "created_at_ms"],
        sqlite_where=sa.text("conversation IS NOT NULL"),
        postgresql_where=sa.text("conversation IS NOT NULL"),
    )
