"""The worker's half of an evaluation: slots, each with one robot, that run episodes between two questions.

A slot is sent an order (start a seed, or here is your answer) and runs its loop until somebody must decide again or the
episode ends. It knows nothing of the other slots, so it does not matter in which process it lives.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.actor import Chunk
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import Ask, EpisodeSummary, Tick, episode
from robopolicy.control.robot import Outcome, SimulatedRobot
from robopolicy.errors import RenderingError, RobopolicyError
from robopolicy.evaluation.episodes import EpisodeJob, EpisodeResult, Trace
from robopolicy.evaluation.video import VideoWriter
from robopolicy.spec import Nanoseconds


@dataclass(frozen=True)
class Start:
    """Begin an episode. `camera` None means the robot's default one."""

    seed: int
    video: bool = False
    camera: str | None = None
    trace: bool = False


@dataclass(frozen=True)
class Answer:
    """The actor's answer to the last question; the next `quiet_ticks` ticks are run without asking."""

    chunk: Chunk | None
    quiet_ticks: int = 0


@dataclass(frozen=True)
class Question:
    """The loop's question and the robot's tick length."""

    ask: Ask
    period_ns: Nanoseconds


Order = Start | Answer
Reply = Question | EpisodeResult


class Slot:
    """One place for episodes, one after the other, on one robot."""

    def __init__(self, job: EpisodeJob) -> None:
        self._job = job
        self._robot: SimulatedRobot | None = None
        self._running: _Running | None = None
        self.seed: int | None = None

    def obey(self, order: Order) -> Reply:
        """Runs until the next question or the end of the episode."""
        if isinstance(order, Start):
            self.seed = order.seed
            self._running = _Running(self._job, self._started_robot(), order)
            return self._running.begin()
        if self._running is None:
            raise RuntimeError("an answer came before an episode was started")
        return self._running.proceed(order)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
        if self._robot is not None:
            self._robot.close()

    def _started_robot(self) -> SimulatedRobot:
        if self._robot is None:
            self._robot = self._job.make_robot()
        return self._robot


class _Running:
    """One episode under way."""

    def __init__(self, job: EpisodeJob, robot: SimulatedRobot, order: Start) -> None:
        self._robot = robot
        self._order = order
        self._chunks: list[Chunk] = []
        self._info: dict[str, list[float]] = {}
        self._sent = _SentActions() if order.trace else None
        self._film = _Film(robot, order.camera) if order.video else None
        robot.reset(order.seed)
        self._loop: Generator[Ask, Chunk | None, EpisodeSummary] = episode(
            robot,
            max_steps=job.max_steps,
            action_filter=ActionFilter(robot.spec.action, job.step_limits),
            history_steps=job.history_steps,
            recorder=self._sent,
        )

    def begin(self) -> Reply:
        return self._next(None, first=True)

    def proceed(self, answer: Answer) -> Reply:
        if answer.chunk is not None:
            for name, value in answer.chunk.info.items():
                self._info.setdefault(name, []).append(float(value))
            if self._order.trace:
                self._chunks.append(answer.chunk)
        reply = self._next(answer.chunk)
        for _ in range(answer.quiet_ticks):
            if isinstance(reply, EpisodeResult):
                break
            reply = self._next(None)
        return reply

    def close(self) -> None:
        self._loop.close()

    def _next(self, chunk: Chunk | None, *, first: bool = False) -> Reply:
        try:
            ask = next(self._loop) if first else self._loop.send(chunk)
        except StopIteration as end:
            return self._result(end.value)
        if self._film is not None:
            self._film.take()
        return Question(ask, self._robot.spec.period_ns)

    def _result(self, summary: EpisodeSummary) -> EpisodeResult:
        details: Mapping[str, float] = self._robot.details() if hasattr(self._robot, "details") else {}
        info = {name: tuple(values) for name, values in self._info.items()}
        result = EpisodeResult(self._order.seed, summary, {key: float(value) for key, value in details.items()}, info)
        if self._film is not None:
            self._film.take()
            video, error = self._film.finish()
            result = replace(result, video=video, render_error=error)
        return replace(result, trace=self._sent.trace(tuple(self._chunks))) if self._sent is not None else result


@dataclass
class _SentActions:
    """A recorder that keeps times and actions only."""

    times_ns: list[Nanoseconds] = field(default_factory=list)
    actions: list[NDArray[np.float64]] = field(default_factory=list)

    def record(self, tick: Tick) -> None:
        self.times_ns.append(tick.time_ns)
        self.actions.append(tick.action)

    def record_outcome(self, outcome: Outcome, truncated: bool) -> None:
        """The result has the outcomes."""

    def trace(self, chunks: tuple[Chunk, ...]) -> Trace:
        width = self.actions[0].shape[0] if self.actions else 0
        actions = np.asarray(self.actions, dtype=np.float64).reshape(-1, width)
        return Trace(np.asarray(self.times_ns, dtype=np.int64), actions, chunks)


class _Film:
    """One frame a tick until camera or encoder fail; the sentence is kept, and the film ends, not the episode.

    A simulator's drawing can raise errors of many libraries (GL, pygame, FFmpeg), so here any error is one.
    """

    def __init__(self, robot: SimulatedRobot, camera: str | None) -> None:
        self._robot = robot
        self._camera: str | None = camera or getattr(robot, "default_camera", None)
        self._writer: VideoWriter | None = None
        self._error: str | None = None

    def take(self) -> None:
        if self._error is not None:
            return
        try:
            if self._camera is None:
                raise RenderingError(f"'{self._robot.spec.name}' has no default camera, choose one with camera=<name>")
            frame = self._robot.render(self._camera)
            if self._writer is None:
                self._writer = VideoWriter(frame.shape[1], frame.shape[0], self._robot.spec.rate_hz)
            self._writer.add(frame)
        except Exception as error:
            self._error = _sentence(error)

    def finish(self) -> tuple[bytes | None, str | None]:
        """The video, or None and why there is none."""
        video = None
        try:
            if self._writer is not None:
                video = self._writer.finish()
        except Exception as error:
            self._error = self._error or _sentence(error)
        return (video, None) if self._error is None else (None, self._error)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, RobopolicyError) else f"filming failed: {type(error).__name__}: {error}"


def sendable(replies: Mapping[int, Reply]) -> dict[int, Reply]:
    """The replies with observations as plain dictionaries: a robot may hand out views that cannot be pickled."""
    return {slot: _sendable(reply) for slot, reply in replies.items()}


def _sendable(reply: Reply) -> Reply:
    if isinstance(reply, EpisodeResult):
        return reply
    history = tuple(dict(observation) for observation in reply.ask.history)
    return replace(reply, ask=replace(reply.ask, history=history))
