"""Top-ups by rule: credit that falls below a threshold is filled up, within a bound for the month.

What is paid comes through `Payments`. It is asked first, outside of any transaction, under a key that names this very top-up (the
n-th of the month); then the credit is booked, if the month still has n - 1. So a payment that was collected and not booked is
collected under the same key again, which takes no money twice, and of any number of processes one books.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import sqlalchemy as sa

from modelgates_server.alerts.outbox import Alert, Kind, Outbox, Severity, told_before
from modelgates_server.alerts.rules import AlertRules
from modelgates_server.alerts.words import topup_refused_sentence, topup_sentence, topup_stopped_sentence
from modelgates_server.ledger.credit import Movement, Moves, move, standing
from modelgates_server.limits import Window
from modelgates_server.management.change import Note, change
from modelgates_server.management.settings import TopUpRule
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction

AUTHOR: Final = "top-up rule"

_ENTRIES = schema.entries.c


class Payments(Protocol):
    """Whoever pays for credit. May block: it is called in a thread."""

    def collect(self, organization_id: str, amount_nusd: int, idempotency_key: str) -> str:
        """Collect an amount, or find that it was collected under this key; give the payment's reference.

        Raises PaymentRefused.
        """
        ...


class PaymentRefused(Exception):
    """Nothing was collected; the text says why."""


class OperatorPays:
    """The operator gives the credit: an organisation's share of an account that the operator settles with the providers."""

    def collect(self, organization_id: str, amount_nusd: int, idempotency_key: str) -> str:
        """Give a reference; nothing has to be collected."""
        del organization_id, amount_nusd
        return f"operator {idempotency_key}"


@dataclass(frozen=True, slots=True)
class _Month:
    """Top-ups of the running month (UTC): how many, and nano-USD."""

    starts_at_s: int
    count: int
    sum_nusd: int

    def allows(self, rule: TopUpRule) -> bool:
        return rule.monthly_max_nusd is None or self.sum_nusd + rule.amount_nusd <= rule.monthly_max_nusd

    def next_key(self, organization_id: str) -> str:
        return f"topup:{organization_id}:{self.starts_at_s}:{self.count + 1}"


def top_up(engine: sa.Engine, payments: Payments, outbox: Outbox, rules: Iterable[AlertRules], now_s: float) -> int:
    """Top up the credit of every organisation whose rule says so; count the top-ups. Raises StoreUnavailable."""
    done = 0
    for rule in rules:
        if rule.top_up is None or not rule.top_up.enabled:
            continue
        with reading(engine) as connection:
            month = _due(connection, rule.organization_id, rule.top_up, now_s)
        if month is None:
            continue
        if month.allows(rule.top_up):
            done += _top_up(engine, payments, outbox, rule, month, now_s)
        else:
            _say_stopped(engine, outbox, rule, month, now_s)
    return done


def _top_up(
    engine: sa.Engine, payments: Payments, outbox: Outbox, rules: AlertRules, month: _Month, now_s: float
) -> bool:
    organization_id, rule, key = rules.organization_id, rules.top_up, month.next_key(rules.organization_id)
    if rule is None or _refused_lately(engine, organization_id, key, now_s):
        return False
    try:
        reference = payments.collect(organization_id, rule.amount_nusd, key)
    except PaymentRefused as error:
        _say_refused(engine, outbox, rules, _refusal(key, now_s), str(error), now_s)
        return False
    with change(engine, now_s) as changing:  # one change at a time, in all processes
        connection = changing.connection
        if _month(connection, organization_id, now_s).count != month.count:
            return False  # another process has booked this one
        move(connection, organization_id, Movement(Moves.TOPUP, rule.amount_nusd, reference, AUTHOR), now_s)
        details = {"amount_nusd": rule.amount_nusd, "threshold_nusd": rule.threshold_nusd, "reference": reference}
        changing.note(Note(organization_id, AUTHOR, "credits.topup", organization_id, details))
        balance_nusd, sum_nusd = standing(connection, organization_id).balance_nusd, month.sum_nusd + rule.amount_nusd
        details |= {"balance_nusd": balance_nusd, "month_nusd": sum_nusd, "monthly_max_nusd": rule.monthly_max_nusd}
        sentence = topup_sentence(rules.name, rule.amount_nusd, balance_nusd, sum_nusd, rule.monthly_max_nusd)
        outbox.post(connection, Alert(organization_id, key, Kind.TOPUP, Severity.INFO, sentence, details), now_s)
    return True


def _say_stopped(engine: sa.Engine, outbox: Outbox, rules: AlertRules, month: _Month, now_s: float) -> None:
    """Say once a month, and once for each bound, that the rule does nothing any more."""
    bound_nusd = rules.top_up.monthly_max_nusd if rules.top_up is not None else None
    with reading(engine) as connection:
        balance_nusd = standing(connection, rules.organization_id).balance_nusd
    sentence = topup_stopped_sentence(rules.name, balance_nusd, month.sum_nusd, bound_nusd or 0)
    details = {"balance_nusd": balance_nusd, "month_nusd": month.sum_nusd, "monthly_max_nusd": bound_nusd}
    dedupe = f"topup:stopped:{month.starts_at_s}:{bound_nusd}"
    _post(engine, outbox, Alert(rules.organization_id, dedupe, Kind.TOPUP, Severity.WARNING, sentence, details), now_s)


def _say_refused(engine: sa.Engine, outbox: Outbox, rules: AlertRules, dedupe: str, reason: str, now_s: float) -> None:
    amount_nusd = rules.top_up.amount_nusd if rules.top_up is not None else 0
    sentence = topup_refused_sentence(rules.name, amount_nusd, reason)
    details = {"amount_nusd": amount_nusd, "reason": reason}
    alert = Alert(rules.organization_id, dedupe, Kind.TOPUP, Severity.CRITICAL, sentence, details)
    _post(engine, outbox, alert, now_s)


def _refusal(key: str, now_s: float) -> str:
    """A payment that was refused is tried again in the next full hour, and only then told again."""
    return f"{key}:refused:{int(now_s) // 3600}"


def _refused_lately(engine: sa.Engine, organization_id: str, key: str, now_s: float) -> bool:
    with reading(engine) as connection:
        return told_before(connection, organization_id, _refusal(key, now_s)) is not None


def _post(engine: sa.Engine, outbox: Outbox, alert: Alert, now_s: float) -> None:
    with reading(engine) as connection:
        if told_before(connection, alert.organization_id, alert.dedupe) is not None:
            return  # the usual case, which takes no lock
    with transaction(engine) as connection:
        outbox.post(connection, alert, now_s)


def _due(connection: sa.Connection, organization_id: str, rule: TopUpRule, now_s: float) -> _Month | None:
    if standing(connection, organization_id).balance_nusd >= rule.threshold_nusd:
        return None
    return _month(connection, organization_id, now_s)


def _month(connection: sa.Connection, organization_id: str, now_s: float) -> _Month:
    starts_at_s = Window.MONTH.bounds_s(now_s)[0]
    mine = (
        _ENTRIES.organization_id == organization_id,
        _ENTRIES.created_at_s >= starts_at_s,
        sa.text(schema.FEW),  # leads to the index that knows no requests
        _ENTRIES.kind == str(Moves.TOPUP),
        _ENTRIES.author == AUTHOR,
    )
    query = sa.select(sa.func.count().label("n"), sa.func.coalesce(sa.func.sum(_ENTRIES.amount_nusd), 0).label("sum"))
    row = connection.execute(query.where(*mine)).one()
    return _Month(starts_at_s, row.n, row.sum)
