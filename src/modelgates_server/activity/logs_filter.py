"""What of the log somebody wants to see: the same filter in terms of receipts, and in terms of the hours that add them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.activity.measures import Column
from modelgates_server.storage import schema

OUTCOMES: Final = ("completed", "failed", "broken", "cancelled", "lost")
FAILURES: Final = frozenset({"failed", "broken"})
"""Outcomes that the hours count as failures."""

_EACH = schema.generations.c
_HOURS = schema.activity_hours.c
_DAYS = schema.activity_days.c
_KEYS = schema.api_keys.c
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which receipts: every field that is not None must fit. Times in Unix milliseconds, the end exclusive.

    `only_member_id` is whose receipts may be seen at all; None for somebody who may see everything of the organisation.
    """

    only_member_id: str | None = None
    model: str | None = None
    provider: str | None = None
    key_hash: str | None = None
    member_id: str | None = None
    workspace_id: str | None = None
    app: str | None = None
    outcome: str | None = None
    finish_reason: str | None = None
    cached: bool | None = None
    streamed: bool | None = None
    session_id: str | None = None
    external_user: str | None = None
    generation_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def plain(self) -> bool:
        """Whether an index alone leads to the receipts: nothing is looked for that it does not know."""
        return self.generation_id is not None or self.session_id is not None or not (self.exact or self.guided)

    @property
    def exact(self) -> bool:
        """Whether hours count the very receipts that are looked for."""
        return bool(self._counted()) and not self.guided

    @property
    def guided(self) -> bool:
        """Whether something is looked for that hours do not count: they only tell where it can be."""
        unknown = (self.app, self.finish_reason, self.external_user, self.outcome, self.cached, self.streamed)
        return any(value is not None for value in unknown)

    def _counted(self) -> list[str]:
        asked = (self.only_member_id, self.model, self.provider, self.member_id, self.workspace_id)
        return [value for value in asked if value is not None]

    def receipts(self, organization_id: str) -> list[Column]:
        """Conditions for receipts, without those of time."""
        equal = (
            (_EACH.member_id, self.only_member_id),
            (_EACH.member_id, self.member_id),
            (_EACH.model, self.model),
            (_EACH.provider, self.provider),
            (_EACH.workspace_id, self.workspace_id),
            (_EACH.app, self.app),
            (_EACH.outcome, self.outcome),
            (_EACH.finish_reason, self.finish_reason),
            (_EACH.session_id, self.session_id),
            (_EACH.external_user, self.external_user),
            (_EACH.id, self.generation_id),
            (_EACH.streamed, None if self.streamed is None else int(self.streamed)),
        )
        fitting = [column == value for column, value in equal if value is not None]
        if self.cached is not None:
            fitting.append(_EACH.cache_read_tokens > 0 if self.cached else _EACH.cache_read_tokens == 0)
        return [*self.place(organization_id, [self.key_hash] if self.key_hash is not None else None), *fitting]

    @staticmethod
    def place(organization_id: str, keys: list[str] | None) -> list[Column]:
        """Whose receipts, so that the right index is taken: that of the keys where there are any, else the organisation's."""
        if keys is None:
            return [_EACH.organization_id == organization_id]
        return [checked(_EACH.organization_id) == organization_id, _EACH.key_hash.in_(keys)]

    def added_up(self, organization_id: str, table: Any) -> list[Column]:
        """Conditions for hours or days (their columns) that may hold fitting receipts; none when all may."""
        equal = (
            (table.member_id, self.only_member_id),
            (table.member_id, self.member_id),
            (table.model, self.model),
            (table.provider, self.provider),
        )
        fitting: list[Column] = [column == value for column, value in equal if value is not None]
        if self.workspace_id is not None:
            fitting.append(_of_workspace(organization_id, self.workspace_id, table))
        if self.app is not None:
            fitting.append(table.app == self.app if "app" in table else _of_app(self.app))
        if self.outcome in FAILURES:
            fitting.append(table.failures > 0)
        if self.cached:
            fitting.append(table.cache_read_tokens > 0)
        return fitting


def checked(column: Column) -> Column:
    """A column that is compared without its index: without statistics SQLite takes it before a better one with several values."""
    return column.concat("")


def _of_workspace(organization_id: str, workspace_id: str, table: Any) -> Column:
    """An hour's row keeps the workspace that its key began the hour in: a key that moved within it is found by where it is now."""
    there = sa.select(_KEYS.hash).where(_KEYS.organization_id == organization_id, _KEYS.workspace_id == workspace_id)
    return sa.or_(table.workspace_id == workspace_id, table.key_hash.in_(there))


def _of_app(app: str) -> Column:
    """Hours do not know the app, but days do."""
    same_day = (
        _DAYS.organization_id == _HOURS.organization_id,
        _DAYS.day_s == _HOURS.hour_s - _HOURS.hour_s % _DAY_S,
        _DAYS.key_hash == _HOURS.key_hash,
        _DAYS.model == _HOURS.model,
        _DAYS.provider == _HOURS.provider,
        _DAYS.app == app,
    )
    return sa.exists(sa.literal(1)).where(*same_day).correlate(schema.activity_hours)
