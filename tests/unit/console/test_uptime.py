"""The last day of providers: hours in their places, no verdict on too little, rate limits on neither side."""

from __future__ import annotations

import sqlalchemy as sa

from modelgates_server.console.uptime import HOUR_S, LastDay, last_days
from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, open_engine, transaction

NOW_S = 1_800_000_000 + 1234
THIS_HOUR_S = NOW_S // HOUR_S * HOUR_S
NAMES = ("provider", "hour_s", "attempts", "answered", "limited", "answer_ms")


def day(url: str, *rows: tuple[str, int, int, int, int, int], whose: str = "org-1") -> LastDay:
    """The day of the provider ``a``, with these rows in the table; hours are given as hours ago."""
    engine = open_engine(database_of(url))
    try:
        with transaction(engine) as connection:
            for provider, ago, *counts in rows:
                values = dict(zip(NAMES, (provider, THIS_HOUR_S - ago * HOUR_S, *counts), strict=True))
                connection.execute(sa.insert(schema.provider_hours).values(organization_id=whose, **values))
        return last_days(engine, "org-1", ["a"], NOW_S)["a"]
    finally:
        engine.dispose()


def test_a_provider_that_nobody_asked_has_an_empty_day(store_url: str) -> None:
    """Twenty-four bars without a verdict."""
    found = day(store_url)
    assert [bar.fill for bar in found.hours] == ["none"] * 24
    assert (found.attempts, found.up_permille, found.answer_ms) == (0, None, None)


def test_hours_stand_in_their_places(store_url: str) -> None:
    """This hour is the last bar, the one 23 hours ago the first; what is older, of others or of another provider is not there."""
    found = day(
        store_url, ("a", 0, 10, 10, 0, 1000), ("a", 23, 20, 18, 0, 9000), ("a", 24, 99, 0, 0, 0), ("b", 1, 50, 0, 0, 0)
    )
    foreign = day(store_url, ("a", 5, 7, 0, 0, 0), whose="org-2")
    assert [(place, bar.fill) for place, bar in enumerate(found.hours) if bar.attempts] == [(0, "warn"), (23, "good")]
    assert (found.attempts, found.up_permille, found.answer_ms) == (30, 933, 357)
    assert foreign == found


def test_rate_limits_are_neither_up_nor_down(store_url: str) -> None:
    """Ten attempts of which four were rate-limited and three failed: half of the six that count."""
    found = day(store_url, ("a", 1, 10, 3, 4, 300))
    assert (found.up_permille, found.limited, found.hours[22].fill) == (500, 4, "bad")


def test_a_handful_is_no_sample(store_url: str) -> None:
    """Four attempts say nothing, whatever came of them; neither do many that were all rate-limited."""
    found = day(store_url, ("a", 1, 4, 0, 0, 0), ("a", 2, 40, 0, 40, 0))
    assert (found.up_permille, [bar.fill for bar in found.hours[21:23]]) == (None, ["none", "none"])
