"""Robots for an evaluation: simulated, started, and closed again when they do not start."""

from __future__ import annotations

import pytest
from point_robot import PointRobot

from robopolicy.errors import ConfigError, DeviceLostError
from robopolicy.evaluation.robots import started_robot


class Starting(PointRobot):
    started = 0
    fails = False

    def start(self) -> None:
        self.started += 1
        if self.fails:
            raise DeviceLostError("nobody answers")


def test_a_robot_is_started_once() -> None:
    robot = started_robot(Starting, "the evaluation")
    assert isinstance(robot, Starting)
    assert robot.started == 1


def test_a_robot_that_does_not_start_is_closed() -> None:
    robot = Starting()
    robot.fails = True
    with pytest.raises(DeviceLostError, match="nobody answers"):
        started_robot(lambda: robot, "the evaluation")
    assert robot.closed


def test_what_is_no_simulated_robot_is_named() -> None:
    with pytest.raises(ConfigError, match="task 'x' made a EpisodeSummary, expected a simulated robot"):
        started_robot(
            {
                "_target_": "robopolicy.control.loop.EpisodeSummary",
                **dict.fromkeys(("steps", "stop", "stop_detail", "success", "terminated", "truncated"), 0),
                "rewards": [],
            },
            "task 'x'",
        )
