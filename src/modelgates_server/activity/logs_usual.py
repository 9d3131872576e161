"""What is usual for a provider and model: looked up in the receipts of the day before, of which it reads only so many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.logs_filter import LogFilter
from modelgates_server.activity.logs_guide import Bounds, Walk
from modelgates_server.activity.timeline import Usual, usual
from modelgates_server.storage import schema

BEFORE_MS: Final = 86_400_000
SAMPLE: Final = 500
"""Receipts that a median is made of: more would not change it."""

BOUNDS: Final = Bounds(rows_at_once=2_000, rows_max=10_000, stretches_max=24)

_EACH = schema.generations.c
_TOLD: Final = (_EACH.latency_ms, _EACH.generation_ms, _EACH.output_tokens, _EACH.streamed)


def usual_before(
    connection: sa.Connection, organization_id: str, row: Mapping[str, Any], only_member_id: str | None
) -> Usual:
    """Give the medians of the newest receipts like this one in the 24 hours before it, of those that may be seen."""
    if row["provider"] is None:
        return Usual()
    wanted = LogFilter(
        only_member_id=only_member_id,
        model=row["model"],
        provider=row["provider"],
        streamed=bool(row["streamed"]),
        since_ms=row["created_at_ms"] - BEFORE_MS,
        until_ms=row["created_at_ms"],
    )
    found: list[Mapping[Any, Any]] = []
    fitting = [*wanted.receipts(organization_id), _EACH.latency_ms.is_not(None)]
    for part in Walk(connection, organization_id, wanted, BOUNDS).slices(wanted.since_ms, wanted.until_ms, SAMPLE):
        query = sa.select(*_TOLD).where(*part.conditions(organization_id), *fitting)
        query = query.order_by(_EACH.created_at_ms.desc(), _EACH.id.desc()).limit(SAMPLE - len(found))
        found += connection.execute(query).mappings().all()
        if len(found) >= SAMPLE:
            break
    return usual(found)
