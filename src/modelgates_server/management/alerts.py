"""Where alerts go and what was alerted: channels of an organisation, and the list that people look through.

A webhook's signing secret is made here, shown once and kept sealed for its address: another address means another secret.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, Conflict, NotFound
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.paging import Page, page
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.vault.ring import open_vault

WEBHOOK, EMAIL = "webhook", "email"
CHANNELS_MAX: Final = 20
MARK: Final = "whsec_"
SECRET_BYTES: Final = 32

_ADDRESS: Final = re.compile(r"(?=.{3,254}\Z)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_OPERATOR: Final = "operator:"

_CHANNELS, _ALERTS, _DELIVERIES = schema.alert_channels, schema.alerts, schema.alert_deliveries


class Read(Protocol):
    """A destination that may be connected to."""

    @property
    def url(self) -> str: ...


class Destinations(Protocol):
    """Says which URLs may be connected to (`outbound/guard.py`)."""

    def read(self, text: str) -> Read:
        """Read a URL. Raises BadRequest."""
        ...


@dataclass(frozen=True, slots=True)
class Post:
    """What channels need: the installation's secret, which URLs may be named, and whether there is a mail server."""

    secret: bytes = field(repr=False)
    destinations: Destinations
    sends_mail: bool


@dataclass(frozen=True, slots=True)
class Channel:
    """Where an organisation's alerts go. `kind` is webhook or email, `target` the URL or the address."""

    id: str
    organization_id: str
    kind: str
    target: str
    enabled: bool
    created_at_s: int


@dataclass(frozen=True, slots=True)
class Made:
    """A channel, and the signing secret of a webhook when it is new: nobody can read it again."""

    channel: Channel
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far an alert came on a channel: `state` is delivered, pending or failed; times in Unix seconds."""

    channel_id: str
    state: str
    attempts: int
    next_at_s: int | None
    delivered_at_s: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert as it is stored. `cleared_at_s`: somebody saw to it, or it is over. `details` has amounts in ``…_nusd``."""

    id: str
    organization_id: str
    kind: str
    severity: str
    message: str
    details: Mapping[str, Any]
    created_at_s: int
    cleared_at_s: int | None
    deliveries: tuple[Delivery, ...] = ()


def create_channel(  # noqa: PLR0913 - who, whose, what and when
    engine: sa.Engine, post: Post, organization_id: str, kind: str, target: str, actor: str, now_s: float
) -> Made:
    """Make a channel. Raises BadRequest for a target that cannot be, Conflict for one that is there, or too many."""
    target = _checked(post, kind, target)
    with change(engine, now_s) as changing:
        _check_room(changing.connection, organization_id, kind, target)
        row: dict[str, Any] = {
            "id": changing.new_id("chn"),
            "organization_id": organization_id,
            "kind": kind,
            "target": target,
            "enabled": 1,
            "created_at_s": changing.now_s,
        }
        secret = _sealed(changing, post, row) if kind == WEBHOOK else None
        changing.connection.execute(sa.insert(_CHANNELS).values(row))
        _note(changing, row, actor, "alert_channel.create")
        return Made(_found(changing.connection, organization_id, row["id"]), secret)


def update_channel(  # noqa: PLR0913 - who, whose, what and when
    engine: sa.Engine,
    post: Post,
    organization_id: str,
    channel_id: str,
    actor: str,
    now_s: float,
    *,
    enabled: bool | None = None,
    target: str | None = None,
    new_secret: bool = False,
) -> Made:
    """Switch a channel, aim it elsewhere, or give a webhook a new secret, as a new URL does anyway.

    Raises BadRequest, Conflict, NotFound.
    """
    with change(engine, now_s) as changing:
        connection = changing.connection
        before = _found(connection, organization_id, channel_id)
        row: dict[str, Any] = {name: getattr(before, name) for name in Channel.__slots__}
        row["enabled"] = int(before.enabled if enabled is None else enabled)
        if target is not None and (checked := _checked(post, before.kind, target)) != before.target:
            _check_new(connection, organization_id, before.kind, checked)
            row["target"] = checked
        secret = None
        if before.kind == WEBHOOK and (new_secret or row["target"] != before.target):
            secret = _sealed(changing, post, row)
        elif new_secret:
            raise BadRequest("mail is not signed: only a webhook has a secret")
        connection.execute(sa.update(_CHANNELS).where(_CHANNELS.c.id == channel_id).values(row))
        _note(changing, row, actor, "alert_channel.change", new_secret=secret is not None)
        return Made(_found(connection, organization_id, channel_id), secret)


def delete_channel(engine: sa.Engine, organization_id: str, channel_id: str, actor: str, now_s: float) -> None:
    """Remove a channel, and what still waited to be sent there. Raises NotFound."""
    with change(engine, now_s) as changing:
        channel = _found(changing.connection, organization_id, channel_id)
        waiting = (_DELIVERIES.c.channel_id == channel_id, _DELIVERIES.c.next_at_s.is_not(None))
        given_up = {"next_at_s": None, "last_error": "the channel was removed"}
        changing.connection.execute(sa.update(_DELIVERIES).where(*waiting).values(given_up))
        changing.connection.execute(sa.delete(_CHANNELS).where(_CHANNELS.c.id == channel_id))
        _note(changing, {name: getattr(channel, name) for name in Channel.__slots__}, actor, "alert_channel.delete")


def list_channels(engine: sa.Engine, organization_id: str) -> list[Channel]:
    """Give the organisation's channels, oldest first."""
    mine = _CHANNELS.c.organization_id == organization_id
    query = sa.select(_CHANNELS).where(mine).order_by(_CHANNELS.c.created_at_s, _CHANNELS.c.id)
    with reading(engine) as connection:
        return [_channel(dict(row)) for row in connection.execute(query).mappings()]


def find_channel(engine: sa.Engine, organization_id: str, channel_id: str) -> Channel:
    """Give one channel. Raises NotFound."""
    with reading(engine) as connection:
        return _found(connection, organization_id, channel_id)


def channel_row(engine: sa.Engine, organization_id: str, channel_id: str) -> dict[str, Any]:
    """Give one channel with its sealed secret, for whoever sends through it. Raises NotFound."""
    with reading(engine) as connection:
        return _row(connection, organization_id, channel_id)


def list_alerts(
    engine: sa.Engine, organization_id: str, offset: int = 0, limit: int | None = None, *, open_only: bool = False
) -> Page[AlertRow]:
    """Give a page of the organisation's alerts, newest first, with how they were delivered on its own channels."""
    query = sa.select(_ALERTS).where(_ALERTS.c.organization_id == organization_id)
    if open_only:
        query = query.where(_ALERTS.c.cleared_at_s.is_(None))
    query = query.order_by(_ALERTS.c.created_at_s.desc(), _ALERTS.c.id.desc())
    with reading(engine) as connection:
        found = page(connection, query, dict, offset, limit)
        told = _deliveries(connection, [row["id"] for row in found.rows])
    return Page([_alert(row, told.get(row["id"], ())) for row in found.rows], found.total)


def acknowledge_alert(engine: sa.Engine, organization_id: str, alert_id: str, actor: str, now_s: float) -> AlertRow:
    """Say that somebody sees to it. It is not raised again for that; one that was seen to before stays as it is.

    Raises NotFound.
    """
    mine = (_ALERTS.c.id == alert_id, _ALERTS.c.organization_id == organization_id)
    with change(engine, now_s) as changing:
        found = changing.connection.execute(sa.select(_ALERTS).where(*mine)).mappings().one_or_none()
        if found is None:
            raise NotFound("there is no such alert")
        row = dict(found)
        told = _deliveries(changing.connection, [alert_id]).get(alert_id, ())
        if row["cleared_at_s"] is not None:
            return _alert(row, told)
        cleared = {"cleared_at_s": changing.now_s}
        changing.connection.execute(sa.update(_ALERTS).where(*mine).values(cleared))
        changing.note(Note(organization_id, actor, "alert.acknowledge", alert_id))
        return _alert(row | cleared, told)


def _checked(post: Post, kind: str, target: str) -> str:
    """The target as it is stored. Raises BadRequest."""
    if kind == WEBHOOK:
        return post.destinations.read(target.strip()).url
    if kind != EMAIL:
        raise BadRequest("a channel is a webhook or an email")
    if not post.sends_mail:
        raise BadRequest(
            "this gateway sends no mail", remedy="set smtp_url and email_from in [alerts] of its configuration"
        )
    address = target.strip()
    if not _ADDRESS.fullmatch(address):
        raise BadRequest("that is not a mail address; write it like ops@example.com")
    return address


def _check_room(connection: sa.Connection, organization_id: str, kind: str, target: str) -> None:
    mine = _CHANNELS.c.organization_id == organization_id
    count = connection.execute(sa.select(sa.func.count()).select_from(_CHANNELS).where(mine)).scalar_one()
    if count >= CHANNELS_MAX:
        raise Conflict(f"an organization may have {CHANNELS_MAX} channels; remove one that is not used")
    _check_new(connection, organization_id, kind, target)


def _check_new(connection: sa.Connection, organization_id: str, kind: str, target: str) -> None:
    known = _CHANNELS.c
    same = (known.organization_id == organization_id, known.kind == kind, known.target == target)
    if connection.execute(sa.select(known.id).where(*same)).first() is not None:
        raise Conflict("there is a channel to that place already")


def _sealed(changing: Change, post: Post, row: dict[str, Any]) -> str:
    """Make a secret, and put it into the row: sealed for this organisation, channel and address."""
    secret = MARK + secrets.token_urlsafe(SECRET_BYTES)
    sealed = open_vault(changing.connection, post.secret, sealing=True).seal(
        secret.encode(), organization_id=row["organization_id"], record_id=row["id"], destination=row["target"]
    )
    row |= {"sealed": sealed.text, "kek_id": sealed.kek_id}
    return secret


def _note(changing: Change, row: Mapping[str, Any], actor: str, action: str, **more: object) -> None:
    """Of a URL only the host: its path is often a secret."""
    shown = urlsplit(row["target"]).hostname if row["kind"] == WEBHOOK else row["target"]
    details = {"kind": row["kind"], "target": shown, "enabled": bool(row["enabled"]), **more}
    changing.note(Note(row["organization_id"], actor, action, row["id"], details))


def _row(connection: sa.Connection, organization_id: str, channel_id: str) -> dict[str, Any]:
    query = sa.select(_CHANNELS).where(_CHANNELS.c.id == channel_id, _CHANNELS.c.organization_id == organization_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(
            "there is no such channel",
            remedy="GET /api/v1/alerts/channels and `modelgates alerts channels list` show their ids",
        )
    return dict(row)


def _found(connection: sa.Connection, organization_id: str, channel_id: str) -> Channel:
    return _channel(_row(connection, organization_id, channel_id))


def _channel(row: Mapping[str, Any]) -> Channel:
    return Channel(**{name: row[name] for name in Channel.__slots__ if name != "enabled"}, enabled=bool(row["enabled"]))


def _deliveries(connection: sa.Connection, alert_ids: Sequence[str]) -> dict[str, list[Delivery]]:
    """Deliveries by alert, without those to the operator's own channels, which are the operator's business."""
    query = sa.select(_DELIVERIES).where(_DELIVERIES.c.alert_id.in_(list(alert_ids)))
    told: dict[str, list[Delivery]] = {}
    for row in connection.execute(query.order_by(_DELIVERIES.c.channel_id)).mappings():
        if not row["channel_id"].startswith(_OPERATOR):
            told.setdefault(row["alert_id"], []).append(_delivery(row))
    return told


def _delivery(row: sa.RowMapping) -> Delivery:
    waiting = "failed" if row["next_at_s"] is None else "pending"
    state = "delivered" if row["delivered_at_s"] is not None else waiting
    return Delivery(
        row["channel_id"], state, row["attempts"], row["next_at_s"], row["delivered_at_s"], row["last_error"]
    )


def _alert(row: Mapping[str, Any], deliveries: Sequence[Delivery]) -> AlertRow:
    values = {name: row[name] for name in AlertRow.__slots__ if name not in ("details", "deliveries")}
    return AlertRow(**values, details=json.loads(row["details"]), deliveries=tuple(deliveries))
