"""Absolute deadlines do not drift; simulated time passes in whole sub-steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.control.clock import SimClock, WallClock


class Computer:
    """A monotonic clock on which reading costs 1 µs and a sleep lasts as asked plus `late_ns`."""

    def __init__(self, late_ns: int) -> None:
        self.time_ns = 10_000_000_000
        self.late_ns = late_ns
        self.sleeps: list[float] = []

    def read(self) -> int:
        self.time_ns += 1_000
        return self.time_ns

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time_ns += round(seconds * 1e9) + self.late_ns


@pytest.mark.parametrize("late_ns", [0, 60_000, 900_000])
def test_absolute_deadlines_do_not_drift(late_ns: int) -> None:
    """However late each sleep ends (under the 1 ms that is spun), 1,000 ticks end within one reading of their time."""
    computer = Computer(late_ns)
    clock = WallClock(computer.read, computer.sleep)
    start_ns = clock.now_ns()
    for tick in range(1, 1001):
        computer.time_ns += 2_000_000
        clock.sleep_until(start_ns + tick * 5_000_000)
        assert 0 <= computer.time_ns - (start_ns + tick * 5_000_000) <= 1_000


def test_a_sleep_that_ends_too_late_is_caught_up() -> None:
    computer = Computer(late_ns=3_000_000)
    clock = WallClock(computer.read, computer.sleep)
    start_ns = clock.now_ns()
    for tick in range(1, 101):
        clock.sleep_until(start_ns + tick * 10_000_000)
    assert computer.time_ns - (start_ns + 1_000_000_000) < 3_000_000


def test_a_passed_deadline_returns_at_once() -> None:
    computer = Computer(late_ns=0)
    WallClock(computer.read, computer.sleep).sleep_until(9_000_000_000)
    assert computer.sleeps == []


def test_the_last_millisecond_is_spun() -> None:
    computer = Computer(late_ns=0)
    clock = WallClock(computer.read, computer.sleep)
    clock.sleep_until(computer.time_ns + 900_000)
    assert computer.sleeps == []


def test_the_real_clock_reaches_its_deadline() -> None:
    clock = WallClock()
    deadline_ns = clock.now_ns() + 3_000_000
    clock.sleep_until(deadline_ns)
    assert clock.now_ns() >= deadline_ns


@given(substep_ns=st.integers(1, 10**7), deadlines=st.lists(st.integers(0, 10**9), max_size=5))
def test_simulated_time_is_a_whole_number_of_substeps(substep_ns: int, deadlines: list[int]) -> None:
    """The first sub-step at or after the latest deadline: never earlier, never a whole sub-step later."""
    substep_ns = max(substep_ns, max(deadlines, default=0) // 500 + 1)
    taken = 0

    def substep() -> None:
        nonlocal taken
        taken += 1

    clock = SimClock(substep_ns, substep)
    for deadline in deadlines:
        clock.sleep_until(deadline)
    latest = max(deadlines, default=0)
    assert clock.now_ns() == taken * substep_ns
    assert latest <= clock.now_ns() < latest + substep_ns


def test_the_physics_sees_the_time_before_its_substep() -> None:
    seen: list[int] = []
    clock = SimClock(20, lambda: seen.append(clock.now_ns()))
    clock.sleep_until(60)
    assert seen == [0, 20, 40]
    clock.restart()
    assert clock.now_ns() == 0


def test_a_substep_must_take_time() -> None:
    with pytest.raises(ValueError, match="substep_ns is 0"):
        SimClock(0, lambda: None)
