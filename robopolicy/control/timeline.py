"""The timeline: chunks land as timed targets, a tick reads the target of its own time.

The newest chunk wins from its first target on; until then the one before it goes on. When the newest is exhausted,
absolute parts keep their last target, delta and rate parts become zero, grippers keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.actor import Chunk
from robopolicy.control.interpolation import between, parts_of
from robopolicy.control.validity import check_actions
from robopolicy.errors import BadActionError
from robopolicy.spec import ArraySpec, Nanoseconds


@dataclass(frozen=True)
class Target:
    """What one tick is to command, and the chunk it comes from."""

    action: NDArray[np.float64]
    chunk: Chunk
    exhausted: bool


class Timeline:
    """Targets of one episode for the action `spec`."""

    def __init__(self, spec: ArraySpec) -> None:
        self._spec = spec
        self._chunks: list[Chunk] = []

    def add(self, chunk: Chunk) -> None:
        """Lands a chunk. Raises BadActionError for a shape, values or times that cannot be executed."""
        size = self._spec.shape[0]
        if chunk.actions.ndim != 2 or len(chunk.actions) == 0:
            raise BadActionError(f"a chunk from '{chunk.source}' has shape {chunk.actions.shape}, expected [T, {size}]")
        check_actions(self._spec, chunk.actions, f"a chunk from '{chunk.source}'")
        if chunk.times_ns.shape != chunk.actions.shape[:1] or np.any(np.diff(chunk.times_ns) <= 0):
            raise BadActionError(f"the times of a chunk from '{chunk.source}' are not ascending, one for each action")
        self._chunks = [old for old in self._chunks if old.times_ns[0] < chunk.times_ns[0]] + [chunk]

    def read(self, time_ns: Nanoseconds) -> Target | None:
        """The target to be reached at `time_ns`, which never goes back; None before the first chunk."""
        while len(self._chunks) > 1 and self._chunks[1].times_ns[0] <= time_ns:
            del self._chunks[0]
        if not self._chunks:
            return None
        chunk = self._chunks[0]
        after = int(np.searchsorted(chunk.times_ns, time_ns))
        if after == len(chunk.times_ns):
            return Target(self._hold(chunk.actions[-1]), chunk, exhausted=True)
        if after == 0 or chunk.times_ns[after] == time_ns:
            return Target(chunk.actions[after].copy(), chunk, exhausted=False)
        start, end = chunk.times_ns[after - 1], chunk.times_ns[after]
        fraction = float(time_ns - start) / float(end - start)
        action = between(self._spec, chunk.actions[after - 1], chunk.actions[after], fraction)
        return Target(action, chunk, exhausted=False)

    def _hold(self, last: NDArray[np.float64]) -> NDArray[np.float64]:
        action = last.copy()
        for part, place in parts_of(self._spec):
            if part.mode != "absolute":
                action[place] = 0.0
        return action
