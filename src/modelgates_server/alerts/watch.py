"""What upkeep runs every few seconds on every process: top up, look at every limit and at the credit, forget what is old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from modelgates_server.alerts.budgets import watch_budgets
from modelgates_server.alerts.credit import watch_credit
from modelgates_server.alerts.outage import Outage
from modelgates_server.alerts.outbox import Outbox, prune
from modelgates_server.alerts.rules import THRESHOLDS, all_rules
from modelgates_server.alerts.topup import OperatorPays, Payments, top_up
from modelgates_server.clock import Clock
from modelgates_server.errors import StoreUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks for what must be told. `thresholds` (percent) are those of organisations that chose none."""

    engine: sa.Engine
    outbox: Outbox
    clock: Clock
    thresholds: tuple[int, ...] = THRESHOLDS
    payments: Payments = field(default_factory=OperatorPays)
    _outage: Outage = field(
        default_factory=partial(Outage, "alerts_wait_for_the_store"), init=False, repr=False, compare=False
    )

    async def look(self) -> None:
        """Look once, in a thread. While the store is away there is nothing to see."""
        await asyncio.to_thread(self._look)

    async def forget(self) -> None:
        """Remove old alerts, in a thread."""
        away: list[StoreUnavailable] = []
        await asyncio.to_thread(_unless_away, partial(prune, self.engine, self.clock.now_s()), away)
        if away:
            self._outage.note(away[0])

    def _look(self) -> None:
        now_s, outbox = self.clock.now_s(), self.outbox
        away: list[StoreUnavailable] = []
        rules = _unless_away(partial(all_rules, self.engine, self.thresholds), away) or []
        levels = {rule.organization_id: rule.thresholds for rule in rules}
        for work in (
            partial(top_up, self.engine, self.payments, outbox, rules, now_s),
            partial(watch_budgets, self.engine, outbox, levels, now_s),
            partial(watch_credit, self.engine, outbox, rules, now_s),
        ):
            _unless_away(work, away)
        self._outage.note(away[0] if away else None)


def _unless_away(work: Callable[[], T], away: list[StoreUnavailable]) -> T | None:
    """What `work` gives; None when the store is away, which is added to `away`."""
    try:
        return work()
    except StoreUnavailable as error:
        away.append(error)
    return None
