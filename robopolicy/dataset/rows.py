"""The small arrays of an episode while it grows: one list an array, copied and checked tick by tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.loop import Tick
from robopolicy.control.robot import Outcome, Sample
from robopolicy.dataset import layout
from robopolicy.dataset.encoder import FrameBuffers
from robopolicy.dataset.statistics import Statistics
from robopolicy.errors import RecordingError
from robopolicy.spec import ArraySpec, RobotSpec


class Rows:
    """Rows of one episode on a robot with `spec`; copies of frames lie in `buffers`, one entry an image stream."""

    def __init__(self, spec: RobotSpec, buffers: Mapping[str, FrameBuffers]) -> None:
        self._spec = spec
        self._buffers = buffers
        self._dtypes = {f"{layout.OBSERVATION}/{name}": stream.dtype for name, stream in spec.observations.items()}
        self._dtypes.update({layout.ACTION: "float64", layout.ACTION_REQUESTED: "float64"})
        self._columns: dict[str, list[Any]] = {}
        self._info: list[Mapping[str, float]] = []
        self._sources: dict[str, int] = {}
        self._outcomes: dict[int, tuple[Outcome, bool]] = {}
        self.length = 0

    @property
    def source_names(self) -> list[str]:
        """What the codes of `source` mean."""
        return list(self._sources)

    def checked(self, tick: Tick, path: Path) -> dict[str, NDArray[Any]]:
        """The tick's arrays, frames copied. Raises RecordingError when one does not fit the spec."""
        if set(tick.observation) != set(self._spec.observations):
            found, wanted = sorted(tick.observation), sorted(self._spec.observations)
            raise RecordingError(f"row {self.length} of '{path}' has the streams {found}, expected {wanted}")
        exact = ArraySpec(self._spec.action.shape, "float64")
        where = f"row {self.length} of '{path}'"
        row = {
            layout.ACTION: _checked(tick.action, exact, f"{where}: action"),
            layout.ACTION_REQUESTED: _checked(tick.action_requested, exact, f"{where}: requested action"),
        }
        for name, spec in self._spec.observations.items():
            value = _checked(tick.observation[name].value, spec, f"{where}: stream '{name}'")
            buffers = self._buffers.get(name)
            row[f"{layout.OBSERVATION}/{name}"] = value if buffers is None else buffers.copy_of(value)
        return row

    def append(self, row: Mapping[str, NDArray[Any]], tick: Tick) -> None:
        """Adds what `checked` made of the tick, without the images, as copies."""
        for name, value in row.items():
            self._columns.setdefault(name, []).append(np.array(value, dtype=self._dtypes[name]))
        self._columns.setdefault(layout.TIME_NS, []).append(tick.time_ns)
        self._columns.setdefault(layout.SOURCE, []).append(self._sources.setdefault(tick.source, len(self._sources)))
        for name, sample in tick.observation.items():
            self._append_stamp(name, sample)
        self._info.append(dict(tick.info))
        self.length += 1

    def set_outcome(self, outcome: Outcome, truncated: bool) -> None:
        """Of the row appended last."""
        if self.length == 0:
            raise RecordingError("an outcome was recorded before the first row")
        self._outcomes[self.length - 1] = (outcome, truncated)

    def statistics(self, path: Path) -> dict[str, Any]:
        """Of the action and the small streams, as JSON."""
        names = [name for name in self._columns if name == layout.ACTION or name.startswith(f"{layout.OBSERVATION}/")]
        return {name: Statistics.of(self._columns[name], f"'{path}', {name}").to_json() for name in names}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All small arrays, [length, ...] each. An `info` key that a row lacks is NaN there."""
        arrays = {name: np.asarray(column) for name, column in self._columns.items()}
        arrays[layout.SOURCE] = arrays[layout.SOURCE].astype(np.int32)
        for key in sorted({key for info in self._info for key in info}):
            values = [info.get(key, np.nan) for info in self._info]
            arrays[f"{layout.INFO}/{key}"] = np.asarray(values, dtype=np.float64)
        return {**arrays, **self._outcome_arrays()}

    def _append_stamp(self, name: str, sample: Sample) -> None:
        self._columns.setdefault(f"{layout.OBSERVATION_TIME_NS}/{name}", []).append(sample.time_ns)
        self._columns.setdefault(f"{layout.OBSERVATION_SEQUENCE}/{name}", []).append(sample.sequence)

    def _outcome_arrays(self) -> dict[str, NDArray[Any]]:
        """Rows whose outcome nobody told have reward NaN and False in the rest."""
        if not self._outcomes:
            return {}
        unknown = (Outcome(float("nan"), False, False), False)
        rows: Sequence[tuple[Outcome, bool]] = [self._outcomes.get(row, unknown) for row in range(self.length)]
        return {
            layout.REWARD: np.array([outcome.reward for outcome, _ in rows], dtype=np.float64),
            layout.TERMINATED: np.array([outcome.terminated for outcome, _ in rows], dtype=bool),
            layout.TRUNCATED: np.array([truncated for _, truncated in rows], dtype=bool),
            layout.SUCCESS: np.array([outcome.success for outcome, _ in rows], dtype=bool),
        }


def _checked(value: NDArray[Any], spec: ArraySpec, what: str) -> NDArray[Any]:
    array = np.asarray(value)
    dtype = np.dtype(spec.dtype)
    if array.shape != spec.shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise RecordingError(f"{what} is {array.dtype} {array.shape}, expected {dtype} {spec.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RecordingError(f"{what} is not finite: {array.tolist() if array.size < 20 else 'NaN or infinite'}")
    return array
