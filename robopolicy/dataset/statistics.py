"""Range, mean and spread of a stream, computed when an episode is written and merged exactly when a dataset is read.

Merging uses the pairwise update of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
Sample Variances" (1979), so nobody reads the data again, and no image is ever decoded for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy.errors import DatasetError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of one stream, per element: arrays with the shape of one sample (float64). `std` is of the population."""

    low: Array
    high: Array
    mean: Array
    std: Array
    count: int

    @staticmethod
    def of(values: ArrayLike, what: str = "the array") -> Statistics:
        """Of [N, ...] values, N at least 1. Raises DatasetError, naming `what`, when a value is NaN or infinite."""
        array = np.asarray(values, dtype=np.float64)
        if array.ndim == 0 or len(array) == 0:
            raise DatasetError(f"{what} has no rows, so it has no statistics")
        check_finite(array, what)
        low, high = np.asarray(array.min(0)), np.asarray(array.max(0))
        mean = np.clip(array.mean(0), low, high)  # rounding must not give a constant element a spread
        return Statistics(low, high, mean, np.sqrt(np.mean((array - mean) ** 2, axis=0)), len(array))

    @staticmethod
    def merge(parts: Iterable[Statistics]) -> Statistics:
        """Of all the rows behind `parts` (at least one, all of one shape) together."""
        return reduce(_merged, parts)

    def to_json(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).tolist() for name in ("low", "high", "mean", "std")}
        return {**arrays, "count": self.count}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Statistics:
        """Raises KeyError when a field is missing."""
        low, high, mean, std = (np.asarray(data[name], dtype=np.float64) for name in ("low", "high", "mean", "std"))
        return Statistics(low, high, mean, std, int(data["count"]))


class HasStatistics(Protocol):
    """What `dataset_statistics` needs of an episode."""

    @property
    def statistics(self) -> Mapping[str, Statistics]: ...


def dataset_statistics(episodes: Sequence[HasStatistics]) -> dict[str, Statistics]:
    """Over all rows of `episodes`, keyed "action" and "observation/<name>" (images have none).

    Raises DatasetError when there is no episode, or when an episode has other streams or shapes than the first.
    """
    if not episodes:
        raise DatasetError("no episodes, so there are no statistics; record or import some first")
    names = set(episodes[0].statistics)
    for episode in episodes:
        if different := names ^ set(episode.statistics):
            raise DatasetError(f"{getattr(episode, 'path', episode)} differs from the first episode in {different}")
        for name, found in episode.statistics.items():
            if found.low.shape != (expected := episodes[0].statistics[name].low.shape):
                raise DatasetError(
                    f"array '{name}' of {getattr(episode, 'path', episode)} has rows of shape {found.low.shape}, "
                    f"those of the first episode have {expected}"
                )
    return {name: Statistics.merge(episode.statistics[name] for episode in episodes) for name in sorted(names)}


def check_finite(values: NDArray[Any], what: str) -> None:
    """Raises DatasetError with the first row of [N, ...] `values` that is NaN or infinite."""
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))[0])
        raise DatasetError(f"{what} is not finite in row {row}: {np.asarray(values[row]).tolist()}")


def _merged(a: Statistics, b: Statistics) -> Statistics:
    count = a.count + b.count
    step = b.mean - a.mean
    mean = a.mean + step * (b.count / count)
    squares = a.std**2 * a.count + b.std**2 * b.count + step**2 * (a.count * b.count / count)
    return Statistics(np.minimum(a.low, b.low), np.maximum(a.high, b.high), mean, np.sqrt(squares / count), count)
