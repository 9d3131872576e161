"""Days of activity: written with each settlement, and made good where a server of the version before left them out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random

import pytest
import sqlalchemy as sa
from tests.unit.activity.crowd import NOW_S, ORG, Did, settle, someone

from modelgates_server.activity.generation import LIMITED, SAYS_NOTHING, Attempt, Generation, rows
from modelgates_server.activity.rollups import DAYS, differing, mend
from modelgates_server.routing.verdict import VERDICTS, FaultClass
from modelgates_server.storage import books, schema
from modelgates_server.storage.engine import reading, transaction

NOW_DAY_S = NOW_S // 86_400 * 86_400


def problems(engine: sa.Engine) -> list[str]:
    """What `db check` says of the days."""
    with reading(engine) as connection:
        queries = [query for kind, query in books.sums(connection) if kind == "days"]
        return [text for query in queries for (text,) in connection.execute(sa.text(query))]


def test_days_that_were_left_out_are_made_good(either_engine: sa.Engine) -> None:
    """Some requests were settled by a server that writes days, some by one that does not; each receipt counts once."""
    random = Random(3)
    settle(either_engine, [someone(random, days=3) for _ in range(60)])
    settle(either_engine, [someone(random, days=3) for _ in range(60)], days=False)
    assert problems(either_engine)
    mended = mend(either_engine, NOW_S)

    assert len(mended) > 3
    assert problems(either_engine) == []
    assert mend(either_engine, NOW_S) == []


def test_a_day_that_says_too_much_is_put_right(either_engine: sa.Engine) -> None:
    """Adding the difference works both ways."""
    settle(either_engine, [Did(), Did(key=1)])
    days = schema.activity_days
    with transaction(either_engine) as connection:
        connection.execute(sa.update(days).values(requests=days.c.requests + 5, cost_nusd=days.c.cost_nusd + 9))
    mend(either_engine, NOW_S)

    assert problems(either_engine) == []


def test_two_processes_that_mend_at_once_add_it_once(either_engine: sa.Engine) -> None:
    """They take turns: the second finds that nothing lacks any more."""
    random = Random(4)
    settle(either_engine, [someone(random, days=2) for _ in range(200)], days=False)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(partial(mend, either_engine), [NOW_S] * 4))

    assert problems(either_engine) == []


def test_only_the_last_days_are_looked_at(either_engine: sa.Engine) -> None:
    """An hourly look must stay cheap however long the history is."""
    settle(either_engine, [Did(ago_ms=(DAYS + 2) * 86_400_000), Did(ago_ms=(DAYS - 2) * 86_400_000)], days=False)

    assert [day_s for _, day_s in mend(either_engine, NOW_S)] == [NOW_DAY_S - (DAYS - 2) * 86_400]


def test_a_sound_day_does_not_differ(either_engine: sa.Engine) -> None:
    """Hours and days that were written together agree, also where nobody answered or no app was named."""
    settle(either_engine, [Did(provider=None), Did(more={"app": "desk"}), Did(outcome="lost", byok_nusd=3)])
    with reading(either_engine) as connection:
        assert differing(connection, ORG, 0) == []


def attempts(outcome: str, *faults: str | None) -> list[tuple[str, int, int, int, int]]:
    """What attempts with these faults leave of their providers: name, attempts, answered, limited, milliseconds."""
    tried = tuple(Attempt(f"p{place}", "m", 0, fault, 100 + place) for place, fault in enumerate(faults))
    generation = Did(outcome=outcome).generation(1)
    made = rows(Generation(generation.origin, outcome, attempts=tried))
    names = ("provider", "attempts", "answered", "limited", "answer_ms")
    return [tuple(row[name] for name in names) for _, row in made if "attempts" in row and "answered" in row]


def test_every_attempt_counts_for_its_provider() -> None:
    """The one that failed although another made it good, the one that asked for patience, and the one that answered."""
    assert attempts("completed", "overloaded", "rate_limit", None) == [
        ("p0", 1, 0, 0, 0), ("p1", 1, 0, 1, 0), ("p2", 1, 1, 0, 102),
    ]  # fmt: skip


def test_an_answer_that_broke_off_is_none() -> None:
    """Its first content came, the rest did not."""
    assert attempts("broken", None) == [("p0", 1, 0, 0, 0)]


def test_what_a_caller_did_wrong_is_no_mark_against_a_provider() -> None:
    """Such attempts are left out, in both directions."""
    assert attempts("failed", "client", "context", None) == [("p2", 1, 1, 0, 102)]


@pytest.mark.parametrize("kind", FaultClass)
def test_faults_are_sorted_as_the_verdicts_sort_them(kind: FaultClass) -> None:
    """What counts against nobody and pauses nobody says nothing; what only pauses because of limits is a limit."""
    verdict = VERDICTS[kind]
    blameless = not verdict.counts and not verdict.cool_s

    assert (kind in SAYS_NOTHING) is blameless
    assert kind not in LIMITED or (verdict.cool_s > 0 and not verdict.counts)
