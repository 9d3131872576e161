"""What a comparison leaves behind, in one transaction: the figures, proven attempts off ``operator:uncertain``, and an alert.

An attempt of unknown fate was booked as owed to the provider at most. What it did not cost is taken back; what it did cost stays
owed and is the operator's loss. No budget is touched: whoever asked got the answer of another attempt, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from modelgates_server.alerts.outbox import Alert, Kind, Outbox, Severity
from modelgates_server.ledger.units import OPERATOR_LOSS, UNCERTAIN, provider
from modelgates_server.money import usd_text
from modelgates_server.reconcile.books import CLEARED_KIND
from modelgates_server.reconcile.values import Cleared, Line
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.storage.portable import upsert

AUTHOR: Final = "reconcile"
MODELS_NAMED_MAX: Final = 5


def keep(engine: sa.Engine, account: str, lines: Sequence[Line], outbox: Outbox, now_s: float) -> None:
    """Store the lines of finished days under the provider's `account`, clear what they prove, raise or clear the alert of each day.

    Any number of processes may do this at once: they wait for each other. Raises StoreUnavailable.
    """
    done = [line for line in lines if line.state != "open"]
    if not done:
        return
    with transaction(engine) as connection:
        operator = _operator(connection)
        for proof in (proof for line in done for proof in line.cleared):
            _clear(connection, proof, now_s)
        for line in done:
            _store(connection, account, line, now_s)
        for day in sorted({line.day for line in done}):
            drifting = [line for line in done if line.day == day and line.state == "drift"]
            if drifting:
                outbox.post(connection, _alert(operator, account, day, drifting), now_s)
            else:
                _calm(connection, operator, account, day, now_s)


def _operator(connection: sa.Connection) -> str:
    """The installation's own organisation, the oldest, which hears of the operator's accounts. Its row also makes processes take turns."""
    known = schema.organizations.c
    query = sa.select(known.id).order_by(known.created_at_s, known.id).limit(1).with_for_update()
    return str(connection.execute(query).scalar_one())


def _clear(connection: sa.Connection, proof: Cleared, now_s: float) -> None:
    """Take the doubt off, unless somebody did since it was read; book what it cost as a loss."""
    doubt, account = proof.doubt, provider(proof.doubt.provider)
    if _open_nusd(connection, doubt.generation_id, account) != doubt.most_nusd:
        return
    moves = [(account, UNCERTAIN, doubt.most_nusd), (OPERATOR_LOSS, account, proof.billed_nusd)]
    rows = [
        {
            "organization_id": doubt.organization_id,
            "created_at_s": int(now_s),
            "kind": CLEARED_KIND,
            "debit": debit,
            "credit": credit,
            "amount_nusd": nusd,
            "generation_id": doubt.generation_id,
            "note": f"{doubt.provider} reported {doubt.day}",
            "author": AUTHOR,
        }
        for debit, credit, nusd in moves
        if nusd
    ]
    connection.execute(sa.insert(schema.entries), rows)


def _open_nusd(connection: sa.Connection, generation_id: str, account: str) -> int:
    entries = schema.entries.c
    signed = sa.case((entries.debit == UNCERTAIN, entries.amount_nusd), else_=-entries.amount_nusd)
    both = sa.or_(
        sa.and_(entries.debit == UNCERTAIN, entries.credit == account),
        sa.and_(entries.debit == account, entries.credit == UNCERTAIN),
    )
    query = sa.select(sa.func.coalesce(sa.func.sum(signed), 0)).where(
        entries.generation_id == generation_id, both, sa.text(schema.FEW)
    )
    return int(connection.execute(query).scalar_one())


def _store(connection: sa.Connection, account: str, line: Line, now_s: float) -> None:
    key = {"provider": account, "day": line.day, "model": line.model}
    values = {
        "ours_nusd": line.ours_nusd,
        "theirs_nusd": line.theirs_nusd,
        "estimated_nusd": line.estimated_nusd,
        "checked_at_s": int(now_s),
    }
    row = upsert(connection, schema.reconciliations).values(key | values)
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=values))


def _dedupe(account: str, day: str) -> str:
    return f"reconciliation:{account}:{day}"


def _alert(organization_id: str, account: str, day: str, drifting: Sequence[Line]) -> Alert:
    named = "; ".join(_sentence(line) for line in drifting[:MODELS_NAMED_MAX])
    more = len(drifting) - MODELS_NAMED_MAX
    return Alert(
        organization_id,
        _dedupe(account, day),
        Kind.RECONCILIATION,
        Severity.WARNING,
        f"The report of {account} for {day} does not agree with the books: {named}{f'; and {more} more' if more > 0 else ''}",
        {"provider": account, "day": day, "lines": [_details(line) for line in drifting]},
    )


def _sentence(line: Line) -> str:
    ours, theirs = usd_text(line.ours_nusd), usd_text(line.theirs_nusd)
    return f"{line.model}: ours ${ours}, theirs ${theirs} ({line.because})"


def _details(line: Line) -> dict[str, object]:
    return {
        "model": line.model,
        "ours_nusd": line.ours_nusd,
        "theirs_nusd": line.theirs_nusd,
        "unexplained_nusd": line.unexplained_nusd,
        "because": line.because,
    }


def _calm(connection: sa.Connection, organization_id: str, account: str, day: str, now_s: float) -> None:
    alerts = schema.alerts
    mine = (alerts.c.organization_id == organization_id, alerts.c.dedupe == _dedupe(account, day))
    told = sa.update(alerts).where(*mine, alerts.c.cleared_at_s.is_(None)).values(cleared_at_s=int(now_s))
    connection.execute(told)


def last_checked_s(connection: sa.Connection, account: str) -> int:
    """When an account was last compared, in Unix seconds; 0 when it never was."""
    known = schema.reconciliations.c
    newest = sa.select(sa.func.coalesce(sa.func.max(known.checked_at_s), 0)).where(known.provider == account)
    return int(connection.execute(newest).scalar_one())
