"""Lockstep evaluation: the same results for any number of workers, and clean ends when something breaks."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from point_robot import (
    BlindRobot,
    BrokenRobot,
    KilledRobot,
    PointRobot,
    ResizingRobot,
    WrongFilmRobot,
    unbuildable_robot,
)

from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.loop import Ask
from robopolicy.control.robot import StopReason
from robopolicy.errors import ConfigError
from robopolicy.evaluation.episodes import EpisodeJob, EpisodeResult
from robopolicy.evaluation.lockstep import evaluate
from robopolicy.evaluation.pool import EvaluationError, RobotFailedError
from robopolicy.evaluation.video import VideoWriter
from robopolicy.spec import Nanoseconds

PERIOD_NS = 100_000_000
JOB = EpisodeJob(PointRobot, max_steps=40, step_limits={"x": 0.15}, history_steps=2)
SEEDS = list(range(10, 23))


class Homing:
    """Four actions towards zero, with noise of the episode's own; asked every `every` ticks."""

    def __init__(self, every: int = 3) -> None:
        self.every = every
        self.calls: list[tuple[int, ...]] = []
        self.resets: list[tuple[int, int]] = []
        self.lengths: list[int] = []
        self._random: dict[int, np.random.Generator] = {}
        self._next_ns: dict[int, Nanoseconds] = {}

    def reset(self, slot: int, seed: int) -> None:
        self.resets.append((slot, seed))
        self._random[slot] = np.random.default_rng([seed, 99])
        self._next_ns[slot] = 0

    def act(self, asks: Mapping[int, Ask]) -> dict[int, Chunk | None]:
        self.calls.append(tuple(asks))
        return {slot: self._answer(slot, ask) for slot, ask in asks.items()}

    def due(self, slot: int, now_ns: Nanoseconds) -> bool:
        return now_ns >= self._next_ns[slot]

    def _answer(self, slot: int, ask: Ask) -> Chunk | None:
        self.lengths.append(len(ask.history))
        if ask.now_ns < self._next_ns[slot]:
            return None
        self._next_ns[slot] = ask.now_ns + self.every * PERIOD_NS
        x = ask.history[-1]["position"].value[0]
        targets = x * 0.8 ** np.arange(1, 5) + 0.02 * self._random[slot].normal(size=4)
        return chunk_from(targets[:, None], ask.now_ns, PERIOD_NS, "policy", {"first": float(targets[0])})


class Impatient(Homing):
    """The same answers, but asked at every tick."""

    def due(self, slot: int, now_ns: Nanoseconds) -> bool:
        return True


def same(a: list[EpisodeResult], b: list[EpisodeResult]) -> bool:
    """Bit for bit, but for the processes they ran in."""
    for one, other in zip(a, b, strict=True):
        assert one.trace is not None
        assert other.trace is not None
        equal = one.seed == other.seed and one.summary == other.summary
        equal &= one.details["distance"] == other.details["distance"]
        equal &= np.array_equal(one.trace.actions, other.trace.actions)
        equal &= np.array_equal(one.trace.times_ns, other.trace.times_ns)
        if not equal:
            return False
    return True


@pytest.fixture(scope="module")
def reference() -> tuple[list[EpisodeResult], Homing]:
    actor = Homing()
    return evaluate(JOB, SEEDS, actor, slots=5, workers=0, traces=SEEDS), actor


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_do_not_depend_on_the_workers(reference: tuple[list[EpisodeResult], Homing], workers: int) -> None:
    actor = Homing()
    results = evaluate(JOB, SEEDS, actor, slots=5, workers=workers, traces=SEEDS)
    assert same(results, reference[0])
    assert actor.calls == reference[1].calls
    assert actor.resets == reference[1].resets
    processes = {result.details["process"] for result in results}
    assert len(processes) == workers


def test_results_come_in_the_order_of_the_seeds(reference: tuple[list[EpisodeResult], Homing]) -> None:
    shuffled = [17, 12, 20, 10]
    came: list[int] = []
    results = evaluate(
        JOB, shuffled, Homing(), slots=3, workers=0, traces=shuffled, on_episode=lambda result: came.append(result.seed)
    )
    assert [result.seed for result in results] == shuffled
    assert sorted(came) == sorted(shuffled)
    by_seed = {result.seed: result for result in reference[0]}
    assert same(results, [by_seed[seed] for seed in shuffled])


def test_silence_equals_answering_nothing(reference: tuple[list[EpisodeResult], Homing]) -> None:
    """Ticks that are not due change nothing but the number of questions."""
    impatient = Impatient()
    results = evaluate(JOB, SEEDS, impatient, slots=5, workers=0, traces=SEEDS)
    assert same(results, reference[0])
    assert sum(map(len, impatient.calls)) == sum(result.summary.steps for result in results)
    assert len(impatient.calls) > 2 * len(reference[1].calls)


def test_slots_are_filled_in_order_and_asked_together(reference: tuple[list[EpisodeResult], Homing]) -> None:
    results, actor = reference
    assert actor.resets[:5] == [(slot, SEEDS[slot]) for slot in range(5)]
    assert [seed for _, seed in actor.resets] == SEEDS
    assert actor.calls[0] == (0, 1, 2, 3, 4)
    assert all(call == tuple(sorted(call)) for call in actor.calls)
    assert len({result.summary.steps for result in results}) > 3
    assert set(actor.lengths) == {1, 2}
    assert any(result.success for result in results)
    assert any(result.summary.counters.get("shortened", 0) > 0 for result in results)


def test_traces_hold_chunks_and_sent_actions(reference: tuple[list[EpisodeResult], Homing]) -> None:
    for result in reference[0]:
        trace = result.trace
        assert trace is not None
        assert trace.actions.shape == (result.summary.steps, 1)
        assert np.array_equal(trace.times_ns, PERIOD_NS * np.arange(result.summary.steps))
        assert [chunk.observed_ns for chunk in trace.chunks] == list(
            range(0, result.summary.steps * PERIOD_NS, 3 * PERIOD_NS)
        )
        assert result.info == {"first": tuple(chunk.actions[0, 0] for chunk in trace.chunks)}


def test_workers_have_no_torch_and_one_thread() -> None:
    (result,) = evaluate(JOB, [10], Homing(), workers=1)
    assert result.details["torch_imported"] == 0
    assert result.details["threads"] == 1
    assert result.trace is None
    assert result.video is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_robot_that_cannot_be_built_is_one_sentence(workers: int) -> None:
    job = EpisodeJob(unbuildable_robot, max_steps=5)
    with pytest.raises(EvaluationError, match="seed 10 failed: controller 'joint' is unknown, expected 'pose'"):
        evaluate(job, SEEDS, Homing(), slots=4, workers=workers)
    assert not children()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_target_outside_the_packages_is_refused(workers: int) -> None:
    job = EpisodeJob({"_target_": "os.system", "command": "true"}, max_steps=5)
    with pytest.raises(EvaluationError, match="'os.system' lies outside the packages"):
        evaluate(job, [1], Homing(), workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bug_in_a_robot_keeps_its_traceback(workers: int) -> None:
    job = EpisodeJob(BrokenRobot, max_steps=20)
    with pytest.raises(RobotFailedError, match="seed 13 failed: ValueError: the physics exploded") as caught:
        evaluate(job, SEEDS, Homing(), slots=5, workers=workers)
    if workers:
        assert "point_robot.py" in caught.value.__notes__[0]
    assert not children()


def test_a_killed_worker_is_one_sentence_and_leaves_nothing() -> None:
    with pytest.raises(EvaluationError, match=r"worker 1 \(process \d+\) died with signal SIGKILL"):
        evaluate(EpisodeJob(KilledRobot, max_steps=20), SEEDS, Homing(), slots=5, workers=2)
    assert not children()


def test_a_job_that_a_worker_cannot_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that only this process has."""
    module = ModuleType("only_here")
    exec("def make():\n    raise AssertionError", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(RobotFailedError, match="ModuleNotFoundError: No module named 'only_here'"):
        evaluate(EpisodeJob(module.make, max_steps=5), [1, 2], Homing(), workers=2)
    assert not children()


def test_a_job_that_cannot_be_sent_leaves_no_process() -> None:
    with pytest.raises(AttributeError, match="lambda"):
        evaluate(EpisodeJob(lambda: PointRobot(), max_steps=5), [1], Homing(), workers=1)
    assert not children()


def test_an_actor_that_raises_ends_the_workers() -> None:
    class Failing(Homing):
        def act(self, asks: Mapping[int, Ask]) -> dict[int, Chunk | None]:
            if len(self.calls) > 2:
                raise KeyboardInterrupt
            return super().act(asks)

    with pytest.raises(KeyboardInterrupt):
        evaluate(JOB, SEEDS, Failing(), slots=4, workers=2)
    assert not children()


def test_an_actor_must_answer_every_slot() -> None:
    class Forgetful(Homing):
        def act(self, asks: Mapping[int, Ask]) -> dict[int, Chunk | None]:
            return {slot: chunk for slot, chunk in super().act(asks).items() if slot != 1}

    with pytest.raises(ValueError, match=r"did not answer slots \[1\]"):
        evaluate(JOB, SEEDS, Forgetful(), slots=3, workers=0)


def test_a_stopped_episode_does_not_touch_the_next_one(reference: tuple[list[EpisodeResult], Homing]) -> None:
    class Poisoned(Homing):
        def _answer(self, slot: int, ask: Ask) -> Chunk | None:
            chunk = super()._answer(slot, ask)
            if chunk is not None and ask.history[-1]["seed"].value[0] == 11 and ask.step == 3:
                return chunk_from(np.full((1, 1), np.nan), ask.now_ns, PERIOD_NS, "policy")
            return chunk

    results = evaluate(JOB, SEEDS, Poisoned(), slots=2, workers=0, traces=SEEDS)
    assert results[1].summary.stop is StopReason.BAD_ACTION
    assert results[1].summary.steps == 3
    assert same(results[2:], reference[0][2:])


def test_films_have_one_frame_a_tick() -> None:
    av = pytest.importorskip("av")
    results = evaluate(JOB, [10, 11], Homing(), workers=1, videos=[11], camera="front")
    assert results[0].video is None
    video = results[1].video
    assert video is not None
    with av.open(io.BytesIO(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    assert len(frames) == results[1].summary.steps + 1
    assert frames[0].shape == (32, 64, 3)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("robot", "sentence"),
    [
        (BlindRobot, "filming failed: OSError: the display went away"),
        (ResizingRobot, "a video frame is uint8 (20, 20, 3), expected uint8 (31, 64, 3)"),
        (WrongFilmRobot, "filming failed: AttributeError"),
    ],
)
def test_whatever_a_camera_raises_ends_no_episode(workers: int, robot: type[PointRobot], sentence: str) -> None:
    (plain,) = evaluate(JOB, [11], Homing(), workers=0)
    (result,) = evaluate(replace(JOB, robot=robot), [11], Homing(), workers=workers, videos=[11], camera="front")
    assert result.summary == plain.summary
    assert result.video is None
    assert result.render_error is not None
    assert result.render_error.startswith(sentence)


def test_an_encoder_that_fails_at_the_end_ends_no_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(writer: VideoWriter) -> bytes:
        raise MemoryError("no room for the film")

    monkeypatch.setattr(VideoWriter, "finish", fail)
    (result,) = evaluate(JOB, [11], Homing(), workers=0, videos=[11], camera="front")
    assert result.video is None
    assert result.render_error == "filming failed: MemoryError: no room for the film"


@pytest.mark.parametrize(
    ("camera", "sentence"), [("back", "no camera 'back'"), (None, "'point' has no default camera")]
)
def test_a_camera_that_fails_ends_no_episode(camera: str | None, sentence: str) -> None:
    (plain,) = evaluate(JOB, [11], Homing(), workers=0)
    (result,) = evaluate(JOB, [11], Homing(), workers=0, videos=[11], camera=camera)
    assert result.summary == plain.summary
    assert result.video is None
    assert result.render_error is not None
    assert sentence in result.render_error


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": [1, 2, 1]}, r"seeds \[1\] are listed more than once"),
        ({"slots": 0}, "expected at least 1 slot"),
        ({"videos": [5]}, r"videos are asked for seeds \[5\]"),
        ({"traces": [6]}, r"traces are asked for seeds \[6\]"),
    ],
)
def test_impossible_wishes_are_refused(options: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {"seeds": [1, 2], "actor": Homing(), "workers": 0} | options
    with pytest.raises(ConfigError, match=sentence):
        evaluate(JOB, **arguments)  # type: ignore[arg-type]


def test_no_seeds_give_no_results() -> None:
    assert evaluate(JOB, [], Homing()) == []


def children() -> list[str]:
    """Command lines of this process's children that serve slots."""
    own = str(os.getpid())
    lines = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = status.read_text().rpartition(")")[2].split()[1]
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if parent == own and "serve()" in command:
            lines.append(command)
    return lines
