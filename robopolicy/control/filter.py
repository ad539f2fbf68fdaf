"""The safety filter that every command passes: shape and NaN checks, the action's limits, a step limit.

It is not a safety function in the sense of the standards: the hardware emergency stop remains. Every change it makes is
counted, so that a report can say how often a policy asked for something it did not get.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.interpolation import along, distance, parts_of
from robopolicy.control.validity import check_actions
from robopolicy.errors import BadActionError, ConfigError
from robopolicy.spec import ArraySpec, Part

Vector = NDArray[np.float64]

_NOT_SCALED = ("rotation_6d", "quaternion")


class ActionFilter:
    """Checks and limits the actions of one episode.

    Args:
        spec: the robot's action: its shape and its `low` and `high`.
        step_limits: greatest change from one tick to the next for each part named here: Euclidean norm in the part's
            unit, the angle in rad for rotations. A change that is too long is shortened, not turned. For a delta or
            rate part, whose value is a change already, it is the greatest norm of the value. The first absolute target
            of an episode has nothing to be measured from: whoever starts an arm slews it to the start pose first.
    """

    def __init__(self, spec: ArraySpec, step_limits: Mapping[str, float] | None = None) -> None:
        self._spec = spec
        self._step_limits = dict(step_limits or {})
        parts = {part.name: part for part, _ in parts_of(spec)}
        for name, limit in self._step_limits.items():
            if name not in parts:
                raise ConfigError(f"step limit for an unknown part '{name}', the action has {list(parts)}")
            if not limit > 0:
                raise ConfigError(f"step limit of '{name}' is {limit}, expected a positive number")
            if parts[name].discrete or (parts[name].mode != "absolute" and parts[name].kind in _NOT_SCALED):
                raise ConfigError(f"part '{name}' takes no step limit: its values cannot be shortened")
        self._low = None if spec.low is None else np.asarray(spec.low)
        self._high = None if spec.high is None else np.asarray(spec.high)
        self._last: Vector | None = None
        self.counts: Counter[str] = Counter()

    def __call__(self, action: NDArray[Any]) -> Vector:
        """The action ([D]) that may be sent. Raises BadActionError for one that cannot be mended."""
        if action.ndim != 1:
            raise BadActionError(f"the action has shape {action.shape}, expected {self._spec.shape}")
        check_actions(self._spec, action, "the action")
        wanted = np.asarray(action, dtype=np.float64)
        limited = np.clip(wanted, self._low, self._high) if self._bounded else wanted.copy()
        if not np.array_equal(limited, wanted):
            self.counts["limited"] += 1
        limited = self._shorten(limited)
        self._last = limited.copy()
        return limited

    @property
    def _bounded(self) -> bool:
        return self._low is not None or self._high is not None

    def _shorten(self, action: Vector) -> Vector:
        result, shortened = action.copy(), False
        for part, place in parts_of(self._spec):
            limit = self._step_limits.get(part.name)
            start = self._step_start(part, place)
            if limit is None or start is None:
                continue
            step = distance(part, start, action[place])
            if step > limit * (1 + 1e-9):
                result[place] = along(part, start, action[place], limit / step)
                shortened = True
        if shortened:
            self.counts["shortened"] += 1
        return result

    def _step_start(self, part: Part, place: slice) -> Vector | None:
        """Where a step is measured from; None for the first absolute target: nothing was sent before."""
        if part.mode != "absolute":
            return np.zeros(part.size)
        return None if self._last is None else self._last[place]
