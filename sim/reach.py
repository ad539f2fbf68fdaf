"""Reach: a point-like effector goes around a round obstacle, on either side, to a goal straight behind it.

The smallest task that a policy of one mode cannot solve: start, obstacle and goal lie on the symmetry axis and the
demonstrations pass left or right at random, so their mean goes straight into the obstacle. A native MuJoCo model of two
slide joints, thousands of steps a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.clock import Clock
from robopolicy.control.robot import Observation, Outcome
from robopolicy.spec import ArraySpec, Nanoseconds, Part, RobotSpec
from sim.rendering import PlainRenderer
from sim.robot import SimRobot

Array = NDArray[np.float64]

RATE_HZ = 10.0
START_M = np.array([-0.2, 0.0])
START_JITTER_M = 0.01
GOAL_M = np.array([0.25, 0.0])
GOAL_TOLERANCE_M = 0.02
CONTACT_RADIUS_M = 0.095
"""Radius of the obstacle plus that of the effector."""
_WORKSPACE_M = 0.3
_MODEL_FILE = Path(__file__).parent / "assets" / "reach.xml"


def make_robot(image_size: int = 96, image_stream: bool = False, clock: Clock | None = None) -> SimRobot:
    """A reach robot; `image_size` is the side of a rendered image in px, `image_stream` makes it a stream too."""
    return SimRobot(ReachSimulation(image_size), clock, image_stream=image_stream)


class ReachSimulation:
    """Implements `sim.robot.Simulation`. Touching the obstacle ends the episode as a failure."""

    cameras = ("top",)
    default_camera = "top"

    def __init__(self, image_size: int = 96) -> None:
        self.spec = _spec()
        self._model = mujoco.MjModel.from_xml_path(str(_MODEL_FILE))
        self._data = mujoco.MjData(self._model)
        self.substep_ns: Nanoseconds = round(self._model.opt.timestep * 1e9)
        self.image_size = (image_size, image_size)
        self._renderer: PlainRenderer | None = None
        self.reset(0)

    def reset(self, seed: int) -> None:
        """The effector starts within 1 cm of the start point in each direction, at rest."""
        jitter = np.random.default_rng(seed).uniform(-START_JITTER_M, START_JITTER_M, size=2)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = START_M + jitter
        self._data.ctrl[:] = self._data.qpos
        mujoco.mj_forward(self._model, self._data)
        self._touched = False
        self._side = 0.0

    def observe(self) -> dict[str, NDArray[Any]]:
        return {"effector_position": self._data.qpos.astype(np.float32)}

    def set_target(self, action: Array) -> None:
        self._data.ctrl[:] = action

    def substep(self) -> None:
        mujoco.mj_step(self._model, self._data)
        self._touched = self._touched or self._data.ncon > 0
        if self._side == 0.0 and self._data.qpos[0] >= 0.0:
            self._side = float(np.sign(self._data.qpos[1]))

    def outcome(self) -> Outcome:
        """Reward 1 at the goal, else 0."""
        distance = float(np.linalg.norm(self._data.qpos - GOAL_M))
        success = distance < GOAL_TOLERANCE_M and not self._touched
        return Outcome(reward=float(success), success=success, terminated=success or self._touched)

    def details(self) -> dict[str, float]:
        """`side`: +1 when it passed the obstacle at positive y, -1 at negative y, 0 before; `touched`: 0 or 1."""
        return {"side": self._side, "touched": float(self._touched)}

    def render(self, camera: str = "top") -> NDArray[np.uint8]:
        if self._renderer is None:
            self._renderer = PlainRenderer(self._model, *self.image_size)
        return self._renderer.render(self._data, camera)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


class ReachExpert:
    """Follows a smooth path around a random side, with random clearance and pace.

    Args:
        simulation: whose rate it answers at.
        seed: decides every episode's path; episode i after construction has its own stream.
    """

    def __init__(self, simulation: ReachSimulation, seed: int) -> None:
        self._period_ns = simulation.spec.period_ns
        self._seed = seed
        self._episode = -1
        self.reset()

    def reset(self) -> None:
        self._episode += 1
        self._targets: Array | None = None
        self._start_ns: Nanoseconds = 0

    def act(self, history: Sequence[Observation], now_ns: Nanoseconds) -> Chunk:
        if self._targets is None:
            start = np.asarray(history[-1]["effector_position"].value, dtype=np.float64)
            self._targets = _path(start, np.random.default_rng([self._seed, self._episode]))
            self._start_ns = now_ns
        step = (now_ns - self._start_ns) // self._period_ns
        target = self._targets[min(step, len(self._targets) - 1)]
        return chunk_from(target[None], now_ns, self._period_ns, "script")


def _path(start: Array, random: np.random.Generator) -> Array:
    """Targets [T, 2] from `start` past a random side of the obstacle to the goal, at rest at both ends."""
    side = random.choice([-1.0, 1.0])
    beside = np.array([random.uniform(-0.03, 0.03), side * (CONTACT_RADIUS_M + random.uniform(0.035, 0.065))])
    steps = int(random.integers(24, 33))
    spline = CubicSpline([0.0, 0.5, 1.0], np.stack([start, beside, GOAL_M]), bc_type="clamped")
    return np.asarray(spline(np.arange(1, steps + 1) / steps))


def _spec() -> RobotSpec:
    position = (Part("position", 2, "position"),)
    limit = (_WORKSPACE_M, _WORKSPACE_M)
    observation = ArraySpec((2,), parts=position, unit="m", frame="world")
    action = ArraySpec((2,), parts=position, unit="m", frame="world", low=tuple(-x for x in limit), high=limit)
    return RobotSpec("reach", {"effector_position": observation}, action, RATE_HZ)
