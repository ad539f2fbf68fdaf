"""What goes into an evaluation and what comes out of it: one job, and one result for each seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.actor import Chunk
from robopolicy.control.loop import EpisodeSummary
from robopolicy.control.robot import SimulatedRobot, StopReason
from robopolicy.errors import ConfigError
from robopolicy.evaluation.robots import started_robot
from robopolicy.evaluation.statistics import Interval, bootstrap_mean, wilson

_FEW_VALUES = 4


@dataclass(frozen=True)
class EpisodeJob:
    """How to run one episode; plain and picklable, since worker processes build their robots from it.

    Args:
        robot: a configuration with a `_target_` that makes a simulated robot, or a picklable function that does.
        max_steps: ticks until an episode is truncated.
        step_limits: greatest change per tick for each action part named here (see `ActionFilter`).
        history_steps: how many observations an actor sees, at most.
    """

    robot: Mapping[str, Any] | Callable[[], SimulatedRobot]
    max_steps: int
    step_limits: Mapping[str, float] = field(default_factory=dict)
    history_steps: int = 1

    def make_robot(self) -> SimulatedRobot:
        """A started one. Raises ConfigError when it is no simulated robot."""
        return started_robot(self.robot, "the evaluation")


@dataclass(frozen=True)
class Trace:
    """What one episode was asked to do and what was sent.

    Attributes:
        times_ns: [T] int64, the ticks at which something was sent.
        actions: [T, D], sent after the filter during those ticks, to be reached one period later.
        chunks: all that landed, in order.
    """

    times_ns: NDArray[np.int64]
    actions: NDArray[np.float64]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class EpisodeResult:
    """One episode. `trace` and `video` (an MP4 file) exist where asked for and are neither compared nor stored.

    `info` is what the actor said of each of its chunks (evaluations, steps, energy, ...), in order.
    """

    seed: int
    summary: EpisodeSummary
    details: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    trace: Trace | None = field(default=None, compare=False, repr=False)
    video: bytes | None = field(default=None, compare=False, repr=False)
    render_error: str | None = None

    @property
    def success(self) -> bool:
        return self.summary.success

    @property
    def max_reward(self) -> float:
        """The best moment of the episode; 0 where no reward was given."""
        return max(self.summary.rewards, default=0.0)


def success_by_detail(results: Sequence[EpisodeResult]) -> dict[str, dict[str, Interval]]:
    """The success rate of the episodes of each value, for details that take two to four values, such as the goal.

    A detail with hardly fewer values than there are episodes is a measurement, and left out.
    """
    most = min(_FEW_VALUES, len(results) // 2)
    rates = {}
    for name in sorted({name for result in results for name in result.details}):
        outcomes: dict[float, list[bool]] = {}
        for result in results:
            if name in result.details:
                outcomes.setdefault(result.details[name], []).append(result.success)
        if 2 <= len(outcomes) <= most:
            rates[name] = {f"{value:g}": wilson(sum(won), len(won)) for value, won in sorted(outcomes.items())}
    return rates


def results_json(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """The part of `result.json` that `load_results` reads: success, mean of the best rewards, and every episode.

    `success_by_detail` is there for details with few values.

    Rewards and what actors said are written as one string with spaces, so that the file stays readable.
    """
    return {
        "success": wilson(sum(result.success for result in results), len(results)).json(),
        "max_reward": bootstrap_mean([result.max_reward for result in results]).json(),
        "success_by_detail": {
            name: {value: rate.json() for value, rate in rates.items()}
            for name, rates in success_by_detail(results).items()
        },
        "episodes": [_row(result) for result in results],
    }


def load_results(path: Path) -> list[EpisodeResult]:
    """The episodes of a `result.json`. Raises ConfigError when the file is missing or holds no evaluation."""
    try:
        rows = json.loads(path.read_text())["episodes"]
        return [_result(row) for row in rows]
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}, expected the result.json of an evaluation") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is not the result of an evaluation ({type(error).__name__}: {error}), "
            "expected a result.json that eval.py wrote"
        ) from error


def _row(result: EpisodeResult) -> dict[str, Any]:
    summary = result.summary
    return {
        "seed": result.seed,
        "success": summary.success,
        "steps": summary.steps,
        "max_reward": result.max_reward,
        "terminated": summary.terminated,
        "truncated": summary.truncated,
        "stop": summary.stop.value if summary.stop else None,
        "stop_detail": summary.stop_detail,
        "counters": dict(summary.counters),
        "details": dict(result.details),
        "render_error": result.render_error,
        "rewards": _numbers(summary.rewards),
        "info": {name: _numbers(values) for name, values in result.info.items()},
    }


def _result(row: Mapping[str, Any]) -> EpisodeResult:
    summary = EpisodeSummary(
        steps=int(row["steps"]),
        stop=StopReason(row["stop"]) if row["stop"] is not None else None,
        stop_detail=row["stop_detail"],
        success=bool(row["success"]),
        terminated=bool(row["terminated"]),
        truncated=bool(row["truncated"]),
        rewards=_read_numbers(row["rewards"]),
        counters=dict(row["counters"]),
    )
    info = {name: _read_numbers(values) for name, values in row.get("info", {}).items()}  # absent before it was stored
    return EpisodeResult(int(row["seed"]), summary, dict(row["details"]), info, render_error=row["render_error"])


def _numbers(values: Sequence[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _read_numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())
