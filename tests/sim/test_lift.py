"""Lift: robosuite's own step to 1e-6, seeds decide everything, the expert lifts the cube."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from robopolicy import rotation
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import EpisodeSummary, episode, run_episode
from robopolicy.errors import ConfigError
from robopolicy.spec import check_fits
from sim.lift import LiftExpert, LiftSimulation, make_environment, make_robot
from sim.robot import SimRobot

STEP_LIMITS = {"position": 0.12, "rotation": 0.3}


def simulation_of(robot: SimRobot) -> LiftSimulation:
    assert isinstance(robot.simulation, LiftSimulation)
    return robot.simulation


def expert_episode(robot: SimRobot, seed: int) -> EpisodeSummary:
    robot.reset(seed)
    expert = LiftExpert(simulation_of(robot), seed)
    action_filter = ActionFilter(robot.spec.action, STEP_LIMITS)
    return run_episode(episode(robot, max_steps=150, action_filter=action_filter), expert)


def state_bytes(robot: SimRobot) -> bytes:
    return b"".join(sample.value.tobytes() for sample in robot.observe().values())


@pytest.fixture(scope="module")
def robot() -> SimRobot:
    return make_robot()


def test_substeps_track_robosuites_own_step(robot: SimRobot) -> None:
    environment = make_environment()
    robot.reset(4)
    random = np.random.default_rng(4)
    environment.rng = environment.placement_initializer.rng = random
    environment.reset()
    expert = LiftExpert(simulation_of(robot), 4)
    for tick in range(45):
        action = expert.act([robot.observe()], robot.clock.now_ns()).actions[0]
        robot.command(action, 0)
        robot.clock.sleep_until((tick + 1) * robot.spec.period_ns)
        turn = rotation.convert(action[3:9], "rotation_6d", "rotation_vector")
        environment.step(np.concatenate([action[:3], turn, action[9:]]))
        environment.sim.forward()
        seen = robot.observe()
        np.testing.assert_allclose(
            seen["end_effector_pose"].value[:3], environment.sim.data.site_xpos[simulation_of(robot)._site], atol=1e-6
        )
        np.testing.assert_allclose(
            seen["cube_position"].value, environment.sim.data.body_xpos[environment.cube_body_id], atol=1e-6
        )
    assert robot.outcome().success == bool(environment._check_success())


def test_an_episode_is_the_same_bit_for_bit_whatever_happened_before(robot: SimRobot) -> None:
    expert_episode(robot, 1)
    expert_episode(robot, 2)
    first, last = expert_episode(robot, 7), state_bytes(robot)
    fresh = make_robot()
    assert expert_episode(fresh, 7) == first
    assert state_bytes(fresh) == last


def test_observing_and_asking_for_the_outcome_do_not_touch_the_physics(robot: SimRobot) -> None:
    def run(look: bool) -> bytes:
        robot.reset(3)
        for tick in range(1, 11):
            if look:
                robot.simulation.observe()
                robot.outcome()
                robot.details()
            robot.clock.sleep_until(tick * robot.spec.period_ns)
        return state_bytes(robot)

    assert run(look=True) == run(look=False)


def test_streams_have_the_shapes_and_types_of_the_spec(robot: SimRobot) -> None:
    observation = robot.reset(0)
    assert set(observation) == set(robot.spec.observations)
    for name, spec in robot.spec.observations.items():
        assert observation[name].value.shape == spec.shape
        assert observation[name].value.dtype == spec.dtype
    check_fits(robot.spec, make_robot(half_width_m=0.12).spec, who="lift", whom="lift_hard")


@pytest.mark.parametrize("half_width_m", [0.03, 0.12])
def test_cube_starts_all_over_its_region(half_width_m: float) -> None:
    wide = make_robot(half_width_m)
    cubes = np.array([wide.reset(seed)["cube_position"].value[:2] for seed in range(100)])
    assert np.abs(cubes).max() <= half_width_m + 1e-6
    assert np.all(cubes.std(axis=0) > 0.8 * half_width_m / np.sqrt(3))


def test_beyond_its_region_the_cube_starts_that_far_outside() -> None:
    outside = make_robot(0.2, beyond_m=0.05)
    centre = np.array([0.0, 0.0])
    cubes = np.array([outside.reset(seed)["cube_position"].value[:2] for seed in range(20)]) - centre
    np.testing.assert_allclose(np.abs(cubes).max(axis=1), 0.25, atol=1e-6)
    assert set(np.sign(cubes[:, 0])) == set(np.sign(cubes[:, 1])) == {-1.0, 1.0}


@pytest.mark.parametrize("beyond_m", [-0.05, float("nan")])
def test_a_cube_inside_its_region_is_no_cube_beyond_it(beyond_m: float) -> None:
    with pytest.raises(ConfigError, match=r"task\.robot\.beyond_m is .*, expected 0 or more"):
        make_robot(0.2, beyond_m=beyond_m)


def test_a_robot_that_gets_no_command_stays_where_it_is(robot: SimRobot) -> None:
    before = robot.reset(5)["end_effector_pose"].value
    robot.clock.sleep_until(20 * robot.spec.period_ns)
    after = robot.observe()["end_effector_pose"].value
    np.testing.assert_allclose(after, before, atol=2e-3)


def test_a_pose_target_is_reached_with_its_rotation(robot: SimRobot) -> None:
    start = robot.reset(0)["end_effector_pose"].value.astype(np.float64)
    turned = rotation.from_matrix(
        rotation.to_matrix([0.0, 0.0, 0.4], "rotation_vector") @ rotation.to_matrix(start[3:], "rotation_6d"),
        "rotation_6d",
    )
    target = np.concatenate([start[:3] + np.array([0.05, -0.05, 0.03]), turned, [-1.0]])
    for tick in range(1, 31):
        robot.command(target, 0)
        robot.clock.sleep_until(tick * robot.spec.period_ns)
    reached = robot.observe()["end_effector_pose"].value
    np.testing.assert_allclose(reached[:3], target[:3], atol=5e-3)
    assert rotation.angle_between(reached[3:], turned, "rotation_6d") < 0.02
    assert robot.observe()["gripper"].value[0] > 0.035


@pytest.mark.parametrize("seed", range(5))
def test_expert_lifts_the_cube_untouched_by_the_filter(robot: SimRobot, seed: int) -> None:
    summary = expert_episode(robot, seed)
    assert summary.success
    assert summary.rewards[-1] == 1.0
    assert sum(summary.rewards[:-1]) == 0.0
    assert 20 < summary.steps < 80
    assert summary.counters.get("limited", 0) == summary.counters.get("shortened", 0) == 0
    assert robot.details()["cube_height_m"] > 0.04


@pytest.mark.slow
@pytest.mark.parametrize("half_width_m", [0.03, 0.12])
def test_expert_succeeds_on_a_hundred_seeds(half_width_m: float) -> None:
    robot = make_robot(half_width_m)
    summaries = [expert_episode(robot, seed) for seed in range(100)]
    assert np.mean([summary.success for summary in summaries]) >= 0.97
    assert sum(s.counters.get("limited", 0) + s.counters.get("shortened", 0) for s in summaries) == 0


def test_importing_and_stepping_says_nothing() -> None:
    code = "from sim.lift import make_robot; r = make_robot(); r.reset(1); r.clock.sleep_until(10**8)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert (run.stdout, run.stderr) == ("", "")
