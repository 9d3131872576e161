"""Where an organisation's alerts go: webhooks and mail addresses are added, tried, switched and removed on the settings page."""

from __future__ import annotations

from modelgates_server.accounts.quotas import CHANNEL_TESTS
from modelgates_server.alerts.courier import NotTaken
from modelgates_server.console.clinic import turn
from modelgates_server.console.pages.settings import Outcome, page, show
from modelgates_server.console.routes import post
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit
from modelgates_server.errors import BadRequest, Conflict
from modelgates_server.management import alerts as work


def add(visit: Visit) -> Page | Moved:
    """Add a channel; a webhook's signing secret is shown this once. Raises BadRequest."""
    kind, target = visit.form.get("channel_kind"), visit.form.get("channel_target")
    try:
        made = work.create_channel(
            visit.house.engine, _post(visit), visit.organization_id, kind, target, visit.actor, visit.now_s
        )
    except Conflict as there:
        raise BadRequest(there.message) from there
    return _made(visit, made, "channel-added")


def renew(visit: Visit) -> Page | Moved:
    """Give a webhook a new signing secret, which is shown this once. Raises BadRequest, NotFound."""
    made = work.update_channel(
        visit.house.engine, _post(visit), visit.organization_id, visit.path["channel_id"], visit.actor, visit.now_s,
        new_secret=True,
    )  # fmt: skip
    return _made(visit, made, "saved")


def enable(visit: Visit) -> Moved:
    """Switch a channel on. Raises NotFound."""
    return _switch(visit, enabled=True)


def disable(visit: Visit) -> Moved:
    """Switch a channel off. Raises NotFound."""
    return _switch(visit, enabled=False)


def remove(visit: Visit) -> Moved:
    """Remove a channel, and what still waited to be sent there. Raises NotFound."""
    house = visit.house
    work.delete_channel(house.engine, visit.organization_id, visit.path["channel_id"], visit.actor, visit.now_s)
    return Moved("/settings", said="channel-removed")


def try_out(visit: Visit) -> Page:
    """Send a test through a channel now, and show whether it was taken. Raises BadRequest, NotFound, RateRefused."""
    house = visit.house
    row = work.channel_row(house.engine, visit.organization_id, visit.path["channel_id"])
    if house.courier is None:
        raise BadRequest("This process delivers no alerts.")
    house.quotas.count(CHANNEL_TESTS, visit.member.id, house.clock.monotonic_s())
    try:
        with turn(visit):
            visit.call(house.courier.test, row)
    except NotTaken as refused:
        return page(visit, Outcome(row["target"], delivered=False, error=str(refused)))
    return page(visit, Outcome(row["target"], delivered=True))


def acknowledge(visit: Visit) -> Moved:
    """Say that somebody sees to an alert. Raises NotFound."""
    house = visit.house
    work.acknowledge_alert(house.engine, visit.organization_id, visit.path["alert_id"], visit.actor, visit.now_s)
    return Moved("/settings", said="alert-seen-to")


def _switch(visit: Visit, *, enabled: bool) -> Moved:
    work.update_channel(
        visit.house.engine, _post(visit), visit.organization_id, visit.path["channel_id"], visit.actor, visit.now_s,
        enabled=enabled,
    )  # fmt: skip
    return Moved("/settings", said="saved")


def _made(visit: Visit, made: work.Made, said: str) -> Page | Moved:
    if made.secret is None:
        return Moved("/settings", said=said)
    return page(visit, Outcome(made.channel.target, secret=made.secret))


def _post(visit: Visit) -> work.Post:
    house = visit.house
    sends_mail = house.courier is not None and house.courier.operator.sends_mail
    return work.Post(house.secret, house.guard, sends_mail=sends_mail)


ROUTES = (
    post("/settings/channels", add, ADMIN, again=show),
    post("/settings/channels/{channel_id}/secret", renew, ADMIN, again=show),
    post("/settings/channels/{channel_id}/enable", enable, ADMIN),
    post("/settings/channels/{channel_id}/disable", disable, ADMIN),
    post("/settings/channels/{channel_id}/remove", remove, ADMIN),
    post("/settings/channels/{channel_id}/test", try_out, ADMIN, again=show),
    post("/settings/alerts/{alert_id}/acknowledge", acknowledge, ADMIN),
)
