"""Who is out of service, until when and why: breaker, pauses, trials, figures and the retry budget. Time is a number."""

from __future__ import annotations

import pytest

from modelgates_server.routing.health import GOOD, Health, State
from modelgates_server.routing.verdict import VERDICTS, FaultClass

HERE, MODEL, OTHER = "bedrock", "anthropic/claude-opus-5.5", "anthropic/claude-haiku-4.5"
BAD = FaultClass.UPSTREAM


def health(spread: float = 0.5, **settings: float) -> Health:
    """Health whose pauses are exactly what the verdicts say, unless `spread` moves them."""
    return Health(lambda: spread, **settings)


def broken(at_s: float = 0.0) -> Health:
    """Health with an open breaker."""
    known = health()
    for _ in range(5):
        known.failed(HERE, MODEL, BAD, at_s)
    return known


def out_s(known: Health, now_s: float = 0.0, model: str = MODEL) -> float:
    """For how long a provider is out; 0 when it is in service."""
    condition = known.condition(HERE, model, now_s)
    return condition.until_s - now_s if condition.state is State.OUT else 0.0


# The breaker.


def test_five_failures_in_a_row_open_the_breaker() -> None:
    """The fifth closes the door for half a minute and says why; four do not."""
    known = health()
    for count in range(4):
        known.failed(HERE, MODEL, BAD, count)
    assert known.condition(HERE, MODEL, 4.0) == GOOD

    known.failed(HERE, MODEL, BAD, 4.0)
    assert out_s(known, 4.0) == 30.0
    assert known.condition(HERE, MODEL, 4.0).why == "5 failures in a row (upstream)"


def test_a_good_answer_begins_the_row_anew() -> None:
    """Four failures, an answer, four failures: nobody opens anything."""
    known = health()
    for at_s in range(9):
        if at_s == 4:
            known.completed(HERE, MODEL, None, at_s)
        else:
            known.failed(HERE, MODEL, BAD, at_s)

    assert known.condition(HERE, MODEL, 9.0) == GOOD


@pytest.mark.parametrize(("every_s", "state"), [(1.0, State.OUT), (5.0, State.OK)])
def test_a_provider_that_flaps_is_out_too(every_s: float, state: State) -> None:
    """Every other answer of ten in half a minute fails: out. The same in a longer time is bearable."""
    known = health()
    for number in range(10):
        if number % 2:
            known.failed(HERE, MODEL, BAD, number * every_s)
        else:
            known.completed(HERE, MODEL, None, number * every_s)

    assert known.condition(HERE, MODEL, 9 * every_s).state is state


def test_a_few_failures_among_many_answers_are_bearable() -> None:
    """One failure in three of the last half minute opens nothing, whatever the number; nor do unreachable moments."""
    known = health()
    for number in range(90):
        if number % 3:
            known.completed(HERE, MODEL, None, number / 10)
        else:
            known.failed(HERE, MODEL, (BAD, FaultClass.UNREACHABLE)[number % 2], number / 10)

    assert known.condition(HERE, MODEL, 9.0) == GOOD


def test_a_failed_trial_keeps_it_out_for_longer() -> None:
    """Half a minute, a minute, and so on up to five minutes; each trial that fails adds to it."""
    known, now_s, lasted = broken(), 0.0, []
    for _ in range(12):
        lasted.append(out_s(known, now_s))
        now_s += lasted[-1]
        assert known.condition(HERE, MODEL, now_s).state is State.TRIAL
        assert known.begin_trial(HERE, MODEL, now_s)
        known.failed(HERE, MODEL, BAD, now_s)

    assert lasted == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]


def test_a_failed_trial_after_flapping_keeps_it_out_too() -> None:
    """A breaker that opened by the rate of failures opens again after one failed trial, like any other."""
    known = health()
    for number in range(10):
        known.completed(HERE, MODEL, None, 0.0) if number % 2 == 0 else known.failed(HERE, MODEL, BAD, 0.0)
    assert known.begin_trial(HERE, MODEL, 30.0)

    known.failed(HERE, MODEL, BAD, 31.0)
    assert out_s(known, 31.0) == 60.0


def test_trials_go_one_at_a_time() -> None:
    """Who has the turn keeps it until it is known how it went: a black hole gets one victim, not one a second."""
    known = broken()
    assert known.condition(HERE, MODEL, 30.0).why == "on trial after 5 failures in a row (upstream)"
    assert [known.begin_trial(HERE, MODEL, now_s) for now_s in (30.0, 31.0, 149.0)] == [True, False, False]

    condition = known.condition(HERE, MODEL, 149.0)
    assert (condition.state, condition.why) == (State.OUT, "on trial by another request")
    known.end_trial(HERE, MODEL, 149.0)
    assert known.begin_trial(HERE, MODEL, 149.0)


def test_a_provider_that_is_out_is_tried_once_a_second() -> None:
    """Those that have nobody else may look whether it is back; a quick failure does not make room for the next at once."""
    known = broken()
    assert known.begin_trial(HERE, MODEL, 10.0)
    known.failed(HERE, MODEL, BAD, 10.1)

    assert [known.begin_trial(HERE, MODEL, now_s) for now_s in (10.2, 10.9, 11.0)] == [False, False, True]


def test_a_trial_that_proves_nothing_gives_the_turn_back() -> None:
    """The client's own mistake says nothing about the provider: the next one may try at once."""
    known = broken()
    assert known.begin_trial(HERE, MODEL, 30.0)
    known.failed(HERE, MODEL, FaultClass.CLIENT, 30.1)

    assert known.condition(HERE, MODEL, 30.1).state is State.TRIAL
    assert known.begin_trial(HERE, MODEL, 30.1)


def test_content_readmits_and_forgets() -> None:
    """The first content ends breaker and pauses; the next time begins with half a minute and ten seconds again."""
    known = broken()
    known.failed(HERE, MODEL, FaultClass.RATE_LIMIT, 0.0)
    known.failed(HERE, MODEL, FaultClass.ACCOUNT, 0.0)
    known.began(HERE, MODEL, 300.0, 1000.0)
    assert known.condition(HERE, MODEL, 1000.0) == GOOD
    assert list(known.out_of_service(1000.0)) == []

    known.failed(HERE, MODEL, FaultClass.RATE_LIMIT, 1000.0)
    assert out_s(known, 1000.0) == 10.0
    known.failed(HERE, MODEL, BAD, 1000.0)
    assert out_s(known, 1000.0) == 30.0


@pytest.mark.parametrize("kind", [kind for kind in FaultClass if not VERDICTS[kind].counts])
def test_what_does_not_count_opens_nothing(kind: FaultClass) -> None:
    """Twenty of the client's mistakes, or of pauses that are over, leave the breaker closed."""
    known = health()
    for _ in range(20):
        known.failed(HERE, MODEL, kind, 0.0)

    assert known.condition(HERE, MODEL, 2000.0) == GOOD


# Pauses.


@pytest.mark.parametrize(
    ("kind", "retry_after_s", "pause_s"),
    [
        (FaultClass.RATE_LIMIT, None, 10), (FaultClass.RATE_LIMIT, 42.0, 42), (FaultClass.RATE_LIMIT, 0.0, 0),
        (FaultClass.RATE_LIMIT, 600.0, 300), (FaultClass.RAMP, None, 30), (FaultClass.RAMP, 7.0, 7),
        (FaultClass.OVERLOADED, None, 5), (FaultClass.OVERLOADED, 20.0, 20), (FaultClass.QUOTA, 5.0, 60),
        (FaultClass.MISCONFIGURED, 1.0, 300), (FaultClass.ACCOUNT, None, 900), (FaultClass.REGION, None, 600),
        (FaultClass.ABSENT, None, 600), (FaultClass.NOT_OFFERED, None, 600), (FaultClass.UPSTREAM, 60.0, 0),
        (FaultClass.CLIENT, 60.0, 0), (FaultClass.CONTEXT, 60.0, 0), (FaultClass.CAPABILITY, 60.0, 0),
        (FaultClass.TOO_LARGE, 60.0, 0), (FaultClass.PORTABILITY, 60.0, 0), (FaultClass.CONFLICT, 60.0, 0),
    ],
)  # fmt: skip
def test_a_fault_pauses_as_its_verdict_says(kind: FaultClass, retry_after_s: float | None, pause_s: float) -> None:
    """By `retry-after` where that counts, else by the table, and never for the client's mistakes."""
    known = health()
    known.failed(HERE, MODEL, kind, 0.0, retry_after_s=retry_after_s)

    assert out_s(known) == pause_s


@pytest.mark.parametrize(
    ("kind", "pauses"),
    [
        (FaultClass.RATE_LIMIT, [10, 20, 40, 60, 60, 60]),
        (FaultClass.OVERLOADED, [5, 10, 20, 30]),
        (FaultClass.RAMP, [30, 30, 30]),
        (FaultClass.QUOTA, [60, 60]),
    ],
)
def test_pauses_grow_while_faults_go_on(kind: FaultClass, pauses: list[float]) -> None:
    """Each fault after the pause before it doubles the next, up to the class's most."""
    known, now_s, lasted = health(), 0.0, []
    for _ in pauses:
        known.failed(HERE, MODEL, kind, now_s)
        lasted.append(out_s(known, now_s))
        now_s += lasted[-1]

    assert lasted == pauses


def test_a_storm_of_refusals_is_one_refusal() -> None:
    """Fifty requests that were under way meet the same limit: one pause, not the longest."""
    known = health()
    for _ in range(50):
        known.failed(HERE, MODEL, FaultClass.RATE_LIMIT, 0.0)

    assert out_s(known) == 10.0


def test_a_shorter_pause_never_shortens_a_longer_one() -> None:
    """The deadline is the later of the old and the new, and keeps its reason (litellm#40130)."""
    known = health()
    known.failed(HERE, MODEL, FaultClass.RATE_LIMIT, 0.0, retry_after_s=200.0)
    known.failed(HERE, MODEL, FaultClass.OVERLOADED, 1.0, retry_after_s=3.0)
    assert known.condition(HERE, MODEL, 1.0) == (State.OUT, "rate_limit", 200.0)

    known.failed(HERE, MODEL, FaultClass.OVERLOADED, 2.0, retry_after_s=250.0)
    assert known.condition(HERE, MODEL, 2.0) == (State.OUT, "overloaded", 252.0)
    assert known.condition(HERE, MODEL, 252.0) == GOOD


def test_the_house_limits_what_providers_ask_for() -> None:
    """`cool_s_max` bounds a `retry-after`; pauses differ by a fifth either way so that processes do not march in step."""
    known = health(cool_s_max=60.0)
    known.failed(HERE, MODEL, FaultClass.RATE_LIMIT, 0.0, retry_after_s=200.0)
    assert out_s(known) == 60.0

    for spread, pause_s in ((0.0, 8.0), (1.0, 12.0)):
        known = health(spread)
        known.failed(HERE, MODEL, FaultClass.RATE_LIMIT, 0.0)
        assert out_s(known) == pytest.approx(pause_s)


@pytest.mark.parametrize("kind", [kind for kind in FaultClass if VERDICTS[kind].cool_s])
def test_only_accounts_and_keys_are_of_the_whole_provider(kind: FaultClass) -> None:
    """A rate limit or an absent model is of that model there; a refused key is of everything there, and of nobody else."""
    known = health()
    known.failed(HERE, MODEL, kind, 0.0)
    wide = kind in {FaultClass.MISCONFIGURED, FaultClass.ACCOUNT}

    assert out_s(known) > 0
    assert (out_s(known, model=OTHER) > 0) is wide
    assert known.condition("vertex", MODEL, 0.0) == GOOD
    assert [entry[:2] for entry in known.out_of_service(0.0)] == [(HERE, "" if wide else MODEL)]


def test_an_unreachable_provider_is_so_for_every_model() -> None:
    """Failures to connect add up over models, and one answer of any model proves them over."""
    known = health()
    for number in range(5):
        known.failed(HERE, (MODEL, OTHER)[number % 2], FaultClass.UNREACHABLE, 0.0)
    assert known.condition(HERE, "anthropic/never-asked", 0.0).why == "5 failures in a row (unreachable)"

    known.began(HERE, OTHER, 10.0, 40.0)
    assert known.condition(HERE, MODEL, 40.0) == GOOD


def test_the_worse_of_both_standings_counts() -> None:
    """The later deadline is told, be it the provider's or the model's."""
    known = health()
    known.failed(HERE, MODEL, FaultClass.MISCONFIGURED, 0.0)
    known.failed(HERE, MODEL, FaultClass.ABSENT, 0.0)

    assert known.condition(HERE, MODEL, 0.0) == (State.OUT, "absent", 600.0)
    assert known.condition(HERE, OTHER, 0.0) == (State.OUT, "misconfigured", 300.0)


# The retry budget.


def test_retries_are_a_fifth_of_the_requests_above_a_floor() -> None:
    """Three are there at once; then five requests earn one, each model its own."""
    known = health()
    assert [known.may_retry(MODEL) for _ in range(4)] == [True, True, True, False]

    for _ in range(50):
        known.asked(MODEL)
    assert sum(known.may_retry(MODEL) for _ in range(50)) == pytest.approx(10, abs=1)
    assert known.may_retry(OTHER)


def test_quiet_times_save_up_little() -> None:
    """A thousand requests without a failure do not pay for a storm of retries."""
    known = health()
    for _ in range(1000):
        known.asked(MODEL)

    assert sum(known.may_retry(MODEL) for _ in range(1000)) == 30


@pytest.mark.parametrize(
    ("kind", "doubtful"),
    [(BAD, True), (FaultClass.UNREACHABLE, True), (FaultClass.RATE_LIMIT, True), (FaultClass.CLIENT, False)],
)
def test_who_just_failed_is_doubtful(kind: FaultClass, *, doubtful: bool) -> None:
    """Trying a provider that failed just now costs a retry; after an answer it does not."""
    known = health()
    known.failed(HERE, MODEL, kind, 0.0)
    assert known.doubtful(HERE, MODEL, 1.0) is doubtful

    known.began(HERE, MODEL, 10.0, 2.0)
    known.completed(HERE, MODEL, None, 3.0)
    assert not known.doubtful(HERE, MODEL, 3.0)


# Figures.


def test_uptime_leaves_rate_limits_and_clients_out() -> None:
    """Nine answers and one failure are 90 %, however many 429s and 400s came between; windows look back as far as they say."""
    known = health()
    for number in range(9):
        known.completed(HERE, MODEL, None, number)
        known.failed(HERE, MODEL, FaultClass.RATE_LIMIT, number, retry_after_s=0.0)
        known.failed(HERE, MODEL, FaultClass.CLIENT, number)
    known.failed(HERE, MODEL, FaultClass.OVERLOADED, 9.0)

    names = ("uptime_last_5m", "uptime_last_30m", "uptime_last_1d")
    assert known.uptime(HERE, MODEL, 60.0) == dict.fromkeys(names, 90.0)
    assert known.uptime(HERE, MODEL, 600.0) == dict(zip(names, (None, 90.0, 90.0), strict=True))
    assert known.uptime(HERE, MODEL, 100_000.0) == dict.fromkeys(names)


def test_uptime_says_nothing_about_a_handful() -> None:
    """Four samples are no figure, the fifth makes one; a failure to connect counts for the model that was asked."""
    known = health()
    assert known.uptime(HERE, MODEL, 0.0)["uptime_last_5m"] is None
    for _ in range(4):
        known.failed(HERE, MODEL, FaultClass.UNREACHABLE, 0.0)
    assert known.uptime(HERE, MODEL, 0.0)["uptime_last_5m"] is None

    known.completed(HERE, MODEL, None, 0.0)
    assert known.uptime(HERE, MODEL, 0.0)["uptime_last_5m"] == 20.0


def test_percentiles_are_of_the_window() -> None:
    """Of latencies 1 to 101 ms the median is 51; what is older than the window does not count; nothing measured is None."""
    known = health()
    assert known.fitness(HERE, MODEL, 0.0) == (None, None)
    known.began(HERE, MODEL, 99_999.0, 0.0)
    for ms in range(1, 102):
        known.began(HERE, MODEL, ms, 1000.0)
    known.completed(HERE, MODEL, 80.0, 1001.0)
    known.completed(HERE, MODEL, None, 1001.0)

    fitness = known.fitness(HERE, MODEL, 1200.0, 300.0)
    assert fitness.latency_ms == {"p50": 51, "p75": 76, "p90": 91, "p99": 100}
    assert fitness.throughput == dict.fromkeys(("p50", "p75", "p90", "p99"), 80.0)
    assert known.fitness(HERE, MODEL, 2000.0, 300.0) == (None, None)
