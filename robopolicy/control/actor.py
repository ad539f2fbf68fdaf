"""Whoever decides: a policy, a script, a replay, a person. All answer the loop with timed chunks of actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.robot import Observation
from robopolicy.spec import Nanoseconds


@dataclass(frozen=True)
class Chunk:
    """A sequence of targets, each with the time at which it is to be reached.

    Index 0 is the action for the newest observation: observed at tick k, it is to be reached at tick k+1.

    Attributes:
        actions: [T, D], physical units.
        times_ns: [T] int64, ascending.
        observed_ns: time of the newest observation that it rests on.
        source: "policy", "human", "script", "replay".
        info: what the actor has to say (energy, evaluations, ...): recorded with every step that executes the chunk.
    """

    actions: NDArray[np.float64]
    times_ns: NDArray[np.int64]
    observed_ns: Nanoseconds
    source: str
    info: Mapping[str, float] = field(default_factory=dict)


def chunk_from(
    actions: NDArray[Any],
    now_ns: Nanoseconds,
    period_ns: Nanoseconds,
    source: str,
    info: Mapping[str, float] | None = None,
) -> Chunk:
    """The chunk [T, D] that starts at the tick of `now_ns`: action i is to be reached at now + (i + 1) periods."""
    times = now_ns + period_ns * np.arange(1, len(actions) + 1, dtype=np.int64)
    return Chunk(np.asarray(actions, dtype=np.float64), times, now_ns, source, dict(info or {}))


class Actor(Protocol):
    """Blocking, asynchronous and RTI actors differ only in when they are asked and when they answer."""

    def reset(self) -> None:
        """A new episode begins: forget the last one."""

    def act(self, history: Sequence[Observation], now_ns: Nanoseconds) -> Chunk | None:
        """A new chunk, or None: nothing new. `history` ends with the newest observation."""
