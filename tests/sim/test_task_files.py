"""Every task file builds its robot and its expert, and its numbers fit them."""

from __future__ import annotations

from typing import Any

import pytest

from robopolicy.configuration import build, load, plain
from robopolicy.control.filter import ActionFilter
from robopolicy.control.robot import SimulatedRobot
from robopolicy.dataset.goals import goals_from, with_goals

IMAGES = ("lift_image", "pusht_image", "reach_image")
NAMES = ("lift", "lift_hard", "pusht", "reach", "reach_goals", "reach_mixed", *IMAGES)


def task(name: str) -> dict[str, Any]:
    return plain(load("train", [f"task={name}"]).task)


@pytest.mark.parametrize("name", NAMES)
def test_builds_a_robot_that_fits_the_files_numbers(name: str) -> None:
    config = task(name)
    assert config["name"] == name
    robot = build(config["robot"])
    assert isinstance(robot, SimulatedRobot)
    assert set(config["observations"]) <= set(robot.spec.observations)
    assert robot.spec.select(config["observations"]).observations
    ActionFilter(robot.spec.action, config["step_limits"])
    horizon = config["horizon"]
    assert 1 <= horizon["execution"] <= horizon["prediction"]
    assert robot.spec.period_ns % robot.simulation.substep_ns == 0
    assert "mujoco" in build(config["versions"])


@pytest.mark.parametrize("name", ["lift", "lift_hard", "reach", "reach_goals", "reach_mixed"])
def test_builds_an_expert_that_answers(name: str) -> None:
    config = task(name)
    robot = build(config["robot"])
    expert = build(config["expert"], simulation=robot.simulation, seed=1)
    chunk = expert.act([robot.reset(0)], 0)
    assert chunk.actions.shape == (1, robot.spec.action.shape[0])
    assert chunk.source == "script"


def test_push_t_has_no_expert() -> None:
    assert task("pusht")["expert"] is None


def test_the_robot_offers_every_goal_as_its_source_is_described() -> None:
    config = task("reach_goals")
    spec = build(config["robot"]).spec
    goals = goals_from(config["goals"])
    wanted = with_goals(spec.select(config["observations"]), spec, goals)
    assert wanted.observations == {name: spec.observations[name] for name in ["effector_position", *goals]}


@pytest.mark.parametrize("name", IMAGES)
def test_a_camera_task_hides_what_the_camera_must_find(name: str) -> None:
    hidden = {"lift_image": "cube_position", "pusht_image": "keypoints", "reach_image": "effector_position"}[name]
    config = plain(load("train", [f"task={name}"]))
    assert "image" in config["task"]["observations"]
    assert hidden not in config["task"]["observations"]
    assert config["task"]["robot"]["image_stream"] is True
    assert config["policy"]["camera"]["_target_"] == "robopolicy.nets.vision.ResNetCamera"
