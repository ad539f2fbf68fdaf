"""One robot class for every simulation: clock, stamps, holds, and pace with a wall clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robopolicy.control.clock import WallClock
from robopolicy.control.robot import Outcome, SimulatedRobot, StopReason
from robopolicy.errors import ConfigError, RenderingError
from robopolicy.spec import ArraySpec, RobotSpec
from sim.robot import PacedClock, SimRobot, Simulation

PERIOD_NS = 100_000_000


class Line:
    """A point on a line that covers half of the way to its target in every sub-step of 20 ms."""

    cameras = ("eye",)
    default_camera = "eye"
    image_size = (4, 6)
    substep_ns = 20_000_000
    spec = RobotSpec("line", {"x": ArraySpec((1,))}, ArraySpec((1,)), rate_hz=10.0)

    def __init__(self) -> None:
        self.closed = 0
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.x = self.target = float(seed)
        self.substeps = 0

    def observe(self) -> dict[str, NDArray[Any]]:
        return {"x": np.array([self.x], dtype=np.float32)}

    def set_target(self, action: NDArray[np.float64]) -> None:
        self.target = float(action[0])

    def substep(self) -> None:
        self.x += 0.5 * (self.target - self.x)
        self.substeps += 1

    def outcome(self) -> Outcome:
        return Outcome(reward=self.x, success=False, terminated=False)

    def details(self) -> dict[str, float]:
        return {"x": self.x}

    def render(self, camera: str) -> NDArray[np.uint8]:
        return np.zeros((4, 6, 3), dtype=np.uint8)

    def close(self) -> None:
        self.closed += 1


class FakeWall:
    """A wall clock that a test drives: sleeping moves it, and so does `now_ns += ...`."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def clock(self) -> WallClock:
        def sleep(seconds: float) -> None:
            self.now_ns += max(1, round(seconds * 1e9))

        def read() -> int:
            self.now_ns += 1000
            return self.now_ns

        return WallClock(read, sleep)


def test_satisfies_both_protocols() -> None:
    simulation: Simulation = Line()
    assert isinstance(SimRobot(simulation), SimulatedRobot)


def test_physics_passes_in_whole_substeps_while_sleeping() -> None:
    robot = SimRobot(line := Line())
    robot.reset(3)
    robot.command(np.array([4.0]), PERIOD_NS)
    robot.clock.sleep_until(PERIOD_NS)
    assert line.substeps == 5
    assert robot.clock.now_ns() == PERIOD_NS
    assert line.x == pytest.approx(4.0 - 0.5**5)


def test_samples_carry_the_time_of_the_physics_and_count_up() -> None:
    robot = SimRobot(Line())
    first = robot.reset(0)["x"]
    assert (first.time_ns, first.sequence) == (0, 0)
    assert robot.observe()["x"] is first
    robot.clock.sleep_until(PERIOD_NS)
    second = robot.observe()["x"]
    assert (second.time_ns, second.sequence) == (PERIOD_NS, 1)


def test_stop_holds_the_last_target_until_recover() -> None:
    robot = SimRobot(line := Line())
    robot.reset(0)
    robot.command(np.array([1.0]), PERIOD_NS)
    robot.stop(StopReason.EMERGENCY)
    robot.stop(StopReason.REQUESTED)
    robot.command(np.array([9.0]), PERIOD_NS)
    robot.clock.sleep_until(10 * PERIOD_NS)
    assert line.x == pytest.approx(1.0)
    health = robot.health()
    assert (health["state"], health["reason"], health["ignored_commands"]) == ("holding", "emergency", 1)
    robot.recover()
    robot.command(np.array([2.0]), PERIOD_NS)
    robot.clock.sleep_until(20 * PERIOD_NS)
    assert line.x == pytest.approx(2.0)
    assert robot.health()["state"] == "running"


def test_stop_before_any_command_holds_the_start() -> None:
    robot = SimRobot(line := Line())
    robot.reset(7)
    robot.stop(StopReason.REQUESTED)
    robot.command(np.array([0.0]), PERIOD_NS)
    robot.clock.sleep_until(PERIOD_NS)
    assert line.x == 7.0


def test_reset_ends_a_hold_and_restarts_the_clock() -> None:
    robot = SimRobot(Line())
    robot.clock.sleep_until(PERIOD_NS)
    robot.stop(StopReason.LIMIT)
    observation = robot.reset(5)
    assert robot.clock.now_ns() == 0
    assert robot.health()["state"] == "running"
    assert observation["x"].value.tolist() == [5.0]


def test_command_keeps_its_own_copy() -> None:
    robot = SimRobot(line := Line())
    action = np.array([1.0])
    robot.command(action, PERIOD_NS)
    action[0] = 50.0
    assert line.target == 1.0


def test_unknown_camera_and_missing_restore_name_the_culprit() -> None:
    robot = SimRobot(Line())
    assert robot.render().shape == (4, 6, 3)
    with pytest.raises(RenderingError, match="no camera 'nose' in line, there are \\['eye'\\]"):
        robot.render("nose")
    with pytest.raises(ConfigError, match="line cannot be set to a recorded state"):
        robot.restore(np.zeros(3))


def test_an_image_stream_is_what_the_default_camera_sees() -> None:
    assert "image" not in SimRobot(Line()).spec.observations
    robot = SimRobot(Line(), image_stream=True)
    image = robot.spec.observations["image"]
    assert (image.shape, image.dtype, image.is_image) == ((4, 6, 3), "uint8", True)
    assert set(robot.reset(0)) == {"x", "image"} == set(robot.spec.observations)
    first = robot.observe()["image"]
    np.testing.assert_array_equal(first.value, robot.render())
    robot.clock.sleep_until(PERIOD_NS)
    second = robot.observe()["image"]
    assert (second.time_ns, second.sequence) == (PERIOD_NS, 1)


def test_close_closes_the_simulation() -> None:
    robot = SimRobot(line := Line())
    robot.close()
    assert line.closed == 1


def test_wall_clock_computes_to_the_deadline_and_then_waits_for_it() -> None:
    wall = FakeWall(5_000_000_000)
    robot = SimRobot(line := Line(), clock=wall.clock())
    robot.reset(0)
    start_ns = robot.clock.now_ns()
    robot.command(np.array([1.0]), start_ns + PERIOD_NS)
    robot.clock.sleep_until(start_ns + PERIOD_NS)
    assert line.substeps in (5, 6)
    assert wall.now_ns >= start_ns + PERIOD_NS
    sample = robot.observe()["x"]
    assert abs(sample.time_ns - wall.now_ns) < line.substep_ns + 1_000_000


def test_wall_clock_that_ran_ahead_shows_a_missed_deadline_and_the_physics_catches_up() -> None:
    wall = FakeWall(0)
    robot = SimRobot(line := Line(), clock=wall.clock())
    robot.reset(0)
    start_ns = robot.clock.now_ns()
    wall.now_ns += 3 * PERIOD_NS
    assert robot.clock.now_ns() > start_ns + PERIOD_NS
    robot.clock.sleep_until(start_ns + PERIOD_NS)
    assert line.substeps <= 6
    robot.clock.sleep_until(start_ns + 4 * PERIOD_NS)
    assert line.substeps in (20, 21)
    assert isinstance(robot.clock, PacedClock)
