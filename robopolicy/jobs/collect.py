"""What `scripts/collect.py` does: episodes of a scripted expert in simulation, recorded through the one loop."""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from robopolicy.command import Run
from robopolicy.configuration import build, plain
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import EpisodeSummary, episode, run_episode
from robopolicy.control.robot import SimulatedRobot
from robopolicy.dataset.dataset import DATASET_FILE, Dataset
from robopolicy.errors import ConfigError, DatasetError
from robopolicy.evaluation.pool import THREAD_VARIABLES
from robopolicy.jobs.seeds import DEMONSTRATION, RANGES
from robopolicy.jobs.task import codecs_of, make_robot, robot_spec
from robopolicy.spec import RobotSpec

_MOST_FAILURES = 0.5
_FAILURES = {"discard": "discarded", "keep": "kept"}
"""Choices of `failures`, and what was done with them."""


@dataclass(frozen=True)
class Target:
    """The dataset that the worker processes write into; each opens it for itself.

    Attributes:
        versions: what simulates now; the new episodes carry them.
        codecs: of image streams; None takes those that the dataset has.
        keep_failures: attempts that fail are episodes too, with `success` false.
    """

    path: Path
    versions: Mapping[str, str]
    codecs: Mapping[str, str] | None
    keep_failures: bool = False

    def open(self, task: Mapping[str, Any], spec: RobotSpec) -> Dataset:
        """The dataset, made if need be. Raises SpecError or DatasetError when it does not fit the task."""
        return Dataset.open_or_create(
            self.path, spec=spec, task=task["name"], versions=self.versions, codecs=self.codecs
        )


@dataclass(frozen=True)
class Attempt:
    """One try of the expert: whether it was kept as episode `number`, and how it went."""

    number: int
    kept: bool
    summary: EpisodeSummary


def collect(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Collects until the dataset holds `episodes` of them, and returns what `result.json` says.

    Episode number, environment seed and expert seed are one number, so the data do not depend on the number of workers.
    Failed attempts are not kept, and their numbers stay unused, unless `failures` is `keep`.
    """
    task = plain(config.task)
    if config.teleop != "scripted":
        raise ConfigError(f"teleop={config.teleop} is unknown, expected scripted")
    if config.failures not in _FAILURES:
        raise ConfigError(f"failures={config.failures} is unknown, expected {' or '.join(_FAILURES)}")
    if config.more is not None and not isinstance(config.more, int):
        raise ConfigError(f"more={config.more} is no number of episodes")
    if task.get("expert") is None:
        raise ConfigError(
            f"task '{task['name']}' has no scripted expert: import demonstrations with data.py action=import"
        )
    path = Path(config.out)
    target = Target(path, build(task["versions"]), codecs_of(config), config.failures == "keep")
    existing = Dataset.open(path) if (path / DATASET_FILE).exists() else None
    present, next_number = (len(existing.episodes), existing.next_number()) if existing else (0, 0)
    missing = max(int(config.episodes) - present, 0) if config.more is None else int(config.more)
    first = max(int(config.seed), next_number)
    _check_seeds(range(first, first + missing))
    target.open(task, robot_spec(task))
    made: list[Attempt] = []
    with run.progress(f"collecting {task['name']}", missing) as advance:
        for attempt in attempts(task, target, missing, first, int(config.workers)):
            made.append(attempt)
            advance(int(attempt.kept), note=f"{_failures(made)} failed")
    kept = [attempt for attempt in made if attempt.kept]
    steps = sum(attempt.summary.steps for attempt in kept)
    run.say(
        f"{path}: {present + len(kept)} episodes, {len(kept)} of them new ({steps} steps), "
        f"{_failures(made)} attempts failed and were {_FAILURES[config.failures]}"
    )
    return {
        "data": str(path),
        "episodes": present + len(kept),
        "new_episodes": len(kept),
        "new_steps": steps,
        "failed_attempts": _failures(made),
        "counters": _total([attempt.summary.counters for attempt in kept]),
    }


def attempts(task: Mapping[str, Any], target: Target, wanted: int, first: int, workers: int) -> Iterator[Attempt]:
    """Attempts in waves: each has as many as are still missing, so the seeds tried do not depend on who is faster."""
    failures, number = 0, first
    arguments = (dict(task), target)
    context = multiprocessing.get_context("spawn")
    with (
        _one_thread_each(),
        ProcessPoolExecutor(max(workers, 1), context, initializer=_Worker.begin, initargs=arguments) as pool,
    ):
        while wanted > 0:
            numbers = range(number, number + wanted)
            _check_seeds(numbers)
            number += wanted
            for attempt in pool.map(_Worker.attempt, numbers):
                wanted -= attempt.kept
                failures += not attempt.kept
                yield attempt
            if failures > _MOST_FAILURES * (number - first) and failures > 10:
                raise DatasetError(
                    f"the expert of task '{task['name']}' failed {failures} of {number - first} attempts"
                )


def _check_seeds(numbers: Sequence[int]) -> None:
    allowed = RANGES[DEMONSTRATION]
    if numbers and numbers[-1] not in allowed:
        raise ConfigError(
            f"episode {numbers[-1]} is no demonstration seed (0 to {allowed[-1]}): "
            f"the seeds above are for tuning and results"
        )


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that begin meanwhile compute on one thread: the variables are there before they import anything."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Worker:
    """A process with one robot that makes attempts; the robot is closed when the process ends."""

    _task: Mapping[str, Any]
    _robot: SimulatedRobot
    _dataset: Dataset
    _keep_failures: bool

    @classmethod
    def begin(cls, task: Mapping[str, Any], target: Target) -> None:
        cls._task, cls._robot = task, make_robot(task)
        atexit.register(cls._robot.close)
        cls._dataset = target.open(task, cls._robot.spec)
        cls._keep_failures = target.keep_failures

    @classmethod
    def attempt(cls, number: int) -> Attempt:
        task, robot = cls._task, cls._robot
        robot.reset(number)
        expert = build(task["expert"], simulation=robot.simulation, seed=number)  # type: ignore[attr-defined]
        with cls._dataset.writer(number, wait_for_encoder=True) as writer:
            loop = episode(
                robot,
                max_steps=int(task["max_steps"]),
                action_filter=ActionFilter(robot.spec.action, task["step_limits"]),
                recorder=writer,
            )
            summary = run_episode(loop, expert)
            kept = summary.success or cls._keep_failures
            if kept:
                reason = summary.stop.value if summary.stop else "terminated" if summary.terminated else "truncated"
                writer.commit(stop_reason=reason, success=summary.success, metadata={"seed": number})
        return Attempt(number, kept, summary)


def _failures(made: Sequence[Attempt]) -> int:
    return sum(not attempt.summary.success for attempt in made)


def _total(counters: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = sorted({name for counter in counters for name in counter})
    return {name: sum(counter.get(name, 0) for counter in counters) for name in names}
