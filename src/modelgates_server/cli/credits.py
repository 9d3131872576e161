"""`credits`: how the prepaid credit stands, what changed it, and changing it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.cli.output import dollars, facts, in_usd, listing, moment, rfc3339, usd_number
from modelgates_server.errors import BadRequest
from modelgates_server.management import credits as work
from modelgates_server.management import organizations, settings
from modelgates_server.management.settings import TopUpRule
from modelgates_server.money import nusd_from_usd

if TYPE_CHECKING:
    from modelgates_server.ledger.credit import Standing
    from modelgates_server.management.credits import Moved, Transaction

NONE = "none"
"""The word that takes a bound away."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Between whom credit moves: organisations, by id or exact name. Without a giver it is the installation's first."""

    giver: str | None
    receiver: str


@dataclass(frozen=True, slots=True)
class Rule:
    """The options of ``credits topup``, as they were written; None leaves a thing as it is."""

    threshold: str | None
    amount: str | None
    monthly_max: str | None
    enabled: bool | None


def show(options: Options) -> Report:
    """Give the standing: granted, used, left, and held by open requests."""
    with opened(options) as place:
        now = work.credit_standing(place.engine, place.organization_id)
    return Report(_as_data(now), _as_text(now))


def transactions(options: Options, limit: int) -> Report:
    """List what changed the credit, newest first."""
    with opened(options) as place:
        found = work.list_transactions(place.engine, place.organization_id, 0, limit)
    lines = [(moment(row.created_at_s), row.kind, dollars(row.amount_nusd), row.author, row.note) for row in found.rows]
    data = {"data": [_transaction(row) for row in found.rows], "total_count": found.total}
    head = ("When", "What", "Amount", "By", "Note")
    return Report(data, listing(head, lines, "No credit was given or taken yet.", right=(2,)))


def grant(options: Options, usd: str, note: str) -> Report:
    """Add credit. Raises BadRequest unless the amount is positive and sane."""
    amount_nusd = nusd_from_usd(usd)
    with opened(options) as place:
        now = work.grant_credits(place.engine, place.organization_id, amount_nusd, note, ACTOR, place.now_s)
    data = {"granted": usd_number(amount_nusd), "note": note, **_as_data(now)}
    return Report(data, f"Granted {dollars(amount_nusd)}.\n{_as_text(now)}")


def adjust(options: Options, usd: str, note: str, *, down: bool) -> Report:
    """Adjust the credit. Raises BadRequest unless the amount is sane."""
    amount_nusd = -nusd_from_usd(usd) if down else nusd_from_usd(usd)
    with opened(options) as place:
        moved = work.adjust_credits(place.engine, place.organization_id, amount_nusd, note, ACTOR, place.now_s)
    return _moved(moved, "Adjusted by")


def refund(options: Options, generation_id: str, usd: str | None, note: str) -> Report:
    """Give back a generation's charge, or a part of it. Raises NotFound, BadRequest for more than is left of it."""
    amount_nusd = None if usd is None else nusd_from_usd(usd)
    with opened(options) as place:
        moved = work.refund_credits(
            place.engine, place.organization_id, generation_id, amount_nusd, note, ACTOR, place.now_s
        )
    return _moved(moved, "Refunded")


def transfer(options: Options, usd: str, ends: Ends, note: str) -> Report:
    """Move credit between organisations. Raises NotFound, BadRequest when the giver has not that much free."""
    amount_nusd = nusd_from_usd(usd)
    with opened(options) as place:
        giver, receiver = (organizations.find_organization(place.engine, end) for end in (ends.giver, ends.receiver))
        moved = work.transfer_credits(place.engine, giver.id, receiver.id, amount_nusd, note, ACTOR, place.now_s)
    data = {"data": _transaction(moved.transaction), **_as_data(moved.standing)}
    return Report(data, f"Moved {dollars(amount_nusd)} to {receiver.name}.\n{_as_text(moved.standing)}")


def topup(options: Options, wanted: Rule) -> Report:
    """Show the rule for top-ups or change it. Raises BadRequest for a rule that makes no sense."""
    with opened(options) as place:
        rule = settings.read_settings(place.engine, place.organization_id).topup
        changes = _changes(wanted)
        if changes:
            if rule is None and not {"threshold_nusd", "amount_nusd"} <= changes.keys():
                raise BadRequest("there is no rule yet", remedy="add --threshold USD --amount USD")
            rule = TopUpRule(**{"enabled": True, **({} if rule is None else asdict(rule)), **changes})
            settings.update_settings(place.engine, place.organization_id, ACTOR, place.now_s, topup=rule)
    if rule is None:
        return Report({"data": None}, "There is no rule for top-ups.")
    most = "none" if rule.monthly_max_nusd is None else dollars(rule.monthly_max_nusd)
    text = facts(
        (
            ("State", "on" if rule.enabled else "off"),
            ("Below", dollars(rule.threshold_nusd)),
            ("Adds", dollars(rule.amount_nusd)),
            ("Most a month", most),
        )
    )
    return Report({"data": in_usd(asdict(rule))}, text)


def _changes(wanted: Rule) -> dict[str, Any]:
    """What is to be set, by the names of `TopUpRule`."""
    changes: dict[str, Any] = {}
    if wanted.enabled is not None:
        changes["enabled"] = wanted.enabled
    if wanted.threshold is not None:
        changes["threshold_nusd"] = nusd_from_usd(wanted.threshold)
    if wanted.amount is not None:
        changes["amount_nusd"] = nusd_from_usd(wanted.amount)
    if wanted.monthly_max is not None:
        changes["monthly_max_nusd"] = None if wanted.monthly_max == NONE else nusd_from_usd(wanted.monthly_max)
    return changes


def _moved(moved: Moved, done: str) -> Report:
    data = {"data": _transaction(moved.transaction), **_as_data(moved.standing)}
    return Report(data, f"{done} {dollars(moved.transaction.amount_nusd)}.\n{_as_text(moved.standing)}")


def _transaction(row: Transaction) -> dict[str, Any]:
    return {
        "id": f"txn-{row.id}",
        "created_at": rfc3339(row.created_at_s),
        "type": row.kind,
        "amount": usd_number(row.amount_nusd),
        "note": row.note,
        "author": row.author,
        "generation_id": row.generation_id,
    }


def _as_data(now: Standing) -> dict[str, Any]:
    """Give the contract of ``credits show --json`` (design section 6): `balance` counts open requests as unspent."""
    return {
        "total_credits": usd_number(now.granted_nusd),
        "total_usage": usd_number(now.used_nusd),
        "balance": usd_number(now.balance_nusd),
        "held": usd_number(now.held_nusd),
    }


def _as_text(now: Standing) -> str:
    return facts(
        (
            ("Granted", dollars(now.granted_nusd)),
            ("Used", dollars(now.used_nusd)),
            ("Balance", dollars(now.balance_nusd)),
            ("Held", f"{dollars(now.held_nusd)} of the balance, by open requests"),
        )
    )
