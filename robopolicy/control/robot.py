"""What the loop asks of a robot, simulated or real: stamped samples out, timed targets in, and a stop that works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.clock import Clock
from robopolicy.spec import Nanoseconds, RobotSpec


@dataclass(frozen=True)
class Sample:
    """One value of one stream, with the time it was captured (not read) and the device's own counter."""

    value: NDArray[Any]
    time_ns: Nanoseconds
    sequence: int


Observation = Mapping[str, Sample]


class StopReason(Enum):
    """Why a robot was told to hold."""

    REQUESTED = "requested"
    EMERGENCY = "emergency"
    STALE_OBSERVATION = "stale observation"
    MISSED_DEADLINES = "missed deadlines"
    BAD_ACTION = "bad action"
    LIMIT = "limit"
    DEVICE_LOST = "device lost"
    DEVICE_REFUSED = "device refused"
    RECORDER = "recorder"
    ERROR = "error"


@dataclass(frozen=True)
class Outcome:
    """What the last tick led to, where somebody knows: a simulator, or a learned success classifier.

    Truncation by the horizon is the loop's word, not the robot's.
    """

    reward: float
    success: bool
    terminated: bool


class Robot(Protocol):
    """`start`, `recover` and `close` may block; nothing else does."""

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def clock(self) -> Clock: ...

    def start(self) -> None:
        """Connects, verifies identity and limits, warms up."""

    def observe(self) -> Observation:
        """The newest sample of every stream. Raises DeviceLostError when a device is gone."""

    def command(self, action: NDArray[np.float64], time_ns: Nanoseconds) -> None:
        """Reach `action` ([D], physical units) at `time_ns`. The loop sends the target of tick k+1 during tick k; the
        servo layer inside the robot does what lies between."""

    def outcome(self) -> Outcome | None:
        """What the time since the last command led to; None where nobody knows."""

    def stop(self, reason: StopReason) -> None:
        """Requests a safe hold and returns at once. Idempotent, from any thread, half-connected too; never raises."""

    def health(self) -> Mapping[str, object]:
        """State (running, holding, faulted), since when and why; ages and counters."""

    def recover(self) -> None:
        """After a stop or a fault, by a person only: nothing re-arms by itself."""

    def close(self) -> None: ...


@runtime_checkable
class SimulatedRobot(Robot, Protocol):
    """A robot whose world can be set up again from a seed and drawn."""

    def reset(self, seed: int) -> Observation:
        """A new episode that depends on `seed` alone, not on what happened before."""

    def render(self, camera: str) -> NDArray[np.uint8]:
        """[H, W, 3] RGB."""
