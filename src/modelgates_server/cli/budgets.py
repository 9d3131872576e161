"""`budgets` and `rates`: what the organisation, workspaces, apps and members may spend, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.cli.output import dollars, in_usd, listing, moment
from modelgates_server.cli.people import owner_id, owner_names
from modelgates_server.errors import NotFound
from modelgates_server.limits import Scope, Window
from modelgates_server.management import budgets, rates
from modelgates_server.management.budgets import Budget
from modelgates_server.management.rates import Paced, Rates
from modelgates_server.management.shown import budgets_data, rates_data
from modelgates_server.money import nusd_from_usd

if TYPE_CHECKING:
    from modelgates_server.cli.local import Workplace
    from modelgates_server.management.budgets import BudgetRow


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of ``budgets set``, as they were written."""

    window: str
    limit: str
    soft: bool | None = None
    include_byok: bool | None = None


def put(options: Options, scope: str, owner: str | None, wanted: Wanted) -> Report:
    """Set a budget; what was spent in its window counts."""
    limit_nusd, mode = nusd_from_usd(wanted.limit), {None: None, True: "soft", False: "hard"}[wanted.soft]
    with opened(options) as place:
        whose = owner_id(place, Scope(scope), owner)
        budget = Budget(Scope(scope), whose, Window(wanted.window), limit_nusd, mode, wanted.include_byok)
        row = budgets.set_budget(place.engine, place.organization_id, budget, ACTOR, place.now_s)
        return _report(place, [] if row is None else [row])


def show(options: Options, scope: str | None, owner: str | None) -> Report:
    """List budgets: all, those of a scope, or those of one owner."""
    with opened(options) as place:
        wanted = None if scope is None else Scope(scope)
        whose = None if wanted is None or owner is None else owner_id(place, wanted, owner)
        return _report(place, budgets.list_budgets(place.engine, place.organization_id, wanted, whose))


def clear(options: Options, scope: str, owner: str | None, window: str) -> Report:
    """Lift a budget. Raises NotFound when there is none, so that a mistyped one is not taken for lifted."""
    with opened(options) as place:
        whose = owner_id(place, Scope(scope), owner)
        lifted = Budget(Scope(scope), whose, Window(window), None)
        try:
            budgets.lift_budget(place.engine, place.organization_id, lifted, ACTOR, place.now_s)
        except NotFound as error:
            raise NotFound(error.message, remedy="`modelgates budgets list` shows them") from error
    return Report({"deleted": True}, "The budget is lifted; what was spent stays counted.")


def set_rates(options: Options, scope: str, owner: str | None, wanted: Rates) -> Report:
    """Set all three rates of somebody."""
    with opened(options) as place:
        paced = Paced(Scope(scope), owner_id(place, Scope(scope), owner), wanted)
        rates.pace(place.engine, place.organization_id, paced, ACTOR, place.now_s)
        return _rates_report(place, [paced])


def show_rates(options: Options) -> Report:
    """List the rates above the keys' own."""
    with opened(options) as place:
        return _rates_report(place, rates.list_rates(place.engine, place.organization_id))


def _report(place: Workplace, rows: list[BudgetRow]) -> Report:
    data, names = budgets_data(place.engine, rows, place.now_s), owner_names(place)
    head = ("Scope", "Whose", "Window", "Limit", "Spent", "Left", "Mode", "Starts anew")
    lines = [
        (
            row.scope, names.get(row.scope_id, row.owner), row.window, dollars(row.limit_nusd), dollars(one["spend_usd_nusd"]),
            dollars(one["remaining_usd_nusd"]), row.mode, moment(row.window.bounds_s(place.now_s)[1]),
        )
        for row, one in zip(rows, data, strict=True)
    ]  # fmt: skip
    return Report(
        {"data": [in_usd(one) for one in data]}, listing(head, lines, "There are no budgets.", right=(3, 4, 5))
    )


def _rates_report(place: Workplace, found: list[Paced]) -> Report:
    names = owner_names(place)
    head = ("Scope", "Whose", "Requests a minute", "Tokens a minute", "At the same time")
    lines = [
        (
            one.scope, names.get(one.scope_id, one.scope_id),
            *("-" if rate is None else rate for rate in (
                one.rates.requests_per_minute, one.rates.tokens_per_minute, one.rates.parallel_max,
            )),
        )
        for one in found
    ]  # fmt: skip
    return Report(
        {"data": [rates_data(one) for one in found]}, listing(head, lines, "There are no rates.", right=(2, 3, 4))
    )
