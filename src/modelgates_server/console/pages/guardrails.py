"""Guardrails and budgets: what each person, workspace and app may spend and how fast, with a look at what a change would have refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelgates_server.console.guard_forms import GuardChoices, budget_typed, guard_choices, rates_typed, rules_typed
from modelgates_server.console.key_forms import OPTIONS_MAX
from modelgates_server.console.routes import get, post
from modelgates_server.console.shares import read_shares, shares_text
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit
from modelgates_server.errors import BadRequest
from modelgates_server.limits import Scope
from modelgates_server.management import budgets, guardrails, rates
from modelgates_server.management.assigned import Given, given_to
from modelgates_server.management.budgets import WORDS, Budget, BudgetRow
from modelgates_server.management.guardrails import GuardrailRow, Rules, default_guardrail_id
from modelgates_server.management.members import get_member, list_members
from modelgates_server.management.rates import Paced
from modelgates_server.management.roster import set_shares
from modelgates_server.management.spent import SOFT

SHARES_MAX: Final = 200
"""People with a share on this page; the members page has all."""

GUARDRAILS_MAX: Final = 500
"""Guardrails on this page."""


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A budget and how it stands. Nano-USD; `resets_at_s` in Unix seconds, None for one that never starts again.

    `scope_id` is what the forms call its owner, `owner` their name; `interval` is daily, weekly, monthly or lifetime. A soft one only
    warns.
    """

    scope: str
    scope_id: str
    owner: str
    interval: str
    spent_nusd: int
    limit_nusd: int
    resets_at_s: int | None
    soft: bool
    include_byok: bool


@dataclass(frozen=True, slots=True)
class ShareLine:
    """What one person may spend: `share` as their field holds it, and each of its parts."""

    member_id: str
    name: str
    share: str
    budgets: tuple[BudgetLine, ...]


@dataclass(frozen=True, slots=True)
class RatesLine:
    """How fast somebody may ask; None is no limit."""

    scope: str
    scope_id: str
    owner: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    parallel_max: int | None


@dataclass(frozen=True, slots=True)
class GuardrailLine:
    """A guardrail in the list; `rules` are its demands in words. A default one holds for everybody in its workspace."""

    id: str
    name: str
    description: str | None
    workspace: str
    is_default: bool
    rules: tuple[str, ...]
    members: int
    keys: int


@dataclass(frozen=True, slots=True)
class GuardrailsPage:
    """Every limit of the organisation but those of single keys."""

    shares: tuple[ShareLine, ...]
    more_shares: int
    budgets: tuple[BudgetLine, ...]
    rates: tuple[RatesLine, ...]
    guardrails: tuple[GuardrailLine, ...]
    choices: GuardChoices


def show(visit: Visit) -> Page:
    """The page."""
    engine, organization_id = visit.house.engine, visit.organization_id
    choices = guard_choices(visit)
    people = list_members(engine, organization_id, 0, OPTIONS_MAX).rows
    called = {one.id: one.name for one in people} | {one.value: one.text for one in choices.workspaces}
    rows = budgets.list_budgets(engine, organization_id)
    lines = budget_lines(visit, rows, called)
    shares = _shares([line for line in lines if line.scope == Scope.MEMBER])
    context = GuardrailsPage(
        shares=tuple(shares[:SHARES_MAX]),
        more_shares=max(0, len(shares) - SHARES_MAX),
        budgets=tuple(line for line in lines if line.scope != Scope.MEMBER),
        rates=tuple(_rates_line(one, called) for one in rates.list_rates(engine, organization_id)),
        guardrails=_guardrails(visit, choices),
        choices=choices,
    )
    return Page("guardrails.html", context)


def give_share(visit: Visit) -> Moved:
    """Set what a person may spend: the parts that were typed, or with `whole` all of it. Raises BadRequest, NotFound."""
    engine, organization_id, member_id = visit.house.engine, visit.organization_id, visit.form.get("member")
    if not member_id:
        raise BadRequest("Choose whose share it is.")
    limits = read_shares(visit.form.get("share"))
    if limits and not visit.form.has("whole"):
        known = budgets.list_budgets(engine, organization_id, Scope.MEMBER, member_id)
        limits = {row.window: row.limit_nusd for row in known} | limits
    set_shares(engine, organization_id, member_id, limits, visit.actor, visit.now_s)
    return Moved("/guardrails", said="share-set")


def set_budget(visit: Visit) -> Moved:
    """Set a budget. Raises BadRequest, NotFound."""
    wanted = budget_typed(visit)
    budgets.set_budget(visit.house.engine, visit.organization_id, wanted, visit.actor, visit.now_s)
    return Moved("/guardrails", said="budget-set")


def lift_budget(visit: Visit) -> Moved:
    """Lift a budget. Raises BadRequest, NotFound."""
    form = visit.form
    if form.get("scope") not in set(Scope) or form.get("interval") not in budgets.INTERVALS:
        raise BadRequest("There is no such budget.")
    gone = Budget(Scope(form.get("scope")), form.get("scope_id"), budgets.INTERVALS[form.get("interval")], None)
    budgets.set_budget(visit.house.engine, visit.organization_id, gone, visit.actor, visit.now_s)
    return Moved("/guardrails", said="budget-lifted")


def set_rates(visit: Visit) -> Moved:
    """Set somebody's rates; empty fields lift them. Raises BadRequest, NotFound."""
    rates.pace(visit.house.engine, visit.organization_id, rates_typed(visit), visit.actor, visit.now_s)
    return Moved("/guardrails", said="rates-set")


def create(visit: Visit) -> Moved:
    """Make a guardrail; it enforces nothing until somebody is given it. Raises BadRequest, NotFound."""
    typed = rules_typed(visit)
    kept = {name: value for name, value in typed["settings"].items() if value is not None}
    rules, place = Rules(**{**typed, "settings": kept}), visit.form.get("workspace_id") or None
    row = guardrails.create_guardrail(visit.house.engine, visit.organization_id, place, rules, visit.actor, visit.now_s)
    return Moved(f"/guardrails/{row.id}", said="guardrail-made")


def owner_name(visit: Visit, scope: Scope, scope_id: str) -> str:
    """How sentences call an owner. Raises NotFound for a member that there is not."""
    if scope is Scope.MEMBER:
        return get_member(visit.house.engine, visit.organization_id, scope_id).name
    if scope is Scope.ORGANIZATION:
        return "the organization"
    places = {one.value: one.text for one in guard_choices(visit).workspaces}
    return f"the app {scope_id}" if scope is Scope.APP else f"the workspace {places.get(scope_id, scope_id)}"


def budget_lines(visit: Visit, rows: Sequence[BudgetRow], called: Mapping[str, str]) -> list[BudgetLine]:
    """Budgets with what stands on their meters."""
    spent = budgets.spent_nusd(visit.house.engine, [row.meter for row in rows], visit.now_s)
    return [
        BudgetLine(
            scope=str(row.scope),
            scope_id=row.owner,
            owner=_called(row.scope, row.owner, called),
            interval=WORDS[row.window],
            spent_nusd=spent[row.meter.row_id(visit.now_s)],
            limit_nusd=row.limit_nusd,
            resets_at_s=row.window.bounds_s(visit.now_s)[1],
            soft=row.mode == SOFT,
            include_byok=row.include_byok,
        )
        for row in rows
    ]


def rules_in_words(rules: Rules) -> tuple[str, ...]:
    """What a guardrail demands, each demand in a few words."""
    told = []
    if rules.limit_nusd is not None and rules.reset_interval is not None:
        window = {"daily": "day", "weekly": "week", "monthly": "month"}[rules.reset_interval]
        soft = ", only warns" if rules.mode == SOFT else ""
        told.append(f"{shares_text([(window, rules.limit_nusd)])} for each{soft}")
    lists = (
        ("only the models", rules.allowed_models), ("never the models", rules.ignored_models),
        ("only the providers", rules.allowed_providers), ("never the providers", rules.ignored_providers),
    )  # fmt: skip
    told += [f"{words} {', '.join(listed)}" for words, listed in lists if listed]
    kept = [name.removeprefix("enforce_zdr_") for name, on in rules.settings.items() if on and "zdr" in name]
    told += [f"zero data retention for models of {', '.join(kept)}"] if kept else []
    return tuple(told)


def _called(scope: Scope, owner: str, called: Mapping[str, str]) -> str:
    if scope is Scope.ORGANIZATION:
        return "the whole organization"
    return owner if scope is Scope.APP else called.get(owner, owner)


def _shares(lines: Sequence[BudgetLine]) -> list[ShareLine]:
    by_member: dict[str, list[BudgetLine]] = {}
    for line in lines:
        by_member.setdefault(line.scope_id, []).append(line)
    windows = {interval: str(window) for window, interval in WORDS.items()}
    found = [
        ShareLine(
            member_id=member_id,
            name=own[0].owner,
            share=shares_text((windows[line.interval], line.limit_nusd) for line in reversed(own)),
            budgets=tuple(reversed(own)),
        )
        for member_id, own in by_member.items()
    ]
    return sorted(found, key=lambda line: (line.name.casefold(), line.member_id))


def _rates_line(paced: Paced, called: Mapping[str, str]) -> RatesLine:
    own = paced.rates
    return RatesLine(
        str(paced.scope), paced.scope_id, _called(paced.scope, paced.scope_id, called), own.requests_per_minute,
        own.tokens_per_minute, own.parallel_max,
    )  # fmt: skip


def _guardrails(visit: Visit, choices: GuardChoices) -> tuple[GuardrailLine, ...]:
    """Those that there are; of each workspace the default one also before anybody wrote it."""
    engine, organization_id = visit.house.engine, visit.organization_id
    rows = guardrails.list_guardrails(engine, organization_id, None, 0, GUARDRAILS_MAX).rows
    written = {row.id for row in rows}
    for place in choices.workspaces:
        if default_guardrail_id(place.value) not in written:
            rows.append(guardrails.find_guardrail(engine, organization_id, default_guardrail_id(place.value)))
    places = {one.value: one.text for one in choices.workspaces}
    given = given_to(engine, organization_id)
    return tuple(
        _guardrail_line(row, places, given)
        for row in sorted(rows, key=lambda row: (row.is_default, row.rules.name.casefold(), row.id))
    )


def guardrail_name(row: GuardrailRow, place: str) -> str:
    """What people call a guardrail: a default one that nobody named by its workspace."""
    unnamed = row.is_default and row.rules.name == guardrails.default_guardrail_name(row.workspace_id)
    return f"Default of {place}" if unnamed else row.rules.name


def _guardrail_line(row: GuardrailRow, places: Mapping[str, str], given: Given) -> GuardrailLine:
    place = places.get(row.workspace_id, "a deleted workspace")
    return GuardrailLine(
        id=row.id,
        name=guardrail_name(row, place),
        description=row.rules.description,
        workspace=place,
        is_default=row.is_default,
        rules=rules_in_words(row.rules),
        members=given.members.get(row.id, 0),
        keys=given.keys.get(row.id, 0),
    )


ROUTES = (
    get("/guardrails", show, ADMIN),
    post("/guardrails", create, ADMIN, again=show),
    post("/guardrails/share", give_share, ADMIN, again=show),
    post("/guardrails/budgets", set_budget, ADMIN, again=show),
    post("/guardrails/budgets/lift", lift_budget, ADMIN, again=show),
    post("/guardrails/rates", set_rates, ADMIN, again=show),
)
