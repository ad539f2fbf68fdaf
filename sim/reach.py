"""Reach: a point-like effector goes around a round obstacle, on either side, to a goal straight behind it.

The smallest task that a policy of one mode cannot solve: start, obstacle and goal lie on the symmetry axis and the
demonstrations pass left or right at random, so their mean goes straight into the obstacle. With several goals one of
them is commanded in each episode, and only that one counts. A native MuJoCo model of two slide joints, thousands of
steps a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.clock import Clock
from robopolicy.control.robot import Observation, Outcome
from robopolicy.errors import ConfigError
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
GOAL_STREAM = "goal_effector_position"
_WORKSPACE_M = 0.3
_BLUNDER_STREAM = 1
"""Part of the key of the draws that decide about blunders, so that the path of an episode without one is the same."""
_MODEL_FILE = Path(__file__).parent / "assets" / "reach.xml"


def make_robot(
    image_size: int = 96,
    image_stream: bool = False,
    clock: Clock | None = None,
    goal_positions: Sequence[Sequence[float]] = (tuple(GOAL_M),),
) -> SimRobot:
    """A reach robot.

    Args:
        image_size: side of a rendered image in px.
        image_stream: makes that image a stream too.
        goal_positions: [n, 2] m. With several, the seed draws the one that counts, and the stream
            `goal_effector_position` [2] says which.
    """
    return SimRobot(ReachSimulation(image_size, goal_positions), clock, image_stream=image_stream)


class ReachSimulation:
    """Implements `sim.robot.Simulation`. Touching the obstacle, or reaching a goal that was not commanded, ends the
    episode as a failure. All goals look alike: a camera does not see which one is commanded."""

    cameras = ("top",)
    default_camera = "top"

    def __init__(self, image_size: int = 96, goal_positions: Sequence[Sequence[float]] = (tuple(GOAL_M),)) -> None:
        self.goals = _checked_goals(goal_positions)
        self.spec = _spec(offers_goal=len(self.goals) > 1)
        self._model = _model(self.goals)
        self._data = mujoco.MjData(self._model)
        self.substep_ns: Nanoseconds = round(self._model.opt.timestep * 1e9)
        self.image_size = (image_size, image_size)
        self._renderer: PlainRenderer | None = None
        self.reset(0)

    def reset(self, seed: int) -> None:
        """The effector starts within 1 cm of the start point in each direction, at rest."""
        random = np.random.default_rng(seed)
        jitter = random.uniform(-START_JITTER_M, START_JITTER_M, size=2)
        self._commanded = int(random.integers(len(self.goals)))
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = START_M + jitter
        self._data.ctrl[:] = self._data.qpos
        mujoco.mj_forward(self._model, self._data)
        self._touched = False
        self._side = 0.0

    def observe(self) -> dict[str, NDArray[Any]]:
        values = {"effector_position": self._data.qpos.astype(np.float32)}
        if GOAL_STREAM in self.spec.observations:
            values[GOAL_STREAM] = self.goal_m.astype(np.float32)
        return values

    def set_target(self, action: Array) -> None:
        self._data.ctrl[:] = action

    def substep(self) -> None:
        mujoco.mj_step(self._model, self._data)
        self._touched = self._touched or self._data.ncon > 0
        if self._side == 0.0 and self._data.qpos[0] >= 0.0:
            self._side = float(np.sign(self._data.qpos[1]))

    def outcome(self) -> Outcome:
        """Reward 1 at the commanded goal, else 0."""
        reached = self._reached()
        success = reached == self._commanded and not self._touched
        return Outcome(reward=float(success), success=success, terminated=reached is not None or self._touched)

    def details(self) -> dict[str, float]:
        """`side`: +1 when it passed the obstacle at positive y, -1 at negative y, 0 before; `touched`: 0 or 1.

        With several goals also `goal`, the number of the commanded one, and `reached`, of the one it is at, else -1.
        """
        details = {"side": self._side, "touched": float(self._touched)}
        if len(self.goals) > 1:
            reached = self._reached()
            details |= {"goal": float(self._commanded), "reached": -1.0 if reached is None else float(reached)}
        return details

    def render(self, camera: str = "top") -> NDArray[np.uint8]:
        if self._renderer is None:
            self._renderer = PlainRenderer(self._model, *self.image_size)
        return self._renderer.render(self._data, camera)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    @property
    def goal_m(self) -> Array:
        """[2] the commanded goal."""
        return np.asarray(self.goals[self._commanded])

    def _reached(self) -> int | None:
        """The goal that the effector is at."""
        distances = [float(np.linalg.norm(self._data.qpos - goal)) for goal in self.goals]
        nearest = int(np.argmin(distances))
        return nearest if distances[nearest] < GOAL_TOLERANCE_M else None


class ReachExpert:
    """Follows a smooth path around a random side to the commanded goal, with random clearance and pace.

    Args:
        simulation: whose rate it answers at, and whose goal it goes to.
        seed: decides every episode's path; episode i after construction has its own stream.
        blunder_chance: share of episodes that go wrong: half of them pass the obstacle too closely and touch it, the
            others stop beside the goal. One in a hundred gets there all the same.
    """

    def __init__(self, simulation: ReachSimulation, seed: int, blunder_chance: float = 0.0) -> None:
        if not 0.0 <= blunder_chance <= 1.0:
            raise ConfigError(f"task.expert.blunder_chance is {blunder_chance:g}, expected 0 to 1")
        self._simulation = simulation
        self._blunder_chance = blunder_chance
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
            random = np.random.default_rng([self._seed, self._episode])
            self._targets = _path(start, self._simulation.goal_m, random, self._blunder())
            self._start_ns = now_ns
        step = (now_ns - self._start_ns) // self._period_ns
        target = self._targets[min(step, len(self._targets) - 1)]
        return chunk_from(target[None], now_ns, self._period_ns, "script")

    def _blunder(self) -> _Blunder:
        random = np.random.default_rng([self._seed, self._episode, _BLUNDER_STREAM])
        if random.uniform() >= self._blunder_chance:
            return _Blunder()
        if random.uniform() < 0.5:
            return _Blunder(nearer_m=random.uniform(0.06, 0.09))
        return _Blunder(short_m=random.uniform(0.0, 0.03), aside_m=random.uniform(0.035, 0.06))


@dataclass(frozen=True)
class _Blunder:
    """How far a path lies from a good one: nearer to the obstacle; its end before and beside the goal."""

    nearer_m: float = 0.0
    short_m: float = 0.0
    aside_m: float = 0.0


def _path(start: Array, goal: Array, random: np.random.Generator, blunder: _Blunder) -> Array:
    """Targets [T, 2] from `start` past a random side of the obstacle to `goal`, at rest at both ends."""
    side = random.choice([-1.0, 1.0])
    along, clearance = random.uniform(-0.03, 0.03), random.uniform(0.035, 0.065) - blunder.nearer_m
    beside = np.array([along, side * (CONTACT_RADIUS_M + clearance)])
    steps = int(random.integers(24, 33))
    end = goal + np.array([-blunder.short_m, side * blunder.aside_m])
    spline = CubicSpline([0.0, 0.5, 1.0], np.stack([start, beside, end]), bc_type="clamped")
    return np.asarray(spline(np.arange(1, steps + 1) / steps))


def _checked_goals(positions: Sequence[Sequence[float]]) -> Array:
    """[n, 2]. Raises ConfigError unless each goal lies in the workspace, off the obstacle and apart from the others."""
    goals = np.asarray(positions, dtype=np.float64)
    if goals.ndim != 2 or goals.shape[1] != 2 or len(goals) < 1:
        raise ConfigError(f"task.robot.goal_positions is {positions}, expected a list of [x, y] in m")
    between = [np.linalg.norm(a - b) for index, a in enumerate(goals) for b in goals[:index]]
    near = bool(np.any(np.linalg.norm(goals, axis=1) < CONTACT_RADIUS_M + GOAL_TOLERANCE_M))
    if near or np.any(np.abs(goals) > _WORKSPACE_M) or any(gap < 2 * GOAL_TOLERANCE_M for gap in between):
        raise ConfigError(
            f"task.robot.goal_positions is {goals.tolist()}, expected points at most {_WORKSPACE_M} m from zero in x "
            f"and y, off the obstacle and {2 * GOAL_TOLERANCE_M} m from each other"
        )
    return goals


def _model(goals: Array) -> mujoco.MjModel:
    """The model of the file with a disc at each goal."""
    spec = mujoco.MjSpec.from_file(str(_MODEL_FILE))
    disc = spec.geom("goal")
    disc.pos[:2] = goals[0]
    for number, goal in enumerate(goals[1:], start=1):
        more = spec.worldbody.add_geom(name=f"goal_{number}", type=disc.type, size=disc.size, rgba=disc.rgba)
        more.pos, more.contype, more.conaffinity = [*goal, disc.pos[2]], 0, 0
    return spec.compile()


def _spec(*, offers_goal: bool) -> RobotSpec:
    position = (Part("position", 2, "position"),)
    limit = (_WORKSPACE_M, _WORKSPACE_M)
    observation = ArraySpec((2,), parts=position, unit="m", frame="world")
    observations = {"effector_position": observation}
    if offers_goal:
        observations[GOAL_STREAM] = observation
    action = ArraySpec((2,), parts=position, unit="m", frame="world", low=tuple(-x for x in limit), high=limit)
    return RobotSpec("reach", observations, action, RATE_HZ)
