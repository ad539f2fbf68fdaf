"""Writing an episode that is already there as arrays, and saying which arrays a stream comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.loop import Tick
from robopolicy.control.robot import Sample
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.statistics import check_finite
from robopolicy.errors import DatasetError
from robopolicy.spec import ArraySpec, RobotSpec

Arrays = Mapping[str, NDArray[Any]]
"""The source's arrays of one episode, [N, ...] each, by their names there."""

Extract = str | Callable[[Arrays], NDArray[Any]]
"""How a stream is made: "key", columns of a key as "key[:, a:b]", or a function of the episode's arrays."""

_COLUMNS = re.compile(r"(?P<key>[^\[\]]+?)\s*(?:\[\s*:\s*,\s*(?P<start>\d*)\s*:\s*(?P<stop>\d*)\s*\])?")


def extract(arrays: Arrays, how: Extract, spec: ArraySpec, what: str) -> NDArray[Any]:
    """[N, *spec.shape] of the spec's dtype; rows of equal size are reshaped (9x2 keypoints to 18 numbers).

    Raises DatasetError, naming `what`, for an unknown key, a size that does not fit, values that are not finite, and
    values that an integer stream cannot hold exactly.
    """
    values = np.asarray(how(arrays) if callable(how) else _columns(arrays, how, what))
    if values.ndim == 0 or values[:1].size not in (0, int(np.prod(spec.shape))):
        raise DatasetError(f"{what} has rows of shape {values.shape[1:]}, expected {spec.shape}")
    check_finite(values, what)
    dtype = np.dtype(spec.dtype)
    with np.errstate(invalid="ignore"):
        converted = values.astype(dtype)
    if dtype.kind in "iub" and not np.array_equal(converted, values):
        raise DatasetError(f"{what} has values that {dtype} cannot hold exactly; give a function that converts them")
    return converted.reshape(len(values), *spec.shape)


def check_mapping(spec: RobotSpec, streams: Mapping[str, Extract], what: str) -> None:
    """Raises DatasetError when a stream of the robot has no source."""
    if missing := [name for name in spec.observations if name not in streams]:
        raise DatasetError(f"{what}: nothing is given for the streams {missing}; say which arrays they come from")


def write_episode(
    dataset: Dataset,
    number: int,
    observations: Arrays,
    actions: NDArray[Any],
    *,
    source: str,
    stop_reason: str,
    success: bool | None,
    metadata: Mapping[str, Any],
) -> None:
    """One episode from arrays of N rows; row i gets the time i periods of the robot's rate."""
    lengths = {name: len(values) for name, values in {**observations, "action": actions}.items()}
    if len(set(lengths.values())) != 1:
        raise DatasetError(f"episode {number} has arrays of different lengths: {lengths}")
    with dataset.writer(number, wait_for_encoder=True) as writer:
        for step, action in enumerate(actions):
            time_ns = step * dataset.spec.period_ns
            observation = {name: Sample(values[step], time_ns, step) for name, values in observations.items()}
            writer.record(Tick(step, time_ns, observation, action, action, source, {}))
        writer.commit(stop_reason=stop_reason, success=success, metadata=metadata)


def _columns(arrays: Arrays, how: str, what: str) -> NDArray[Any]:
    match = _COLUMNS.fullmatch(how)
    if match is None:
        raise DatasetError(f"{what}: '{how}' is no source, expected 'key' or 'key[:, a:b]'")
    if match["key"] not in arrays:
        raise DatasetError(f"{what}: there is no array '{match['key']}', there are {sorted(arrays)}")
    values = arrays[match["key"]]
    if match["start"] is None:
        return values
    return values[:, int(match["start"] or 0) : int(match["stop"]) if match["stop"] else None]
