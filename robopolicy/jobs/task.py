"""What the jobs make of a task's configuration: its simulated robot, what that observes, and how images are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from robopolicy.configuration import plain
from robopolicy.control.robot import SimulatedRobot
from robopolicy.errors import ConfigError
from robopolicy.evaluation.robots import started_robot
from robopolicy.spec import RobotSpec


def make_robot(task: Mapping[str, Any]) -> SimulatedRobot:
    """The robot of `task`, started. Raises ConfigError when it is no simulated one."""
    return started_robot(task["robot"], f"task '{task['name']}'")


def robot_spec(task: Mapping[str, Any]) -> RobotSpec:
    """What the robot of `task` observes and does."""
    robot = make_robot(task)
    try:
        return robot.spec
    finally:
        robot.close()


def codecs_of(config: DictConfig) -> dict[str, str] | None:
    """The key `codecs` of a configuration, stream to codec; None when it is not given. Raises ConfigError."""
    codecs = plain(config)["codecs"]
    if codecs is None:
        return None
    if not isinstance(codecs, dict) or not all(isinstance(codec, str) for codec in codecs.values()):
        raise ConfigError(f"codecs={codecs} is no choice of codecs, expected such as codecs={{image: jpeg:90}}")
    return {str(stream): codec for stream, codec in codecs.items()}
