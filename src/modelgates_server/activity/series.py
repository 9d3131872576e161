"""What Activity shows: use in steps of time, group by group, with totals and what they were the period before.

Every number is a sum of receipts, to the nano-dollar: roll-ups commit together with the receipts that they add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from modelgates_server.activity.series_names import Named, check_filters, names, told_apart
from modelgates_server.activity.series_slice import DAY_S, By, Metric, Slice, Span, span_of
from modelgates_server.activity.series_sources import DAYS, NOTHING, Sums, in_steps, parts_of, total
from modelgates_server.clock import Clock
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.patience import within

PATIENCE_S: Final = 10.0
"""Longest time that one look at activity may take."""

DRAWN: Final = 8
"""Groups with a colour of their own; the rest is drawn as "other"."""

GROUPS_MAX: Final = 100
"""Groups that are listed; the export has all."""

CHOICES_MAX: Final = 300
"""Values that a filter offers."""

_RECENT_S: Final = 31 * DAY_S
_COMBINATIONS_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What some requests make together. Nano-USD; prompt tokens are those not cached, read from caches, and written to them.

    `spend_nusd` is `credits_nusd` and `own_keys_nusd` (on the organisation's own provider accounts, at list price) together;
    `reasoning_tokens` are a part of `completion_tokens`.
    """

    spend_nusd: int = 0
    credits_nusd: int = 0
    own_keys_nusd: int = 0
    requests: int = 0
    failures: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0

    def of(self, metric: Metric) -> int:
        """The number that a metric draws."""
        if metric is Metric.SPEND:
            return self.spend_nusd
        return self.tokens if metric is Metric.TOKENS else self.requests


@dataclass(frozen=True, slots=True)
class Before:
    """The same of the period before, in what the metrics draw."""

    spend_nusd: int = 0
    tokens: int = 0
    requests: int = 0

    def of(self, metric: Metric) -> int:
        """The number of a metric."""
        if metric is Metric.SPEND:
            return self.spend_nusd
        return self.tokens if metric is Metric.TOKENS else self.requests


@dataclass(frozen=True, slots=True)
class Group:
    """One group: its id (empty for those without a value), its names, its figures, and the metric in every step."""

    id: str
    name: str
    note: str
    figures: Figures
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that a filter offers."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Series:
    """Use in steps. `groups` come with the largest first; the first `drawn` are drawn, `other` is the sum of the rest.

    `group_count` is how many groups there are, also of those that are not listed. `before` is the period before, as far as this
    one has come. `steps` are the figures of each step, whatever the group.
    """

    starts_s: tuple[int, ...]
    until_s: int
    step: str
    groups: tuple[Group, ...]
    group_count: int
    drawn: int
    other: tuple[int, ...]
    total: Figures
    before: Before
    steps: tuple[Figures, ...]


Cells = dict[str, dict[int, Sums]]
"""Sums by group and number of the step."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was read: the sums of every cell, the groups with the largest first, their names, and the period before."""

    wanted: Slice
    span: Span
    cells: Cells
    ranked: list[tuple[str, Figures]]
    named: Mapping[str, Named]
    before: Before


def look(
    engine: sa.Engine, organization_id: str, wanted: Slice, clock: Clock, named_max: int | None = GROUPS_MAX
) -> Look:
    """Read a slice of an organisation's use. Raises BadRequest, NotFound for a filter of somebody else, TookTooLong.

    `named_max` is how many groups get a name; None for all.
    """
    span = span_of(wanted.period, wanted.back, clock.now_s())
    with reading(engine) as connection, within(connection, PATIENCE_S, clock):
        check_filters(connection, organization_id, wanted)
        cells = cells_of(connection, organization_id, wanted, span)
        parts = list(parts_of(replace(wanted, group=None), span.before_since_ms, span.before_until_ms))
        before = Before(*total(connection, organization_id, wanted, parts))
        ranked = rank(cells, wanted.metric)
        shown = [group for group, _ in ranked[:named_max]]
        named = {} if wanted.group is None else names(connection, organization_id, wanted.group, shown)
    return Look(wanted, span, cells, ranked, named, before)


def series(engine: sa.Engine, organization_id: str, wanted: Slice, clock: Clock) -> Series:
    """Give a slice of an organisation's use. Raises BadRequest, NotFound for a filter of somebody else, TookTooLong."""
    return series_of(look(engine, organization_id, wanted, clock))


def choices(engine: sa.Engine, organization_id: str, wanted: Slice, clock: Clock) -> Mapping[By, tuple[Choice, ...]]:
    """What the filters offer: what was used in the last month of the period, and what is filtered by now."""
    days, columns = schema.activity_days.c, DAYS.by
    until_s = min(span_of(wanted.period, wanted.back, clock.now_s()).until_s, int(clock.now_s()) + 1)
    mine = [days.organization_id == organization_id, days.day_s < until_s, days.day_s >= until_s - _RECENT_S]
    if wanted.only_member_id is not None:
        mine.append(days.member_id == wanted.only_member_id)
    query = sa.select(*(columns[by].label(str(by)) for by in By)).where(*mine).distinct().limit(_COMBINATIONS_MAX)
    with reading(engine) as connection, within(connection, PATIENCE_S, clock):
        rows = connection.execute(query).all()
        found = {}
        for place, by in enumerate(By):
            ids = {row[place] or "" for row in rows} | ({wanted.filters[by]} if by in wanted.filters else set())
            shown = told_apart(names(connection, organization_id, by, ids))
            ordered = sorted(shown.items(), key=lambda pair: (not pair[0], pair[1].casefold()))
            found[by] = tuple(Choice(*pair) for pair in ordered[:CHOICES_MAX])
    return found


def was_ever(engine: sa.Engine, organization_id: str, only_member_id: str | None) -> bool:
    """Whether there was any request at all that may be seen."""
    days = schema.activity_days.c
    mine = [days.organization_id == organization_id]
    if only_member_id is not None:
        mine.append(days.member_id == only_member_id)
    with reading(engine) as connection:
        return connection.execute(sa.select(days.day_s).where(*mine).limit(1)).one_or_none() is not None


def cells_of(connection: sa.Connection, organization_id: str, wanted: Slice, span: Span) -> Cells:
    """The sums of every group in every step; nothing where nothing was."""
    cells: Cells = {}
    for step, group, *sums in connection.execute(in_steps(organization_id, wanted, span)):
        if sums[0] is not None:
            cells.setdefault(group, {})[step] = tuple(sums)
    return cells


def rank(cells: Cells, metric: Metric) -> list[tuple[str, Figures]]:
    """The groups with their figures, the largest first."""
    found = [(group, figures_of(_sum(steps.values()))) for group, steps in cells.items()]
    return sorted(found, key=lambda pair: (-pair[1].of(metric), -pair[1].requests, pair[0]))


def figures_of(sums: Sums) -> Figures:
    """Sums under the names that people know."""
    requests, failures, put, read, written, completion, reasoning, credits_nusd, own_nusd = sums
    prompt = put + read + written
    return Figures(
        credits_nusd + own_nusd, credits_nusd, own_nusd, requests, failures, prompt + completion, prompt, read, written,
        completion, reasoning,
    )  # fmt: skip


def series_of(seen: Look) -> Series:
    """Put what was read in the order in which it is shown."""
    span, cells, ranked, named, metric = seen.span, seen.cells, seen.ranked, seen.named, seen.wanted.metric
    numbers = range(len(span.starts_s))
    texts = told_apart(named)

    def values(group: str) -> tuple[int, ...]:
        steps = cells[group]
        return tuple(amount(steps[number], metric) if number in steps else 0 for number in numbers)

    def listed(group: str, figures: Figures) -> Group:
        return Group(
            group, texts.get(group, "all"), named[group].note if group in named else "", figures, values(group)
        )

    rest = [values(group) for group, _ in ranked[DRAWN:]]
    steps = [_sum(by_step[number] for by_step in cells.values() if number in by_step) for number in numbers]
    return Series(
        starts_s=span.starts_s,
        until_s=span.until_s,
        step=span.step,
        groups=tuple(listed(*one) for one in ranked[:GROUPS_MAX]),
        group_count=len(ranked),
        drawn=min(DRAWN, len(ranked)),
        other=tuple(map(sum, zip(*rest, strict=True))) if rest else (),
        total=figures_of(_sum(steps)),
        before=seen.before,
        steps=tuple(map(figures_of, steps)),
    )


def amount(sums: Sums, metric: Metric) -> int:
    """The number that a metric draws."""
    requests, _, put, read, written, completion, _, credits_nusd, own_nusd = sums
    if metric is Metric.SPEND:
        return credits_nusd + own_nusd
    return put + read + written + completion if metric is Metric.TOKENS else requests


def _sum(many: Iterable[Sums]) -> Sums:
    return tuple(map(sum, zip(*many, strict=True))) or NOTHING
