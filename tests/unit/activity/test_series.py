"""Activity adds up: every slice equals a naive sum over the receipts, whichever tables it was read from, on both stores."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.activity.crowd import MODELS, NOW_S, ORG, Did, settle, someone

from modelgates_server.activity.series import DRAWN, GROUPS_MAX, choices, series
from modelgates_server.activity.series_slice import By, Metric, Period, Slice, span_of
from modelgates_server.clock import ManualClock
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

CLOCK = ManualClock(NOW_S + 1_234.5)
"""In the middle of a minute, an hour, a day and a month."""


def crowd(random: Random) -> list[Did]:
    """Receipts of the last hours, days and years: as many in each stretch that somebody may look at."""
    found = []
    for reach_ms in (7_200_000, 2 * 86_400_000, 14 * 86_400_000, 70 * 86_400_000, 800 * 86_400_000):
        for _ in range(90):
            ago_ms = random.randrange(reach_ms) - 1_000_000
            app = random.choice((None, "desk", "nightly", "wiki"))
            found.append(replace(someone(random), ago_ms=ago_ms, more={"app": app}))
    return [did for did in found if did.at_ms < CLOCK.now_s() * 1000]


CROWD = crowd(Random(11))


def value_of(did: Did, by: By) -> str:
    found: dict[By, str | None] = {
        By.MODEL: did.model, By.PROVIDER: did.provider, By.KEY: did.key_hash, By.MEMBER: did.member_id,
        By.WORKSPACE: did.workspace_id, By.APP: did.more["app"],
    }  # fmt: skip
    return found[by] or ""


def fits(did: Did, wanted: Slice, since_ms: int, until_ms: int) -> bool:
    if did.organization_id != ORG or not since_ms <= did.at_ms < until_ms:
        return False
    if wanted.only_member_id is not None and did.member_id != wanted.only_member_id:
        return False
    return all(value_of(did, by) == value for by, value in wanted.filters.items())


def metric_of(did: Did, metric: Metric) -> int:
    if metric is Metric.SPEND:
        return did.cost_nusd + did.byok_nusd
    put, out, _, read, short, long = did.tokens
    return put + out + read + short + long if metric is Metric.TOKENS else 1


def naive(wanted: Slice) -> dict[str, list[int]]:
    """The metric by group and step, receipt by receipt."""
    span = span_of(wanted.period, wanted.back, CLOCK.now_s())
    found: dict[str, list[int]] = defaultdict(lambda: [0] * len(span.starts_s))
    for did in CROWD:
        for step, (since_s, until_s) in enumerate(span.edges_s):
            if fits(did, wanted, since_s * 1000, until_s * 1000):
                group = "" if wanted.group is None else value_of(did, wanted.group)
                found[group][step] += metric_of(did, wanted.metric)
    return found


VALUES = {by: sorted({value_of(did, by) for did in CROWD if did.organization_id == ORG}) for by in By}
SLICES = st.builds(
    Slice,
    period=st.sampled_from(Period),
    back=st.sampled_from((0, 0, 0, 1, 2)),
    group=st.sampled_from((None, *By)),
    metric=st.sampled_from(Metric),
    filters=st.sets(st.sampled_from(By), max_size=2).flatmap(
        lambda chosen: st.fixed_dictionaries({by: st.sampled_from(VALUES[by]) for by in sorted(chosen)})
    ),
    only_member_id=st.sampled_from((None, None, f"{ORG}-member-0", f"{ORG}-member-1")),
)


@pytest.fixture
def filled(either_engine: sa.Engine) -> sa.Engine:
    """The crowd's receipts, and whose each key is."""
    settle(either_engine, CROWD)
    keys = schema.api_keys.c
    with transaction(either_engine) as connection:
        for key in range(1, 4):
            whose = sa.update(schema.api_keys).where(keys.hash == f"{ORG}-key-{key}")
            connection.execute(whose.values(member_id=f"{ORG}-member-{key % 2}"))
    return either_engine


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=SLICES)
def test_every_slice_is_the_sum_of_its_receipts(filled: sa.Engine, wanted: Slice) -> None:
    """Groups, steps, totals and the period before, to the nano-dollar."""
    span, expected = span_of(wanted.period, wanted.back, CLOCK.now_s()), naive(wanted)
    try:
        found = series(filled, ORG, wanted, CLOCK)
    except NotFound:
        mine = [did for did in CROWD if did.member_id == wanted.only_member_id]
        own = {
            By.KEY: {did.key_hash for did in mine},
            By.MEMBER: {wanted.only_member_id},
            By.WORKSPACE: {did.workspace_id for did in mine},
        }
        assert any(by in wanted.filters and wanted.filters[by] not in known for by, known in own.items())
        return
    before = [did for did in CROWD if fits(did, wanted, span.before_since_ms, span.before_until_ms)]

    assert {group.id: list(group.values) for group in found.groups} == dict(expected)
    assert [step.of(wanted.metric) for step in found.steps] == [
        sum(values[step] for values in expected.values()) for step in range(len(span.starts_s))
    ]
    assert found.total.of(wanted.metric) == sum(map(sum, expected.values()))
    assert found.before.of(wanted.metric) == sum(metric_of(did, wanted.metric) for did in before)
    assert sorted(found.groups, key=lambda group: -group.figures.of(wanted.metric)) == list(found.groups)


def test_figures_tell_what_tokens_were(filled: sa.Engine) -> None:
    """Prompt, what caches gave and took, completion and the part of it that was reasoning; and failures."""
    found = series(filled, ORG, Slice(Period.YEAR, group=None), CLOCK).total
    span = span_of(Period.YEAR, 0, CLOCK.now_s())
    mine = [did for did in CROWD if fits(did, Slice(), span.since_s * 1000, span.until_s * 1000)]
    put, out, thought, read, short, long = (sum(column) for column in zip(*(did.tokens for did in mine), strict=True))

    assert found.prompt_tokens == put + read + short + long
    assert (found.completion_tokens, found.reasoning_tokens) == (out, thought)
    assert (found.cache_read_tokens, found.cache_write_tokens) == (read, short + long)
    assert found.tokens == found.prompt_tokens + found.completion_tokens
    assert found.failures == sum(did.outcome in {"failed", "broken"} for did in mine)
    assert (found.credits_nusd, found.own_keys_nusd) == (
        sum(did.cost_nusd for did in mine), sum(did.byok_nusd for did in mine),
    )  # fmt: skip


def test_groups_have_names_and_nobody_is_nobody(filled: sa.Engine) -> None:
    """Names where people gave some, words where there is none."""
    wanted = Slice(Period.YEAR, group=By.MEMBER)
    names = {group.id: (group.name, group.note) for group in series(filled, ORG, wanted, CLOCK).groups}

    assert names[f"{ORG}-member-1"] == ("Member 1", f"1@{ORG}.example")
    assert names[""] == ("nobody", "")


def test_two_keys_of_one_name_are_told_apart(filled: sa.Engine) -> None:
    """By what is shown of the key itself."""
    with transaction(filled) as connection:
        connection.execute(sa.text("UPDATE api_keys SET name = 'laptop', label = 'sk-mg-v1-…' || hash"))
    found = series(filled, ORG, Slice(Period.YEAR, group=By.KEY), CLOCK)

    assert {group.name for group in found.groups} == {f"laptop (sk-mg-v1-…{ORG}-key-{n})" for n in range(4)}


def test_what_is_too_much_to_draw_is_drawn_as_other(either_engine: sa.Engine) -> None:
    """The first groups have colours; all listed ones have figures; the rest is counted, and nothing is lost."""
    many = [Did(more={"app": f"app-{n:03}"}, cost_nusd=1_000 - n) for n in range(GROUPS_MAX + 20)]
    settle(either_engine, many)
    found = series(either_engine, ORG, Slice(Period.MONTH, group=By.APP), CLOCK)

    assert (found.drawn, len(found.groups), found.group_count) == (DRAWN, GROUPS_MAX, GROUPS_MAX + 20)
    assert sum(map(sum, (group.values for group in found.groups[:DRAWN]))) + sum(found.other) == found.total.spend_nusd
    assert found.total.spend_nusd == sum(did.cost_nusd for did in many)


def test_filters_offer_what_was_used_lately(filled: sa.Engine) -> None:
    """To a member only what is their own; and what is filtered by now, in any case."""
    everything = choices(filled, ORG, Slice(Period.DAY, filters={By.MODEL: "gone/model"}), CLOCK)
    own = choices(filled, ORG, Slice(Period.DAY, only_member_id=f"{ORG}-member-1"), CLOCK)

    assert [choice.id for choice in everything[By.MODEL]] == sorted([*MODELS, "gone/model"])
    assert {choice.name for choice in everything[By.MEMBER]} == {"Member 0", "Member 1", "nobody"}
    assert {choice.id for choice in own[By.KEY]} == {f"{ORG}-key-1", f"{ORG}-key-3"}
    assert {choice.id for choice in own[By.MEMBER]} == {f"{ORG}-member-1"}


@pytest.mark.parametrize(
    ("filters", "only"),
    [
        ({By.KEY: "org-b-key-1"}, None),
        ({By.MEMBER: "org-b-member-1"}, None),
        ({By.WORKSPACE: "org-b-workspace-1"}, None),
        ({By.KEY: "no-such-key"}, None),
        ({By.KEY: f"{ORG}-key-2"}, f"{ORG}-member-1"),
        ({By.MEMBER: f"{ORG}-member-0"}, f"{ORG}-member-1"),
    ],
)
def test_what_is_somebody_elses_does_not_exist(filled: sa.Engine, filters: dict[By, str], only: str | None) -> None:
    """Neither another organisation's keys, members and workspaces, nor, for a member, a colleague's."""
    with pytest.raises(NotFound):
        series(filled, ORG, Slice(filters=filters, only_member_id=only), CLOCK)


SPANS: list[tuple[Period, int, str, str, int]] = [
    (Period.HOUR, 60, "minute", "2027-01-15 07:21", 60),
    (Period.DAY, 24, "hour", "2027-01-14 09:00", 3_600),
    (Period.WEEK, 7, "day", "2027-01-09 00:00", 86_400),
    (Period.MONTH, 30, "day", "2026-12-17 00:00", 86_400),
]


@pytest.mark.parametrize(("period", "count", "step", "since", "size_s"), SPANS)
def test_a_period_ends_with_the_current_step(period: Period, count: int, step: str, since: str, size_s: int) -> None:
    """And is compared with the same time before it, as far as it has come."""
    span = span_of(period, 0, CLOCK.now_s())

    assert (len(span.starts_s), span.step) == (count, step)
    assert span.since_s == datetime.fromisoformat(f"{since}+00:00").timestamp()
    assert span.until_s - size_s <= CLOCK.now_s() < span.until_s
    assert span.before_until_ms == (CLOCK.now_s() - size_s * count) * 1000
    assert span.before_since_ms == (span.since_s - size_s * count) * 1000


def day(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}T00:00+00:00").timestamp())


def test_a_year_is_twelve_months_of_the_calendar() -> None:
    """From the month after this one a year ago to this month; before it, the same months, up to the same day."""
    span = span_of(Period.YEAR, 0, day("2028-03-31") + 3_600)
    last = span_of(Period.YEAR, 1, day("2028-03-31"))

    assert span.starts_s[0] == day("2027-04-01")
    assert (span.starts_s[-1], span.until_s) == (day("2028-03-01"), day("2028-04-01"))
    assert (span.before_since_ms, span.before_until_ms) == (
        day("2026-04-01") * 1000, (day("2027-03-31") + 3_600) * 1000,
    )  # fmt: skip
    assert (last.since_s, last.until_s, last.before_until_ms) == (
        day("2026-04-01"), day("2027-04-01"), day("2026-04-01") * 1000,
    )  # fmt: skip


def test_a_short_month_is_compared_as_a_whole() -> None:
    """On the 31st of March, a year of which the February before ended sooner."""
    span = span_of(Period.YEAR, 0, day("2027-01-31"))

    assert span.before_until_ms == day("2026-01-31") * 1000


@pytest.mark.parametrize("period", Period)
def test_nothing_happened_before_there_were_clocks(period: Period) -> None:
    """Going back for ever ends with a sentence."""
    with pytest.raises(BadRequest, match="that long ago"):
        span_of(period, 10**9, NOW_S)
