"""From a configuration to a simulated robot that is ready for its first episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from robopolicy.configuration import build
from robopolicy.control.robot import SimulatedRobot
from robopolicy.errors import ConfigError


def started_robot(how: Mapping[str, Any] | Callable[[], SimulatedRobot], whose: str) -> SimulatedRobot:
    """A started robot from a configuration with a `_target_`, or from a function that makes one.

    Raises ConfigError, naming `whose` it was to be, when it is no simulated robot.
    """
    robot = how() if callable(how) else build(how)
    if not isinstance(robot, SimulatedRobot):
        raise ConfigError(f"{whose} made a {type(robot).__name__}, expected a simulated robot with reset and render")
    try:
        robot.start()
    except BaseException:
        robot.close()
        raise
    return robot
