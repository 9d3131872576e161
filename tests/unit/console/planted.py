"""A database with one organisation, one key and one receipt, written as the gateway writes them."""

from __future__ import annotations

import sqlalchemy as sa

from modelgates_server.activity.generation import Attempt, Cost, Generation, Origin, rows
from modelgates_server.dialects.values import Usage
from modelgates_server.ledger import credit
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

ORGANIZATION_ID = "org-acme"
KEY_HASH = "ab" * 32
GENERATION_ID = "gen-1800000000-00000000000000000001"
NOW_S = 1_800_000_000

_PLAN = (
    {"provider": "bedrock", "model": "anthropic/claude-opus-4.8", "place": None, "reason": "cooling down for 12 s"},
    {
        "provider": "anthropic",
        "model": "anthropic/claude-opus-4.8",
        "place": 1,
        "reason": "the maker of the model comes first",
    },
    {"provider": "backup", "model": "anthropic/claude-opus-4.8", "place": 2, "reason": "number 2 in the routing order"},
)
_PARTS = (
    {"name": "input", "quantity": 1_000, "pusd": 5_000_000_000},
    {"name": "cache read", "quantity": 250, "pusd": 125_000_000},
    {"name": "output", "quantity": 287, "pusd": 7_220_678_001},
)


def receipt(organization_id: str = ORGANIZATION_ID, key_hash: str = KEY_HASH, **changes: object) -> Generation:
    """A request that one provider refused and the next answered; its parts sum to 12,345,678,001 pico-USD."""
    origin = Origin(
        id=GENERATION_ID,
        organization_id=organization_id,
        workspace_id="wks-default",
        member_id=None,
        key_hash=key_hash,
        created_at_ms=NOW_S * 1000,
        requested_model="claude-opus-4-8",
        model="anthropic/claude-opus-4.8",
        streamed=True,
        user_agent="claude-cli/2.1.330",
    )
    fields = {
        "outcome": "completed",
        "usage": Usage(input_tokens=1_000, output_tokens=287, cache_read_tokens=250),
        "cost": Cost(12_345_679, 12_345_679, 0, 500_000_000, "2026-11-24.1", _PARTS),
        "provider": "backup",
        "upstream_model": "claude-opus-4-8",
        "upstream_request_id": "req_011",
        "finish_reason": "end_turn",
        "latency_ms": 812,
        "generation_ms": 4_321,
        "plan": _PLAN,
        "attempts": (
            Attempt("anthropic", "claude-opus-4-8", 529, "overloaded", 98, "req_010", "Overloaded"),
            Attempt("backup", "claude-opus-4-8", 200, None, 812, "req_011"),
        ),
    }
    return Generation(origin=origin, **(fields | changes))


def plant(engine: sa.Engine) -> None:
    """Create the schema and the rows."""
    schema.metadata.create_all(engine)
    with transaction(engine) as connection:
        for table, row in (
            (schema.policy, {"id": 1, "version": 1}),
            (schema.organizations, {"id": ORGANIZATION_ID, "name": "Acme", "created_at_s": NOW_S}),
            (schema.workspaces, {
                "id": "wks-default", "organization_id": ORGANIZATION_ID, "slug": "default", "name": "Default",
                "created_at_s": NOW_S,
            }),
            (schema.api_keys, {
                "hash": KEY_HASH, "organization_id": ORGANIZATION_ID, "workspace_id": "wks-default", "name": "laptop",
                "label": "sk-mg-v1-...wxyz", "class": "inference", "created_at_s": NOW_S, "updated_at_s": NOW_S,
            }),
        ):  # fmt: skip
            connection.execute(sa.insert(table).values(row))
        credit.grant(connection, ORGANIZATION_ID, 100_000_000_000, "first", "test", NOW_S)
        for statement, row in rows(receipt()):
            connection.connection.execute(statement.sql, statement.values(row))
