"""The loop: observe, ask, add to the timeline, read the next tick's target, filter, command, record.

Collecting, evaluating, replaying and deploying are this one generator with another actor or another robot. It yields
what an actor needs and is sent what the actor answers, so one driver can run one robot in real time (`run_episode`) and
another can run many simulated ones in lockstep (`robopolicy.evaluation.lockstep`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.actor import Actor, Chunk
from robopolicy.control.filter import ActionFilter
from robopolicy.control.robot import Observation, Outcome, Robot, StopReason
from robopolicy.control.timeline import Target, Timeline
from robopolicy.errors import BadActionError, DeviceLostError, RecordingError
from robopolicy.spec import Nanoseconds


@dataclass(frozen=True)
class Tick:
    """One row of an episode: what was seen, what was asked for, what was sent, and who decided."""

    step: int
    time_ns: Nanoseconds
    observation: Observation
    action: NDArray[np.float64]
    action_requested: NDArray[np.float64]
    source: str
    info: Mapping[str, float]


class Recorder(Protocol):
    """Stores ticks without ever making the loop wait. Raises RecordingError when it cannot keep up."""

    def record(self, tick: Tick) -> None: ...

    def record_outcome(self, outcome: Outcome, truncated: bool) -> None:
        """What the tick recorded last led to."""


@dataclass(frozen=True)
class Ask:
    """What the loop asks an actor at one tick; `history` ends with the newest observation and is never empty."""

    step: int
    now_ns: Nanoseconds
    history: Sequence[Observation]


@dataclass(frozen=True)
class EpisodeSummary:
    """How an episode went. `stop` is None when it ended by itself (terminated or truncated).

    `counters` holds the filter's changes (`limited`, `shortened`), `exhausted` ticks, `repeats` of samples and `missed`
    deadlines.
    """

    steps: int
    stop: StopReason | None
    stop_detail: str
    success: bool
    terminated: bool
    truncated: bool
    rewards: tuple[float, ...]
    counters: Mapping[str, int] = field(default_factory=dict)


def episode(
    robot: Robot,
    *,
    max_steps: int,
    action_filter: ActionFilter,
    history_steps: int = 1,
    recorder: Recorder | None = None,
    stop_requested: Callable[[], StopReason | None] = lambda: None,
    missed_limit: int = 5,
) -> Generator[Ask, Chunk | None, EpisodeSummary]:
    """One episode on a robot that is started (and reset, if simulated). Whatever ends it early also stops the robot.

    Args:
        max_steps: ticks until the episode is truncated.
        action_filter: every command passes it.
        history_steps: how many observations an actor sees, at most (fewer at the start).
        stop_requested: asked every tick; a reason ends the episode.
        missed_limit: this many missed deadlines in a row end the episode.
    """
    run = _Run(robot, max_steps, action_filter, deque(maxlen=history_steps), recorder, stop_requested, missed_limit)
    try:
        return (yield from run.ticks())
    except BadActionError as error:
        return run.stopped(StopReason.BAD_ACTION, str(error))
    except DeviceLostError as error:
        return run.stopped(StopReason.DEVICE_LOST, str(error))
    except RecordingError as error:
        return run.stopped(StopReason.RECORDER, str(error))
    except (GeneratorExit, KeyboardInterrupt):
        robot.stop(StopReason.REQUESTED)
        raise
    except BaseException:
        robot.stop(StopReason.ERROR)
        raise


def run_episode(loop: Generator[Ask, Chunk | None, EpisodeSummary], actor: Actor) -> EpisodeSummary:
    """Runs one loop with one actor to its end, on whatever clock the robot has."""
    actor.reset()
    try:
        ask = next(loop)
        while True:
            ask = loop.send(_answer(loop, actor, ask))
    except StopIteration as end:
        summary: EpisodeSummary = end.value
        return summary
    finally:
        loop.close()


def _answer(loop: Generator[Ask, Chunk | None, EpisodeSummary], actor: Actor, ask: Ask) -> Chunk | None:
    """What the actor says; its error becomes the loop's, which stops the robot and passes it on."""
    try:
        return actor.act(ask.history, ask.now_ns)
    except BaseException as error:
        loop.throw(error)
        raise


@dataclass
class _Run:
    robot: Robot
    max_steps: int
    action_filter: ActionFilter
    history: deque[Observation]
    recorder: Recorder | None
    stop_requested: Callable[[], StopReason | None]
    missed_limit: int
    steps: int = 0
    missed_in_a_row: int = 0
    rewards: list[float] = field(default_factory=list)
    outcome: Outcome | None = None
    counters: Counter[str] = field(default_factory=Counter)

    def ticks(self) -> Generator[Ask, Chunk | None, EpisodeSummary]:
        robot, period_ns = self.robot, self.robot.spec.period_ns
        timeline = Timeline(robot.spec.action)
        start_ns = robot.clock.now_ns()
        while self.steps < self.max_steps:
            tick_ns = start_ns + self.steps * period_ns
            observation = self._observe()
            if (fault := self._fault(observation)) is not None:
                return self.stopped(*fault)
            answer = yield Ask(self.steps, tick_ns, tuple(self.history))
            if answer is not None:
                timeline.add(answer)
            target = timeline.read(tick_ns + period_ns)
            if target is not None:
                self._command(observation, target, tick_ns, tick_ns + period_ns)
            self._wait_for(tick_ns + period_ns)
            self.steps += 1
            self._take_outcome(recorded=target is not None)
            if self.outcome is not None and self.outcome.terminated:
                break
        return self.summary()

    def stopped(self, reason: StopReason, detail: str = "") -> EpisodeSummary:
        self.robot.stop(reason)
        return self.summary(reason, detail)

    def summary(self, stop: StopReason | None = None, detail: str = "") -> EpisodeSummary:
        terminated = self.outcome is not None and self.outcome.terminated
        return EpisodeSummary(
            steps=self.steps,
            stop=stop,
            stop_detail=detail,
            success=self.outcome is not None and self.outcome.success,
            terminated=terminated,
            truncated=stop is None and not terminated,
            rewards=tuple(self.rewards),
            counters=dict(self.counters + self.action_filter.counts),
        )

    def _observe(self) -> Observation:
        observation = self.robot.observe()
        if self.history:
            before = self.history[-1]
            repeated = [k for k, sample in observation.items() if k in before and before[k].sequence == sample.sequence]
            self.counters["repeats"] += len(repeated)
        self.history.append(observation)
        return observation

    def _fault(self, observation: Observation) -> tuple[StopReason, str] | None:
        if (reason := self.stop_requested()) is not None:
            return reason, "a stop was requested"
        if self.missed_in_a_row >= self.missed_limit:
            return StopReason.MISSED_DEADLINES, f"{self.missed_in_a_row} deadlines in a row were missed"
        now_ns = self.robot.clock.now_ns()
        for name, spec in self.robot.spec.observations.items():
            if name not in observation:
                return StopReason.STALE_OBSERVATION, f"stream '{name}' has delivered nothing yet"
            limit_s = spec.max_age_s
            age_s = (now_ns - observation[name].time_ns) / 1e9
            if limit_s is not None and age_s > limit_s:
                return (
                    StopReason.STALE_OBSERVATION,
                    f"stream '{name}' is {age_s:.3f} s old, at most {limit_s:g} s allowed",
                )
        return None

    def _command(self, observation: Observation, target: Target, tick_ns: Nanoseconds, reach_ns: Nanoseconds) -> None:
        self.counters["exhausted"] += target.exhausted
        sent = self.action_filter(target.action)
        self.robot.command(sent, reach_ns)
        if self.recorder is not None:
            chunk = target.chunk
            self.recorder.record(Tick(self.steps, tick_ns, observation, sent, target.action, chunk.source, chunk.info))

    def _wait_for(self, deadline_ns: Nanoseconds) -> None:
        late = self.robot.clock.now_ns() > deadline_ns
        self.counters["missed"] += late
        self.missed_in_a_row = self.missed_in_a_row + 1 if late else 0
        self.robot.clock.sleep_until(deadline_ns)

    def _take_outcome(self, *, recorded: bool) -> None:
        self.outcome = self.robot.outcome()
        if self.outcome is None:
            return
        self.rewards.append(self.outcome.reward)
        if self.recorder is not None and recorded:
            truncated = self.steps == self.max_steps and not self.outcome.terminated
            self.recorder.record_outcome(self.outcome, truncated)
