"""Replay stores of Diffusion Policy (Chi et al., arXiv 2303.04137): Zarr v2, all episodes end to end.

`data/*` holds arrays of all steps, `meta/episode_ends` one more than each episode's last row. A store is a folder or a
`.zarr.zip` file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.errors
from numpy.typing import NDArray
from zarr.storage import ZipStore

from robopolicy.dataset.creation import Progress, complete_or_nothing
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.importers.arrays import Extract, check_mapping, extract, write_episode
from robopolicy.errors import DatasetError
from robopolicy.spec import RobotSpec


def import_diffusion_policy(
    source: Path | str,
    out: Path | str,
    *,
    spec: RobotSpec,
    task: str,
    streams: Mapping[str, Extract],
    action: Extract = "action",
    actor: str = "human",
    versions: Mapping[str, str] | None = None,
    codecs: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """A new dataset in `out` with every episode of the store `source`, complete or not at all.

    Args:
        spec: of the task; every stream that it has must have an entry in `streams`.
        streams: where each stream comes from; entries that the spec does not have are left out.
        action: where the action comes from, absolute targets as in the store.
        actor: who acted: "human", "script" or "policy".

    Raises DatasetError when the store is no replay store, or its arrays do not fit or are not finite.
    """
    check_mapping(spec, streams, f"replay store '{source}'")
    data, ends = _open(Path(source))
    starts = np.concatenate([[0], ends[:-1]])
    with complete_or_nothing(out) as folder:
        dataset = Dataset.create(folder, spec=spec, task=task, versions=versions or {}, codecs=codecs)
        for number, (start, stop) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            arrays, where = _Slice(data, start, stop), f"episode {number} of '{source}'"
            observations = {
                name: extract(arrays, streams[name], stream, f"{where}, stream '{name}'")
                for name, stream in spec.observations.items()
            }
            actions = extract(arrays, action, spec.action, f"{where}, action")
            write_episode(
                dataset,
                number,
                observations,
                actions,
                source=actor,
                stop_reason="imported",
                success=None,
                metadata={"origin": {"store": Path(source).name, "first_row": start}},
            )
            if progress is not None:
                progress(number + 1, len(ends))
    return Dataset.open(out)


class _Slice(Mapping[str, NDArray[Any]]):
    """Rows start to stop of a store's arrays, each read when it is asked for."""

    def __init__(self, data: zarr.Group, start: int, stop: int) -> None:
        self._data = data
        self._rows = slice(start, stop)
        self._names = sorted(data.array_keys())

    def __getitem__(self, name: str) -> NDArray[Any]:
        array = self._data[name]
        if not isinstance(array, zarr.Array):
            raise KeyError(name)
        return np.asarray(array[self._rows])

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _open(source: Path) -> tuple[zarr.Group, NDArray[np.int64]]:
    """The group `data` and the episodes' ends."""
    if not source.exists():
        raise DatasetError(f"there is no replay store '{source}'; give a Zarr folder or a .zarr.zip file")
    try:
        store = ZipStore(source, mode="r") if source.is_file() else source
        root = zarr.open_group(store, mode="r", zarr_format=2)
        data, ends_array = root["data"], root["meta/episode_ends"]
        if not isinstance(data, zarr.Group) or not isinstance(ends_array, zarr.Array):
            raise KeyError("data and meta/episode_ends")
        ends = np.asarray(ends_array[:], dtype=np.int64)
    except Exception as error:  # zarr raises errors of many libraries for a store that is none
        raise DatasetError(f"'{source}' is no replay store with data/ and meta/episode_ends ({error})") from error
    if len(ends) == 0 or np.any(np.diff(ends, prepend=0) < 1):
        raise DatasetError(f"'{source}' has meta/episode_ends that do not ascend from above 0; is it complete?")
    for name, array in data.arrays():
        if array.shape[0] < ends[-1]:
            raise DatasetError(
                f"'{source}': data/{name} has {array.shape[0]} rows, but the last episode ends at {ends[-1]}"
            )
    return data, ends
