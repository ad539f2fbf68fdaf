"""Push-T: gym-pusht's physics exactly, the keypoints of the public data, recorded states and episodes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import zarr
from gym_pusht.envs.pusht import PushTEnv
from hypothesis import given
from hypothesis import strategies as st
from shared import shared_data

from robopolicy.actors.replay import ReplayActor
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import EpisodeSummary, episode, run_episode
from sim.pusht import PushTSimulation, keypoints_from_pose, make_robot
from sim.robot import SimRobot


@cache
def demonstrations() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The arrays of the public replay store, and where its episodes start and end."""
    store = zarr.open(str(shared_data("pusht/pusht_cchi_v7_replay.zarr")), mode="r")
    arrays = {name: np.asarray(store[f"data/{name}"][:]) for name in ("state", "action", "keypoint")}
    ends = np.asarray(store["meta/episode_ends"][:])
    return arrays, np.concatenate([[0], ends[:-1]]), ends


def replay(robot: SimRobot, states: np.ndarray, actions: np.ndarray) -> tuple[EpisodeSummary, float]:
    """Replays one recorded episode through the loop; its summary and the final block position error in px."""
    robot.restore(states[0])
    action_filter = ActionFilter(robot.spec.action, {"position": 400.0})
    loop = episode(robot, max_steps=len(states) - 1, action_filter=action_filter)
    summary = run_episode(loop, ReplayActor(actions[:-1], robot.spec.period_ns))
    reached = robot.observe()["block_pose"].value
    return summary, float(np.linalg.norm(reached[:2] - states[summary.steps, 2:4]))


def share_replayed(numbers: range, limit_px: float) -> float:
    arrays, starts, ends = demonstrations()
    robot, errors = make_robot(), []
    for number in numbers:
        rows = slice(starts[number], ends[number])
        summary, error = replay(robot, arrays["state"][rows], arrays["action"][rows])
        assert summary.counters.get("limited", 0) == summary.counters.get("shortened", 0) == 0
        errors.append(error)
    return float(np.mean(np.array(errors) < limit_px))


def test_steps_like_gym_pusht_bit_for_bit() -> None:
    robot, environment = make_robot(), PushTEnv(obs_type="state")
    robot.reset(3)
    environment.reset(seed=3)
    random = np.random.default_rng(0)
    for tick in range(1, 60):
        target = random.uniform(100, 400, size=2)
        robot.command(target, 0)
        robot.clock.sleep_until(tick * robot.spec.period_ns)
        state, reward, terminated, _, info = environment.step(target)
        seen, outcome = robot.observe(), robot.outcome()
        np.testing.assert_array_equal(seen["agent_position"].value, state[:2].astype(np.float32))
        np.testing.assert_array_equal(seen["block_pose"].value, state[2:].astype(np.float32))
        assert (outcome.reward, outcome.terminated) == (reward, terminated)
        assert robot.details()["coverage"] == pytest.approx(info["coverage"], abs=1e-12)


def test_an_episode_is_the_same_bit_for_bit_whatever_happened_before() -> None:
    def run(robot: SimRobot, seed: int) -> list[bytes]:
        robot.reset(seed)
        targets = np.random.default_rng(seed).uniform(50, 450, size=(40, 2))
        states = []
        for tick, target in enumerate(targets, start=1):
            robot.command(target, 0)
            robot.clock.sleep_until(tick * robot.spec.period_ns)
            states.append(b"".join(sample.value.tobytes() for sample in robot.observe().values()))
        return states

    used = make_robot()
    run(used, 1)
    run(used, 2)
    assert run(used, 7) == run(make_robot(), 7)
    assert run(used, 8) != run(used, 7)


@given(st.lists(st.floats(-700, 700), min_size=3, max_size=3), st.lists(st.floats(-700, 700), min_size=3, max_size=3))
def test_keypoints_are_rigid(a: list[float], b: list[float]) -> None:
    both = keypoints_from_pose([a, b])
    assert both.shape == (2, 9, 2)
    np.testing.assert_allclose(both[0], keypoints_from_pose(a), atol=1e-9)
    distances = np.linalg.norm(both[:, :, None] - both[:, None], axis=-1)
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-6)


def test_keypoints_turn_about_the_block_origin() -> None:
    straight, turned = keypoints_from_pose([10.0, 20.0, 0.0]), keypoints_from_pose([0.0, 0.0, np.pi / 2])
    x, y = (straight - [10.0, 20.0]).T
    np.testing.assert_allclose(turned, np.stack([-y, x], axis=-1), atol=1e-9)


def test_keypoints_match_the_recorded_ones_to_half_a_pixel() -> None:
    """The first two rows of 17 episodes were stored while the block was still pushed out of an overlap: from the third
    row on every keypoint fits, and 99.9 % of all rows do."""
    arrays, starts, _ = demonstrations()
    error = np.linalg.norm(keypoints_from_pose(arrays["state"][:, 2:]) - arrays["keypoint"], axis=-1).max(axis=-1)
    settled = np.ones(len(error), dtype=bool)
    settled[starts] = settled[starts + 1] = False
    assert error[settled].max() < 0.5
    assert np.mean(error < 0.5) > 0.999
    assert np.median(error) < 0.02


def test_simulator_and_data_share_the_keypoint_function() -> None:
    seen = make_robot().reset(11)
    expected = keypoints_from_pose(seen["block_pose"].value.astype(np.float64)).reshape(18)
    np.testing.assert_allclose(seen["keypoints"].value, expected, atol=1e-3)


@pytest.mark.parametrize("state", [[100.0, 120.0, 200.0, 250.0, 0.3], [400.0, 60.0, 300.0, 310.0, 6.1]])
def test_restore_sets_the_state_exactly_and_at_rest(state: list[float]) -> None:
    robot = make_robot()
    robot.reset(0)
    robot.command(np.array([300.0, 300.0]), 0)
    robot.clock.sleep_until(3 * robot.spec.period_ns)
    seen = robot.restore(np.array(state))
    np.testing.assert_array_equal(seen["agent_position"].value, np.float32(state[:2]))
    np.testing.assert_allclose(seen["block_pose"].value, np.float32(state[2:]), rtol=1e-6)
    robot.clock.sleep_until(robot.spec.period_ns)
    after = robot.observe()
    np.testing.assert_allclose(after["agent_position"].value, state[:2], atol=1e-4)
    np.testing.assert_allclose(after["block_pose"].value, state[2:], atol=1e-4)


def test_goal_pose_is_a_success() -> None:
    simulation = PushTSimulation()
    simulation.restore([100.0, 100.0, 256.0, 256.0, np.pi / 4])
    outcome = simulation.outcome()
    assert outcome.success
    assert outcome.terminated
    assert outcome.reward == 1.0
    assert simulation.details()["coverage"] == pytest.approx(1.0)


def test_recorded_actions_reproduce_recorded_episodes() -> None:
    assert share_replayed(range(0, 186, 10), limit_px=2.0) >= 0.9


@pytest.mark.slow
def test_recorded_actions_reproduce_at_least_nine_in_ten_of_all_episodes() -> None:
    assert share_replayed(range(186), limit_px=2.0) >= 0.9


def test_draws_without_gl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.gl.USER_CHOICE", "bogus")
    picture = make_robot(image_size=96).render()
    assert picture.shape == (96, 96, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 5
