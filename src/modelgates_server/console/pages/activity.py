"""Activity: what was spent, on how many tokens, in how many requests; over time, by whom and on what. Members see their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from modelgates_server.activity.exports import CONTENT_TYPE, csv_lines
from modelgates_server.activity.series import Before, Choice, Figures, Series, choices, look, series_of, was_ever
from modelgates_server.activity.series_export import HEAD, Section, rows, sections, time_text
from modelgates_server.activity.series_names import NOBODY
from modelgates_server.activity.series_slice import By, Metric, Slice
from modelgates_server.console.activity_query import (
    ALL,
    GROUPS,
    METRICS,
    PERIODS,
    UNSET,
    drilled,
    logs_path,
    same_query,
    slice_of,
)
from modelgates_server.console.charts import Chart, Row
from modelgates_server.console.routes import get
from modelgates_server.console.visits import Download, Page, Visit

OTHER: Final = "other"

_LABELS: Final = {"minute": "%H:%M", "hour": "%H:%M", "day": "%d %b", "month": "%b %Y"}
_BAR: Final = 1_000
"""How long the bar of tokens is, in its own units."""


@dataclass(frozen=True, slots=True)
class Tab:
    """A way to go on."""

    text: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Card:
    """A metric: its value, that of the period before as far as this one has come, and the change in percent (None: from nothing)."""

    metric: str
    text: str
    value: int
    before: int
    change: int | None
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A filter: what it offers, and what is chosen. `taken` is the address without it, when something is."""

    name: str
    text: str
    options: tuple[tuple[str, str], ...]
    value: str
    shown: str
    taken: str


@dataclass(frozen=True, slots=True)
class Line:
    """A group: what it makes, its share of the whole in percent, where a click on it leads, and its log."""

    id: str
    name: str
    note: str
    figures: Figures
    share: int
    href: str
    logs: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A step of time: what it makes in all, and in each group that is drawn; and its log."""

    time: str
    starts_at_s: int
    figures: Figures
    values: tuple[int, ...]
    logs: str


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of tokens: how many, their share in percent, and its place on a bar of a thousand."""

    text: str
    tokens: int
    share: int
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """A slice of use. `since` and `until` are its first and last step; `ever` says whether there was any request before."""

    period: str
    back: int
    by: str
    show: str
    since: str
    until: str
    periods: tuple[Tab, ...]
    cards: tuple[Card, ...]
    total: Figures
    before: Before
    fields: tuple[Field, ...]
    chart: Chart
    parts: tuple[Part, ...]
    lines: tuple[Line, ...]
    group_count: int
    steps: tuple[Moment, ...]
    earlier: str
    later: str
    csv: str
    printed: str
    ever: bool


@dataclass(frozen=True, slots=True)
class PrintPage:
    """The same on paper: a summary, then a section for each of the largest groups."""

    title: str
    since: str
    until: str
    filters: tuple[tuple[str, str], ...]
    by: str
    total: Figures
    before: Before
    sections: tuple[Section, ...]
    group_count: int
    made_at_s: int
    back: str


def show(visit: Visit) -> Page:
    """Activity. Raises BadRequest, and NotFound for a key, member or workspace that is not the visitor's to see."""
    house, wanted = visit.house, slice_of(visit)
    seen = look(house.engine, visit.organization_id, wanted, house.clock)
    found = series_of(seen)
    # the form stands outside of what is refreshed: it is offered once
    offered = {} if visit.partial else choices(house.engine, visit.organization_id, wanted, house.clock)
    since, until = _range(found)
    context = ActivityPage(
        period=wanted.period,
        back=wanted.back,
        by=ALL if wanted.group is None else wanted.group,
        show=wanted.metric,
        since=since,
        until=until,
        periods=tuple(
            Tab(text, visit.with_query(period=period, back=None, said=None), period is wanted.period)
            for period, text in PERIODS.items()
        ),
        cards=tuple(_card(visit, wanted, found, metric) for metric in Metric),
        total=found.total,
        before=found.before,
        fields=tuple(_fields(visit, wanted, offered)),
        chart=chart_of(wanted, found, tuple(drilled(visit, wanted, group.id) for group in found.groups)),
        parts=tuple(_parts(found.total)),
        lines=tuple(_lines(visit, wanted, found)),
        group_count=found.group_count,
        steps=tuple(_moments(wanted, found)),
        earlier=visit.with_query(back=wanted.back + 1, said=None),
        later=visit.with_query(back=wanted.back - 1 or None, said=None) if wanted.back else "",
        csv=same_query(visit, "/activity.csv"),
        printed=same_query(visit, "/activity/print"),
        ever=found.total.requests > 0 or was_ever(house.engine, visit.organization_id, wanted.only_member_id),
    )
    return Page("activity.html", context)


def export(visit: Visit) -> Download:
    """The same as CSV: every group in every step, with all figures. Raises BadRequest, NotFound."""
    wanted = slice_of(visit)
    seen = look(visit.house.engine, visit.organization_id, wanted, visit.house.clock, named_max=None)
    return Download("activity.csv", CONTENT_TYPE, (line.encode() for line in csv_lines(HEAD, rows(seen))))


def printed(visit: Visit) -> Page:
    """The same to be printed, or saved as PDF. Raises BadRequest, NotFound."""
    house, wanted = visit.house, slice_of(visit)
    seen = look(house.engine, visit.organization_id, wanted, house.clock)
    found = series_of(seen)
    offered = choices(house.engine, visit.organization_id, wanted, house.clock)
    since, until = _range(found)
    context = PrintPage(
        title=PERIODS[wanted.period],
        since=since,
        until=until,
        filters=tuple((field.text, field.shown) for field in _fields(visit, wanted, offered) if field.value),
        by="" if wanted.group is None else GROUPS[wanted.group],
        total=found.total,
        before=found.before,
        sections=sections(seen),
        group_count=found.group_count,
        made_at_s=int(visit.now_s),
        back=same_query(visit, "/activity"),
    )
    return Page("activity_print.html", context)


def _range(found: Series) -> tuple[str, str]:
    return time_text(found.step, found.starts_s[0]), time_text(found.step, found.starts_s[-1])


def _card(visit: Visit, wanted: Slice, found: Series, metric: Metric) -> Card:
    value, before = found.total.of(metric), found.before.of(metric)
    return Card(
        metric=metric,
        text=METRICS[metric],
        value=value,
        before=before,
        change=round((value - before) * 100 / before) if before else None,
        href=visit.with_query(show=metric, said=None),
        current=metric is wanted.metric,
    )


def _fields(visit: Visit, wanted: Slice, offered: Mapping[By, tuple[Choice, ...]]) -> Iterator[Field]:
    """The filters; a member has no use for one by member."""
    for by, text in GROUPS.items():
        if by is By.MEMBER and not visit.is_admin:
            continue
        chosen = wanted.filters.get(by)
        listed = offered.get(by, ())
        options = tuple((choice.id or UNSET, choice.name) for choice in listed)
        shown = next((choice.name for choice in listed if choice.id == chosen), chosen or NOBODY.get(by, ""))
        taken = "" if chosen is None else visit.with_query(**{by.value: None, "said": None})
        yield Field(by, text, options, "" if chosen is None else chosen or UNSET, shown if taken else "", taken)


def chart_of(wanted: Slice, found: Series, hrefs: tuple[str, ...] = ()) -> Chart:
    """A slice as a chart. `hrefs` are where a click on a group leads, for those that are drawn."""
    drawn = [
        Row(group.name, group.values, hrefs[place] if hrefs else "")
        for place, group in enumerate(found.groups[: found.drawn])
    ]
    if found.other:
        drawn.append(Row(OTHER, found.other))
    return Chart(
        labels=tuple(datetime.fromtimestamp(start_s, UTC).strftime(_LABELS[found.step]) for start_s in found.starts_s),
        rows=tuple(drawn),
        unit="nusd" if wanted.metric is Metric.SPEND else "count",
        hrefs=tuple(moment.logs for moment in _moments(wanted, found)),
    )


def _lines(visit: Visit, wanted: Slice, found: Series) -> Iterator[Line]:
    whole = found.total.of(wanted.metric)
    for group in found.groups:
        filters = dict(wanted.filters) | ({} if wanted.group is None else {wanted.group: group.id})
        yield Line(
            id=group.id,
            name=group.name,
            note="" if group.note and group.note in group.name else group.note,
            figures=group.figures,
            share=round(group.figures.of(wanted.metric) * 100 / whole) if whole else 0,
            href=drilled(visit, wanted, group.id),
            logs=logs_path(filters, found.starts_s[0] * 1000, found.until_s * 1000),
        )


def _moments(wanted: Slice, found: Series) -> Iterator[Moment]:
    ends_s = (*found.starts_s[1:], found.until_s)
    for number, (start_s, end_s, figures) in enumerate(zip(found.starts_s, ends_s, found.steps, strict=True)):
        values = [group.values[number] for group in found.groups[: found.drawn]]
        values += [found.other[number]] if found.other else []
        logs = logs_path(wanted.filters, start_s * 1000, end_s * 1000) if figures.requests else ""
        yield Moment(time_text(found.step, start_s), start_s, figures, tuple(values), logs)


def _parts(total: Figures) -> Iterator[Part]:
    """What the tokens were; reasoning is a part of the completion, and told apart."""
    kinds = (
        ("Prompt, not cached", total.prompt_tokens - total.cache_read_tokens - total.cache_write_tokens),
        ("Prompt, read from caches", total.cache_read_tokens),
        ("Prompt, written to caches", total.cache_write_tokens),
        ("Completion", total.completion_tokens - total.reasoning_tokens),
        ("Reasoning", total.reasoning_tokens),
    )
    before = 0
    for text, tokens in kinds:
        x = before * _BAR // total.tokens if total.tokens else 0
        before += tokens
        end = before * _BAR // total.tokens if total.tokens else 0
        yield Part(text, tokens, round(tokens * 100 / total.tokens) if total.tokens else 0, x, end - x)


ROUTES = (get("/activity", show), get("/activity.csv", export), get("/activity/print", printed))
