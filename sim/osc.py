"""Operational-space control of robosuite's Panda without robosuite's Python around it, at more than twice the speed.

Critically damped springs pull the grip site to its goal; forces and torques are decoupled by the inertia that the site
feels (Khatib, 1987), and a null-space term keeps the joints near their start. The numbers (gains, gravity compensation,
actuator limits) are those of robosuite's own OSC_POSE controller, which a test compares step by step.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

Array = NDArray[np.float64]

_NULL_STIFFNESS = 10.0
_NULL_DAMPING = 2.0 * np.sqrt(_NULL_STIFFNESS)


class OperationalSpaceController:
    """Torques for one arm; made anew after every robosuite reset, which replaces the controller it takes over from.

    Args:
        robot: robosuite's fixed-base robot, just reset.
        model, data: the MuJoCo objects beneath it.
    """

    def __init__(self, robot: Any, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        arm = robot.part_controllers["right"]
        self._site = int(robot.eef_site_id["right"])
        self._joints, self._dofs = np.asarray(arm.qpos_index), np.asarray(arm.qvel_index)
        self._block = np.ix_(self._dofs, self._dofs)
        self._stiffness, self._damping = arm.kp.copy(), arm.kd.copy()
        self._rest = np.array(arm.initial_joint)
        self._motors = np.asarray(robot._ref_actuators_indexes_dict["right"])
        self._limits = model.actuator_ctrlrange[self._motors].T.copy()
        self._grip = robot.part_controllers["right_gripper"]
        self._fingers = robot.gripper["right"]
        self._finger_motors = np.asarray(robot._ref_actuators_indexes_dict["right_gripper"])
        self._jacobian = np.zeros((6, model.nv))
        self._inertia = np.zeros((model.nv, model.nv))
        self.set_goal(data.site_xpos[self._site].copy(), data.site_xmat[self._site].reshape(3, 3).copy())

    def set_goal(self, position: Array, matrix: Array) -> None:
        """World position [3] in m and rotation matrix [3, 3] of the grip site."""
        self._position, self._matrix = position, matrix

    def move_gripper(self, action: float) -> None:
        """One control tick of the gripper: -1 opens, +1 closes, a fifth of its way per tick."""
        self._grip.set_goal(self._fingers.format_action(np.array([action])))
        low, high = self._model.actuator_ctrlrange[self._finger_motors].T
        self._data.ctrl[self._finger_motors] = np.clip(self._grip.run_controller(), low, high)

    def apply(self) -> None:
        """Writes the arm's torques for the present state; between `mj_step1` and `mj_step2`."""
        torques = self._torques()
        self._data.ctrl[self._motors] = np.minimum(np.maximum(torques, self._limits[0]), self._limits[1])

    def _torques(self) -> Array:
        model, data = self._model, self._data
        mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self._site)
        mujoco.mj_fullM(model, self._inertia, data.qM)
        jacobian, inertia = self._jacobian[:, self._dofs], self._inertia[self._block]
        velocity = data.qvel[self._dofs]
        pull = self._stiffness * self._error() - self._damping * (self._jacobian @ data.qvel)

        spread = _solve(inertia, jacobian.T)
        mobility = jacobian @ spread
        wrench = np.concatenate([_solve(mobility[:3, :3], pull[:3]), _solve(mobility[3:, 3:], pull[3:])])
        posture = inertia @ (_NULL_STIFFNESS * (self._rest - data.qpos[self._joints]) - _NULL_DAMPING * velocity)
        posture -= jacobian.T @ _solve(mobility, spread.T @ posture)
        return np.asarray(jacobian.T @ wrench + data.qfrc_bias[self._dofs] + posture)

    def _error(self) -> Array:
        """[6] position error in m and rotation error (half the sum of the crossed axes, about rad) of the site."""
        position = self._position - self._data.site_xpos[self._site]
        now = self._data.site_xmat[self._site].reshape(3, 3)
        # sum over the three axes of (now x goal), read off the antisymmetric part of goal now^T
        turn = self._matrix @ now.T
        rotation = 0.5 * np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        return np.concatenate([position, rotation])


def _solve(matrix: Array, right: Array) -> Array:
    """The solution of a symmetric positive definite system; the shortest one when a stretched arm makes it singular."""
    _, solution, failed = dposv(matrix, right)
    return np.asarray(np.linalg.pinv(matrix) @ right if failed else solution)
