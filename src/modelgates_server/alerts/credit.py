"""The alert about credit that runs out, with hysteresis: once it is raised, a balance that wavers around the threshold says nothing.

It is cleared when the balance is well above the threshold again, and may be raised anew from then on. While it stands, the alert
has a name of its own that no second one can have; a cleared one gives the name back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from modelgates_server.alerts.outbox import Alert, Kind, Outbox, Severity, told_before
from modelgates_server.alerts.rules import AlertRules
from modelgates_server.alerts.words import low_credit_sentence
from modelgates_server.ledger.credit import standing
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction

LOW: Final = "credit:low"
CLEARED_ABOVE_PERCENT: Final = 120
"""Of the threshold: one ordinary top-up clears the alert, a single refund does not."""

_ALERTS = schema.alerts.c


def watch_credit(engine: sa.Engine, outbox: Outbox, rules: Iterable[AlertRules], now_s: float) -> int:
    """Raise or clear each organisation's alert about its credit; count the new ones. Raises StoreUnavailable."""
    with reading(engine) as connection:
        due = [rule for rule in rules if _raises(connection, rule) or _over(connection, rule) is not None]
    raised = 0
    for rule in due:
        with transaction(engine) as connection:  # looked at again: meanwhile another process may have done it
            if _raises(connection, rule):
                raised += outbox.post(connection, _alert(connection, rule), now_s)
            elif (alert_id := _over(connection, rule)) is not None:
                _clear(connection, alert_id, now_s)
    return raised


def _raises(connection: sa.Connection, rule: AlertRules) -> bool:
    if not rule.low_balance_nusd:
        return False
    low = standing(connection, rule.organization_id).balance_nusd < rule.low_balance_nusd
    return low and told_before(connection, rule.organization_id, LOW) is None


def _over(connection: sa.Connection, rule: AlertRules) -> str | None:
    """The id of an alert that stands although the credit is up again."""
    alert_id = told_before(connection, rule.organization_id, LOW)
    if alert_id is None or not rule.low_balance_nusd:
        return alert_id
    balance_nusd = standing(connection, rule.organization_id).balance_nusd
    return alert_id if balance_nusd * 100 > rule.low_balance_nusd * CLEARED_ABOVE_PERCENT else None


def _alert(connection: sa.Connection, rule: AlertRules) -> Alert:
    balance_nusd, threshold_nusd = standing(connection, rule.organization_id).balance_nusd, rule.low_balance_nusd or 0
    details = {"balance_nusd": balance_nusd, "threshold_nusd": threshold_nusd}
    sentence = low_credit_sentence(rule.name, balance_nusd, threshold_nusd)
    severity = Severity.WARNING if balance_nusd > 0 else Severity.CRITICAL
    return Alert(rule.organization_id, LOW, Kind.CREDIT, severity, sentence, details)


def _clear(connection: sa.Connection, alert_id: str, now_s: float) -> None:
    values = {"dedupe": f"{LOW}:{alert_id}", "cleared_at_s": sa.func.coalesce(_ALERTS.cleared_at_s, int(now_s))}
    connection.execute(sa.update(schema.alerts).where(_ALERTS.id == alert_id).values(values))
