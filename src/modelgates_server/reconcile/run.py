"""One reconciliation: fetch the report, read the books, compare, keep. For the command line and for the daily upkeep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from modelgates_server.alerts.outbox import Outbox
from modelgates_server.clock import Clock
from modelgates_server.errors import BadRequest, ReportFailed, StoreUnavailable
from modelgates_server.reconcile import books
from modelgates_server.reconcile.compare import Pricing, compare
from modelgates_server.reconcile.keep import keep, last_checked_s
from modelgates_server.reconcile.values import DAY_S, Line, UsageReport, day_before, day_of, days_from
from modelgates_server.storage.engine import reading

log = logging.getLogger(__name__)

DAYS_USUAL: Final = 7
DAYS_MAX: Final = 366
EVERY_S: Final = DAY_S - 3600
"""Once a day, with an hour to spare: whoever looks once an hour does not skip a day."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account at a provider: its report, and the slugs of the configured providers that are billed to it.

    `report(fast)` opens the report; `fast` says that fast mode was in use.
    """

    slugs: tuple[str, ...]
    pricing: Pricing
    report: Callable[[bool], UsageReport]

    @property
    def name(self) -> str:
        """What people call it."""
        return "+".join(self.slugs)


def usual_days(now_s: float) -> list[str]:
    """The last days up to yesterday."""
    return list(days_from(day_of(now_s - DAYS_USUAL * DAY_S), day_of(now_s - DAY_S)))


def days_between(first: str, last: str, now_s: float) -> list[str]:
    """Every day from `first` to `last`. Raises BadRequest when there is none, too many, or one that has not come yet."""
    if first > last:
        raise BadRequest(f"{first} is after {last}")
    if last > day_of(now_s):
        raise BadRequest(f"{last} has not come yet")
    days = list(days_from(first, last))
    if len(days) > DAYS_MAX:
        raise BadRequest(f"at most {DAYS_MAX} days at once")
    return days


async def reconcile(
    engine: sa.Engine, account: Account, days: Sequence[str], outbox: Outbox, now_s: float
) -> list[Line]:
    """Compare an account's report about `days` with the books, and keep what is settled.

    Raises ReportFailed, when nothing is kept, and StoreUnavailable.
    """
    fast = await asyncio.to_thread(_fast, engine, account, days)
    reported = await account.report(fast).fetch(days)

    def work() -> list[Line]:
        with_eve = [day_before(days[0]), *days]
        with reading(engine) as connection:
            name = account.pricing.name
            booked = books.booked(connection, account.slugs, with_eve, account.pricing.search_pusd, name)
            doubts = books.doubts(connection, account.slugs, days, name)
        lines = compare(days, booked, doubts, reported, account.pricing, now_s)
        keep(engine, account.name, lines, outbox, now_s)
        return lines

    return await asyncio.to_thread(work)


@dataclass(frozen=True, slots=True)
class Daily:
    """Compares each account once a day, in whichever process comes first. `tried_s` is when this one last did."""

    engine: sa.Engine
    accounts: Sequence[Account]
    outbox: Outbox
    clock: Clock
    tried_s: dict[str, float] = field(default_factory=dict)

    async def look(self) -> None:
        """Compare what is due. A report that cannot be had is asked for again at the next look."""
        now_s = self.clock.now_s()
        for account in await asyncio.to_thread(due, self.engine, self.accounts, now_s):
            if now_s - self.tried_s.get(account.name, 0.0) < EVERY_S:
                continue  # it has no traffic, and so no figures that say when it was compared
            try:
                lines = await reconcile(self.engine, account, usual_days(now_s), self.outbox, now_s)
            except (ReportFailed, StoreUnavailable) as error:
                log.warning("reconciliation_failed", extra={"provider": account.name, "reason": error.message})
                continue
            self.tried_s[account.name] = now_s
            drift = [f"{line.day} {line.model}" for line in lines if line.state == "drift"]
            log.log(
                logging.WARNING if drift else logging.INFO,
                "reconciliation_drift" if drift else "reconciled",
                extra={"provider": account.name, "lines": len(lines), "drift": drift},
            )


def due(engine: sa.Engine, accounts: Sequence[Account], now_s: float) -> list[Account]:
    """The accounts that were not compared for a day, in whichever process."""
    with reading(engine) as connection:
        return [account for account in accounts if now_s - last_checked_s(connection, account.name) >= EVERY_S]


def _fast(engine: sa.Engine, account: Account, days: Sequence[str]) -> bool:
    with reading(engine) as connection:
        return books.in_fast_mode(connection, account.slugs, days)
