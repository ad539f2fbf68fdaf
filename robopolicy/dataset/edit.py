"""Looking after datasets: verify, merge, delete. Nothing is overwritten, and a deletion can be undone by hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robopolicy.dataset.creation import Progress, complete_or_nothing
from robopolicy.dataset.dataset import Dataset, check_same_spec, joined_versions
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.layout import (
    ACTION,
    ACTION_REQUESTED,
    OBSERVATION,
    OBSERVATION_SEQUENCE,
    OBSERVATION_TIME_NS,
    SOURCE,
    TIME_NS,
    episode_name,
    episode_number,
)
from robopolicy.errors import DatasetError
from robopolicy.files import sync_folder
from robopolicy.spec import ArraySpec, RobotSpec

DELETED_FOLDER = "deleted"


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        episodes: how many committed episodes there are, good or bad.
        rows: rows of the good ones.
        problems: one sentence each.
        unfinished: files of recordings that were not committed; they are no problem.
    """

    episodes: int
    rows: int
    problems: tuple[str, ...]
    unfinished: tuple[Path, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(path: Path | str, progress: Progress | None = None) -> VerifyReport:
    """Reads and decodes everything in the dataset `path`. Raises DatasetError when it is none at all."""
    dataset = Dataset.open(path)
    rows, problems, files = 0, [], dataset.episode_paths
    for done, file in enumerate(files, start=1):
        try:
            rows += _verified_rows(Episode(file), dataset)
        except DatasetError as error:
            problems.append(str(error))
        if progress is not None:
            progress(done, len(files))
    return VerifyReport(len(files), rows, tuple(problems), dataset.unfinished)


def merge(sources: Sequence[Path | str], out: Path | str, progress: Progress | None = None) -> Dataset:
    """A new dataset in `out` with copies of all episodes of `sources`, in that order and numbered from 0.

    Complete or not at all; the sources stay as they are. Raises SpecError or DatasetError, naming the difference, when
    they are not of one robot and task, and when an episode file cannot be opened.
    """
    datasets = [Dataset.open(path) for path in sources]
    if not datasets:
        raise DatasetError("no datasets to merge were given")
    first = datasets[0]
    for other in datasets[1:]:
        check_same_spec(first.spec, other.spec, f"dataset '{first.path}'", f"dataset '{other.path}'")
        if first.task != other.task:
            raise DatasetError(f"'{first.path}' holds task '{first.task}', '{other.path}' task '{other.task}'")
    episodes = [episode for dataset in datasets for episode in dataset.episodes]
    versions = joined_versions([dataset.versions for dataset in datasets])
    with complete_or_nothing(out) as folder:
        Dataset.create(folder, spec=first.spec, task=first.task, versions=versions, codecs=first.codecs)
        for number, episode in enumerate(episodes):
            _copy_synced(episode.path, folder / episode_name(number))
            if progress is not None:
                progress(number + 1, len(episodes))
    return Dataset.open(out)


def delete(path: Path | str, numbers: Iterable[int], confirm: bool = False) -> tuple[Path, ...]:
    """Takes episodes out of the dataset `path` and returns their files; without `confirm` it only says which.

    The files move into the subfolder `deleted`, from where a person can put them back or remove them for good. Damaged
    files can be deleted too. Raises DatasetError, and moves nothing, when a number is not there.
    """
    dataset = Dataset.open(path)
    there = {episode_number(file): file for file in dataset.episode_paths}
    wanted = sorted(set(numbers))
    if missing := [number for number in wanted if number not in there]:
        raise DatasetError(f"dataset '{path}' has no episodes {missing}; nothing was deleted")
    files = tuple(there[number] for number in wanted)
    if confirm and files:
        folder = dataset.path / DELETED_FOLDER
        folder.mkdir(exist_ok=True)
        for file in files:
            file.rename(_free_name(folder / file.name))
        sync_folder(folder)
        sync_folder(dataset.path)
    return files


def _verified_rows(episode: Episode, dataset: Dataset) -> int:
    expected = _expected_arrays(dataset.spec)
    for name, spec in expected.items():
        _verify_array(episode, name, spec)
    for name in episode.names:
        if name not in expected:
            episode.read(name)
    if np.any(np.diff(episode.read(TIME_NS)) <= 0):
        raise DatasetError(f"episode file '{episode.path}' has times that do not ascend")
    return episode.length


def _expected_arrays(spec: RobotSpec) -> dict[str, ArraySpec]:
    """What every episode has, whoever recorded it: one row of each."""
    action, stamp = ArraySpec(spec.action.shape, "float64"), ArraySpec((), "int64")
    arrays = {ACTION: action, ACTION_REQUESTED: action, SOURCE: ArraySpec((), "int32"), TIME_NS: stamp}
    for name, stream in spec.observations.items():
        arrays[f"{OBSERVATION}/{name}"] = stream
        arrays[f"{OBSERVATION_TIME_NS}/{name}"] = arrays[f"{OBSERVATION_SEQUENCE}/{name}"] = stamp
    return arrays


def _verify_array(episode: Episode, name: str, spec: ArraySpec) -> None:
    found = (episode.shape(name)[1:], episode.dtype(name))
    if found != (spec.shape, np.dtype(spec.dtype)):
        raise DatasetError(
            f"array '{name}' of '{episode.path}' has rows {found[1]} {found[0]}, "
            f"the dataset says {spec.dtype} {spec.shape}"
        )
    if spec.is_image:  # one frame at a time
        for row in range(episode.length):
            episode.frames(name, [row])
    elif not np.isfinite(episode.read(name)).all():
        raise DatasetError(f"array '{name}' of '{episode.path}' is not finite")


def _copy_synced(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())


def _free_name(path: Path) -> Path:
    """`path`, or `path` with a counter behind it when an episode of that number was deleted before."""
    count, free = 1, path
    while free.exists():
        count, free = count + 1, path.with_name(f"{path.name}.{count}")
    return free
