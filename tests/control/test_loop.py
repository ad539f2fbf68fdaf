"""The loop: order and timing of its calls, what it records, and every way in which it stops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scripted_robot import SCRIPTED_SPEC, FakeWallClock, ScriptedRobot

from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.clock import SimClock
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import EpisodeSummary, Tick, episode, run_episode
from robopolicy.control.robot import Observation, Outcome, StopReason
from robopolicy.errors import DeviceLostError, RecordingError

PERIOD_NS = SCRIPTED_SPEC.period_ns


class Counting:
    """Every `every` ticks a chunk whose action i, asked at tick k, is k + i."""

    def __init__(self, every: int = 1, length: int = 4, silent_until: int = 0) -> None:
        self.every, self.length, self.silent_until = every, length, silent_until
        self.asked_ns: list[int] = []
        self.histories: list[Sequence[Observation]] = []
        self.resets = 0
        self.log: list[str] | None = None

    def reset(self) -> None:
        self.resets += 1
        self.asked_ns = []

    def act(self, history: Sequence[Observation], now_ns: int) -> Chunk | None:
        step = len(self.asked_ns)
        self.asked_ns.append(now_ns)
        self.histories.append(history)
        if self.log is not None:
            self.log.append(f"ask {step}")
        if step < self.silent_until or (step - self.silent_until) % self.every:
            return None
        actions = np.repeat((step + np.arange(self.length, dtype=float))[:, None], 2, axis=1)
        return chunk_from(actions, now_ns, PERIOD_NS, "policy", {"asked": float(step)})


class Notebook:
    """A recorder that keeps everything, and fails at tick `full_at`."""

    def __init__(self, full_at: int | None = None) -> None:
        self.ticks: list[Tick] = []
        self.outcomes: list[tuple[int, Outcome, bool]] = []
        self.full_at = full_at

    def record(self, tick: Tick) -> None:
        if tick.step == self.full_at:
            raise RecordingError("the encoder queue of 'camera' is full")
        self.ticks.append(tick)

    def record_outcome(self, outcome: Outcome, truncated: bool) -> None:
        self.outcomes.append((self.ticks[-1].step, outcome, truncated))


def run(
    robot: ScriptedRobot,
    actor: Counting | None = None,
    *,
    max_steps: int = 5,
    history_steps: int = 1,
    recorder: Notebook | None = None,
    stop_requested: Callable[[], StopReason | None] = lambda: None,
    missed_limit: int = 5,
) -> EpisodeSummary:
    loop = episode(
        robot,
        max_steps=max_steps,
        action_filter=ActionFilter(SCRIPTED_SPEC.action),
        history_steps=history_steps,
        recorder=recorder,
        stop_requested=stop_requested,
        missed_limit=missed_limit,
    )
    return run_episode(loop, actor or Counting())


def sim_robot() -> ScriptedRobot:
    return ScriptedRobot(SimClock(PERIOD_NS // 5, lambda: None))


def reward(value: float, *, success: bool = False, terminated: bool = False) -> Outcome:
    return Outcome(value, success, terminated)


class TestOneTick:
    def test_calls_come_in_order(self) -> None:
        robot, actor = sim_robot(), Counting()
        actor.log = robot.log
        run(robot, actor, max_steps=2)
        assert robot.log == [
            *("observe 0", "ask 0", "command 0", "outcome"),
            *("observe 1", "ask 1", "command 1", "outcome"),
        ]
        assert actor.resets == 1

    def test_the_target_of_the_next_tick_is_sent_during_this_one(self) -> None:
        """Asked at tick k, action 0 is commanded in tick k and to be reached at tick k+1."""
        robot, actor = sim_robot(), Counting(every=3)
        run(robot, actor, max_steps=6)
        assert [command[0][0] for command in robot.commands] == [0, 1, 2, 3, 4, 5]
        assert [time_ns for _, time_ns in robot.commands] == [(k + 1) * PERIOD_NS for k in range(6)]
        assert actor.asked_ns == [k * PERIOD_NS for k in range(6)]

    def test_nothing_is_sent_before_the_first_chunk(self) -> None:
        robot, notebook = sim_robot(), Notebook()
        robot.outcomes = [reward(0.0)] * 5
        summary = run(robot, Counting(silent_until=3), recorder=notebook)
        assert len(robot.commands) == 2
        assert [tick.step for tick in notebook.ticks] == [3, 4]
        assert [step for step, _, _ in notebook.outcomes] == [3, 4]
        assert summary.steps == 5
        assert len(summary.rewards) == 5

    def test_an_exhausted_timeline_holds_and_is_counted(self) -> None:
        robot = sim_robot()
        summary = run(robot, Counting(every=10, length=2), max_steps=5)
        assert [command[0][0] for command in robot.commands] == [0, 1, 1, 1, 1]
        assert summary.counters["exhausted"] == 3

    def test_history_grows_to_its_length_and_ends_with_the_newest(self) -> None:
        actor = Counting()
        run(sim_robot(), actor, history_steps=3)
        numbers = [[seen["joints"].sequence for seen in history] for history in actor.histories]
        assert numbers == [[0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]

    def test_a_history_once_given_does_not_change(self) -> None:
        actor = Counting()
        run(sim_robot(), actor, history_steps=2)
        assert [len(history) for history in actor.histories] == [1, 2, 2, 2, 2]

    def test_repeated_samples_are_counted(self) -> None:
        robot = sim_robot()
        robot.frozen = True
        assert run(robot).counters["repeats"] == 2 * 4


class TestRecord:
    def test_rows_hold_what_was_seen_asked_and_sent(self) -> None:
        spec = SCRIPTED_SPEC.action
        robot, notebook = sim_robot(), Notebook()
        loop = episode(robot, max_steps=4, action_filter=ActionFilter(spec, {"joints": 0.5}), recorder=notebook)
        summary = run_episode(loop, Counting(every=2))
        assert [tick.step for tick in notebook.ticks] == [0, 1, 2, 3]
        assert [tick.time_ns for tick in notebook.ticks] == [k * PERIOD_NS for k in range(4)]
        assert [tick.observation["joints"].sequence for tick in notebook.ticks] == [0, 1, 2, 3]
        assert [tick.action_requested[0] for tick in notebook.ticks] == [0, 1, 2, 3]
        step = 0.5 / np.sqrt(2)
        assert np.allclose([tick.action[0] for tick in notebook.ticks], step * np.arange(4))
        assert [tick.info["asked"] for tick in notebook.ticks] == [0, 0, 2, 2]
        assert {tick.source for tick in notebook.ticks} == {"policy"}
        assert summary.counters["shortened"] == 3

    def test_outcomes_belong_to_the_tick_that_led_to_them(self) -> None:
        robot, notebook = sim_robot(), Notebook()
        robot.outcomes = [reward(0.1), reward(0.2), reward(1.0, success=True, terminated=True)]
        summary = run(robot, recorder=notebook)
        assert [(step, outcome.reward) for step, outcome, _ in notebook.outcomes] == [(0, 0.1), (1, 0.2), (2, 1.0)]
        assert not any(truncated for *_, truncated in notebook.outcomes)
        assert summary == EpisodeSummary(3, None, "", True, True, False, (0.1, 0.2, 1.0), {"repeats": 2})

    def test_the_horizon_truncates(self) -> None:
        robot, notebook = sim_robot(), Notebook()
        robot.outcomes = [reward(0.1)] * 9
        summary = run(robot, recorder=notebook, max_steps=3)
        assert (summary.steps, summary.truncated, summary.terminated, summary.success) == (3, True, False, False)
        assert [truncated for *_, truncated in notebook.outcomes] == [False, False, True]
        assert robot.stops == []

    def test_termination_at_the_horizon_is_no_truncation(self) -> None:
        robot, notebook = sim_robot(), Notebook()
        robot.outcomes = [reward(0.1), reward(1.0, success=True, terminated=True)]
        summary = run(robot, recorder=notebook, max_steps=2)
        assert (summary.truncated, summary.terminated) == (False, True)
        assert notebook.outcomes[-1][2] is False

    def test_a_robot_that_knows_no_outcome_has_no_rewards(self) -> None:
        notebook = Notebook()
        summary = run(sim_robot(), recorder=notebook)
        assert summary.rewards == ()
        assert notebook.outcomes == []
        assert summary.truncated
        assert not summary.success


class TestStops:
    @pytest.mark.parametrize("bad", [np.full(2, np.nan), np.array([0.0, np.inf])])
    def test_a_bad_action_never_reaches_the_robot(self, bad: NDArray[np.float64]) -> None:
        robot = sim_robot()

        class Poisoned(Counting):
            def act(self, history: Sequence[Observation], now_ns: int) -> Chunk | None:
                chunk = super().act(history, now_ns)
                return chunk_from(bad[None], now_ns, PERIOD_NS, "policy") if len(self.asked_ns) == 3 else chunk

        summary = run(robot, Poisoned())
        assert summary.stop is StopReason.BAD_ACTION
        assert "is not finite" in summary.stop_detail
        assert summary.steps == len(robot.commands) == 2
        assert robot.stops == [StopReason.BAD_ACTION]
        assert not summary.truncated
        assert not summary.terminated

    def test_a_lost_device(self) -> None:
        def lose(step: int) -> None:
            if step == 2:
                raise DeviceLostError("camera 'front' (serial 0123) stopped answering")

        robot = ScriptedRobot(FakeWallClock(), lose)
        summary = run(robot)
        assert (summary.stop, summary.steps) == (StopReason.DEVICE_LOST, 2)
        assert summary.stop_detail == "camera 'front' (serial 0123) stopped answering"
        assert robot.stops == [StopReason.DEVICE_LOST]

    def test_a_stale_stream(self) -> None:
        """`joints` may be 0.25 s old; `camera` has no limit and is 5 s old without harm."""

        def age(step: int) -> None:
            robot.age_ns = 250_000_000 if step < 3 else 250_000_001

        robot = ScriptedRobot(FakeWallClock(), age)
        summary = run(robot)
        assert (summary.stop, summary.steps) == (StopReason.STALE_OBSERVATION, 3)
        assert summary.stop_detail == "stream 'joints' is 0.250 s old, at most 0.25 s allowed"
        assert len(robot.commands) == 3

    def test_a_requested_stop_comes_before_the_next_question(self) -> None:
        robot, actor = sim_robot(), Counting()
        answers = iter([None, None, StopReason.EMERGENCY])
        summary = run(robot, actor, stop_requested=lambda: next(answers))
        assert (summary.stop, summary.steps) == (StopReason.EMERGENCY, 2)
        assert len(actor.asked_ns) == 2
        assert robot.stops == [StopReason.EMERGENCY]

    def test_a_recorder_that_cannot_keep_up(self) -> None:
        robot = sim_robot()
        summary = run(robot, recorder=Notebook(full_at=2))
        assert (summary.stop, summary.stop_detail) == (StopReason.RECORDER, "the encoder queue of 'camera' is full")
        assert robot.stops == [StopReason.RECORDER]

    def test_a_chunk_that_does_not_fit(self) -> None:
        robot = sim_robot()
        loop = episode(robot, max_steps=3, action_filter=ActionFilter(SCRIPTED_SPEC.action))
        next(loop)
        with pytest.raises(StopIteration) as end:
            loop.send(chunk_from(np.zeros((4, 7)), 0, PERIOD_NS, "policy"))
        assert end.value.value.stop is StopReason.BAD_ACTION
        assert "expected [T, 2]" in end.value.value.stop_detail
        assert robot.stops == [StopReason.BAD_ACTION]

    def test_a_stream_that_never_delivers(self) -> None:
        robot = sim_robot()
        robot.observe = lambda: {}  # type: ignore[method-assign]
        summary = run(robot)
        assert summary.stop is StopReason.STALE_OBSERVATION
        assert "has delivered nothing yet" in summary.stop_detail

    def test_closing_the_loop_stops_the_robot(self) -> None:
        robot = sim_robot()
        loop = episode(robot, max_steps=3, action_filter=ActionFilter(SCRIPTED_SPEC.action))
        next(loop)
        loop.close()
        assert robot.stops == [StopReason.REQUESTED]

    @pytest.mark.parametrize(
        ("error", "reason"),
        [(KeyboardInterrupt, StopReason.REQUESTED), (ZeroDivisionError, StopReason.ERROR)],
    )
    def test_an_actor_that_raises_stops_the_robot(self, error: type[BaseException], reason: StopReason) -> None:
        class Raising(Counting):
            def act(self, history: Sequence[Observation], now_ns: int) -> Chunk | None:
                raise error

        robot = sim_robot()
        with pytest.raises(error):
            run(robot, Raising())
        assert robot.stops == [reason]
        assert robot.commands == []


class TestWallClock:
    def slow_robot(self, late_steps: set[int]) -> ScriptedRobot:
        """Observing takes 0.15 s in `late_steps` and 0.01 s otherwise; a tick has 0.1 s."""
        clock = FakeWallClock()

        def spend(step: int) -> None:
            clock.time_ns += 150_000_000 if step in late_steps else 10_000_000

        return ScriptedRobot(clock, spend)

    def test_deadlines_are_absolute(self) -> None:
        """A late tick is caught up: the later deadlines do not move."""
        robot = self.slow_robot({2})
        start_ns = robot.clock.now_ns()
        summary = run(robot, max_steps=6)
        assert isinstance(robot.clock, FakeWallClock)
        assert robot.clock.deadlines == [start_ns + (k + 1) * PERIOD_NS for k in range(6)]
        assert robot.clock.now_ns() == start_ns + 6 * PERIOD_NS
        assert [time_ns for _, time_ns in robot.commands] == robot.clock.deadlines
        assert summary.counters["missed"] == 1
        assert summary.stop is None

    def test_missed_deadlines_in_a_row_stop(self) -> None:
        robot = self.slow_robot({1, 2, 3, 4, 5})
        summary = run(robot, max_steps=20, missed_limit=3)
        assert (summary.stop, summary.steps) == (StopReason.MISSED_DEADLINES, 4)
        assert summary.stop_detail == "3 deadlines in a row were missed"
        assert summary.counters["missed"] == 3
        assert robot.stops == [StopReason.MISSED_DEADLINES]

    def test_scattered_misses_only_count(self) -> None:
        """A tick that is late by half a period is caught up in the next one: no two in a row."""
        summary = run(self.slow_robot({1, 4, 7, 10}), max_steps=14, missed_limit=2)
        assert summary.stop is None
        assert summary.counters["missed"] == 4


@pytest.mark.parametrize(
    "module",
    [
        "robopolicy.control.loop",
        "robopolicy.spec",
        "robopolicy.dataset.windows",
        "robopolicy.actors.replay",
        "robopolicy.evaluation.lockstep",
        "hardware",
    ],
)
def test_a_robot_computer_needs_no_torch(module: str) -> None:
    check = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
