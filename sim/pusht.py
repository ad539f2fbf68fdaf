"""Push-T: a finger pushes a T-shaped block into its goal pose (gym-pusht's physics, driven sub-step by sub-step).

The observation has the 9 block keypoints of the public human demonstrations (Chi et al., arXiv 2303.04137), computed
from the block pose by `keypoints_from_pose` for recorded data and simulator alike. There is no scripted expert: the
demonstrations are human.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from shapely.affinity import affine_transform
from shapely.geometry import MultiPolygon, Polygon

from robopolicy.control.clock import Clock
from robopolicy.control.robot import Outcome
from robopolicy.spec import ArraySpec, Nanoseconds, Part, RobotSpec
from sim.robot import SimRobot

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pymunk
    from gym_pusht.envs.pusht import PushTEnv

Array = NDArray[np.float64]

BOARD_PX = 512.0
RATE_HZ = 10.0
SUBSTEP_NS = 10_000_000
SUCCESS_COVERAGE = 0.95
_TURN = 2.0 * np.pi

_KEYPOINTS_IN_BLOCK = np.array(
    [
        [9.26975, 90.04103],
        [-60.98344, -1.18673],
        [60.91278, -1.39328],
        [-0.27049, 25.54367],
        [-14.06498, 122.81589],
        [39.00274, 32.85748],
        [-39.96641, 32.72967],
        [-16.82436, 62.86321],
        [23.54149, -1.70022],
    ]
)
"""[9, 2] px, least squares over the public demonstrations: points that their authors drew on the T once."""


def make_robot(image_size: int = 96, image_stream: bool = False, clock: Clock | None = None) -> SimRobot:
    """A Push-T robot; `image_size` is the side of a rendered image in px, `image_stream` makes it a stream too."""
    return SimRobot(PushTSimulation(image_size), clock, image_stream=image_stream)


def keypoints_from_pose(block_pose: ArrayLike) -> Array:
    """Block poses [..., 3] (x, y in px, angle in rad) to keypoints [..., 9, 2] in px."""
    pose = np.asarray(block_pose, dtype=np.float64)
    cos, sin = np.cos(pose[..., 2, None]), np.sin(pose[..., 2, None])
    x, y = _KEYPOINTS_IN_BLOCK.T
    turned = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    return np.asarray(pose[..., None, :2] + turned)


def recorded_keypoints(arrays: Mapping[str, NDArray[Any]]) -> Array:
    """Keypoints [N, 9, 2] of N rows of the public replay stores, from the block pose in their `state` [N, 5]."""
    return keypoints_from_pose(arrays["state"][:, 2:5])


class PushTSimulation:
    """Implements `sim.robot.Simulation`. The action is the finger's absolute target, which a PD loop tracks."""

    cameras = ("top",)
    default_camera = "top"
    substep_ns: Nanoseconds = SUBSTEP_NS

    def __init__(self, image_size: int = 96) -> None:
        self.spec = _spec()
        self.image_size = (image_size, image_size)
        self._env = PushTEnv(
            obs_type="state",
            render_mode="rgb_array",
            observation_width=image_size,
            observation_height=image_size,
        )
        self.reset(0)
        self._outline = _outline(self._env)
        x, y, angle = self._env.goal_pose
        self._goal = _placed(self._outline, x, y, angle)

    def reset(self, seed: int) -> None:
        """Finger and block start where gym-pusht's own `reset(seed)` puts them."""
        self._env.reset(seed=seed)
        self._begin()

    def restore(self, state: ArrayLike) -> None:
        """Sets a recorded state exactly and at rest: [5] finger x, y, block x, y in px, angle in rad.

        The angle comes first: turning a body turns it about its centre of gravity, which moves its origin.
        """
        values = [float(value) for value in np.asarray(state, dtype=np.float64)]
        self._env._setup()
        agent, block = self._env.agent, self._env.block
        block.angle = values[4]
        block.position = (values[2], values[3])
        agent.position = (values[0], values[1])
        for body in (agent, block):
            body.velocity = (0.0, 0.0)
            body.angular_velocity = 0.0
            self._env.space.reindex_shapes_for_body(body)
        self._begin()

    def observe(self) -> dict[str, NDArray[Any]]:
        block = self._env.block
        pose = np.array([*block.position, block.angle % _TURN])
        return {
            "agent_position": np.array(self._env.agent.position, dtype=np.float32),
            "keypoints": keypoints_from_pose(pose).reshape(18).astype(np.float32),
            "block_pose": pose.astype(np.float32),
        }

    def set_target(self, action: Array) -> None:
        self._env._last_action = action
        self._target = pymunk.Vec2d(float(action[0]), float(action[1]))

    def substep(self) -> None:
        env, agent = self._env, self._env.agent
        pull = (self._target - agent.position) * env.k_p
        agent.velocity += (pull - agent.velocity * env.k_v) * env.dt
        env.space.step(env.dt)

    def outcome(self) -> Outcome:
        """Reward: coverage of the goal over the coverage that counts as success, at most 1."""
        coverage = self._coverage()
        success = coverage > SUCCESS_COVERAGE
        return Outcome(reward=min(coverage / SUCCESS_COVERAGE, 1.0), success=success, terminated=success)

    def details(self) -> dict[str, float]:
        """`coverage`: share of the goal that the block covers, 0 to 1."""
        return {"coverage": self._coverage()}

    def render(self, camera: str = "top") -> NDArray[np.uint8]:
        """Drawn in software, without GL."""
        return np.asarray(self._env._render(), dtype=np.uint8)

    def close(self) -> None:
        self._env.close()

    def _begin(self) -> None:
        self._env._last_action = None
        self._target = self._env.agent.position

    def _coverage(self) -> float:
        """Share of the goal under the block. gym-pusht sums over a set, whose order changes the last bits."""
        (x, y), angle = self._env.block.position, self._env.block.angle
        return float(self._goal.intersection(_placed(self._outline, x, y, angle)).area / self._goal.area)


def _outline(env: Any) -> MultiPolygon:
    """The block's two bars in its own frame, in a fixed order."""
    bars = [Polygon(shape.get_vertices()) for shape in env.block.shapes]
    return MultiPolygon(sorted(bars, key=lambda bar: bar.bounds))


def _placed(outline: MultiPolygon, x: float, y: float, angle: float) -> MultiPolygon:
    cos, sin = np.cos(angle), np.sin(angle)
    return affine_transform(outline, [cos, -sin, sin, cos, x, y])


def _spec() -> RobotSpec:
    observations = {
        "agent_position": _pixels(Part("position", 2, "position")),
        "keypoints": _pixels(Part("keypoints", 18, "position")),
        "block_pose": _pixels(Part("position", 2, "position"), Part("angle", 1)),
    }
    action = replace(_pixels(Part("position", 2, "position")), low=(0.0, 0.0), high=(BOARD_PX, BOARD_PX))
    return RobotSpec("pusht", observations, action, RATE_HZ)


def _pixels(*parts: Part) -> ArraySpec:
    return ArraySpec((sum(part.size for part in parts),), parts=parts, unit="px", frame="board")
