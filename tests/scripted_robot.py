"""A robot for tests of the loop: every call is logged, and a test decides what time, samples and faults it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.clock import Clock
from robopolicy.control.robot import Observation, Outcome, Sample, StopReason
from robopolicy.spec import ArraySpec, Part, RobotSpec

SCRIPTED_SPEC = RobotSpec(
    name="scripted",
    observations={
        "joints": ArraySpec((2,), "float64", (Part("joints", 2, "joint"),), "rad", max_age_s=0.25),
        "camera": ArraySpec((1,), "float64"),
    },
    action=ArraySpec((2,), "float64", (Part("joints", 2, "joint"),), "rad"),
    rate_hz=10.0,
)


class FakeWallClock:
    """Time that passes when somebody sleeps, and when a test says so."""

    def __init__(self, start_ns: int = 5_000_000_000) -> None:
        self.time_ns = start_ns
        self.deadlines: list[int] = []

    def now_ns(self) -> int:
        return self.time_ns

    def sleep_until(self, time_ns: int) -> None:
        self.deadlines.append(time_ns)
        self.time_ns = max(self.time_ns, time_ns)


class ScriptedRobot:
    """`observe` numbers its samples from 0; `before_observe(step)` may let time pass, raise or set attributes.

    Attributes:
        log: what was called, in order.
        age_ns, frozen: age and standstill of the samples.
        outcomes: what each tick leads to; None where the list ends or is None.
    """

    def __init__(self, clock: Clock, before_observe: Callable[[int], None] = lambda step: None) -> None:
        self.clock = clock
        self.before_observe = before_observe
        self.log: list[str] = []
        self.commands: list[tuple[NDArray[np.float64], int]] = []
        self.stops: list[StopReason] = []
        self.age_ns = 0
        self.frozen = False
        self.outcomes: list[Outcome] | None = None
        self._step = 0
        self._ticks = 0

    @property
    def spec(self) -> RobotSpec:
        return SCRIPTED_SPEC

    def start(self) -> None: ...

    def observe(self) -> Observation:
        self.before_observe(self._step)
        self.log.append(f"observe {self._step}")
        number = 0 if self.frozen else self._step
        time_ns = self.clock.now_ns() - self.age_ns
        self._step += 1
        return {
            "joints": Sample(np.full(2, float(number)), time_ns, number),
            "camera": Sample(np.zeros(1), 0, 7),
        }

    def command(self, action: NDArray[np.float64], time_ns: int) -> None:
        self.log.append(f"command {action[0]:g}")
        self.commands.append((action, time_ns))

    def outcome(self) -> Outcome | None:
        self.log.append("outcome")
        self._ticks += 1
        if self.outcomes is None or self._ticks > len(self.outcomes):
            return None
        return self.outcomes[self._ticks - 1]

    def stop(self, reason: StopReason) -> None:
        self.log.append("stop")
        self.stops.append(reason)

    def health(self) -> Mapping[str, object]:
        return {}

    def recover(self) -> None: ...

    def close(self) -> None: ...
