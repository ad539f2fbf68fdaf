"""A tiny simulated robot for tests: a point on a line with a noisy lag, a seeded start and a goal at zero."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.clock import SimClock
from robopolicy.control.robot import Observation, Outcome, Sample, StopReason
from robopolicy.errors import ConfigError, RenderingError
from robopolicy.spec import ArraySpec, Part, RobotSpec

POINT_SPEC = RobotSpec(
    name="point",
    observations={
        "position": ArraySpec((1,), "float64", (Part("x", 1, "position"),), "m"),
        "seed": ArraySpec((1,), "int64"),
    },
    action=ArraySpec((1,), "float64", (Part("x", 1, "position"),), "m", low=(-2.0,), high=(2.0,)),
    rate_hz=10.0,
)


class PointRobot:
    """Ends with success as soon as it is within 5 cm of zero."""

    def __init__(self) -> None:
        self.clock = SimClock(20_000_000, self._substep)
        self.commands: list[tuple[float, int]] = []
        self.closed = False
        self.reset(0)

    @property
    def spec(self) -> RobotSpec:
        return POINT_SPEC

    def start(self) -> None: ...

    def reset(self, seed: int) -> Observation:
        self._random = np.random.default_rng(seed)
        self._seed, self._ticks = seed, 0
        self._x = self._target = float(self._random.choice([-1, 1]) * self._random.uniform(0.5, 1.5))
        self._stopped: StopReason | None = None
        self.clock.restart()
        return self.observe()

    def observe(self) -> Observation:
        now_ns = self.clock.now_ns()
        values = {"position": np.array([self._x]), "seed": np.array([self._seed])}
        self._ticks += 1
        return MappingProxyType({key: Sample(value, now_ns, self._ticks) for key, value in values.items()})

    def command(self, action: NDArray[np.float64], time_ns: int) -> None:
        if self._stopped is None:
            self._target = float(action[0])

    def outcome(self) -> Outcome:
        near = abs(self._x) < 0.05
        return Outcome(float(np.exp(-abs(self._x))), near, near)

    def details(self) -> Mapping[str, float]:
        return {
            "distance": abs(self._x),
            "torch_imported": float("torch" in sys.modules),
            "threads": float(os.environ.get("OMP_NUM_THREADS", "0")),
            "process": float(os.getpid()),
        }

    def render(self, camera: str) -> NDArray[np.uint8]:
        if camera != "front":
            raise RenderingError(f"no camera '{camera}', there is ['front']")
        image = np.full((31, 64, 3), 230, dtype=np.uint8)
        column = int(np.clip(32 + self._x * 16, 2, 61))
        image[12:20, column - 2 : column + 3] = (200, 30, 30)
        return image

    def stop(self, reason: StopReason) -> None:
        self._stopped = reason

    def health(self) -> Mapping[str, object]:
        return {"state": "running" if self._stopped is None else "holding"}

    def recover(self) -> None:
        self._stopped = None

    def close(self) -> None:
        self.closed = True

    def _substep(self) -> None:
        self._x += 0.2 * (self._target - self._x) + 0.003 * self._random.normal()


class KilledRobot(PointRobot):
    """Its process dies like one that ran out of memory, in the first tick of seed 13."""

    def command(self, action: NDArray[np.float64], time_ns: int) -> None:
        if self._seed == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        super().command(action, time_ns)


class BrokenRobot(PointRobot):
    """Has a bug that seed 13 finds."""

    def command(self, action: NDArray[np.float64], time_ns: int) -> None:
        if self._seed == 13:
            raise ValueError("the physics exploded")
        super().command(action, time_ns)


class BlindRobot(PointRobot):
    """Its display goes away on the second picture."""

    _pictures = 0

    def render(self, camera: str) -> NDArray[np.uint8]:
        self._pictures += 1
        if self._pictures > 1:
            raise OSError("the display went away")
        return super().render(camera)


class ResizingRobot(PointRobot):
    """Its pictures change their size."""

    _pictures = 0

    def render(self, camera: str) -> NDArray[np.uint8]:
        self._pictures += 1
        return super().render(camera) if self._pictures < 3 else np.zeros((20, 20, 3), dtype=np.uint8)


class WrongFilmRobot(PointRobot):
    """Its pictures are none."""

    def render(self, camera: str) -> NDArray[np.uint8]:
        return None  # type: ignore[return-value]


def unbuildable_robot() -> PointRobot:
    raise ConfigError("controller 'joint' is unknown, expected 'pose'")
