"""Goals: observation streams that in training are the value of another stream at a later row of the same episode.

Hindsight (Andrychowicz et al., arXiv 1707.01495): whatever an episode reached was its goal, so demonstrations need no
labels. At deployment the robot offers the goal as an ordinary stream of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from robopolicy.dataset.layout import OBSERVATION
from robopolicy.dataset.statistics import Statistics
from robopolicy.errors import ConfigError
from robopolicy.spec import RobotSpec

When = Literal["last", "future"]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Goal:
    """Which stream a goal is a value of, and when: the episode's last row, or any row from now to the last."""

    stream: str
    when: When = "last"

    def __post_init__(self) -> None:
        if self.when not in get_args(When):
            raise ConfigError(f"a goal's `when` is '{self.when}', expected one of {', '.join(get_args(When))}")

    def rows(self, step: Rows, stop: Rows, draws: NDArray[np.floating[Any]]) -> Rows:
        """[B] the rows of the windows at `step` in episodes that end before `stop`.

        `draws` [B] in [0, 1) choose among the rows from now to the last, each as likely as the others.
        """
        if self.when == "last":
            return stop - 1
        ahead = np.floor(draws * (stop - step)).astype(np.int64)
        return np.minimum(step + ahead, stop - 1)


def goals_from(config: Mapping[str, Any] | None) -> dict[str, Goal]:
    """The `goals` of a task file, {goal stream: {stream: source, when: last or future}}. Raises ConfigError."""
    goals = {}
    for name, entry in (config or {}).items():
        try:
            goals[name] = Goal(**entry)
        except TypeError as error:
            raise ConfigError(
                f"task.goals.{name} is {entry}, expected such as {{stream: effector_position, when: last}}"
            ) from error
    return goals


def with_goals(spec: RobotSpec, recorded: RobotSpec, goals: Mapping[str, Goal]) -> RobotSpec:
    """`spec` with each goal as a further stream, described as its source is in `recorded`. Raises ConfigError."""
    observations = dict(spec.observations)
    for name, goal in goals.items():
        if name in observations:
            raise ConfigError(f"task.goals.{name} has the name of an observation: call it such as 'goal_{name}'")
        if goal.stream not in recorded.observations:
            raise ConfigError(f"task.goals.{name}.stream is '{goal.stream}', there are {sorted(recorded.observations)}")
        observations[name] = recorded.observations[goal.stream]
    return replace(spec, observations=observations)


def statistics_with_goals(statistics: Mapping[str, Statistics], goals: Mapping[str, Goal]) -> dict[str, Statistics]:
    """`statistics` of a dataset in which each goal has those of its source; an image has none."""
    sources = {f"{OBSERVATION}/{name}": f"{OBSERVATION}/{goal.stream}" for name, goal in goals.items()}
    return {**statistics, **{name: statistics[source] for name, source in sources.items() if source in statistics}}
