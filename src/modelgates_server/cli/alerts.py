"""`alerts`: the list, what the organisation wants to be told, and the channels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from modelgates_server.alerts.courier import Courier, NotTaken
from modelgates_server.alerts.message import shown
from modelgates_server.assembly import operator_of
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, Workplace, opened
from modelgates_server.cli.output import clean, dollars, facts, listing, moment, rfc3339, usd_number
from modelgates_server.clock import SystemClock
from modelgates_server.errors import BadRequest
from modelgates_server.management import alerts as work
from modelgates_server.management.settings import read_settings, update_settings
from modelgates_server.money import nusd_from_usd
from modelgates_server.outbound.guard import Guard
from modelgates_server.outbound.http import Outbound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.management.alerts import AlertRow, Channel, Delivery
    from modelgates_server.management.settings import OrganizationSettings

NONE, DEFAULT = "none", "default"
CONNECT_S: Final = 5.0


def show(options: Options, limit: int, *, everything: bool) -> Report:
    """List alerts, newest first."""
    with opened(options) as place:
        found = work.list_alerts(place.engine, place.organization_id, 0, limit, open_only=not everything)
        targets = {row.id: row.target for row in work.list_channels(place.engine, place.organization_id)}
    text = "\n\n".join(_told(row, targets) for row in found.rows) or "There is nothing to see to."
    return Report({"data": [_data(row) for row in found.rows], "total_count": found.total}, text)


def acknowledge(options: Options, alert_id: str) -> Report:
    """Say that somebody sees to it. Raises NotFound."""
    with opened(options) as place:
        row = work.acknowledge_alert(place.engine, place.organization_id, alert_id, ACTOR, place.now_s)
    return Report({"data": _data(row)}, f"{row.id} is seen to.")


def settings(options: Options, thresholds: str | None, low_balance: str | None) -> Report:
    """Show when the organisation is told, after changing what is given. Raises BadRequest."""
    changes: dict[str, Any] = {}
    if thresholds is not None:
        changes["thresholds"] = _percents(thresholds)
    if low_balance is not None:
        changes["low_balance_nusd"] = None if low_balance == NONE else nusd_from_usd(low_balance)
    with opened(options) as place:
        if changes:
            now = update_settings(place.engine, place.organization_id, ACTOR, place.now_s, **changes)
        else:
            now = read_settings(place.engine, place.organization_id)
        usual = place.config.alerts.thresholds
    data = {"thresholds": now.thresholds, "low_balance": usd_number(now.low_balance_nusd)}
    return Report({"data": data}, _wishes(now, usual))


def add(options: Options, webhook: str | None, email: str | None) -> Report:
    """Add a channel. Raises BadRequest, Conflict."""
    if (webhook is None) == (email is None):
        raise BadRequest("a channel is one of two", remedy="name --webhook URL or --email ADDRESS")
    kind, target = ("email", email or "") if webhook is None else ("webhook", webhook)
    with opened(options) as place:
        made = work.create_channel(place.engine, _post(place), place.organization_id, kind, target, ACTOR, place.now_s)
    lines = [("Channel", made.channel.id), ("Kind", kind), ("To", made.channel.target)]
    text = facts(lines if made.secret is None else [*lines, ("Signing secret", made.secret)])
    if made.secret is not None:
        text += "\n\nThe secret is shown this once. Receivers check ModelGates-Signature with it."
    return Report({"data": _channel(made.channel), "secret": made.secret}, text)


def list_channels(options: Options) -> Report:
    """List the channels, oldest first."""
    with opened(options) as place:
        rows = work.list_channels(place.engine, place.organization_id)
    lines = [(row.kind, row.target, "on" if row.enabled else "off", moment(row.created_at_s), row.id) for row in rows]
    text = listing(("Kind", "To", "State", "Since", "Id"), lines, "There are no channels.")
    return Report({"data": [_channel(row) for row in rows]}, text)


def remove(options: Options, channel_id: str) -> Report:
    """Remove a channel. Raises NotFound."""
    with opened(options) as place:
        work.delete_channel(place.engine, place.organization_id, channel_id, ACTOR, place.now_s)
    return Report({"deleted": True, "id": channel_id}, f"{clean(channel_id)} is removed.")


def test(options: Options, channel_id: str) -> Report:
    """Send a test, now. Raises NotFound; exit 1 when the receiver does not take it."""
    with opened(options, with_keys=True) as place:
        row = work.channel_row(place.engine, place.organization_id, channel_id)
        refused = asyncio.run(_try(place, row))
    data = {"delivered": refused is None, "error": refused}
    if refused is None:
        return Report({"data": data}, f"{clean(row['target'])} took it.")
    return Report({"data": data}, f"{clean(row['target'])} did not take it: {clean(refused)}", 1)


async def _try(place: Workplace, row: dict[str, Any]) -> str | None:
    trusted = Outbound(connect_s=CONNECT_S)
    guarded = Outbound(connect_s=CONNECT_S, guard=_guard(place))
    operator = operator_of(place.config.alerts)
    courier = Courier(place.engine, place.pepper, operator, trusted, guarded, SystemClock(), place.origin)
    try:
        await courier.test(row)
    except NotTaken as error:
        return str(error)
    finally:
        await trusted.close()
        await guarded.close()
    return None


def _post(place: Workplace) -> work.Post:
    return work.Post(place.pepper, _guard(place), operator_of(place.config.alerts).sends_mail)


def _guard(place: Workplace) -> Guard:
    return Guard(place.config.server.outbound_allow)


def _percents(text: str) -> tuple[int, ...] | None:
    if text == DEFAULT:
        return None
    parts = [] if text == NONE else [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        raise BadRequest("thresholds are whole percents", remedy="write them like 50,80,95")
    return tuple(int(part) for part in parts)


def _wishes(now: OrganizationSettings, usual: tuple[int, ...]) -> str:
    levels = usual if now.thresholds is None else now.thresholds
    told = ", ".join(f"{level} %" for level in levels) or "never"
    low = "never" if now.low_balance_nusd is None else f"below {dollars(now.low_balance_nusd)}"
    of_limits = told if now.thresholds is not None else f"{told} (the gateway's own)"
    return facts((("Limits", of_limits), ("Credit", low)))


def _told(row: AlertRow, targets: Mapping[str, str]) -> str:
    state = "" if row.cleared_at_s is None else ", seen to"
    lines = [f"{moment(row.created_at_s)}  {row.severity}{state}  {row.id}", f"  {clean(row.message)}"]
    undelivered = [one for one in row.deliveries if one.state == "failed" or (one.state == "pending" and one.attempts)]
    lines += [f"  {_undelivered(one, targets.get(one.channel_id, one.channel_id))}" for one in undelivered]
    return "\n".join(lines)


def _undelivered(delivery: Delivery, to: str) -> str:
    """How a delivery stands that was tried: given up, or tried again. `to` is the channel's target, or its id when it is gone."""
    if delivery.state == "failed":
        return f"not delivered to {clean(to)} after {delivery.attempts} attempts: {clean(delivery.error)}"
    tried = "once" if delivery.attempts == 1 else f"{delivery.attempts} times"
    return f"not yet delivered to {clean(to)}: {clean(delivery.error or 'there is no answer yet')} (tried {tried})"


def _data(row: AlertRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "severity": row.severity,
        "message": row.message,
        "details": shown(row.details),
        "created_at": rfc3339(row.created_at_s),
        "cleared_at": None if row.cleared_at_s is None else rfc3339(row.cleared_at_s),
        "deliveries": [
            {"channel_id": one.channel_id, "state": one.state, "attempts": one.attempts, "error": one.error}
            for one in row.deliveries
        ],
    }


def _channel(row: Channel) -> dict[str, Any]:
    return {
        "id": row.id,
        "type": row.kind,
        "target": row.target,
        "enabled": row.enabled,
        "created_at": rfc3339(row.created_at_s),
    }
