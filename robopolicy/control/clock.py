"""One clock for everything that a loop does, in int64 nanoseconds.

`WallClock` is the computer's monotonic clock with absolute deadlines; `SimClock` is the time of a simulation, which
passes only while somebody sleeps on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from robopolicy.spec import Nanoseconds

_SPIN_NS = 1_000_000


class Clock(Protocol):
    """Where `now` comes from and who makes it pass."""

    def now_ns(self) -> Nanoseconds: ...

    def sleep_until(self, time_ns: Nanoseconds) -> None:
        """Returns at the absolute time `time_ns`, at once when it has passed."""


class WallClock:
    """Monotonic time. Sleeps until 1 ms before the deadline, then spins: late by microseconds, not by a scheduler tick.

    `read` and `sleep` (seconds) are the system's own unless a test replaces them.
    """

    def __init__(
        self, read: Callable[[], Nanoseconds] = time.monotonic_ns, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._read = read
        self._sleep = sleep

    def now_ns(self) -> Nanoseconds:
        return self._read()

    def sleep_until(self, time_ns: Nanoseconds) -> None:
        while (left := time_ns - self._read()) > 0:
            if left > _SPIN_NS:
                self._sleep((left - _SPIN_NS) / 1e9)


class SimClock:
    """Simulated time: sleeping advances the physics in whole sub-steps of `substep_ns`.

    A deadline between two sub-steps is reached by the first sub-step at or after it.
    """

    def __init__(self, substep_ns: Nanoseconds, substep: Callable[[], None]) -> None:
        if substep_ns < 1:
            raise ValueError(f"substep_ns is {substep_ns}, expected at least 1")
        self.substep_ns = substep_ns
        self._substep = substep
        self._now_ns = 0

    def now_ns(self) -> Nanoseconds:
        return self._now_ns

    def sleep_until(self, time_ns: Nanoseconds) -> None:
        while self._now_ns < time_ns:
            self._substep()
            self._now_ns += self.substep_ns

    def restart(self) -> None:
        """Back to zero, for the next episode."""
        self._now_ns = 0
