"""The store's time (reliability row 70): it never goes back, and does not believe a jump."""

from __future__ import annotations

import random

import pytest

from modelgates_server.clock import JUMP_S_MAX, SteadyClock
from modelgates_server.limits import Window


class Machine:
    """A machine whose wall clock may say anything; only the monotonic one is true."""

    def __init__(self) -> None:
        self.true_s = 0.0
        self.wall_s = 1_798_761_000.0

    def now_s(self) -> float:
        return self.wall_s

    def monotonic_s(self) -> float:
        return self.true_s


@pytest.mark.parametrize("jump_s", [-3_600.0, 40 * 86_400.0, -JUMP_S_MAX - 1, JUMP_S_MAX + 1])
def test_a_jump_is_not_followed(jump_s: float) -> None:
    """Time goes on as the monotonic clock says, whatever the wall clock was set to."""
    machine = Machine()
    clock = SteadyClock(machine)
    began_s = clock.now_s()
    machine.true_s += 10

    assert not clock.observe(machine.wall_s + 10 + jump_s)
    assert clock.now_s() == began_s + 10


def test_a_small_correction_backwards_stands_still_until_it_is_made_up() -> None:
    """A leap second, or a daemon that slews: no moment comes twice."""
    machine = Machine()
    clock = SteadyClock(machine)
    before_s = clock.now_s()

    assert clock.observe(before_s - 2)
    assert clock.now_s() == before_s
    machine.true_s += 1
    assert clock.now_s() == before_s
    machine.true_s += 2
    assert clock.now_s() == before_s + 1


def test_replicas_with_wrong_clocks_agree_on_the_day() -> None:
    """Told the store's time, a clock that is hours off and one that is right name the same window, at any moment."""
    dice = random.Random(19)
    for _ in range(1_000):
        store_s, machines = 1_798_761_540.0 + dice.random() * 120, (Machine(), Machine())
        clocks = []
        for machine in machines:
            machine.wall_s = store_s + dice.choice((0.0, -7_200.0, 3_000.0, 86_400.0))
            clocks.append(SteadyClock(machine, store_s))
            machine.true_s += 30
            machine.wall_s += dice.choice((30.0, -3_600.0, 40 * 86_400.0))
        windows = {Window.MONTH.bounds_s(clock.now_s()) for clock in clocks}

        assert windows == {Window.MONTH.bounds_s(store_s + 30)}
