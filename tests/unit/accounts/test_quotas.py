"""How often a key may ask."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from modelgates_server.accounts.quotas import AT_ONCE, KEYS_MAX, MINUTE_S, Quota, Quotas
from modelgates_server.errors import RateRefused


def asked(quotas: Quotas, now_s: float, key: str = "k", subject: str = "s") -> bool:
    try:
        with quotas.spend(Quota(subject, 3), key, now_s):
            return True
    except RateRefused:
        return False


def test_the_last_minute_counts() -> None:
    """Three in any sixty seconds; the refusal says when the first of them is a minute old."""
    quotas = Quotas()
    assert [asked(quotas, now_s) for now_s in (0, 10, 20, 59.9)] == [True, True, True, False]
    with pytest.raises(RateRefused) as refused, quotas.spend(Quota("s", 3), "k", 40):
        pass

    assert refused.value.retry_after_s == 21
    assert [asked(quotas, now_s) for now_s in (60, 61, 70)] == [True, False, True]


def test_keys_and_subjects_are_counted_apart() -> None:
    """What one key asks is nothing to another, nor to another subject."""
    quotas = Quotas()
    assert all(asked(quotas, 0, key, subject) for key in "ab" for subject in "xy" for _ in range(3))
    assert not asked(quotas, 0, "a", "x")


def test_what_runs_elsewhere_is_counted_too() -> None:
    """Two within a minute, then a refusal that says how long to wait; nobody else is refused, and the minute goes by."""
    quotas, quota = Quotas(), Quota("tests", 2)
    for now_s in (0.0, 30.0):
        quotas.count(quota, "ann", now_s)
    with pytest.raises(RateRefused) as refused:
        quotas.count(quota, "ann", 59.0)

    assert refused.value.retry_after_s == 2
    quotas.count(quota, "ben", 59.0)
    quotas.count(quota, "ann", 60.0)


def test_keys_of_long_ago_are_forgotten() -> None:
    """The number of counts is bounded by those who asked within a minute."""
    quotas = Quotas()
    for number in range(KEYS_MAX):
        asked(quotas, 0, str(number))
    asked(quotas, MINUTE_S + 1, "new")

    assert len(quotas._asked) == 1


def test_only_so_many_run_at_once() -> None:
    """Whoever finds all places taken is sent away after a short wait, and a place that is free again is given."""
    quotas, started, leave = Quotas(), [Event() for _ in range(AT_ONCE)], Event()

    def run(number: int) -> None:
        with quotas.spend(Quota("s", 1), str(number), 0):
            started[number].set()
            leave.wait(30)

    threads = [Thread(target=run, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    assert all(event.wait(30) for event in started)
    assert not asked(quotas, 0)
    leave.set()
    for thread in threads:
        thread.join()
    assert asked(quotas, 0)
