"""Alerts as rows, each fact once, and the outbox of their deliveries: written together, worked off by whoever comes first."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.clock import new_id
from modelgates_server.limits import Window
from modelgates_server.privacy import redacted, visible
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.storage.portable import upsert

log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = (60, 300, 1_800, 7_200, 43_200)
"""Pauses after a failed attempt; after the last one a delivery is given up. A receiver may be away for half a day."""

LEASE_S: Final = 90
"""Nobody else takes a delivery that is under way; longer than an attempt may last. A process that dies lets it run out."""

CLAIM_ROWS_MAX: Final = 20

KEPT_S: Final = 400 * 86_400
"""Somebody may want to compare with last year."""

MESSAGE_CHARACTERS_MAX: Final = 1_000
ERROR_CHARACTERS_MAX: Final = 300

_ALERTS, _CHANNELS, _DELIVERIES = schema.alerts.c, schema.alert_channels.c, schema.alert_deliveries.c


class Kind(StrEnum):
    """What an alert is about."""

    BUDGET = "budget"
    CREDIT = "credit"
    TOPUP = "topup"
    RECONCILIATION = "reconciliation"
    TEST = "test"  # never stored: what a channel is tried with


class Severity(StrEnum):
    """How soon somebody should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """One fact. `dedupe` names it: an organisation is told it once. `message` is a sentence for people.

    `details` is plain data without secrets; members whose name ends in ``_nusd`` are whole nano-USD.
    """

    organization_id: str
    dedupe: str
    kind: Kind
    severity: Severity
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """An alert as it was stored."""

    id: str
    created_at_s: int
    alert: Alert


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery that this process has taken. `channel` is the stored channel's row, None for the operator's own or a removed one."""

    told: Told
    channel_id: str
    attempts: int
    channel: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        """What the channel is: webhook or email, removed when it is gone. The operator's own have it in their ids."""
        if self.channel is not None:
            return str(self.channel["kind"])
        return self.channel_id.partition(":")[2] or "removed"


@dataclass(frozen=True, slots=True)
class Outbox:
    """Posts alerts. `operator_channels` are those of the configuration file: they get the alerts of every organisation."""

    operator_channels: tuple[str, ...] = ()

    def post(self, connection: sa.Connection, alert: Alert, now_s: float) -> bool:
        """Write an alert and its deliveries within the caller's transaction; false when it was told before."""
        row = {
            "id": new_id("alr", now_s),
            "organization_id": alert.organization_id,
            "dedupe": alert.dedupe,
            "kind": str(alert.kind),
            "severity": str(alert.severity),
            "message": visible(alert.message, MESSAGE_CHARACTERS_MAX),
            "details": json.dumps(alert.details, sort_keys=True),
            "created_at_s": int(now_s),
        }
        same = [_ALERTS.organization_id, _ALERTS.dedupe]
        posting = upsert(connection, schema.alerts).values(row).on_conflict_do_nothing(index_elements=same)
        if connection.execute(posting.returning(_ALERTS.id)).scalar_one_or_none() is None:
            return False
        mine = (_CHANNELS.organization_id == alert.organization_id, _CHANNELS.enabled == 1)
        channels = connection.execute(sa.select(_CHANNELS.id).where(*mine).order_by(_CHANNELS.id)).scalars().all()
        deliveries = [
            {
                "alert_id": row["id"],
                "channel_id": channel_id,
                "organization_id": alert.organization_id,
                "next_at_s": int(now_s),
            }
            for channel_id in (*channels, *self.operator_channels)
        ]
        if deliveries:
            connection.execute(sa.insert(schema.alert_deliveries), deliveries)
        return True


def told_before(connection: sa.Connection, organization_id: str, dedupe: str) -> str | None:
    """Give the id of the alert by which the organisation knows this already."""
    same = (_ALERTS.organization_id == organization_id, _ALERTS.dedupe == dedupe)
    found: str | None = connection.execute(sa.select(_ALERTS.id).where(*same)).scalar_one_or_none()
    return found


def claim(engine: sa.Engine, now_s: float) -> list[Parcel]:
    """Take deliveries that are due, so that no other process takes them until `LEASE_S` have passed.

    The condition stands in the UPDATE itself: of two processes that see the same row, the second finds it no longer due.
    """
    with reading(engine) as connection:
        if connection.execute(_due(now_s).limit(1)).first() is None:
            return []  # the usual case, which takes no lock
    with transaction(engine) as connection:
        due = sa.tuple_(_DELIVERIES.alert_id, _DELIVERIES.channel_id).in_(_due(now_s).limit(CLAIM_ROWS_MAX))
        taking = (
            sa.update(schema.alert_deliveries)
            .where(due, _DELIVERIES.next_at_s <= int(now_s))
            .values(next_at_s=int(now_s) + LEASE_S, attempts=_DELIVERIES.attempts + 1)
            .returning(_DELIVERIES.alert_id, _DELIVERIES.channel_id, _DELIVERIES.attempts)
        )
        taken = {(row.alert_id, row.channel_id): row.attempts for row in connection.execute(taking)}
        alerts = _by_id(connection, schema.alerts, {alert_id for alert_id, _ in taken})
        channels = _by_id(connection, schema.alert_channels, {channel_id for _, channel_id in taken})
    return [
        Parcel(_told(alerts[alert_id]), channel_id, attempts, channels.get(channel_id))
        for (alert_id, channel_id), attempts in sorted(taken.items())
        if alert_id in alerts
    ]


def delivered(engine: sa.Engine, parcel: Parcel, now_s: float) -> None:
    """Note that a channel took an alert."""
    values = {"next_at_s": None, "delivered_at_s": int(now_s), "last_error": None}
    with transaction(engine) as connection:
        connection.execute(sa.update(schema.alert_deliveries).where(*_mine(parcel)).values(values))


def failed(engine: sa.Engine, parcel: Parcel, reason: str, now_s: float, *, for_good: bool = False) -> None:
    """Note a failed attempt: the next one is planned, or the delivery is given up. The list of alerts shows both.

    The log tells of the first attempt that failed, and of the end.
    """
    given_up = for_good or parcel.attempts > len(RETRY_AFTER_S)
    next_at_s = None if given_up else int(now_s) + RETRY_AFTER_S[parcel.attempts - 1]
    told = visible(redacted(reason), ERROR_CHARACTERS_MAX)
    with transaction(engine) as connection:
        mine = (*_mine(parcel), _DELIVERIES.attempts == parcel.attempts)  # unless its lease ran out and another has it
        values = {"next_at_s": next_at_s, "last_error": told}
        connection.execute(sa.update(schema.alert_deliveries).where(*mine).values(values))
    facts = {"alert": parcel.told.id, "channel": parcel.channel_id, "kind": parcel.kind, "reason": told}
    if given_up:
        log.warning("alert_delivery_given_up", extra=facts | {"attempts": parcel.attempts})
    elif parcel.attempts == 1:
        log.warning("alert_delivery_failed", extra=facts | {"again_in_s": RETRY_AFTER_S[0]})


def prune(engine: sa.Engine, now_s: float) -> None:
    """Remove alerts that are older than `KEPT_S`, except those whose fact still stands: they would be told again."""
    lasting = (_ALERTS.kind != str(Kind.BUDGET)) | _ALERTS.dedupe.contains(f":{Window.LIFE}:")
    over = _ALERTS.cleared_at_s.is_not(None) | ~lasting
    old = sa.select(_ALERTS.id).where(_ALERTS.created_at_s < int(now_s) - KEPT_S, over)
    with transaction(engine) as connection:
        connection.execute(sa.delete(schema.alert_deliveries).where(_DELIVERIES.alert_id.in_(old)))
        connection.execute(sa.delete(schema.alerts).where(_ALERTS.id.in_(old)))


def _due(now_s: float) -> sa.Select[tuple[Any, Any]]:
    query = sa.select(_DELIVERIES.alert_id, _DELIVERIES.channel_id).where(_DELIVERIES.next_at_s <= int(now_s))
    return query.order_by(_DELIVERIES.next_at_s, _DELIVERIES.alert_id, _DELIVERIES.channel_id)


def _by_id(connection: sa.Connection, table: sa.Table, ids: set[str]) -> dict[str, Mapping[str, Any]]:
    found = connection.execute(sa.select(table).where(table.c.id.in_(sorted(ids)))).mappings()
    return {row["id"]: dict(row) for row in found}


def _told(row: Mapping[str, Any]) -> Told:
    alert = Alert(
        row["organization_id"],
        row["dedupe"],
        Kind(row["kind"]),
        Severity(row["severity"]),
        row["message"],
        json.loads(row["details"]),
    )
    return Told(row["id"], row["created_at_s"], alert)


def _mine(parcel: Parcel) -> tuple[sa.ColumnElement[bool], ...]:
    return _DELIVERIES.alert_id == parcel.told.id, _DELIVERIES.channel_id == parcel.channel_id
