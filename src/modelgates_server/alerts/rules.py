"""What each organisation wants to be told, and its rule for top-ups: its own settings over those of the configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.management.settings import TopUpRule, settings_in
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

THRESHOLDS: Final = (50, 80, 95, 100)
"""Percent of a limit, where neither the organisation nor the configuration says otherwise (issue 4)."""


@dataclass(frozen=True, slots=True)
class AlertRules:
    """An organisation's wishes. `thresholds` are percent; `low_balance_nusd` of None wants no alert about the credit."""

    organization_id: str
    name: str
    thresholds: tuple[int, ...] = THRESHOLDS
    low_balance_nusd: int | None = None
    top_up: TopUpRule | None = None


def all_rules(engine: sa.Engine, thresholds: tuple[int, ...] = THRESHOLDS) -> list[AlertRules]:
    """Read the rules of every organisation; `thresholds` are those of whoever chose none. Raises StoreUnavailable."""
    known = schema.organizations.c
    with reading(engine) as connection:
        rows = connection.execute(sa.select(known.id, known.name).order_by(known.id)).all()
        return [_rules(connection, row, thresholds) for row in rows]


def _rules(connection: sa.Connection, row: Any, thresholds: tuple[int, ...]) -> AlertRules:
    settings = settings_in(connection, row.id)
    levels = thresholds if settings.thresholds is None else settings.thresholds
    return AlertRules(row.id, row.name, levels, settings.low_balance_nusd, settings.topup)
