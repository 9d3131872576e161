"""Budgets and rates as the API shows and takes them: the same shapes for the organisation, workspaces, apps and members."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelgates_server.api.answers import Answer, answer
from modelgates_server.api.caller import Manager
from modelgates_server.api.house import House
from modelgates_server.api.shapes import Body, PositiveUsd, Shown, UsdShown
from modelgates_server.errors import NotFound
from modelgates_server.limits import Scope
from modelgates_server.management import budgets, rates
from modelgates_server.management.budgets import INTERVALS, Budget, BudgetRow
from modelgates_server.management.rates import RATE_MAX, Paced, Rates
from modelgates_server.management.shown import budgets_data, rates_data

Interval = Literal["daily", "weekly", "monthly", "lifetime"]
Mode = Annotated[Literal["hard", "soft"], Field(description="hard refuses; soft only counts and alerts.")]
Rate = Annotated[int, Field(ge=1, le=RATE_MAX)]


class PutBudget(Body):
    """A spending limit. `mode` and `include_byok_in_budgets` stay as they are when they are left out, at first hard and false."""

    limit_usd: PositiveUsd
    mode: Mode | None = None
    include_byok_in_budgets: bool | None = None


class PutRates(Body):
    """All three at once; what is left out or null is not limited."""

    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    parallel_max: Annotated[Rate | None, Field(description="Requests at the same time.")] = None


class BudgetShown(Shown):
    """A budget, and what of it is spent in its window. `reset_interval` is null for a lifetime one."""

    id: str
    scope: str
    limit_usd: UsdShown
    spend_usd: UsdShown
    remaining_usd: UsdShown
    reset_interval: Literal["daily", "weekly", "monthly"] | None
    resets_at: str | None
    mode: Mode
    include_byok: bool
    created_at: str
    updated_at: str


class BudgetAnswer(Shown):
    """One budget."""

    data: BudgetShown
    include_byok_in_budgets: bool


class BudgetList(Shown):
    """Budgets, broad windows first."""

    data: list[BudgetShown]
    include_byok_in_budgets: bool


class RatesShown(Shown):
    """Rates; null is no limit."""

    scope: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    parallel_max: int | None


class RatesAnswer(Shown):
    """The rates of one."""

    data: RatesShown


def show_budgets(house: House, manager: Manager, scope: Scope, owner: str | None) -> Answer:
    """Answer with the budgets of one owner, or (None) of all owners of that scope."""
    rows = budgets.list_budgets(house.engine, manager.organization_id, scope, owner)
    include = any(row.include_byok for row in rows)
    return answer({"data": budgets_data(house.engine, rows, house.clock.now_s()), "include_byok_in_budgets": include})


def show_budget(house: House, manager: Manager, scope: Scope, owner: str, interval: Interval) -> Answer:
    """Answer with one budget. Raises NotFound when it is not set."""
    rows = budgets.list_budgets(house.engine, manager.organization_id, scope, owner)
    row = next((row for row in rows if row.window is INTERVALS[interval]), None)
    if row is None:
        raise NotFound(f"there is no {interval} budget")
    return _told(house, row)


def put_budget(house: House, manager: Manager, scope: Scope, owner: str, interval: Interval, body: PutBudget) -> Answer:
    """Set a budget and answer with it."""
    wanted = Budget(scope, owner, INTERVALS[interval], body.limit_usd, body.mode, body.include_byok_in_budgets)
    row = budgets.set_budget(house.engine, manager.organization_id, wanted, manager.actor, house.clock.now_s())
    if row is None:
        raise AssertionError("a budget with a limit is stored")
    return _told(house, row)


def delete_budget(house: House, manager: Manager, scope: Scope, owner: str, interval: Interval) -> Answer:
    """Lift a budget; there need not be one."""
    wanted = Budget(scope, owner, INTERVALS[interval], None)
    budgets.set_budget(house.engine, manager.organization_id, wanted, manager.actor, house.clock.now_s())
    return answer({"deleted": True})


def show_rates(house: House, manager: Manager, scope: Scope, owner: str) -> Answer:
    """Answer with somebody's rates."""
    return answer({"data": rates_data(rates.rates_of(house.engine, manager.organization_id, scope, owner))})


def put_rates(house: House, manager: Manager, scope: Scope, owner: str, body: PutRates) -> Answer:
    """Set somebody's rates and answer with them."""
    wanted = Rates(body.requests_per_minute, body.tokens_per_minute, body.parallel_max)
    paced = rates.pace(
        house.engine, manager.organization_id, Paced(scope, owner, wanted), manager.actor, house.clock.now_s()
    )
    return answer({"data": rates_data(paced)})


def _told(house: House, row: BudgetRow) -> Answer:
    return answer(
        {"data": budgets_data(house.engine, [row], house.clock.now_s())[0], "include_byok_in_budgets": row.include_byok}
    )
