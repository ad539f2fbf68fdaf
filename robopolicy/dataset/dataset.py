"""A dataset: a folder with `dataset.json` and one file an episode.

What is committed is there, what is not is ignored and reported, and no call finishes a dataset: any number of processes
may add episodes of different numbers at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from robopolicy.dataset.codecs import ChunkCodec, codec_of
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.index import EpisodeIndex
from robopolicy.dataset.layout import SCHEMA_VERSION, episode_name, episode_number, to_json_bytes
from robopolicy.dataset.writer import EpisodeWriter
from robopolicy.errors import DatasetError, SpecError
from robopolicy.files import PARTIAL_SUFFIX, write_new
from robopolicy.spec import RobotSpec, check_fits

DATASET_FILE = "dataset.json"
DEFAULT_CODEC = "blosc"


class Dataset:
    """Episodes of one task on one robot.

    Attributes:
        path: the folder.
        spec: the robot's streams, action and rate.
        task: its name.
        versions: of simulator, controller and the like; new episodes carry them.
        codecs: name of the codec for each image stream of new episodes: "blosc" (lossless) or "jpeg:<quality>".
    """

    def __init__(
        self, path: Path, spec: RobotSpec, task: str, versions: Mapping[str, str], codecs: Mapping[str, str]
    ) -> None:
        self.path = path
        self.spec = spec
        self.task = task
        self.versions = dict(versions)
        self.codecs = dict(codecs)
        self._chunk_codecs = _chunk_codecs(spec, self.codecs)
        self._index = EpisodeIndex(path)

    @staticmethod
    def create(
        path: Path | str,
        *,
        spec: RobotSpec,
        task: str,
        versions: Mapping[str, str],
        codecs: Mapping[str, str] | None = None,
    ) -> Dataset:
        """A new dataset in folder `path`, which is made if need be. Image streams without a codec are lossless.

        Raises DatasetError when there is a dataset already, or when a codec does not fit its stream.
        """
        folder = Path(path)
        images = [name for name, stream in spec.observations.items() if stream.is_image]
        chosen = {**dict.fromkeys(images, DEFAULT_CODEC), **(codecs or {})}
        dataset = Dataset(folder, spec, task, versions, chosen)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise DatasetError(
                f"'{folder}' is a file, expected a folder for the dataset; choose another path"
            ) from error
        dataset._write_description()
        return dataset

    @staticmethod
    def open(path: Path | str) -> Dataset:
        """Raises DatasetError when `path` holds no dataset or one that this version cannot read."""
        folder = Path(path)
        file = folder / DATASET_FILE
        try:
            data = json.loads(file.read_text())
            version = data["schema_version"]
            if version != SCHEMA_VERSION:
                raise DatasetError(
                    f"'{file}' has schema version {version}, this robopolicy reads version {SCHEMA_VERSION}; "
                    f"use a robopolicy that is as new as the one that wrote it"
                )
            spec = RobotSpec.from_json(data["robot"])
            return Dataset(folder, spec, str(data["task"]), data["versions"], data["codecs"])
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DatasetError(
                f"there is no dataset in '{folder}' (no {DATASET_FILE}); give a folder made by collect.py or "
                f"data.py action=import"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, SpecError) as error:
            raise DatasetError(f"'{file}' is damaged ({error}); put back a copy of it") from error

    @staticmethod
    def open_or_create(
        path: Path | str,
        *,
        spec: RobotSpec,
        task: str,
        versions: Mapping[str, str],
        codecs: Mapping[str, str] | None = None,
    ) -> Dataset:
        """The dataset in `path` if it is of this robot and task, else a new one. New episodes carry `versions`.

        Raises SpecError or DatasetError that name the difference when the dataset there is of another kind.
        """
        if not (Path(path) / DATASET_FILE).exists():
            with contextlib.suppress(AlreadyADatasetError):  # another process was faster
                return Dataset.create(path, spec=spec, task=task, versions=versions, codecs=codecs)
        dataset = Dataset.open(path)
        check_same_spec(dataset.spec, spec, f"dataset '{path}'", f"robot '{spec.name}'")
        if dataset.task != task:
            raise DatasetError(f"dataset '{path}' holds task '{dataset.task}', not '{task}'; choose another folder")
        for name, codec in (codecs or {}).items():
            if dataset.codecs.get(name) != codec:
                raise DatasetError(
                    f"dataset '{path}' stores stream '{name}' with codec '{dataset.codecs.get(name)}', not '{codec}'; "
                    f"use that one or another folder"
                )
        dataset.versions = dict(versions)
        return dataset

    @property
    def episode_paths(self) -> tuple[Path, ...]:
        """Files of the committed episodes, by number."""
        numbered = [(number, path) for path in self.path.iterdir() if (number := episode_number(path)) is not None]
        return tuple(path for _, path in sorted(numbered))

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """The committed episodes as they are now, by number. Raises DatasetError when a file is damaged."""
        return self._index.episodes(self.episode_paths)

    @property
    def unfinished(self) -> tuple[Path, ...]:
        """Files of recordings that were never committed, or are still running: reported, never read."""
        return tuple(sorted(self.path.glob(f"episode_*{PARTIAL_SUFFIX}")))

    def next_number(self) -> int:
        """One more than the highest committed number; 0 for an empty dataset."""
        numbers = [episode_number(path) for path in self.path.iterdir()]
        return max((number for number in numbers if number is not None), default=-1) + 1

    def writer(self, number: int, *, wait_for_encoder: bool = False) -> EpisodeWriter:
        """Begins episode `number`. With `wait_for_encoder` a full encoder queue is a wait, not an error.

        Raises DatasetError when that episode exists or another process is recording it.
        """
        return EpisodeWriter(
            self.path / episode_name(number),
            self.spec,
            self._chunk_codecs,
            versions=self.versions,
            wait_for_encoder=wait_for_encoder,
        )

    def fingerprint(self) -> str:
        """SHA-256 over spec, task, numbers and content of the episodes; the same for a copy elsewhere."""
        digest = hashlib.sha256(to_json_bytes({"robot": self.spec.to_json(), "task": self.task}))
        for episode in self.episodes:
            digest.update(f"{episode.number} {episode.facts.digest}\n".encode())
        return digest.hexdigest()

    def _write_description(self) -> None:
        data = {
            "schema_version": SCHEMA_VERSION,
            "task": self.task,
            "rate_hz": self.spec.rate_hz,
            "versions": self.versions,
            "codecs": self.codecs,
            "robot": self.spec.to_json(),
        }
        try:
            write_new(self.path / DATASET_FILE, to_json_bytes(data))
        except FileExistsError as error:
            raise AlreadyADatasetError(
                f"there is a dataset in '{self.path}' already; open it or choose another"
            ) from error


class AlreadyADatasetError(DatasetError):
    """A new dataset was asked for where there is one."""


def check_same_spec(expected: RobotSpec, found: RobotSpec, who: str, whom: str) -> None:
    """Raises SpecError, naming the difference, unless the two have the same streams, action and rate."""
    check_fits(expected, found, who=who, whom=whom)
    if more := sorted(set(found.observations) - set(expected.observations)):
        raise SpecError(f"{who} does not fit {whom}: it has no stream {more}, only {sorted(expected.observations)}")


def joined_versions(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Each name with all its versions, as in {"simulator": "1.0 and 2.0"}."""
    several = list(found)
    names = sorted({name for versions in several for name in versions})
    return {name: " and ".join(sorted({versions[name] for versions in several if name in versions})) for name in names}


def _chunk_codecs(spec: RobotSpec, codecs: Mapping[str, str]) -> dict[str, ChunkCodec]:
    images = {name: stream for name, stream in spec.observations.items() if stream.is_image}
    if unknown := sorted(set(codecs) - set(images)):
        raise DatasetError(f"codecs are given for {unknown}, but the image streams are {sorted(images)}")
    return {name: codec_of(codecs.get(name, DEFAULT_CODEC), name, stream) for name, stream in images.items()}
