"""Plays recorded actions again, tick by tick, through the same loop as everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.robot import Observation
from robopolicy.spec import Nanoseconds


class ReplayActor:
    """Answers the first question of an episode with the whole recording as one chunk, and then stays silent.

    Args:
        actions: [T, D], physical units: row k was sent for the observation of row k.
        period_ns: time between two rows.
    """

    def __init__(self, actions: NDArray[Any], period_ns: Nanoseconds) -> None:
        if actions.ndim != 2 or len(actions) == 0:
            raise ValueError(f"actions have shape {actions.shape}, expected [T, D] with at least one row")
        self._actions = np.asarray(actions, dtype=np.float64)
        self._period_ns = period_ns
        self._sent = False

    def reset(self) -> None:
        self._sent = False

    def act(self, history: Sequence[Observation], now_ns: Nanoseconds) -> Chunk | None:
        if self._sent:
            return None
        self._sent = True
        return chunk_from(self._actions, now_ns, self._period_ns, "replay")
