"""Budgets of the organisation, its workspaces, apps and members: rows of limits on meters that count whatever the limit is.

A member's share is a member's budget. A key's own limit stands in its row, a guardrail's in the guardrail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.spent import HARD, check_limit, check_mode, count_spent
from modelgates_server.money import usd_text
from modelgates_server.privacy import visible
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

BUDGET_WINDOWS: Final = (Window.DAY, Window.WEEK, Window.MONTH, Window.LIFE)
"""From narrow to broad."""

INTERVALS: Final = {
    "daily": Window.DAY,
    "weekly": Window.WEEK,
    "monthly": Window.MONTH,
    "lifetime": Window.LIFE,
}
"""The words of the API for windows (product-surface 2.8)."""

WORDS: Final = {window: word for word, window in INTERVALS.items()}
APP_CHARACTERS_MAX: Final = 200

_BUDGETS = schema.budgets


@dataclass(frozen=True, slots=True)
class Budget:
    """What somebody may spend in each window, in nano-USD; None lifts the budget.

    `scope_id` is the id of the workspace, member or organisation, or the name of the app. `mode` is hard or soft; with
    `include_byok` what the organisation's own provider accounts are asked counts too, for a workspace in all its budgets. None
    leaves either as it is, at first hard and without.
    """

    scope: Scope
    scope_id: str
    window: Window
    limit_nusd: int | None
    mode: str | None = None
    include_byok: bool | None = None


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """A budget as it is stored; the `scope_id` of an app is ``organization/name``."""

    id: str
    organization_id: str
    scope: Scope
    scope_id: str
    window: Window
    limit_nusd: int
    mode: str
    include_byok: bool
    created_at_s: int
    updated_at_s: int | None

    @property
    def meter(self) -> MeterRef:
        """The meter that the budget limits."""
        unit = Unit.SPEND if self.include_byok else Unit.NUSD
        return MeterRef(self.scope, self.scope_id, unit, self.window, self.limit_nusd if self.mode == HARD else None)

    @property
    def owner(self) -> str:
        """What people call whose budget it is: an id, or the app's name."""
        return self.scope_id.partition("/")[2] if self.scope is Scope.APP else self.scope_id


def set_budget(engine: sa.Engine, organization_id: str, budget: Budget, actor: str, now_s: float) -> BudgetRow | None:
    """Set, change or lift a budget; what was spent in its window counts.

    Raises BadRequest for a limit or window that cannot be, NotFound when nobody of the organisation has that id.
    """
    with change(engine, now_s) as changing:
        return _set(changing, organization_id, budget, actor)


def lift_budget(engine: sa.Engine, organization_id: str, budget: Budget, actor: str, now_s: float) -> None:
    """Lift a budget that is there, whatever limit is said. Raises NotFound when it is not: a mistyped one would leave the real one."""
    budget = replace(budget, limit_nusd=None)
    with change(engine, now_s) as changing:
        wanted = _checked(changing.connection, organization_id, budget)
        kin = find_budgets(changing.connection, organization_id, wanted.scope, wanted.scope_id)
        if all(row.window is not wanted.window for row in kin):
            raise NotFound("there is no such budget")
        _set(changing, organization_id, budget, actor)


def _set(changing: Change, organization_id: str, budget: Budget, actor: str) -> BudgetRow | None:
    changing.bump_policy()
    after = store_budget(changing, organization_id, budget)
    details: dict[str, Any] = {"window": str(budget.window), "limit_nusd": budget.limit_nusd}
    details |= {} if after is None else {"mode": after.mode, "include_byok": after.include_byok}
    changing.note(Note(organization_id, actor, "budget.set", f"{budget.scope}:{budget.scope_id}", details))
    return after


def set_share(  # noqa: PLR0913 - whose, how much, how long, who and when
    engine: sa.Engine,
    organization_id: str,
    member_id: str,
    limit_nusd: int | None,
    actor: str,
    now_s: float,
    window: Window = Window.MONTH,
) -> BudgetRow | None:
    """Give a member a share: what all the member's keys together may spend in a window; None takes it away."""
    return set_budget(engine, organization_id, Budget(Scope.MEMBER, member_id, window, limit_nusd), actor, now_s)


def store_budget(changing: Change, organization_id: str, budget: Budget) -> BudgetRow | None:
    """Set a budget as part of a larger change, which raises the policy's version before."""
    budget = _checked(changing.connection, organization_id, budget)
    kin = find_budgets(changing.connection, organization_id, budget.scope, budget.scope_id)
    before = next((row for row in kin if row.window is budget.window), None)
    others = [row for row in kin if row.window is not budget.window]
    if budget.scope is Scope.WORKSPACE:
        _check_decreasing(budget, others)
    after = None if budget.limit_nusd is None else _store(changing, organization_id, budget, before, others)
    if after is None and before is not None:
        changing.connection.execute(sa.delete(_BUDGETS).where(_BUDGETS.c.id == before.id))
    if after is not None:
        count_spent(changing, after.meter, organization_id)
        if budget.scope is Scope.WORKSPACE:
            _spread_byok(changing, others, include_byok=after.include_byok)
    return after


def list_budgets(
    engine: sa.Engine, organization_id: str, scope: Scope | None = None, scope_id: str | None = None
) -> list[BudgetRow]:
    """Give the organisation's budgets, those of one scope or of one owner: the organisation's first, broad windows first.

    An app is named as it is, without the organisation.
    """
    if scope is Scope.APP and scope_id is not None:
        scope_id = f"{organization_id}/{scope_id}"
    with reading(engine) as connection:
        return find_budgets(connection, organization_id, scope, scope_id)


def find_budgets(
    connection: sa.Connection, organization_id: str, scope: Scope | None = None, scope_id: str | None = None
) -> list[BudgetRow]:
    """Find budgets on an open connection."""
    query = sa.select(_BUDGETS).where(_BUDGETS.c.organization_id == organization_id)
    if scope is not None:
        query = query.where(_BUDGETS.c.scope == str(scope))
    if scope_id is not None:
        query = query.where(_BUDGETS.c.scope_id == scope_id)
    rows = [_row(row) for row in connection.execute(query).mappings()]
    order = list(Scope)
    return sorted(
        rows, key=lambda row: (order.index(row.scope), row.scope_id, -BUDGET_WINDOWS.index(row.window), row.id)
    )


def spent_nusd(engine: sa.Engine, refs: Sequence[MeterRef], now_s: float) -> dict[str, int]:
    """Give what stands on meters now, by their row id; a meter without a row has nothing on it."""
    ids = [ref.row_id(now_s) for ref in refs]
    meters = schema.meters.c
    with reading(engine) as connection:
        found = connection.execute(sa.select(meters.id, meters.posted).where(meters.id.in_(ids))).all()
    return dict.fromkeys(ids, 0) | {row.id: row.posted for row in found}


def check_window(window: Window) -> None:
    """Refuse a window that no budget has, with BadRequest."""
    if window not in BUDGET_WINDOWS:
        raise BadRequest("a budget lasts a day, a week, a month or for life")


def _checked(connection: sa.Connection, organization_id: str, budget: Budget) -> Budget:
    """The budget with the id that its meters have, if it can be and its owner exists."""
    check_window(budget.window)
    check_limit(budget.limit_nusd)
    if budget.mode is not None:
        check_mode(budget.mode)
    if budget.scope is Scope.APP:
        name = visible(budget.scope_id, APP_CHARACTERS_MAX)
        if not name:
            raise BadRequest("an app's budget needs the app's name, as its requests say it")
        return replace(budget, scope_id=f"{organization_id}/{name}")
    if budget.scope is Scope.ORGANIZATION:
        if budget.window is Window.LIFE:
            raise BadRequest("for life, an organization may spend its credit; a budget limits a day, a week or a month")
        if budget.scope_id != organization_id:
            raise NotFound("there is no such organization")
        return budget
    _check_owner(connection, organization_id, budget)
    return budget


def _check_owner(connection: sa.Connection, organization_id: str, budget: Budget) -> None:
    spaces, members = schema.workspaces.c, schema.members.c
    if budget.scope is Scope.WORKSPACE:
        query = sa.select(spaces.id).where(spaces.id == budget.scope_id, spaces.deleted_at_s.is_(None))
        query = query.where(spaces.organization_id == organization_id)
    elif budget.scope is Scope.MEMBER:
        query = sa.select(members.id).where(members.id == budget.scope_id, members.removed_at_s.is_(None))
        query = query.where(members.organization_id == organization_id)
    else:
        raise BadRequest("a budget belongs to the organization, a workspace, an app or a member; a key has its limit")
    if connection.execute(query).one_or_none() is None:
        raise NotFound(f"there is no such {budget.scope}")


def _check_decreasing(budget: Budget, others: Sequence[BudgetRow]) -> None:
    """Lifetime > monthly > weekly > daily (product-surface 5.3): an equal or higher one could never refuse anything."""
    if budget.limit_nusd is None:
        return
    place = BUDGET_WINDOWS.index(budget.window)
    for other in others:
        narrower = BUDGET_WINDOWS.index(other.window) < place
        fits = other.limit_nusd < budget.limit_nusd if narrower else other.limit_nusd > budget.limit_nusd
        if not fits:
            raise BadRequest(
                f"a workspace's {WORDS[budget.window]} budget must be {'above' if narrower else 'below'} its"
                f" {WORDS[other.window]} budget of {usd_text(other.limit_nusd)} USD",
                remedy="budgets strictly decrease from lifetime over monthly and weekly to daily",
            )


def _store(
    changing: Change, organization_id: str, budget: Budget, before: BudgetRow | None, others: Sequence[BudgetRow]
) -> BudgetRow:
    known = before or next(iter(others if budget.scope is Scope.WORKSPACE else ()), None)
    byok = budget.include_byok if budget.include_byok is not None else known is not None and known.include_byok
    mode = budget.mode or (HARD if before is None else before.mode)
    values: dict[str, Any] = {"limit_nusd": budget.limit_nusd, "mode": mode, "include_byok": int(byok)}
    values["updated_at_s"] = changing.now_s
    if before is not None:
        changing.connection.execute(sa.update(_BUDGETS).where(_BUDGETS.c.id == before.id).values(values))
    else:
        row = {"id": changing.new_id("bud"), "organization_id": organization_id, "created_at_s": changing.now_s}
        what = {"scope": str(budget.scope), "scope_id": budget.scope_id, "window": str(budget.window)}
        changing.connection.execute(sa.insert(_BUDGETS).values(row | what | values))
    found = find_budgets(changing.connection, organization_id, budget.scope, budget.scope_id)
    return next(row for row in found if row.window is budget.window)


def _spread_byok(changing: Change, others: Sequence[BudgetRow], *, include_byok: bool) -> None:
    """Whether own provider keys count is one switch for all budgets of a workspace."""
    for other in others:
        if other.include_byok is include_byok:
            continue
        changing.connection.execute(
            sa.update(_BUDGETS)
            .where(_BUDGETS.c.id == other.id)
            .values(include_byok=int(include_byok), updated_at_s=changing.now_s)
        )
        count_spent(changing, replace(other, include_byok=include_byok).meter, other.organization_id)


def _row(row: sa.RowMapping) -> BudgetRow:
    converted: dict[str, Any] = {
        "scope": Scope(row["scope"]),
        "window": Window(row["window"]),
        "include_byok": bool(row["include_byok"]),
    }
    return BudgetRow(**{name: row[name] for name in BudgetRow.__slots__ if name not in converted}, **converted)
