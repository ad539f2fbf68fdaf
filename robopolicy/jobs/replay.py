"""What `scripts/replay.py` does: recorded actions again, through the one loop, compared with what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from robopolicy.actors.replay import ReplayActor
from robopolicy.command import Run
from robopolicy.configuration import plain
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import Tick, episode, run_episode
from robopolicy.control.robot import Observation, Outcome, SimulatedRobot
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.importers.robosuite_hdf5 import START_STATE
from robopolicy.dataset.layout import ACTION, OBSERVATION
from robopolicy.errors import ConfigError, DatasetError
from robopolicy.evaluation.statistics import wilson
from robopolicy.jobs.task import make_robot
from robopolicy.spec import RobotSpec, check_fits


@dataclass(frozen=True)
class Agreement:
    """What of the observations is compared, and how far it may be off: the Euclidean norm in the stream's unit.

    Attributes:
        streams: elements of the last axis of each compared stream.
        last_only: compare the last row that replay and recording share, instead of all of them.
        what: the same in words.
    """

    streams: Mapping[str, slice]
    tolerance: float
    last_only: bool
    unit: str
    what: str

    def errors(self, seen: Sequence[Observation], recorded: Episode) -> dict[str, float]:
        """The greatest distance of each compared stream from the recording; row i of both belongs to tick i."""
        count = min(len(seen), recorded.length)
        rows = slice(count - 1 if self.last_only else 0, count)
        return {name: self._error(name, seen[rows], recorded, rows) for name in self.streams}

    def _error(self, name: str, seen: Sequence[Observation], recorded: Episode, rows: slice) -> float:
        there = recorded.read(f"{OBSERVATION}/{name}")[rows].astype(np.float64)
        here = np.stack([observation[name].value for observation in seen]).astype(np.float64)
        return float(np.linalg.norm((here - there)[..., self.streams[name]], axis=-1).max())


@dataclass(frozen=True)
class Replayed:
    """How the replay of one episode went.

    Attributes:
        errors: of each compared stream, see `Agreement`.
        changes: actions that the filter limited or shortened.
        recorded_success: None where the recording does not know.
    """

    episode: int
    steps: int
    errors: Mapping[str, float]
    within: bool
    changes: int
    success: bool
    recorded_success: bool | None
    stop: str | None

    @property
    def error(self) -> float:
        """Of the stream that is farthest off."""
        return max(self.errors.values())


def replay(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Replays one episode or all, and returns what `result.json` says."""
    if config.robot != "sim":
        raise ConfigError(f"robot={config.robot} is unknown, expected sim")
    task = plain(config.task)
    dataset = Dataset.open(Path(config.data))
    robot = make_robot(task)
    try:
        whom = f"task '{task['name']}'"
        check_fits(dataset.spec, robot.spec, who=f"dataset '{config.data}'", whom=whom)
        agreement = _agreement(task, dataset.spec)
        results = []
        chosen = _chosen(dataset, config.episode)
        with run.progress(f"replaying {task['name']}", len(chosen)) as advance:
            for recorded in chosen:
                results.append(replay_episode(robot, recorded, task, agreement))
                advance(note=f"{sum(result.within for result in results)} within tolerance")
    finally:
        robot.close()
    _say(run, config.data, results, agreement)
    return {
        "data": str(config.data),
        "task": task["name"],
        "compared": agreement.what,
        "tolerance": agreement.tolerance,
        "within": wilson(sum(result.within for result in results), len(results)).json(),
        "filter_changes": sum(result.changes for result in results),
        "episodes": [asdict(result) for result in results],
    }


def replay_episode(robot: SimulatedRobot, recorded: Episode, task: Mapping[str, Any], agreement: Agreement) -> Replayed:
    """Replays one episode from where it began. Raises DatasetError when nothing says where that was."""
    _begin(robot, recorded, (task.get("replay") or {}).get("restore"))
    actions, seen = recorded.read(ACTION), _Seen()
    action_filter = ActionFilter(robot.spec.action, task["step_limits"])
    loop = episode(robot, max_steps=len(actions), action_filter=action_filter, recorder=seen)
    summary = run_episode(loop, ReplayActor(actions, robot.spec.period_ns))
    errors = agreement.errors([*seen.observations, robot.observe()], recorded)
    return Replayed(
        episode=recorded.number,
        steps=summary.steps,
        errors=errors,
        within=max(errors.values()) <= agreement.tolerance and summary.stop is None,
        changes=sum(action_filter.counts.values()),
        success=summary.success,
        recorded_success=recorded.metadata["success"],
        stop=None if summary.stop is None else f"{summary.stop.value}: {summary.stop_detail}",
    )


@runtime_checkable
class _Restorable(Protocol):
    def restore(self, state: NDArray[Any]) -> Observation: ...


@dataclass
class _Seen:
    """A recorder that keeps what was observed at each tick."""

    observations: list[Observation] = field(default_factory=list)

    def record(self, tick: Tick) -> None:
        self.observations.append(tick.observation)

    def record_outcome(self, outcome: Outcome, truncated: bool) -> None:
        """The summary has what matters."""


def _begin(robot: SimulatedRobot, recorded: Episode, restore: Sequence[str] | None) -> None:
    """From the stored simulator state, else from the streams that make one up, else from the seed."""
    metadata = recorded.metadata
    if isinstance(robot, _Restorable) and START_STATE in metadata:
        robot.restore(np.asarray(metadata[START_STATE]))
    elif isinstance(robot, _Restorable) and restore is not None:
        robot.restore(np.concatenate([recorded.read(f"{OBSERVATION}/{name}")[0] for name in restore]))
    elif "seed" in metadata:
        robot.reset(int(metadata["seed"]))
    else:
        raise DatasetError(f"'{recorded.path}' has neither a seed nor a start state, so it cannot be played again")


def _agreement(task: Mapping[str, Any], spec: RobotSpec) -> Agreement:
    """What the task says about the end, else that every small stream is equal throughout."""
    wanted = (task.get("replay") or {}).get("compare")
    if wanted is None:
        small = {name: slice(None) for name, stream in spec.observations.items() if not stream.is_image}
        return Agreement(small, 0.0, False, "", "all streams throughout")
    stream = spec.select([wanted["stream"]]).observations[wanted["stream"]]
    place = {wanted["stream"]: stream.slice_of(wanted["part"])}
    what = f"{wanted['stream']} {wanted['part']} at the end"
    return Agreement(place, float(wanted["tolerance"]), True, stream.unit, what)


def _chosen(dataset: Dataset, number: int | None) -> list[Episode]:
    chosen = [recorded for recorded in dataset.episodes if number is None or recorded.number == number]
    if not chosen:
        wanted = "committed episode" if number is None else f"episode {number}"
        raise DatasetError(f"dataset '{dataset.path}' has no {wanted}, so there is nothing to replay")
    return chosen


def _say(run: Run, data: str, results: Sequence[Replayed], agreement: Agreement) -> None:
    worst = max(results, key=lambda result: result.error)
    typical = median(result.error for result in results)
    unit = f" {agreement.unit}" if agreement.unit else ""
    changes, stops = sum(result.changes for result in results), [result for result in results if result.stop]
    share = wilson(sum(result.within for result in results), len(results))
    how = f"within {agreement.tolerance:g}{unit}" if agreement.tolerance else "equal"
    run.say(f"{data}: {share} episodes went as recorded ({agreement.what}: {how})")
    run.say(f"error: median {typical:.3g}{unit}, worst {worst.error:.3g}{unit} (episode {worst.episode})")
    run.say(f"success: {sum(result.success for result in results)} of {len(results)}{_recorded(results)}")
    changed = sum(result.changes > 0 for result in results)
    run.say(f"filter: {changes} actions changed" + (f" in {changed} episodes, so those differ" if changes else ""))
    for result in stops:
        run.say(f"episode {result.episode} was stopped after {result.steps} steps: {result.stop}")


def _recorded(results: Sequence[Replayed]) -> str:
    known = [result.recorded_success for result in results if result.recorded_success is not None]
    return f", in the recording {sum(known)} of {len(known)}" if known else ""
