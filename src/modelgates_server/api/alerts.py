"""Alerts: what was told, where it goes, and when it is told. Paths and shapes are our own; the product has them as pages only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from modelgates_server.accounts.quotas import CHANNEL_TESTS
from modelgates_server.alerts.courier import NotTaken
from modelgates_server.alerts.message import shown
from modelgates_server.api.answers import Answer, answer, page
from modelgates_server.api.house import House
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Body, Deleted, Paged, Shown, Usd, UsdShown
from modelgates_server.errors import BadRequest
from modelgates_server.management import alerts as work
from modelgates_server.management import settings
from modelgates_server.management.alerts import AlertRow, Channel, Delivery, Made
from modelgates_server.management.describe import rfc3339
from modelgates_server.management.settings import OrganizationSettings

router = new_router("alerts")

Target = Annotated[str, Field(min_length=3, max_length=2_000)]
Percent = Annotated[int, Field(ge=1, le=100)]


class CreateChannel(Body):
    """Where alerts are to go: a webhook to an https URL, or an email to an address."""

    type: Literal["webhook", "email"]
    target: Target


class UpdateChannel(Body):
    """What is left out stays. A webhook that is aimed elsewhere gets a new signing secret; `new_secret` asks for one."""

    enabled: bool = True
    target: Target = ""
    new_secret: bool = False


class UpdateWishes(Body):
    """What is left out stays. Null thresholds are the gateway's own, none at all means no alerts; null for no low-balance alert."""

    thresholds: Annotated[list[Percent], Field(max_length=settings.THRESHOLDS_MAX)] | None = None
    low_balance: Usd | None = None


class ChannelShown(Shown):
    """A channel."""

    id: str
    type: Literal["webhook", "email"]
    target: str
    enabled: bool
    created_at: str


class ChannelAnswer(Shown):
    """One channel."""

    data: ChannelShown


class MadeAnswer(ChannelAnswer):
    """The channel, with its signing secret when that is new: the only time that it is shown."""

    secret: str | None


class ChannelList(Shown):
    """All channels, oldest first."""

    data: list[ChannelShown]
    total_count: int


class DeliveryShown(Shown):
    """How far an alert came on a channel. A failed one is not tried again."""

    channel_id: str
    state: Literal["delivered", "pending", "failed"]
    attempts: int
    next_at: str | None
    delivered_at: str | None
    error: str | None


class AlertShown(Shown):
    """An alert. `cleared_at`: somebody saw to it, or it is over. Amounts in `details` are USD."""

    id: str
    kind: Literal["budget", "credit", "topup", "reconciliation"]
    severity: Literal["info", "warning", "critical"]
    message: str
    details: dict[str, Any]
    created_at: str
    cleared_at: str | None
    deliveries: list[DeliveryShown]


class AlertAnswer(Shown):
    """One alert."""

    data: AlertShown


class AlertList(Shown):
    """A page of alerts, newest first."""

    data: list[AlertShown]
    total_count: int


class Tried(Shown):
    """Whether the receiver took the test; if not, why."""

    delivered: bool
    error: str | None


class TriedAnswer(Shown):
    """How a test went."""

    data: Tried


class WishesShown(Shown):
    """When the organization is told. Null thresholds are the gateway's own."""

    thresholds: list[int] | None
    low_balance: UsdShown | None


class WishesAnswer(Shown):
    """When the organization is told."""

    data: WishesShown


@router.get("/alerts", response_model=AlertList)
def list_alerts(
    house: Housed,
    manager: Managing,
    paging: Paged,
    open: Annotated[bool, Query(description="Only those that nobody saw to yet.")] = False,  # noqa: A002, FBT002 - the query's word
) -> Answer:
    """List what was alerted, with how it was delivered."""
    organization_id = manager.organization_id
    found = work.list_alerts(house.engine, organization_id, paging.offset, paging.limit, open_only=open)
    return page([_alert(row) for row in found.rows], found.total)


@router.post("/alerts/{alert_id}/acknowledge", response_model=AlertAnswer)
def acknowledge_alert(house: Housed, manager: Managing, alert_id: str) -> Answer:
    """Say that somebody sees to it."""
    now_s = house.clock.now_s()
    row = work.acknowledge_alert(house.engine, manager.organization_id, alert_id, manager.actor, now_s)
    return answer({"data": _alert(row)})


@router.get("/alerts/settings", response_model=WishesAnswer)
def get_wishes(house: Housed, manager: Managing) -> Answer:
    """Give the percentages of limits and the balance at which the organization is told."""
    return _wishes(settings.read_settings(house.engine, manager.organization_id))


@router.patch("/alerts/settings", response_model=WishesAnswer)
def update_wishes(house: Housed, manager: Managing, body: UpdateWishes) -> Answer:
    """Choose when the organization is told."""
    changes: dict[str, Any] = {}
    if "thresholds" in body.model_fields_set:
        changes["thresholds"] = None if body.thresholds is None else tuple(body.thresholds)
    if "low_balance" in body.model_fields_set:
        changes["low_balance_nusd"] = body.low_balance
    if not changes:
        return get_wishes(house, manager)
    now_s = house.clock.now_s()
    return _wishes(settings.update_settings(house.engine, manager.organization_id, manager.actor, now_s, **changes))


@router.get("/alerts/channels", response_model=ChannelList)
def list_channels(house: Housed, manager: Managing) -> Answer:
    """List where the organization's alerts go."""
    found = work.list_channels(house.engine, manager.organization_id)
    return page([_channel(row) for row in found], len(found))


@router.post("/alerts/channels", status_code=201, response_model=MadeAnswer)
def create_channel(house: Housed, manager: Managing, body: CreateChannel) -> Answer:
    """Make a channel. A webhook's signing secret is in this answer only."""
    now_s = house.clock.now_s()
    made = work.create_channel(
        house.engine, _post(house), manager.organization_id, body.type, body.target, manager.actor, now_s
    )
    return _made(made, 201)


@router.get("/alerts/channels/{channel_id}", response_model=ChannelAnswer)
def get_channel(house: Housed, manager: Managing, channel_id: str) -> Answer:
    """Give one channel."""
    return answer({"data": _channel(work.find_channel(house.engine, manager.organization_id, channel_id))})


@router.patch("/alerts/channels/{channel_id}", response_model=MadeAnswer)
def update_channel(house: Housed, manager: Managing, channel_id: str, body: UpdateChannel) -> Answer:
    """Switch a channel, aim it elsewhere, or give it a new secret."""
    changes = body.given("enabled", "target", "new_secret")
    if not changes:
        return _made(Made(work.find_channel(house.engine, manager.organization_id, channel_id)))
    now_s = house.clock.now_s()
    made = work.update_channel(
        house.engine, _post(house), manager.organization_id, channel_id, manager.actor, now_s, **changes
    )
    return _made(made)


@router.delete("/alerts/channels/{channel_id}", response_model=Deleted)
def delete_channel(house: Housed, manager: Managing, channel_id: str) -> Answer:
    """Remove a channel, and what still waited to be sent there."""
    work.delete_channel(house.engine, manager.organization_id, channel_id, manager.actor, house.clock.now_s())
    return answer({"deleted": True})


@router.post("/alerts/channels/{channel_id}/test", response_model=TriedAnswer)
async def try_channel(house: Housed, manager: Managing, channel_id: str) -> Answer:
    """Send a test through a channel, now, and say whether it was taken."""
    row = await run_in_threadpool(work.channel_row, house.engine, manager.organization_id, channel_id)
    if house.courier is None:
        raise BadRequest("this process delivers no alerts")
    await run_in_threadpool(_count, house, manager.key_hash)
    try:
        await house.courier.test(row)
    except NotTaken as error:
        return answer({"data": {"delivered": False, "error": str(error)}})
    return answer({"data": {"delivered": True, "error": None}})


def _count(house: House, key_hash: str) -> None:
    house.quotas.count(CHANNEL_TESTS, key_hash, house.clock.monotonic_s())


def _post(house: House) -> work.Post:
    return work.Post(
        house.pepper, house.guard, sends_mail=house.courier is not None and house.courier.operator.sends_mail
    )


def _made(made: Made, status: int = 200) -> Answer:
    return answer({"data": _channel(made.channel), "secret": made.secret}, status)


def _channel(row: Channel) -> dict[str, Any]:
    return {
        "id": row.id,
        "type": row.kind,
        "target": row.target,
        "enabled": row.enabled,
        "created_at": rfc3339(row.created_at_s),
    }


def _alert(row: AlertRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "severity": row.severity,
        "message": row.message,
        "details": shown(row.details),
        "created_at": rfc3339(row.created_at_s),
        "cleared_at": None if row.cleared_at_s is None else rfc3339(row.cleared_at_s),
        "deliveries": [_delivery(delivery) for delivery in row.deliveries],
    }


def _delivery(row: Delivery) -> dict[str, Any]:
    return {
        "channel_id": row.channel_id,
        "state": row.state,
        "attempts": row.attempts,
        "next_at": None if row.next_at_s is None else rfc3339(row.next_at_s),
        "delivered_at": None if row.delivered_at_s is None else rfc3339(row.delivered_at_s),
        "error": row.error,
    }


def _wishes(found: OrganizationSettings) -> Answer:
    thresholds = None if found.thresholds is None else list(found.thresholds)
    return answer({"data": {"thresholds": thresholds, "low_balance_nusd": found.low_balance_nusd}})
