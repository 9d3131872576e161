"""Answers of analytics: right, the same from roll-ups and from generations, on SQLite and on PostgreSQL, and only one's own."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.activity.crowd import MODELS, NOW_S, ORG, OTHER, Did, settle, someone

from modelgates_server.activity.analytics import ask, run
from modelgates_server.activity.measures import DIMENSIONS, LISTS, MEASURES, METRICS, OPERATORS, Kind
from modelgates_server.activity.questions import (
    DAY_MS,
    HOUR_MS,
    Filter,
    Order,
    Question,
    check,
    months,
    usual_range_ms,
)
from modelgates_server.activity.statements import Piece, pieces
from modelgates_server.clock import ManualClock
from modelgates_server.errors import BadRequest, TookTooLong
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction

SINCE_MS, UNTIL_MS = NOW_S * 1000 - 30 * DAY_MS, NOW_S * 1000
ROLLED = [
    name
    for name, metric in METRICS.items()
    if metric.kind is not Kind.ABSENT and all(MEASURES[of].hours is not None for of in metric.measures)
]
KEPT = [name for name, dimension in DIMENSIONS.items() if dimension.hours is not None]
VALUES = {
    "model": [*MODELS, "none"],
    "provider": ["anthropic", "bedrock"],
    "api_key_id": [f"{ORG}-key-{number}" for number in range(4)] + [f"{OTHER}-key-1"],
    "user": [f"{ORG}-member-0", f"{ORG}-member-1", f"{OTHER}-member-0"],
    "workspace": [f"{ORG}-workspace-0", f"{OTHER}-workspace-1"],
}
PERCENT = (50, 90, 95, 99)


def question(*metrics: str, **changes: Any) -> Question:
    return replace(Question(metrics or ("request_count",), SINCE_MS, UNTIL_MS), **changes)


def answer(engine: sa.Engine, asked: Question, organization_id: str = ORG) -> list[dict[str, Any]]:
    return ask(engine, organization_id, asked, ManualClock(NOW_S)).rows


def by_scan(engine: sa.Engine, asked: Question) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        return run(connection, ORG, asked, [Piece(False, asked.since_ms, asked.until_ms)])


def by_rollup(engine: sa.Engine, asked: Question) -> list[dict[str, Any]]:
    parts = pieces(asked, NOW_S)
    with reading(engine) as connection:
        return run(connection, ORG, asked, parts)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    field, operator = draw(st.sampled_from(KEPT)), draw(st.sampled_from(list(OPERATORS)))
    count = draw(st.integers(1, 3)) if operator in LISTS else 1
    values = tuple(draw(st.sampled_from(VALUES[field])) for _ in range(count))
    unset = operator in LISTS and DIMENSIONS[field].optional and draw(st.booleans())
    return Filter(field, operator, values, unset)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    start = SINCE_MS + draw(st.integers(0, 25 * 24)) * HOUR_MS + draw(st.sampled_from((0, 0, 1, 1_799_999)))
    metrics = tuple(draw(st.lists(st.sampled_from(ROLLED), min_size=1, max_size=4, unique=True)))
    return Question(
        metrics,
        start,
        start + draw(st.integers(1, 30 * DAY_MS)),
        tuple(draw(st.lists(st.sampled_from(KEPT), max_size=2, unique=True))),
        tuple(draw(st.lists(filters(), max_size=3))),
        draw(st.sampled_from((None, "hour", "day", "week", "month"))),
        draw(st.sampled_from((None, Order(metrics[0]), Order("request_count", descending=True)))),
        draw(st.sampled_from((1, 5, 10_000))),
        draw(st.sampled_from((None, 2))),
    )


@given(seed=st.integers(0, 10**6), asked=st.lists(questions(), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rollups_and_generations_say_the_same(engine: sa.Engine, seed: int, asked: list[Question]) -> None:
    """Whatever is asked of whatever happened, hours (with their edges from the generations) and single requests agree."""
    with transaction(engine) as connection:
        connection.execute(sa.delete(schema.generations))
        connection.execute(sa.delete(schema.activity_hours))
    random = Random(seed)
    settle(engine, [someone(random, 30) for _ in range(random.randrange(60))])

    for one in asked:
        assert by_rollup(engine, one) == by_scan(engine, one)


def test_whole_hours_come_from_rollups(engine: sa.Engine) -> None:
    """A range that begins and ends anywhere reads full hours from the roll-ups and only its edges from the generations."""
    asked = question(since_ms=NOW_S * 1000 - DAY_MS - 1, until_ms=NOW_S * 1000 - HOUR_MS // 2)
    parts = pieces(asked, NOW_S)
    last_ms = NOW_S * 1000 - HOUR_MS

    assert parts == [
        Piece(True, NOW_S * 1000 - DAY_MS, last_ms),
        Piece(False, asked.since_ms, NOW_S * 1000 - DAY_MS),
        Piece(False, last_ms, asked.until_ms),
    ]
    assert pieces(question(since_ms=HOUR_MS, until_ms=2 * HOUR_MS + 1), 7_000) == [Piece(True, HOUR_MS, 3 * HOUR_MS)]
    assert not any(part.hours for part in pieces(question("p50_latency"), NOW_S))
    assert not any(part.hours for part in pieces(question(dimensions=("app",)), NOW_S))
    assert not any(part.hours for part in pieces(question(granularity="minute"), NOW_S))


def model(crowd: list[Did], asked: Question) -> list[dict[str, Any]]:
    """The same in Python, for one dimension `model` and days."""
    groups: dict[Any, list[Did]] = {}
    for did in crowd:
        if did.organization_id == ORG and asked.since_ms <= did.at_ms < asked.until_ms:
            groups.setdefault((did.at_ms // DAY_MS, did.model), []).append(did)
    found = []
    for (_day, name), group in sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1])):
        late = sorted(did.latency_ms for did in group if did.latency_ms is not None)
        fast = sorted(
            did.tokens[1] * 1_000_000 // did.generation_ms for did in group if did.generation_ms and did.tokens[1]
        )
        row = {"model": name, "request_count": len(group), "total_usage_nusd": 0, "tokens_prompt": 0}
        for did in group:
            row["total_usage_nusd"] += did.cost_nusd + did.byok_nusd
            row["tokens_prompt"] += sum(did.tokens) - did.tokens[1] - did.tokens[2]
        for percent in PERCENT:
            row[f"p{percent}_latency"] = late[math.ceil(len(late) * percent / 100) - 1] if late else None
            row[f"p{percent}_throughput"] = fast[math.ceil(len(fast) * percent / 100) - 1] / 1000 if fast else None
        row["avg_latency"] = sum(late) / len(late) if late else None
        found.append(row)
    return found


def test_figures_are_right_on_both_stores(either_engine: sa.Engine) -> None:
    """Counts, sums, averages and nearest-rank quantiles equal those computed by hand, in the same order."""
    crowd = [someone(Random(number)) for number in range(400)]
    settle(either_engine, crowd)
    names = [f"p{percent}_{kind}" for kind in ("latency", "throughput") for percent in PERCENT]
    asked = question(
        "request_count", "total_usage", "tokens_prompt", "avg_latency", *names, dimensions=("model",), granularity="day"
    )
    found = answer(either_engine, asked)

    assert [{name: value for name, value in row.items() if name != "date__day"} for row in found] == model(crowd, asked)
    assert len(found) > 20


@pytest.mark.parametrize("granularity", ["minute", "hour", "day", "week", "month"])
def test_buckets_begin_where_the_calendar_says(either_engine: sa.Engine, granularity: str) -> None:
    """Minutes, hours and days of UTC, weeks from Monday, months from the first."""
    settle(either_engine, [Did(ago_ms=0), Did(ago_ms=1), Did(ago_ms=15 * DAY_MS - 61_001)])
    asked = question(granularity=granularity, until_ms=UNTIL_MS + 1)
    begins = {
        "minute": ["2027-01-15 08:00:00", "2027-01-15 07:59:00", "2026-12-31 08:01:00"],
        "hour": ["2027-01-15 08:00:00", "2027-01-15 07:00:00", "2026-12-31 08:00:00"],
        "day": ["2027-01-15", "2026-12-31"],
        "week": ["2027-01-11", "2026-12-28"],
        "month": ["2027-01-01", "2026-12-01"],
    }[granularity]
    found = answer(either_engine, asked)

    assert [row[f"date__{granularity}"] for row in found] == begins
    assert sum(row["request_count"] for row in found) == 3


def test_nobody_sees_another_organisation(either_engine: sa.Engine) -> None:
    """No dimension and no filter, not even one that names a foreign id, brings a foreign row."""
    settle(either_engine, [Did(organization_id=OTHER, key=1, more={"session_id": "theirs", "app": "theirs"})])
    foreign = {"api_key_id": f"{OTHER}-key-1", "user": f"{OTHER}-member-1", "workspace": f"{OTHER}-workspace-1"}
    for name in DIMENSIONS:
        value = foreign.get(name, "theirs")
        for one in ((), (Filter(name, "eq", (value,)),), (Filter(name, "neq", ("x' OR 1=1 --",)),)):
            assert answer(either_engine, question(dimensions=(name,), filters=one)) == []
    seen = ask(
        either_engine, ORG, question(filters=(Filter("user", "in", (f"{OTHER}-member-1",)),)), ManualClock(NOW_S)
    )

    assert seen.rows == [{"request_count": 0}]
    assert seen.warnings == [f"user '{OTHER}-member-1' is not known here; it fits no row"]


def test_names_stand_where_ids_were(engine: sa.Engine) -> None:
    """Keys, members and workspaces are shown by name, with the id that filters take beside it."""
    settle(engine, [Did(key=1), Did(key=0)])
    (mine, nobodys) = answer(engine, question(dimensions=("user", "api_key_id")))
    (place, _) = answer(engine, question(dimensions=("workspace",), order_by=Order("workspace")))

    assert mine == {
        "user": "Member 1", "user_id": f"{ORG}-member-1", "user_email": f"1@{ORG}.example", "request_count": 1,
        "api_key_id": "key 1", "api_key_hash": f"{ORG}-key-1",
    }  # fmt: skip
    assert (nobodys["user"], nobodys["user_id"], nobodys["user_email"]) == (None, None, None)
    assert (place["workspace"], place["workspace_id"]) == ("Place 0", f"{ORG}-workspace-0")


def test_rows_without_a_value_are_asked_for(either_engine: sa.Engine) -> None:
    """They meet no condition; include_unset adds them."""
    settle(either_engine, [Did(provider=None), Did(provider="bedrock"), Did(provider="anthropic")])

    def count(*values: str, unset: bool = False, operator: str = "in") -> int:
        one = Filter("provider", operator, values, unset)
        return answer(either_engine, question(filters=(one,)))[0]["request_count"]

    assert count("bedrock") == 1
    assert count("bedrock", unset=True) == 2
    assert count("bedrock", operator="not_in") == 1
    assert count("bedrock", operator="not_in", unset=True) == 2
    assert count("bedrock", operator="neq") == 1


def test_limits_cut_and_say_so(either_engine: sa.Engine) -> None:
    """`limit` cuts all rows, `group_limit` those of each combination of dimensions, in the order that was asked for."""
    crowd = [Did(ago_ms=day * DAY_MS + 1, model=name, cost_nusd=day) for day in range(5) for name in MODELS]
    settle(either_engine, crowd)
    asked = question("credits_usage", dimensions=("model",), granularity="day", order_by=Order("credits_usage", True))
    all_rows = answer(either_engine, asked)
    cut = ask(either_engine, ORG, replace(asked, limit=3), ManualClock(NOW_S))
    each = answer(either_engine, replace(asked, group_limit=1))

    assert len(all_rows) == 10
    assert (cut.rows, cut.truncated) == (all_rows[:3], True)
    assert [(row["model"], row["credits_usage_nusd"]) for row in each] == [(MODELS[1], 4), (MODELS[0], 4)]


def test_what_is_not_measured_says_so(engine: sa.Engine) -> None:
    """Counts of things that we do not have are 0, other figures null, with a warning each."""
    settle(engine, [Did()])
    asked = question("response_cached_count", "guardrail_invoked_rate", "usage_web", "usage_upstream")
    seen = ask(engine, ORG, asked, ManualClock(NOW_S))

    assert seen.rows == [
        {
            "response_cached_count": 0,
            "guardrail_invoked_rate": None,
            "usage_web_nusd": None,
            "usage_upstream_nusd": 1_007,
        }
    ]
    assert len(seen.warnings) == 3


def test_no_requests_give_one_row_of_nothing(either_engine: sa.Engine) -> None:
    """Totals are 0, shares and times null; with a dimension there is no row."""
    asked = question("request_count", "credits_usage", "failure_rate", "p99_latency", "avg_throughput", "usage_cache")

    assert answer(either_engine, asked) == [
        {
            "request_count": 0, "credits_usage_nusd": 0, "failure_rate": None, "p99_latency": None,
            "avg_throughput": None, "usage_cache_nusd": None,
        }
    ]  # fmt: skip
    assert answer(either_engine, replace(asked, dimensions=("model",))) == []


def test_the_usual_range_is_the_last_seven_days() -> None:
    """It ends with the hour that is running, so that roll-ups answer it."""
    since_ms, until_ms = usual_range_ms(NOW_S + 0.5)

    assert until_ms == (NOW_S + 3600) * 1000
    assert since_ms == until_ms - 7 * DAY_MS
    assert pieces(question(since_ms=since_ms, until_ms=until_ms), NOW_S + 0.5) == [Piece(True, since_ms, until_ms)]


class Hasty(ManualClock):
    """Each look takes a second."""

    def monotonic_s(self) -> float:
        self.advance(1)
        return super().monotonic_s()


def test_a_long_question_is_stopped(engine: sa.Engine) -> None:
    """At its limit the database stops, the error says so, and the connection serves the next question."""
    settle(engine, [someone(Random(number)) for number in range(3_000)])
    asked = question("p99_latency", dimensions=("generation_id",))
    with pytest.raises(TookTooLong):
        ask(engine, ORG, asked, Hasty(NOW_S), 0.5)

    assert len(answer(engine, replace(asked, limit=10_000))) > 1_000


def test_a_long_question_is_stopped_on_postgres(postgres_engine: sa.Engine) -> None:
    """PostgreSQL cancels the statement by itself, after a millisecond if so told, and serves the next question."""
    settle(postgres_engine, [someone(Random(number)) for number in range(3_000)])
    asked = question("p99_latency", "p50_throughput", dimensions=("generation_id", "session_id"), limit=10_000)
    with pytest.raises(TookTooLong):
        ask(postgres_engine, ORG, asked, ManualClock(NOW_S), 0.001)

    assert len(answer(postgres_engine, asked)) > 1_000


@pytest.mark.parametrize("granularity", ["month", "week", "day", "hour", "minute"])
def test_the_last_year_of_the_calendar_is_no_time_to_ask_about(granularity: str) -> None:
    """The month after it is no date; the year before it has its months."""
    end_ms = 253_370_764_800_000
    asked = question(granularity=granularity, since_ms=end_ms - 20 * DAY_MS, until_ms=end_ms)
    check(asked)
    assert months(asked.since_ms // 1000, asked.until_ms // 1000) == [end_ms // 1000 - 31 * 86_400]
    with pytest.raises(BadRequest, match="9999"):
        check(replace(asked, until_ms=end_ms + 1))
