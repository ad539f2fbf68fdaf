"""Lift: a Panda arm grasps a cube on a table and lifts it (robosuite's Lift, driven sub-step by sub-step).

The action is the absolute pose of the gripper in the world frame with a 6-D rotation, and whether to close it;
robosuite's operational-space control law tracks it at 500 Hz. The cube's start region is an option, so that
`lift_hard` is this task with other numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy import rotation
from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.clock import Clock
from robopolicy.control.robot import Observation, Outcome
from robopolicy.errors import ConfigError
from robopolicy.spec import ArraySpec, Nanoseconds, Part, RobotSpec
from sim.gl import user_choice_kept
from sim.osc import OperationalSpaceController
from sim.rendering import PlainRenderer
from sim.robot import SimRobot

with user_choice_kept():  # its import warns about optional parts and overwrites MUJOCO_GL
    logging.disable(logging.WARNING)
    import robosuite
    from robosuite.utils.log_utils import ROBOSUITE_DEFAULT_LOGGER
    from robosuite.utils.placement_samplers import UniformRandomSampler

    logging.disable(logging.NOTSET)
    ROBOSUITE_DEFAULT_LOGGER.setLevel(logging.ERROR)

Array = NDArray[np.float64]

RATE_HZ = 20.0
TABLE_M = np.array([0.0, 0.0, 0.8])
"""Centre of the table top in the world frame."""
OPEN, CLOSED = -1.0, 1.0
_LOW_M = (-0.3, -0.3, 0.81)
_HIGH_M = (0.3, 0.3, 1.2)
_MODEL_SEED = 0
"""robosuite draws the cube's size when the model is built: one cube for all episodes."""


def make_robot(
    half_width_m: float = 0.03,
    image_height: int = 84,
    image_width: int = 84,
    image_stream: bool = False,
    clock: Clock | None = None,
    beyond_m: float = 0.0,
) -> SimRobot:
    """A Lift robot whose cube starts within `half_width_m` of the table's centre in x and y, at any yaw.

    `image_stream` makes the rendered image a stream too. With `beyond_m` the cube starts that far outside its region.
    """
    simulation = LiftSimulation(half_width_m, image_height, image_width, beyond_m)
    return SimRobot(simulation, clock, image_stream=image_stream)


class LiftSimulation:
    """Implements `sim.robot.Simulation`. Success (reward 1, the end): the cube's centre 4 cm above the table."""

    cameras = ("agentview", "frontview", "birdview", "sideview", "robot0_eye_in_hand")
    default_camera = "agentview"

    def __init__(
        self, half_width_m: float = 0.03, image_height: int = 84, image_width: int = 84, beyond_m: float = 0.0
    ) -> None:
        if not beyond_m >= 0.0:
            raise ConfigError(
                f"task.robot.beyond_m is {beyond_m:g}, expected 0 or more: a smaller region is task.robot.half_width_m"
            )
        self.spec = _spec()
        self._half_width_m, self._beyond_m = half_width_m, beyond_m
        self._env = make_environment(half_width_m)
        self._model: mujoco.MjModel = self._env.sim.model._model
        self._data: mujoco.MjData = self._env.sim.data._data
        self.substep_ns: Nanoseconds = round(self._model.opt.timestep * 1e9)
        self._arm = self._env.robots[0]
        self.image_size = (image_height, image_width)
        self._renderer: PlainRenderer | None = None
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Arm (joint noise) and cube (position, yaw) start where `seed` puts them."""
        random = np.random.default_rng(seed)
        self._env.rng = random
        self._env.placement_initializer.rng = random
        self._env.reset()
        if self._beyond_m > 0.0:
            self._move_cube_outside()
        self._begin()

    def restore(self, state: ArrayLike) -> None:
        """Sets a recorded simulator state exactly: [1 + nq + nv] time, joint positions (as `joints` says), velocities.

        The recorded streams alone would not do: they have no joint angles of the arm.
        """
        values = np.asarray(state, dtype=np.float64)
        positions, velocities = self._data.qpos, self._data.qvel
        if values.shape != (1 + len(positions) + len(velocities),):
            raise ConfigError(
                f"a state of lift has {1 + len(positions) + len(velocities)} numbers, got an array of {values.shape}"
            )
        self.reset(0)
        positions[:], velocities[:] = values[1 : 1 + len(positions)], values[1 + len(positions) :]
        arm = self._arm.part_controllers["right"]
        arm.update_initial_joints(positions[arm.qpos_index])
        self._begin()

    def _move_cube_outside(self) -> None:
        """Along the ray from the table's centre to where the cube would start, to `beyond_m` outside the region."""
        cube = self._data.joint("cube_joint0").qpos
        offset = cube[:2] - TABLE_M[:2]
        cube[:2] = TABLE_M[:2] + offset * (self._half_width_m + self._beyond_m) / np.abs(offset).max()

    def _begin(self) -> None:
        """Everything that belongs to an episode, once its first state is set."""
        mujoco.mj_forward(self._model, self._data)
        self._controller = OperationalSpaceController(self._arm, self._model, self._data)
        self._site: int = self._arm.eef_site_id["right"]
        self._cube: int = self._env.cube_body_id
        self._fingers: list[int] = self._arm._ref_gripper_joint_pos_indexes["right"]
        self._gripper: float | None = None

    def observe(self) -> dict[str, NDArray[Any]]:
        mujoco.mj_kinematics(self._model, self._data)
        position, matrix = self._pose()
        pose = np.concatenate([position, rotation.from_matrix(matrix, "rotation_6d")])
        cube_matrix = self._data.xmat[self._cube].reshape(3, 3)
        return {
            "end_effector_pose": pose.astype(np.float32),
            "gripper": self._data.qpos[self._fingers].astype(np.float32),
            "cube_position": self._data.xpos[self._cube].astype(np.float32),
            "cube_rotation": rotation.from_matrix(cube_matrix, "rotation_6d").astype(np.float32),
        }

    def observe_at(self, positions: Array) -> dict[str, NDArray[Any]]:
        """Every stream as it would be with the joints at `positions` [nq]; the present state stays as it is."""
        present = self._data.qpos.copy()
        self._data.qpos[:] = positions
        try:
            return self.observe()
        finally:
            self._data.qpos[:] = present

    @property
    def joints(self) -> dict[str, tuple[slice, slice]]:
        """Each joint's place among the positions [nq] and among the velocities [nv] of a state."""
        model = self._model
        starts = [*model.jnt_qposadr.tolist(), model.nq], [*model.jnt_dofadr.tolist(), model.nv]
        return {
            model.joint(number).name: (slice(*starts[0][number : number + 2]), slice(*starts[1][number : number + 2]))
            for number in range(model.njnt)
        }

    def set_target(self, action: Array) -> None:
        self._controller.set_goal(action[:3].copy(), rotation.to_matrix(action[3:9], "rotation_6d"))
        self._gripper = float(action[9])

    def substep(self) -> None:
        mujoco.mj_step1(self._model, self._data)
        if self._gripper is not None:
            self._controller.move_gripper(self._gripper)
            self._gripper = None
        self._controller.apply()
        mujoco.mj_step2(self._model, self._data)

    def outcome(self) -> Outcome:
        """robosuite's own success check, on the present pose of the cube."""
        mujoco.mj_kinematics(self._model, self._data)
        success = bool(self._env._check_success())
        return Outcome(reward=float(success), success=success, terminated=success)

    def details(self) -> dict[str, float]:
        """`cube_height_m`: of the cube's centre above the table."""
        mujoco.mj_kinematics(self._model, self._data)
        return {"cube_height_m": float(self._data.xpos[self._cube][2] - TABLE_M[2])}

    def render(self, camera: str = default_camera) -> NDArray[np.uint8]:
        if self._renderer is None:
            self._renderer = PlainRenderer(self._model, *self.image_size, hide_collision_group=True)
        return self._renderer.render(self._data, camera)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _pose(self) -> tuple[Array, Array]:
        """Position [3] and rotation matrix [3, 3] of the grip site in the world."""
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()


def make_environment(half_width_m: float = 0.03, **more: Any) -> Any:
    """robosuite's Lift with a Panda and absolute OSC_POSE targets in the world frame; `more` goes to robosuite."""
    controller = robosuite.load_composite_controller_config(robot="Panda")
    controller["body_parts"]["right"] |= {"input_type": "absolute", "input_ref_frame": "world"}
    reach = (-half_width_m, half_width_m)
    placement = UniformRandomSampler(
        "cube_region",
        x_range=reach,
        y_range=reach,
        ensure_object_boundary_in_range=False,
        reference_pos=TABLE_M,
        z_offset=0.01,
    )
    options = {
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "use_object_obs": False,
        "renderer": "mujoco",
        "hard_reset": False,
        "ignore_done": True,
        "seed": _MODEL_SEED,
    }
    return robosuite.make(
        "Lift",
        robots="Panda",
        controller_configs=controller,
        placement_initializer=placement,
        control_freq=RATE_HZ,
        **(options | more),
    )


class LiftExpert:
    """Moves above the cube on a random approach, descends, closes, and lifts; looks only at the newest observation.

    Targets lead the present pose by a limited distance, so they move smoothly at any speed. Each episode draws its own
    speed, approach point, hover height and grasp offset, so that the data are not one trajectory.

    Args:
        simulation: whose rate it answers at.
        seed: decides every episode's approach; episode i after construction has its own stream.
    """

    def __init__(self, simulation: LiftSimulation, seed: int) -> None:
        self._period_ns = simulation.spec.period_ns
        self._seed = seed
        self._episode = -1
        self.reset()

    def reset(self) -> None:
        self._episode += 1
        random = np.random.default_rng([self._seed, self._episode])
        self._lead_m = random.uniform(0.03, 0.05)
        self._approach = np.array([*random.uniform(-0.04, 0.04, size=2), random.uniform(0.08, 0.14)])
        self._hover = np.array([0.0, 0.0, random.uniform(0.04, 0.07)])
        self._grasp = np.array([*random.uniform(-0.006, 0.006, size=2), random.uniform(-0.008, 0.004)])
        self._down = _downward(random.uniform(-0.1, 0.1))
        self._stage = 0
        self._width_m = np.inf
        self._closing = 0

    def act(self, history: Sequence[Observation], now_ns: Nanoseconds) -> Chunk:
        newest = {name: np.asarray(sample.value, dtype=np.float64) for name, sample in history[-1].items()}
        waypoint, gripper = self._waypoint(newest)
        action = self._towards(newest["end_effector_pose"], waypoint, gripper)
        return chunk_from(action[None], now_ns, self._period_ns, "script")

    def _waypoint(self, seen: dict[str, Array]) -> tuple[Array, float]:
        """Where to go next [3] and what the gripper does, after moving on from every waypoint that is reached."""
        cube, hand = seen["cube_position"], seen["end_effector_pose"][:3]
        path = ((self._approach, 0.03), (self._hover, 0.015), (self._grasp, 0.006))
        while self._stage < len(path) and np.linalg.norm(cube + path[self._stage][0] - hand) < path[self._stage][1]:
            self._stage += 1
        if self._stage < len(path):
            return cube + path[self._stage][0], OPEN
        if not self._holds(seen["gripper"]):
            return cube + self._grasp, CLOSED
        return np.array([*hand[:2], TABLE_M[2] + 0.25]), CLOSED

    def _holds(self, fingers: Array) -> bool:
        """True once closing fingers have stopped moving, and from then on."""
        width = float(fingers[0] - fingers[1])
        self._closing += 1
        if self._closing > 3 and abs(self._width_m - width) < 5e-4:
            self._closing = 10**6
        self._width_m = width
        return self._closing >= 10**6

    def _towards(self, pose: Array, waypoint: Array, gripper: float) -> Array:
        """The action [10] that leads `pose` [9] towards the waypoint by the limited distance and 0.1 rad."""
        step = waypoint - pose[:3]
        step *= min(1.0, self._lead_m / max(float(np.linalg.norm(step)), 1e-9))
        angle = rotation.angle_between(pose[3:], self._down, "rotation_6d")
        turned = rotation.interpolate(pose[3:], self._down, min(1.0, 0.1 / max(angle, 1e-9)), "rotation_6d")
        return np.concatenate([pose[:3] + step, turned, [gripper]])


def _downward(yaw: float) -> Array:
    """6-D rotation of a gripper that points down, turned by `yaw` (rad) from robosuite's start orientation."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([-sin, cos, 0.0, cos, sin, 0.0])


def _spec() -> RobotSpec:
    pose = (Part("position", 3, "position"), Part("rotation", 6, "rotation_6d"))
    observations = {
        "end_effector_pose": ArraySpec((9,), parts=pose, unit="m", frame="world"),
        "gripper": ArraySpec((2,), parts=(Part("fingers", 2, "gripper"),), unit="m"),
        "cube_position": ArraySpec((3,), parts=(Part("position", 3, "position"),), unit="m", frame="world"),
        "cube_rotation": ArraySpec((6,), parts=(Part("rotation", 6, "rotation_6d"),), frame="world"),
    }
    action = ArraySpec(
        (10,),
        parts=(*pose, Part("gripper", 1, "gripper", discrete=True)),
        unit="m",
        frame="world",
        low=(*_LOW_M, *(-1.0,) * 6, OPEN),
        high=(*_HIGH_M, *(1.0,) * 6, CLOSED),
    )
    return RobotSpec("lift", observations, action, RATE_HZ)
