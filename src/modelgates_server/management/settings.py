"""What an organisation decided about its money: when it is warned, and when it is topped up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.change import Note, change
from modelgates_server.money import AMOUNT_NUSD_MAX, NUSD_PER_USD
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

THRESHOLDS_MAX: Final = 10
LOW_BALANCE_NUSD: Final = 10 * NUSD_PER_USD
"""Product-surface 1.3 has $100, which is all that a new installation is granted: its first request would be told."""

_ORGANIZATIONS = schema.organizations


@dataclass(frozen=True, slots=True)
class TopUpRule:
    """When free credit falls below `threshold_nusd`, `amount_nusd` is added; at most `monthly_max_nusd` in a month (UTC).

    None for the month means no such bound. Nano-USD.
    """

    enabled: bool
    threshold_nusd: int
    amount_nusd: int
    monthly_max_nusd: int | None = None


@dataclass(frozen=True, slots=True)
class OrganizationSettings:
    """What it wants to be told, and whether it is topped up.

    `thresholds` are percents of a budget, ascending; None leaves them to the configuration, none at all means no alerts.
    `low_balance_nusd` None means no alert about the credit.
    """

    low_balance_nusd: int | None = LOW_BALANCE_NUSD
    thresholds: tuple[int, ...] | None = None
    topup: TopUpRule | None = None


def read_settings(engine: sa.Engine, organization_id: str) -> OrganizationSettings:
    """Give an organisation's settings. Raises NotFound."""
    with reading(engine) as connection:
        return settings_in(connection, organization_id)


def settings_in(connection: sa.Connection, organization_id: str) -> OrganizationSettings:
    """Give an organisation's settings, within a transaction. Raises NotFound."""
    return _parsed(_stored(connection, organization_id))


def update_settings(
    engine: sa.Engine, organization_id: str, actor: str, now_s: float, **changes: Any
) -> OrganizationSettings:
    """Change members of `OrganizationSettings`, by name; the others stay. Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        kept = _stored(changing.connection, organization_id)
        settings = _checked(replace(_parsed(kept), **changes))
        wanted = {name: value for name, value in asdict(settings).items() if name != "thresholds" or value is not None}
        kept.pop("thresholds", None)
        text = json.dumps(kept | wanted, sort_keys=True)
        changing.connection.execute(
            sa.update(_ORGANIZATIONS).where(_ORGANIZATIONS.c.id == organization_id).values(settings=text)
        )
        details = {name: value for name, value in asdict(settings).items() if name in changes}
        changing.note(Note(organization_id, actor, "organization.settings", organization_id, details))
        return settings


def _stored(connection: sa.Connection, organization_id: str) -> dict[str, Any]:
    query = sa.select(_ORGANIZATIONS.c.settings).where(_ORGANIZATIONS.c.id == organization_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("there is no such organization")
    found: dict[str, Any] = json.loads(row.settings) if row.settings else {}
    return found


def _parsed(stored: dict[str, Any]) -> OrganizationSettings:
    topup, thresholds = stored.get("topup"), stored.get("thresholds")
    return OrganizationSettings(
        low_balance_nusd=stored.get("low_balance_nusd", LOW_BALANCE_NUSD),
        thresholds=None if thresholds is None else tuple(thresholds),
        topup=None if topup is None else TopUpRule(**topup),
    )


def _checked(settings: OrganizationSettings) -> OrganizationSettings:
    low = settings.low_balance_nusd
    if low is not None and not 0 < low <= AMOUNT_NUSD_MAX:
        raise BadRequest("the low balance must be above zero and at most one million USD, or null for no alert")
    thresholds = None if settings.thresholds is None else tuple(sorted(set(settings.thresholds)))
    if thresholds and (len(thresholds) > THRESHOLDS_MAX or not all(1 <= percent <= 100 for percent in thresholds)):
        raise BadRequest(f"thresholds are at most {THRESHOLDS_MAX} whole percents from 1 to 100")
    if settings.topup is not None:
        _check_rule(settings.topup)
    return replace(settings, thresholds=thresholds)


def _check_rule(rule: TopUpRule) -> None:
    if not 0 <= rule.threshold_nusd <= AMOUNT_NUSD_MAX:
        raise BadRequest("the threshold of a top-up must be zero or more, and at most one million USD")
    if not 0 < rule.amount_nusd <= AMOUNT_NUSD_MAX:
        raise BadRequest("the amount of a top-up must be above zero and at most one million USD")
    if rule.monthly_max_nusd is not None and rule.monthly_max_nusd < rule.amount_nusd:
        raise BadRequest("the monthly maximum is less than one top-up: it would never happen")
