"""Settings: the organisation's name, when it is warned and topped up, where alerts go, what this installation is. For administrators."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from modelgates_server import __version__
from modelgates_server.console.house import House
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit
from modelgates_server.errors import BadRequest, Forbidden
from modelgates_server.management import alerts as channels
from modelgates_server.management.credits import check_may_move
from modelgates_server.management.organizations import find_organization, rename_organization
from modelgates_server.management.prompt_log import prompt_log_of
from modelgates_server.management.settings import TopUpRule, read_settings, update_settings
from modelgates_server.management.workspaces import WorkspaceRow, list_workspaces
from modelgates_server.money import nusd_from_usd

ALERTS_SHOWN: Final = 10
PLACES_SHOWN: Final = 100
OFF: Final = "off"


@dataclass(frozen=True, slots=True)
class ChannelLine:
    """Where alerts go."""

    id: str
    kind: str
    target: str
    enabled: bool
    created_at_s: int


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """How far an alert came on a channel; `target` is empty when that is gone."""

    target: str
    state: str
    attempts: int
    delivered_at_s: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One of the newest alerts; `cleared_at_s`: somebody saw to it, or it is over."""

    id: str
    severity: str
    message: str
    created_at_s: int
    cleared_at_s: int | None
    deliveries: tuple[DeliveryLine, ...]


@dataclass(frozen=True, slots=True)
class PlaceLine:
    """A workspace's routing in short: its own order, and whether it has further preferences; and whether its prompts are stored."""

    slug: str
    name: str
    order: tuple[str, ...] | None
    more: tuple[str, ...]
    keeps_prompts: bool


@dataclass(frozen=True, slots=True)
class Installation:
    """What runs here. `listens_at` is where this process listens itself, `console_at` where for people, when that is elsewhere.

    `origin` is where people come, `base_url` what clients are given.
    """

    version: str
    store: str
    origin: str
    base_url: str
    listens_at: str
    console_at: str | None
    secure: bool
    sandbox: bool
    api_grants: bool
    with_password: bool
    identity_provider: str | None
    identity_issuer: str | None
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of something that was just done to a channel: a new signing secret, shown this once, or how a test went."""

    target: str
    secret: str | None = None
    delivered: bool | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SettingsPage:
    """The page. `thresholds` are percents, None for the gateway's own, which `usual_thresholds` are."""

    organization_id: str
    name: str
    created_at_s: int
    thresholds: tuple[int, ...] | None
    usual_thresholds: tuple[int, ...]
    low_balance_nusd: int | None
    topup: TopUpRule | None
    topup_refused: str | None
    channels: tuple[ChannelLine, ...]
    sends_mail: bool
    alerts: tuple[AlertLine, ...]
    places: tuple[PlaceLine, ...]
    installation: Installation
    outcome: Outcome | None = None


def show(visit: Visit) -> Page:
    """Everything that can be set, and what cannot be set here."""
    return page(visit)


def rename(visit: Visit) -> Moved:
    """Give the organisation another name. Raises BadRequest."""
    name = visit.form.get("organization_name")
    rename_organization(visit.house.engine, visit.organization_id, name, visit.actor, visit.now_s)
    return Moved("/settings", said="saved")


def warn(visit: Visit) -> Moved:
    """Choose when the organisation is told. Raises BadRequest."""
    low = visit.form.get("low_balance").lstrip("$ ")
    changes = {
        "thresholds": _thresholds(visit.form.get("thresholds")),
        "low_balance_nusd": nusd_from_usd(low) if low else None,
    }
    update_settings(visit.house.engine, visit.organization_id, visit.actor, visit.now_s, **changes)
    return Moved("/settings", said="saved")


def top_up(visit: Visit) -> Moved:
    """Set the rule by which credit is added. To switch one on takes the same leave as adding credit. Raises BadRequest, Forbidden."""
    engine, organization_id, form = visit.house.engine, visit.organization_id, visit.form
    before = read_settings(engine, organization_id).topup
    if not form.has("topup_enabled"):
        rule = None if before is None else TopUpRule(False, *_amounts(before))  # noqa: FBT003 - it reads well
    else:
        check_may_move(engine, organization_id, api_grants=visit.house.api_grants)
        month = form.get("topup_month").lstrip("$ ")
        rule = TopUpRule(
            enabled=True,
            threshold_nusd=_amount(form.get("topup_below"), "the balance below which credit is added"),
            amount_nusd=_amount(form.get("topup_amount"), "how much is added"),
            monthly_max_nusd=nusd_from_usd(month) if month else None,
        )
    update_settings(engine, organization_id, visit.actor, visit.now_s, topup=rule)
    return Moved("/settings", said="saved")


def page(visit: Visit, outcome: Outcome | None = None) -> Page:
    """The page; with what came of something that was just done."""
    house, organization_id = visit.house, visit.organization_id
    own = find_organization(house.engine, organization_id)
    said = read_settings(house.engine, organization_id)
    found = channels.list_channels(house.engine, organization_id)
    context = SettingsPage(
        organization_id=own.id,
        name=own.name,
        created_at_s=own.created_at_s,
        thresholds=said.thresholds,
        usual_thresholds=house.thresholds,
        low_balance_nusd=said.low_balance_nusd,
        topup=said.topup,
        topup_refused=_refused(visit),
        channels=tuple(ChannelLine(row.id, row.kind, row.target, row.enabled, row.created_at_s) for row in found),
        sends_mail=house.courier is not None and house.courier.operator.sends_mail,
        alerts=_alerts(visit, {row.id: row.target for row in found}),
        places=tuple(map(_place, list_workspaces(house.engine, organization_id, 0, PLACES_SHOWN).rows)),
        installation=_installation(visit),
        outcome=outcome,
    )
    return Page("settings.html", context)


def _alerts(visit: Visit, targets: dict[str, str]) -> tuple[AlertLine, ...]:
    rows = channels.list_alerts(visit.house.engine, visit.organization_id, 0, ALERTS_SHOWN).rows
    return tuple(
        AlertLine(
            row.id, row.severity, row.message, row.created_at_s, row.cleared_at_s,
            tuple(
                DeliveryLine(targets.get(one.channel_id, ""), one.state, one.attempts, one.delivered_at_s, one.error)
                for one in row.deliveries
            ),
        )
        for row in rows
    )  # fmt: skip


def _place(row: WorkspaceRow) -> PlaceLine:
    said: dict[str, Any] = json.loads(row.routing) if row.routing else {}
    order = said.pop("order", None)
    words = tuple(name.replace("_", " ") for name in said)
    return PlaceLine(row.slug, row.name, None if order is None else tuple(order), words, prompt_log_of(row).enabled)


def _order(house: House) -> tuple[str, ...]:
    """The providers that are there in the configured order; nothing when none is configured: then the price decides."""
    places = {slug: at for at, slug in enumerate(house.order)}
    slugs = [one.slug for one in house.providers]
    return tuple(sorted(slugs, key=lambda slug: places.get(slug, len(places)))) if places else ()


def _installation(visit: Visit) -> Installation:
    house = visit.house
    client = None if house.openid is None else house.openid.client
    return Installation(
        version=__version__,
        store={"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(house.store, house.store),
        origin=house.console_origin,
        base_url=house.base_url,
        listens_at=house.local_url,
        console_at=None if house.admin is None else house.admin.local_url,
        secure=house.secure,
        sandbox=house.sandbox,
        api_grants=house.api_grants,
        with_password=house.with_password,
        identity_provider=None if client is None else client.name,
        identity_issuer=None if client is None else client.issuer,
        order=_order(house),
    )


def _thresholds(text: str) -> tuple[int, ...] | None:
    """Percents as they are typed: none for the gateway's own, ``off`` for no alerts. Raises BadRequest."""
    words = text.replace(",", " ").replace("%", " ").split()
    if not words:
        return None
    if [word.lower() for word in words] == [OFF]:
        return ()
    if not all(word.isascii() and word.isdecimal() and len(word) <= 3 for word in words):
        raise BadRequest(f"Write whole percents with commas between, such as 50, 80, 100; or {OFF} for no alerts.")
    return tuple(map(int, words))


def _amount(text: str, what: str) -> int:
    if not text:
        raise BadRequest(f"Say {what}, in US dollars.")
    return nusd_from_usd(text.lstrip("$ "))


def _amounts(rule: TopUpRule) -> tuple[int, int, int | None]:
    return rule.threshold_nusd, rule.amount_nusd, rule.monthly_max_nusd


def _refused(visit: Visit) -> str | None:
    try:
        check_may_move(visit.house.engine, visit.organization_id, api_grants=visit.house.api_grants)
    except Forbidden as refused:
        return refused.message
    return None


ROUTES = (
    get("/settings", show, ADMIN),
    post("/settings/organization", rename, ADMIN, again=show),
    post("/settings/alerts", warn, ADMIN, again=show),
    post("/settings/topup", top_up, ADMIN, again=show),
)
