"""The log: each line once under any filter, in both directions, however little one page may read; and by the right index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.activity.crowd import MODELS, NOW_S, ORG, OTHER
from tests.unit.activity.written import Asked, forget, write

from modelgates_server.activity.generation import Attempt
from modelgates_server.activity.logs import LogLine, LogPage, page_logs
from modelgates_server.activity.logs_filter import OUTCOMES, LogFilter
from modelgates_server.activity.logs_guide import BOUNDS, Bounds
from modelgates_server.clock import ManualClock
from modelgates_server.errors import BadRequest
from modelgates_server.management.feedback import Feedback, give_feedback
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

CLOCK = ManualClock(NOW_S)
HOUR_MS = 3_600_000
APPS, FINISHES, USERS = ("desk", "cli"), ("end_turn", "max_tokens"), ("u-1", "u-2")
TIGHT = Bounds(rows_at_once=3, rows_max=7, stretches_max=3, sums_at_once=2, sums_max=4)
HURRIED = Bounds(rows_at_once=3, hurry_s=-1)
"""No time at all: one look a page."""

moments = st.builds(
    lambda hour, ms: (NOW_S * 1000 // HOUR_MS - hour) * HOUR_MS + ms,
    st.sampled_from((0, 1, 2, 3, 30, 31, 200, 2_000)),
    st.sampled_from((0, 1, 1, 2, 1_800_000, HOUR_MS - 1)),
)
requests = st.builds(
    Asked,
    at_ms=moments,
    key=st.integers(0, 3),
    member=st.sampled_from((None, 0, 1)),
    workspace=st.integers(0, 1),
    model=st.sampled_from(MODELS),
    provider=st.sampled_from(("anthropic", "bedrock", None)),
    outcome=st.sampled_from(OUTCOMES),
    finish_reason=st.sampled_from((None, *FINISHES)),
    cached=st.sampled_from((0, 0, 9)),
    streamed=st.booleans(),
    session_id=st.sampled_from((None, "s-1", "s-2")),
    external_user=st.sampled_from((None, *USERS)),
    app=st.sampled_from((None, *APPS)),
    organization_id=st.sampled_from((ORG, ORG, ORG, OTHER)),
)
logs = st.lists(requests, max_size=50).map(
    # a key belongs to one member and, for this test, to one place: what moves is tested below
    lambda found: [
        replace(one, number=number, member=(None, 0, 1, 1)[one.key], workspace=one.key % 2)
        for number, one in enumerate(found)
    ]
)


def some(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | st.none() | st.none() | values


filters = st.builds(
    LogFilter,
    only_member_id=some(st.sampled_from((f"{ORG}-member-0", f"{ORG}-member-1"))),
    model=some(st.sampled_from(MODELS)),
    provider=some(st.sampled_from(("anthropic", "bedrock"))),
    key_hash=some(st.sampled_from([f"{ORG}-key-{number}" for number in range(4)])),
    member_id=some(st.sampled_from((f"{ORG}-member-0", f"{ORG}-member-1"))),
    workspace_id=some(st.sampled_from((f"{ORG}-workspace-0", f"{ORG}-workspace-1"))),
    app=some(st.sampled_from(APPS)),
    outcome=some(st.sampled_from(OUTCOMES)),
    finish_reason=some(st.sampled_from(FINISHES)),
    cached=some(st.booleans()),
    streamed=some(st.booleans()),
    session_id=some(st.sampled_from(("s-1", "s-2"))),
    external_user=some(st.sampled_from(USERS)),
    since_ms=some(moments),
    until_ms=some(moments),
)


def fits(one: Asked, wanted: LogFilter) -> bool:
    """The filter in the plainest words."""
    equal = (
        (one.organization_id, ORG), (one.member_id, wanted.only_member_id), (one.model, wanted.model),
        (one.provider, wanted.provider), (one.key_hash, wanted.key_hash), (one.member_id, wanted.member_id),
        (one.workspace_id, wanted.workspace_id), (one.app, wanted.app), (one.outcome, wanted.outcome),
        (one.finish_reason, wanted.finish_reason), (one.cached > 0, wanted.cached), (one.streamed, wanted.streamed),
        (one.session_id, wanted.session_id), (one.external_user, wanted.external_user), (one.id, wanted.generation_id),
    )  # fmt: skip
    since_ms, until_ms = wanted.since_ms or 0, wanted.until_ms or 10**15
    return all(want is None or has == want for has, want in equal) and since_ms <= one.at_ms < until_ms


def page(
    engine: sa.Engine, wanted: LogFilter, cursor: str | None = None, limit: int = 3, bounds: Bounds = BOUNDS
) -> LogPage:
    return page_logs(engine, ORG, wanted, cursor, limit, CLOCK, bounds)


def walk(engine: sa.Engine, wanted: LogFilter, limit: int, bounds: Bounds) -> Iterator[LogPage]:
    """Page after page to the end."""
    found = page(engine, wanted, None, limit, bounds)
    yield found
    while found.older is not None:
        found = page(engine, wanted, found.older, limit, bounds)
        yield found


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(logs, filters, st.integers(1, 5), st.sampled_from((TIGHT, HURRIED, BOUNDS)))
def test_every_fitting_line_comes_once(
    either_engine: sa.Engine, asked: list[Asked], wanted: LogFilter, limit: int, bounds: Bounds
) -> None:
    """Forward to the end and back again: exactly what fits, newest first, on every page at most as many as were asked for."""
    forget(either_engine)
    write(either_engine, asked)
    expected = [one.id for one in sorted(asked, key=lambda one: (one.at_ms, one.id), reverse=True) if fits(one, wanted)]
    pages = list(walk(either_engine, wanted, limit, bounds))
    back, found = [], pages[-1]
    while found.newer is not None:
        found = page(either_engine, wanted, found.newer, limit, bounds)
        back = [line.id for line in found.lines] + back
    first = len(expected) - len(pages[-1].lines)

    assert [line.id for found in pages for line in found.lines] == expected
    assert all(len(found.lines) <= limit for found in pages)
    assert pages[-1].searched_ms is None
    if pages[-1].lines:
        assert back == expected[:first]


def test_a_page_that_read_enough_says_how_far_it_came(either_engine: sa.Engine) -> None:
    """A filter that nothing meets gives an empty page with a time and a way on, not an endless search."""
    write(either_engine, [Asked(at_ms=NOW_S * 1000 - number * HOUR_MS, number=number) for number in range(30)])
    first = page(either_engine, LogFilter(external_user="nobody"), bounds=TIGHT)
    second = page(either_engine, LogFilter(external_user="nobody"), first.older, bounds=TIGHT)

    assert first.lines == ()
    assert first.searched_ms is not None
    assert second.searched_ms is not None
    assert second.searched_ms < first.searched_ms
    assert page(either_engine, LogFilter(external_user="nobody")) == LogPage((), None, None)


def test_a_page_on_a_slow_disk_reads_less(either_engine: sa.Engine) -> None:
    """When its time is over a page stops where it is, but never before it has read anything: turning pages comes to the end."""
    asked = [Asked(at_ms=NOW_S * 1000 - number * HOUR_MS, number=number) for number in range(30)]
    write(either_engine, asked)
    wanted, cursor, pages = LogFilter(external_user="nobody"), None, 0
    while pages < 30 and (pages == 0 or cursor is not None):
        found = page(either_engine, wanted, cursor, bounds=HURRIED)
        cursor, pages = found.older, pages + 1
        assert found.lines == ()
        assert (found.searched_ms is None) == (cursor is None)

    assert pages == 10


def test_hours_are_passed_over_where_nothing_fits(either_engine: sa.Engine) -> None:
    """One rare request among many is found within what one page may read: only its own hour is read."""
    many = [Asked(at_ms=NOW_S * 1000 - number * 60_000, number=number) for number in range(300)]
    rare = Asked(at_ms=NOW_S * 1000 - 400 * HOUR_MS, number=900, model=MODELS[1], app="desk", finish_reason="refusal")
    write(either_engine, [*many, rare])
    tight = Bounds(rows_at_once=5, rows_max=20)
    for wanted in (
        LogFilter(model=MODELS[1]), LogFilter(app="desk"), LogFilter(model=MODELS[1], finish_reason="refusal"),
    ):  # fmt: skip
        found = page(either_engine, wanted, limit=10, bounds=tight)
        assert ([line.id for line in found.lines], found.older) == ([rare.id], None)


def test_a_key_that_moved_is_found_in_both_places(either_engine: sa.Engine) -> None:
    """The hour keeps the place in which a key began it; its requests after the move are found all the same."""
    at_ms = NOW_S * 1000 // HOUR_MS * HOUR_MS
    write(either_engine, [Asked(at_ms, 2, workspace=0)])
    write(either_engine, [Asked(at_ms + 1, 2, workspace=1, number=1)])
    moved = sa.update(schema.api_keys).where(schema.api_keys.c.hash == f"{ORG}-key-2")
    with transaction(either_engine) as connection:
        connection.execute(moved.values(workspace_id=f"{ORG}-workspace-1"))
    for place, at in ((0, at_ms), (1, at_ms + 1)):
        found = page(either_engine, LogFilter(workspace_id=f"{ORG}-workspace-{place}"))
        assert [line.created_at_ms for line in found.lines] == [at]


def test_a_line_says_what_a_request_was(either_engine: sa.Engine) -> None:
    """Names of key and member, tokens, speed, tries, and whether somebody said something about it."""
    tries = (Attempt("anthropic", "m", 529, "overloaded", 100), Attempt("bedrock", "m", 200, None, 300))
    asked = Asked(
        key=1, member=1, cached=30, byok_nusd=5, attempts=tries, session_id="s", external_user="u", app="desk"
    )
    write(either_engine, [asked])
    with transaction(either_engine) as connection:
        connection.execute(sa.insert(schema.policy).values(id=1, version=1))
    give_feedback(either_engine, ORG, Feedback(asked.id, "latency"), "member:x", NOW_S)
    (line,) = page(either_engine, LogFilter(generation_id=asked.id)).lines

    assert line == LogLine(
        asked.id, asked.at_ms, MODELS[0], "anthropic", f"{ORG}-workspace-0", f"{ORG}-key-1", "key 1", "sk-…",
        f"{ORG}-member-1", "Member 1", "desk", "s", "u", 130, 20, 0, 30, 1_000, 5, False, 500, 2_000, 13, 2, True,
        "completed", "end_turn", True,
    )  # fmt: skip


def test_new_lines_come_when_going_newer(either_engine: sa.Engine) -> None:
    """Whoever stands at the newest line sees what came after it, and nothing twice."""
    write(either_engine, [Asked(at_ms=NOW_S * 1000 + number, number=number) for number in range(4)])
    older = page(either_engine, LogFilter(), page(either_engine, LogFilter(), limit=2).older, limit=2)
    write(either_engine, [Asked(at_ms=NOW_S * 1000 + 9, number=9)])
    newer = page(either_engine, LogFilter(), older.newer, limit=2)
    newest = page(either_engine, LogFilter(), newer.newer, limit=2)

    assert [line.created_at_ms - NOW_S * 1000 for line in newer.lines] == [3, 2]
    assert [line.created_at_ms - NOW_S * 1000 for line in newest.lines] == [9]
    assert newest.newer is None


@pytest.mark.parametrize(
    "cursor", ["x", "o1", "o1.a b", "o-1.a", "p1.a", "o" + "1" * 30 + ".a", "o1.é", "o1.'--", "o\u0661.a"]
)
def test_cursors_that_nobody_gave_are_refused(engine: sa.Engine, cursor: str) -> None:
    """Anything but a cursor of a page is a bad request."""
    with pytest.raises(BadRequest, match="cursor"):
        page(engine, LogFilter(), cursor)


def test_wildcards_and_sql_are_only_text(either_engine: sa.Engine) -> None:
    """What people type is compared, never understood."""
    write(either_engine, [Asked(app="desk", external_user="u", session_id="s")])
    for hostile in ("%", "_", "x' OR '1'='1", '"; DROP TABLE generations; --', "*"):
        for name in ("model", "provider", "app", "external_user", "session_id", "finish_reason", "generation_id"):
            assert page(either_engine, LogFilter(**{name: hostile})).lines == ()


def test_receipts_of_a_key_are_read_by_its_index(engine: sa.Engine) -> None:
    """SQLite takes the index that the walk means: the key's own, else the organisation's, never a scan."""
    seen: list[str] = []
    shown: list[str] = []
    write(engine, [Asked(key=1, member=1), Asked(number=1)])

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection, _cursor, statement, parameters, *_: object) -> None:
        if "SELECT generations.id" in statement:
            kept = seen if statement.startswith("SELECT generations.id \nFROM") else shown
            plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            kept.append(" / ".join(row[3] for row in plan))

    for wanted, index in (
        (LogFilter(), "generations_organization_time"),
        (LogFilter(key_hash=f"{ORG}-key-1", model=MODELS[0]), "generations_key_time"),
        (LogFilter(key_hash=f"{ORG}-key-1"), "generations_key_time"),
        (LogFilter(streamed=True), "generations_organization_time"),
        (LogFilter(session_id="s"), "generations_session"),
        (LogFilter(generation_id="gen"), "sqlite_autoindex_generations_1"),
    ):
        seen.clear()
        page(engine, wanted)
        assert [line for line in seen if f"SEARCH generations USING INDEX {index}" in line] == seen != [], wanted
    assert (
        [line for line in shown if "SEARCH generations USING INDEX sqlite_autoindex_generations_1" in line]
        == shown
        != []
    )
