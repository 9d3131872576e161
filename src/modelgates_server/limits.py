"""Values that describe limits: units, windows, scopes and references to meters. No storage, no decisions.

Windows are in UTC; weeks start on Monday (product-surface 5.3). A window's row is created on first use and never reset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Unit(StrEnum):
    """What a meter counts."""

    NUSD = "nusd"  # what credit is used for
    SPEND = "spend"  # the same, and what an organisation's own provider accounts are asked
    REQUESTS = "requests"
    TOKENS = "tokens"
    PARALLEL = "parallel"  # requests that are open now


MONEY: Final = frozenset({Unit.NUSD, Unit.SPEND})
"""Units whose limits are budgets; the others are rates."""


class Scope(StrEnum):
    """Whose meter it is; the order is from broad to narrow.

    A seat is one member within one workspace, with the id ``workspace/member``; an app is ``organization/name of the app``.
    """

    ORGANIZATION = "organization"
    WORKSPACE = "workspace"
    APP = "app"
    MEMBER = "member"
    SEAT = "seat"
    KEY = "key"


class Window(StrEnum):
    """How long a meter counts before a new row starts."""

    LIFE = "life"
    MINUTE = "minute"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def bounds_s(self, now_s: float) -> tuple[int, int | None]:
        """Start and end (Unix seconds, end exclusive, None for LIFE) of the window that contains `now_s`."""
        minute = int(now_s) // 60
        if self is Window.LIFE:
            return 0, None
        if self is Window.MINUTE:
            return minute * 60, minute * 60 + 60
        return _calendar_bounds_s(self, minute)  # no calendar window begins within a minute


@lru_cache(maxsize=64)
def _calendar_bounds_s(window: Window, minute: int) -> tuple[int, int]:
    day = datetime.fromtimestamp(minute * 60, UTC).replace(hour=0, minute=0)
    if window is Window.DAY:
        start, end = day, day + timedelta(days=1)
    elif window is Window.WEEK:
        start = day - timedelta(days=day.weekday())
        end = start + timedelta(days=7)
    else:
        start = day.replace(day=1)
        end = (start + timedelta(days=32)).replace(day=1)
    return int(start.timestamp()), int(end.timestamp())


LIMIT_RESETS: Final = {"daily": Window.DAY, "weekly": Window.WEEK, "monthly": Window.MONTH}
"""The words of the API and CLI (`limit_reset`) and the windows they mean; absent means LIFE."""


@dataclass(frozen=True, slots=True)
class MeterRef:
    """Points at one meter of a caller. The row it means depends on the time: see `row_id`.

    `limit` is in the unit of the meter; None means that the meter only counts. `limit_from_row` is for the
    organisation's credit, whose limit is the sum of its grants and lives in the row itself. `label` is how a refusal calls it,
    where the scope's name does not say enough: ``guardrail "Interns"``.
    """

    scope: Scope
    scope_id: str
    unit: Unit
    window: Window
    limit: int | None = None
    limit_from_row: bool = False
    label: str = ""
    _last: tuple[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """The id of its last minute is remembered: every request asks for the ids of all its meters."""
        object.__setattr__(self, "_last", (-1, ""))

    def row_id(self, now_s: float) -> str:
        """The id of the row for the window that contains `now_s`, for example ``key:ab12:nusd:day:1800000000``."""
        minute = int(now_s // 60)  # no window begins within one
        known, row_id = self._last
        if minute == known:
            return row_id
        row_id = f"{self.scope}:{self.scope_id}:{self.unit}:{self.window}"
        if self.window is not Window.LIFE:
            row_id += f":{self.window.bounds_s(now_s)[0]}"
        object.__setattr__(self, "_last", (minute, row_id))
        return row_id
