"""Sessions: each once, the last active first, with totals over all that may be seen of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.activity.crowd import MODELS, NOW_S, ORG
from tests.unit.activity.test_logs import CLOCK, HURRIED, TIGHT, filters, fits, logs
from tests.unit.activity.written import Asked, forget, write

from modelgates_server.activity.logs_filter import FAILURES, LogFilter
from modelgates_server.activity.logs_guide import BOUNDS, Bounds
from modelgates_server.activity.sessions import SessionPage, page_sessions
from modelgates_server.errors import BadRequest

TOTALS = ("requests", "failures", "prompt_tokens", "output_tokens", "cost_nusd", "first_at_ms", "last_at_ms")


def page(
    engine: sa.Engine, wanted: LogFilter, cursor: str | None = None, limit: int = 2, bounds: Bounds = BOUNDS
) -> SessionPage:
    return page_sessions(engine, ORG, wanted, cursor, limit, CLOCK, bounds)


def naive(asked: list[Asked], wanted: LogFilter) -> list[tuple[str, tuple[int, ...], set[str]]]:
    """Every session with its totals and models, in the plainest way."""
    found: dict[str, list[Asked]] = {}
    for one in asked:
        if one.session_id is not None and fits(one, wanted):
            found.setdefault(one.session_id, []).append(one)
    order = sorted(found.items(), key=lambda entry: (max(one.at_ms for one in entry[1]), entry[0]), reverse=True)
    return [
        (
            name,
            (
                len(did), sum(one.outcome in FAILURES for one in did), sum(100 + one.cached for one in did),
                sum(one.output_tokens for one in did), sum(one.cost_nusd for one in did),
                min(one.at_ms for one in did), max(one.at_ms for one in did),
            ),
            {one.model for one in did},
        )
        for name, did in order
    ]  # fmt: skip


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    logs,
    filters,
    st.integers(1, 3),
    st.sampled_from((TIGHT, HURRIED, BOUNDS)),
    st.lists(st.sampled_from(("s-1", "s-2", "s-3", "s-4", "S", None)), min_size=50, max_size=50),
)
def test_every_session_comes_once_with_its_totals(
    either_engine: sa.Engine,
    asked: list[Asked],
    wanted: LogFilter,
    limit: int,
    bounds: Bounds,
    names: list[str | None],
) -> None:
    """Page after page: exactly the sessions of what fits, the last active first, with exact sums, under any bounds."""
    asked = [replace(one, session_id=name) for one, name in zip(asked, names, strict=False)]
    forget(either_engine)
    write(either_engine, asked)
    found = page(either_engine, wanted, None, limit, bounds)
    lines = list(found.lines)
    while found.older is not None:
        found = page(either_engine, wanted, found.older, limit, bounds)
        lines += found.lines
    told = [(line.session_id, tuple(getattr(line, name) for name in TOTALS), set(line.models)) for line in lines]

    # sessions of one moment come in the store's order of text
    assert sorted(told, key=lambda one: one[0]) == sorted(naive(asked, wanted), key=lambda one: one[0])
    assert [one[1][-1] for one in told] == [one[1][-1] for one in naive(asked, wanted)]


def test_a_session_of_several_people_shows_a_member_only_their_part(either_engine: sa.Engine) -> None:
    """Whoever may see only their own requests sees a shared session with only those in its totals."""
    write(
        either_engine,
        [
            Asked(key=1, member=0, session_id="s", cost_nusd=5),
            Asked(key=2, member=1, session_id="s", cost_nusd=7, number=1, model=MODELS[1]),
        ],
    )
    (mine,) = page(either_engine, LogFilter(only_member_id=f"{ORG}-member-0")).lines
    (whole,) = page(either_engine, LogFilter()).lines

    assert (mine.requests, mine.cost_nusd, mine.members, mine.models) == (1, 5, ("Member 0",), (MODELS[0],))
    assert (whole.requests, whole.cost_nusd, set(whole.members)) == (2, 12, {"Member 0", "Member 1"})


def test_a_search_that_read_enough_says_so(either_engine: sa.Engine) -> None:
    """Without any session the page is empty after a bounded search, and goes on from there."""
    write(either_engine, [Asked(at_ms=NOW_S * 1000 - number * 1_000, number=number) for number in range(40)])
    first = page(either_engine, LogFilter(), bounds=TIGHT)
    second = page(either_engine, LogFilter(), first.older, bounds=TIGHT)

    assert (first.lines, second.lines) == ((), ())
    assert first.searched_ms > second.searched_ms


@pytest.mark.parametrize("cursor", ["x", "1", "1" * 30 + ".a", "-1.a", "\u0661.a", "1." + "a" * 600])
def test_cursors_that_nobody_gave_are_refused(engine: sa.Engine, cursor: str) -> None:
    """Anything but a cursor of a page is a bad request."""
    with pytest.raises(BadRequest, match="cursor"):
        page(engine, LogFilter(), cursor)


def test_a_page_goes_back_in_time_and_looks_sessions_up(engine: sa.Engine) -> None:
    """SQLite finds sessions by the time of their requests, never by going through all sessions that there ever were."""
    seen: list[str] = []
    write(engine, [Asked(session_id="s")])

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection, _cursor, statement, parameters, *_: object) -> None:
        if "FROM generations" in statement and "session_id" in statement:
            plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            seen.append(" / ".join(row[3] for row in plan))

    page(engine, LogFilter())
    walked, *looked_up = seen

    assert "SEARCH generations USING INDEX generations_organization_time" in walked
    assert "generations_session (organization_id=? AND session_id=? AND created_at_ms>?)" in walked
    assert looked_up != []
    assert all("generations_session (organization_id=? AND session_id=?" in one for one in looked_up)
