"""The overview: one look at what is spent, by whom, on what, through whom, and at what will run out when. Members see their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

import sqlalchemy as sa

from modelgates_server.activity.logs import LogLine, page_logs
from modelgates_server.activity.logs_filter import LogFilter
from modelgates_server.activity.overview import Spent, spent
from modelgates_server.activity.runway import pace
from modelgates_server.activity.series import series, was_ever
from modelgates_server.activity.series_names import names, told_apart
from modelgates_server.activity.series_slice import By, Period, Slice
from modelgates_server.alerts.fullness import Fullness, fullest
from modelgates_server.console.charts import Chart
from modelgates_server.console.pages.activity import chart_of
from modelgates_server.console.provider_lines import Outage, outages_here
from modelgates_server.console.routes import get
from modelgates_server.console.uptime import LastDay, last_days
from modelgates_server.console.visits import Page, Visit
from modelgates_server.ledger import credit
from modelgates_server.limits import Scope
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

NEWEST: Final = 8
LIMITS: Final = 6
ALERTS: Final = 3
ALERTS_S: Final = 7 * 86_400
SEVERE: Final = ("warning", "critical")
"""Alerts of the last week that ask for something; what is only worth knowing was sent to those who wanted to know."""

LASTS_S_MAX: Final = 3_650 * 86_400
"""A longer end is no forecast."""

_LAST_DAY: Final = Slice(Period.DAY, group=By.MODEL)
_PER: Final = {"day": "a day", "week": "a week", "month": "a month", "life": "in all"}
_SCOPES: Final = {
    Scope.KEY: ("Key", By.KEY, "/keys/"),
    Scope.MEMBER: ("Share of", By.MEMBER, "/members/"),
    Scope.WORKSPACE: ("Workspace", By.WORKSPACE, ""),
}


@dataclass(frozen=True, slots=True)
class CreditLine:
    """The prepaid credit, in nano-USD. `ends_at_s` is when it is used up at the pace of the last days; None: not in sight."""

    free_nusd: int
    per_day_nusd: int
    ends_at_s: int | None


@dataclass(frozen=True, slots=True)
class LimitLine:
    """A limit: whose, how long it counts, what is used. `full_at_s` is when it is full at its pace, if that is before it resets."""

    title: str
    href: str
    per: str
    used_nusd: int
    limit_nusd: int
    resets_at_s: int | None
    full_at_s: int | None
    hard: bool


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """A provider: what this process keeps out of service there now, and its last 24 hours."""

    slug: str
    outages: tuple[Outage, ...]
    day: LastDay


@dataclass(frozen=True, slots=True)
class AlertLine:
    """Something that was told."""

    severity: str
    message: str
    created_at_s: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step of setting up, and whether it is done."""

    text: str
    href: str
    action: str
    done: bool


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """One look. `steps` are there until the first request came; `credit` and `alerts` are for administrators."""

    organization: str
    sandbox: bool
    steps: tuple[Step, ...]
    spent: Spent
    chart: Chart
    credit: CreditLine | None
    limits: tuple[LimitLine, ...]
    providers: tuple[ProviderLine, ...]
    alerts: tuple[AlertLine, ...]
    newest: tuple[LogLine, ...]


def show(visit: Visit) -> Page:
    """The overview."""
    house, organization_id, only = visit.house, visit.organization_id, visit.only_member_id
    engine, clock = house.engine, house.clock
    with reading(engine) as connection:
        name = _name(connection, organization_id)
        limits = _limits(connection, visit)
        credit_line = _credit(connection, organization_id, visit.now_s) if visit.is_admin else None
        alerts = _alerts(connection, organization_id, visit.now_s) if visit.is_admin else ()
    wanted = replace(_LAST_DAY, only_member_id=only)
    day = series(engine, organization_id, wanted, clock)
    context = OverviewPage(
        organization=name,
        sandbox=house.sandbox,
        steps=() if was_ever(engine, organization_id, only) else _steps(visit),
        spent=spent(engine, organization_id, only, clock),
        chart=chart_of(wanted, day, tuple(_of_model(group.id) for group in day.groups)),
        credit=credit_line,
        limits=limits,
        providers=_providers(visit),
        alerts=alerts,
        newest=page_logs(engine, organization_id, LogFilter(only_member_id=only), None, NEWEST, clock).lines,
    )
    return Page("overview.html", context)


def _of_model(slug: str) -> str:
    return f"/activity?{urlencode({'period': 'day', 'model': slug, 'by': 'member'})}"


def _name(connection: sa.Connection, organization_id: str) -> str:
    known = schema.organizations.c
    return str(connection.execute(sa.select(known.name).where(known.id == organization_id)).scalar_one())


def _credit(connection: sa.Connection, organization_id: str, now_s: float) -> CreditLine:
    stands, current = credit.standing(connection, organization_id), pace(connection, organization_id, now_s)
    free_nusd = stands.balance_nusd - stands.held_nusd
    lasts_s = current.lasts_s(free_nusd)
    ends_at_s = None if lasts_s is None or lasts_s > LASTS_S_MAX else int(now_s) + lasts_s
    return CreditLine(free_nusd, current.per_day_nusd, ends_at_s)


def _limits(connection: sa.Connection, visit: Visit) -> tuple[LimitLine, ...]:
    found = fullest(connection, visit.organization_id, visit.only_member_id, LIMITS, visit.now_s)
    ids: dict[By, set[str]] = {By.KEY: set(), By.MEMBER: set(), By.WORKSPACE: set()}
    for one in found:
        if one.scope == Scope.SEAT:
            place, _, member = one.scope_id.partition("/")
            ids[By.WORKSPACE].add(place)
            ids[By.MEMBER].add(member)
        elif one.scope in _SCOPES:
            ids[_SCOPES[Scope(one.scope)][1]].add(one.scope_id)
    texts = {by: told_apart(names(connection, visit.organization_id, by, some)) for by, some in ids.items()}
    return tuple(_limit(one, texts, admin=visit.is_admin) for one in found)


def _limit(one: Fullness, texts: dict[By, dict[str, str]], *, admin: bool) -> LimitLine:
    scope, href = Scope(one.scope), ""
    if scope in _SCOPES:
        what, by, path = _SCOPES[scope]
        title = f"{what} {texts[by][one.scope_id]}"
        href = f"{path}{one.scope_id}" if path and (admin or scope is Scope.KEY) else ""
    elif scope is Scope.SEAT:
        place, _, member = one.scope_id.partition("/")
        title = f"{texts[By.MEMBER][member]} in {texts[By.WORKSPACE][place]}"
    else:
        title = f"App {one.scope_id.partition('/')[2]}" if scope is Scope.APP else "The organization"
    if one.guardrail:
        title += f" (guardrail {one.guardrail})"
    return LimitLine(
        title, href, _PER[one.window], one.used_nusd, one.limit_nusd, one.resets_at_s, one.full_at_s, one.hard
    )


def _providers(visit: Visit) -> tuple[ProviderLine, ...]:
    """Those that are configured, in the order of trying."""
    house = visit.house
    slugs = [one.slug for one in house.providers]
    ordered = sorted(slugs, key=lambda slug: house.order.index(slug) if slug in house.order else len(house.order))
    days, outages = last_days(house.engine, visit.organization_id, slugs, visit.now_s), outages_here(house)
    return tuple(ProviderLine(slug, outages.get(slug, ()), days[slug]) for slug in ordered)


def _alerts(connection: sa.Connection, organization_id: str, now_s: float) -> tuple[AlertLine, ...]:
    told = schema.alerts.c
    lately = (told.created_at_s > now_s - ALERTS_S, told.severity.in_(SEVERE))
    query = sa.select(told.severity, told.message, told.created_at_s).where(
        told.organization_id == organization_id, *lately
    )
    newest_first = query.order_by(told.created_at_s.desc(), told.id.desc()).limit(ALERTS)
    return tuple(AlertLine(*row) for row in connection.execute(newest_first))


def _steps(visit: Visit) -> tuple[Step, ...]:
    """What is to be done before there is anything to see."""
    keys = schema.api_keys.c
    mine = [keys.organization_id == visit.organization_id, keys.deleted_at_s.is_(None), keys["class"] == "inference"]
    if visit.only_member_id is not None:
        mine.append(keys.member_id == visit.only_member_id)
    with reading(visit.house.engine) as connection:
        has_key = connection.execute(sa.select(keys.hash).where(*mine).limit(1)).one_or_none() is not None
    return (
        Step("Make a key: one for each person and each tool, so that you see who uses what.", "/keys", "Make a key", has_key),
        Step(
            "Connect Claude Desktop, Claude Code or your own program: the set-up page has every value ready to copy.",
            "/setup", "Open set-up", done=False,
        ),
        Step("Ask something. The request appears here the moment it ends.", "/logs", "Watch the log", done=False),
        *(() if visit.only_member_id else (
            Step("Invite your colleagues: each has a share and keys of their own.", "/members", "Invite somebody", done=False),
        )),
    )  # fmt: skip


ROUTES = (get("/", show),)
