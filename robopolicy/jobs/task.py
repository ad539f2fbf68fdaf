"""A task's configuration as a simulated robot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robopolicy.configuration import build
from robopolicy.control.robot import SimulatedRobot
from robopolicy.errors import ConfigError
from robopolicy.spec import RobotSpec


def make_robot(task: Mapping[str, Any]) -> SimulatedRobot:
    """The robot of `task`. Raises ConfigError when it is no simulated one."""
    robot = build(task["robot"])
    if not isinstance(robot, SimulatedRobot):
        raise ConfigError(f"task '{task['name']}' made a {type(robot).__name__}, expected a simulated robot")
    return robot


def robot_spec(task: Mapping[str, Any]) -> RobotSpec:
    """What the robot of `task` observes and does."""
    robot = make_robot(task)
    try:
        return robot.spec
    finally:
        robot.close()
