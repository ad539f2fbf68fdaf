"""Reach: seeds decide everything, the expert passes on both sides, straight ahead fails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import EpisodeSummary, episode, run_episode
from robopolicy.control.robot import Observation
from robopolicy.errors import ConfigError
from sim.reach import GOAL_M, GOAL_STREAM, START_JITTER_M, START_M, ReachExpert, ReachSimulation, make_robot
from sim.robot import SimRobot

TWO_GOALS = ((0.25, 0.12), (0.25, -0.12))


class Constant:
    """Always the same target."""

    def __init__(self, target: Sequence[float]) -> None:
        self._target = np.array([target])

    def reset(self) -> None:
        pass

    def act(self, history: Sequence[Observation], now_ns: int) -> Chunk:
        return chunk_from(self._target, now_ns, 100_000_000, "script")


def expert_episode(robot: SimRobot, seed: int, blunder_chance: float = 0.0) -> tuple[EpisodeSummary, np.ndarray]:
    robot.reset(seed)
    assert isinstance(robot.simulation, ReachSimulation)
    expert = ReachExpert(robot.simulation, seed, blunder_chance)
    action_filter = ActionFilter(robot.spec.action, {"position": 0.08})
    summary = run_episode(episode(robot, max_steps=60, action_filter=action_filter), expert)
    return summary, robot.observe()["effector_position"].value


def test_start_lies_within_the_jitter_and_depends_on_the_seed_alone() -> None:
    robot = make_robot()
    starts = np.array([robot.reset(seed)["effector_position"].value for seed in range(200)])
    assert np.all(np.abs(starts - START_M) <= START_JITTER_M + 1e-6)
    assert starts.std(axis=0) == pytest.approx(2 * START_JITTER_M / np.sqrt(12), rel=0.15)
    again = make_robot().reset(150)["effector_position"].value
    np.testing.assert_array_equal(again, starts[150])


def test_an_episode_is_the_same_bit_for_bit_whatever_happened_before() -> None:
    used, fresh = make_robot(), make_robot()
    for seed in (5, 6):
        expert_episode(used, seed)
    first, last = expert_episode(used, 9)
    second, last_again = expert_episode(fresh, 9)
    assert first == second
    np.testing.assert_array_equal(last, last_again)


def test_two_hundred_demonstrations_succeed_on_both_sides_untouched_by_the_filter() -> None:
    robot, sides = make_robot(), []
    for seed in range(200):
        summary, _ = expert_episode(robot, seed)
        assert summary.success, seed
        assert summary.terminated
        assert summary.counters.get("limited", 0) == summary.counters.get("shortened", 0) == 0
        assert summary.rewards[-1] == 1.0
        sides.append(robot.details()["side"])
    assert set(sides) == {-1.0, 1.0}
    assert 0.4 < np.mean(np.array(sides) > 0) < 0.6


def test_experts_differ_between_episodes_of_one_instance() -> None:
    robot = make_robot()
    assert isinstance(robot.simulation, ReachSimulation)
    expert, history = ReachExpert(robot.simulation, 0), [robot.reset(0)]
    answers = []
    for _ in range(5):
        expert.reset()
        answers.append(expert.act(history, 0).actions[0])
    assert len({tuple(answer) for answer in answers}) == 5


def test_an_expert_that_blunders_touches_the_obstacle_or_misses_the_goal() -> None:
    robot, ways = make_robot(), {"succeeded": 0, "touched": 0, "missed": 0}
    for seed in range(200):
        summary, last = expert_episode(robot, seed, blunder_chance=1.0)
        assert summary.counters.get("limited", 0) == summary.counters.get("shortened", 0) == 0
        way = "succeeded" if summary.success else "touched" if robot.details()["touched"] else "missed"
        ways[way] += 1
        if way == "missed":
            assert summary.truncated
            assert 0.02 < np.linalg.norm(last - GOAL_M) < 0.08
    assert ways["succeeded"] < 5
    assert min(ways["touched"], ways["missed"]) > 70


def test_blunders_leave_the_other_episodes_as_they_were() -> None:
    robot, same, failed = make_robot(), 0, 0
    for seed in range(100):
        summary, last = expert_episode(robot, seed, blunder_chance=0.5)
        plain, plain_last = expert_episode(robot, seed)
        same += summary == plain and np.array_equal(last, plain_last)
        failed += not summary.success
    assert 35 < same < 65
    assert 97 <= same + failed <= 100


@pytest.mark.parametrize("chance", [-0.1, 1.1])
def test_an_impossible_blunder_chance_is_refused(chance: float) -> None:
    with pytest.raises(ConfigError, match=r"blunder_chance is .*, expected 0 to 1"):
        ReachExpert(ReachSimulation(), 0, chance)


def test_straight_ahead_hits_the_obstacle_and_ends_as_a_failure() -> None:
    robot = make_robot()
    robot.reset(0)
    loop = episode(robot, max_steps=60, action_filter=ActionFilter(robot.spec.action, {"position": 0.08}))
    summary = run_episode(loop, Constant(GOAL_M.tolist()))
    assert summary.terminated
    assert not summary.success
    assert robot.details()["touched"] == 1.0
    assert summary.rewards[-1] == 0.0


def test_target_is_tracked_within_a_few_ticks_without_overshoot() -> None:
    robot = make_robot()
    start = robot.reset(0)["effector_position"].value
    target = start + np.array([0.0, 0.1])
    robot.command(target, 0)
    ys = []
    for tick in range(1, 8):
        robot.clock.sleep_until(tick * robot.spec.period_ns)
        ys.append(float(robot.observe()["effector_position"].value[1]))
    assert ys[-1] == pytest.approx(target[1], abs=1e-3)
    assert max(ys) <= target[1] + 1e-3


def test_one_of_two_goals_is_commanded_by_the_seed_and_offered_as_a_stream() -> None:
    robot, alone = make_robot(goal_positions=TWO_GOALS), make_robot()
    assert robot.spec.observations[GOAL_STREAM] == robot.spec.observations["effector_position"]
    commanded = []
    for seed in range(200):
        first = robot.reset(seed)
        np.testing.assert_array_equal(
            first["effector_position"].value, alone.reset(seed)["effector_position"].value, strict=True
        )
        commanded.append(int(robot.details()["goal"]))
        np.testing.assert_array_equal(first[GOAL_STREAM].value, np.float32(TWO_GOALS[commanded[-1]]), strict=True)
    assert 0.4 < np.mean(commanded) < 0.6
    again = make_robot(goal_positions=TWO_GOALS)
    again.reset(150)
    assert again.details()["goal"] == commanded[150]
    assert set(alone.details()) == {"side", "touched"}
    assert set(alone.observe()) == {"effector_position"}


def test_the_expert_reaches_the_commanded_one_of_two_goals_around_both_sides() -> None:
    robot, seen = make_robot(goal_positions=TWO_GOALS), set()
    for seed in range(50):
        summary, last = expert_episode(robot, seed)
        details = robot.details()
        assert summary.success, seed
        assert summary.counters.get("limited", 0) == summary.counters.get("shortened", 0) == 0
        assert details["reached"] == details["goal"]
        assert np.linalg.norm(last - TWO_GOALS[int(details["goal"])]) < 0.02
        seen.add((details["goal"], details["side"]))
    assert len(seen) == 4


def test_reaching_the_other_goal_ends_the_episode_as_a_failure() -> None:
    robot = make_robot(goal_positions=TWO_GOALS)
    for seed in range(6):
        robot.reset(seed)
        commanded = int(robot.details()["goal"])
        summary = _led_to(robot, 1 - commanded, seed)
        assert summary.terminated
        assert not summary.success
        assert max(summary.rewards) == 0.0
        assert robot.details()["reached"] == 1 - commanded
        assert robot.details()["touched"] == 0.0


def _led_to(robot: SimRobot, goal: int, seed: int) -> EpisodeSummary:
    """The expert, sent to a goal of our choice."""
    elsewhere = ReachSimulation(goal_positions=[TWO_GOALS[goal]])
    expert = ReachExpert(elsewhere, seed)
    return run_episode(episode(robot, max_steps=60, action_filter=ActionFilter(robot.spec.action, {})), expert)


@pytest.mark.parametrize(
    "goals", [[[0.25, 0.12], [0.25, 0.1]], [[0.0, 0.1]], [[0.25, 0.4]], [0.25, 0.12], [[0.25, 0.12, 0.0]]]
)
def test_impossible_goals_are_refused(goals: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="goal_positions is .*, expected"):
        make_robot(goal_positions=goals)
