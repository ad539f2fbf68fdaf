"""One committed episode, read side: facts at once, small arrays whole, image frames one by one.

Everything is read on demand from the zip file (`robopolicy.dataset.archive`); nothing is kept but where frames lie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.dataset.archive import (
    DamagedFileError,
    Identity,
    Member,
    digest_of,
    identity_of,
    read_member,
    read_members,
)
from robopolicy.dataset.codecs import ChunkCodec, codec_from_documents
from robopolicy.dataset.layout import DOCUMENT, SCHEMA_VERSION, chunk_key, episode_number
from robopolicy.dataset.statistics import Statistics
from robopolicy.errors import DatasetError


@dataclass(frozen=True)
class EpisodeFacts:
    """What is known of an episode without reading its arrays; the dataset's index keeps a copy."""

    length: int
    metadata: Mapping[str, Any]
    statistics: Mapping[str, Statistics]
    digest: str

    def to_json(self) -> dict[str, Any]:
        statistics = {name: entry.to_json() for name, entry in self.statistics.items()}
        return {
            "length": self.length,
            "metadata": dict(self.metadata),
            "statistics": statistics,
            "digest": self.digest,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> EpisodeFacts:
        """Raises KeyError when a field is missing."""
        statistics = {name: Statistics.from_json(entry) for name, entry in data["statistics"].items()}
        return EpisodeFacts(int(data["length"]), data["metadata"], statistics, str(data["digest"]))


class Episode:
    """An episode file. Array names are paths inside its group, such as "action" or "observation/wrist_camera".

    Reading may happen from any number of threads. Whatever is wrong with the file is one DatasetError.

    Args:
        path: the committed file.
        facts: what an index knows about exactly this file; read from the file when None.
    """

    def __init__(self, path: Path, facts: EpisodeFacts | None = None) -> None:
        number = episode_number(path)
        if number is None:
            raise DatasetError(f"'{path}' is no episode file, expected a name like episode_000012.zarr.zip")
        if not path.is_file():
            raise DatasetError(f"there is no episode file '{path}'")
        self.path = path
        self.number = number
        self._identity: Identity = identity_of(path)
        if facts is not None:
            self.facts = facts

    def __repr__(self) -> str:
        return f"Episode('{self.path}')"

    @cached_property
    def facts(self) -> EpisodeFacts:
        return self._contents.facts

    @property
    def length(self) -> int:
        """Number of rows, one for each control tick."""
        return self.facts.length

    @property
    def metadata(self) -> Mapping[str, Any]:
        """`stop_reason`, `success` (True, False or None), `versions`, and what the recorder gave, such as `seed`."""
        return self.facts.metadata

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """Of the action and of every stream that is no image, keyed "action" and "observation/<name>"."""
        return self.facts.statistics

    @property
    def names(self) -> tuple[str, ...]:
        """All arrays, sorted."""
        return tuple(sorted(self._contents.arrays))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of array `name`; its first axis is `length`."""
        return self._array(name).shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of array `name`."""
        return self._array(name).dtype

    def read(self, name: str) -> NDArray[Any]:
        """The whole array `name`, [length, ...]; images are decoded too, so ask for them in rows instead."""
        array = self._array(name)
        if len(array.chunks) > 1:
            return self.frames(name, range(self.length))
        out = np.empty(array.shape, dtype=array.dtype)
        self._decode(array, name, 0, out)
        return out

    def frames(self, name: str, rows: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[Any]:
        """[len(rows), H, W, C]: the frames of image array `name` at `rows` (0 to length - 1, in any order)."""
        array = self._array(name)
        out = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
        for place, row in enumerate(rows):
            self._decode(array, name, int(row), out[place])
        return out

    def frame_into(self, name: str, row: int, out: NDArray[Any]) -> None:
        """Decodes one frame into `out`, C-contiguous, of the frame's shape and dtype."""
        self._decode(self._array(name), name, row, out)

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Attributes of array `name`; those of "source" hold the `names` of its codes."""
        return self._array(name).attributes

    def sources(self) -> tuple[str, ...]:
        """Who acted in each row: "human", "policy", "script", "replay"."""
        names = self.attributes("source")["names"]
        return tuple(names[code] for code in self.read("source"))

    @cached_property
    def _contents(self) -> _Contents:
        try:
            return _Contents.read(self.path, self._identity)
        except (DamagedFileError, OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def _array(self, name: str) -> _Array:
        arrays = self._contents.arrays
        if name not in arrays:
            raise DatasetError(f"episode file '{self.path}' has no array '{name}', there are {sorted(arrays)}")
        return arrays[name]

    def _decode(self, array: _Array, name: str, chunk: int, out: NDArray[Any]) -> None:
        if not 0 <= chunk < len(array.chunks):
            raise DatasetError(f"array '{name}' of '{self.path}' has rows 0 to {array.shape[0] - 1}, asked for {chunk}")
        header, size, crc = array.chunks[chunk].tolist()
        try:
            array.codec.decode_into(read_member(self.path, self._identity, Member(header, size, crc)), out)
        except (DamagedFileError, OSError, ValueError) as error:
            raise self._damaged(error, f"array '{name}': ") from error

    def _damaged(self, error: Exception, where: str = "") -> DatasetError:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        return DatasetError(
            f"episode file '{self.path}' is damaged ({where}{what}); "
            f"put back a copy, or take it out of the dataset with data.py action=delete"
        )


@dataclass(frozen=True)
class _Array:
    """`chunks` is [number of chunks, 3] int64: one `Member` a row. Small arrays are one chunk, images one a frame."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: ChunkCodec
    chunks: NDArray[np.int64]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class _Contents:
    """The file's directory and metadata documents."""

    facts: EpisodeFacts
    arrays: Mapping[str, _Array]

    @staticmethod
    def read(path: Path, identity: Identity) -> _Contents:
        members = read_members(path)
        documents = {
            name.removesuffix(DOCUMENT).rstrip("/"): json.loads(bytes(read_member(path, identity, member)))
            for name, member in members.items()
            if name.endswith(DOCUMENT)
        }
        attributes = documents[""]["attributes"]
        if attributes["schema_version"] != SCHEMA_VERSION:
            raise DatasetError(
                f"episode file '{path}' has schema version {attributes['schema_version']}, this robopolicy reads "
                f"version {SCHEMA_VERSION}; use a robopolicy that is as new as the one that wrote it"
            )
        facts = EpisodeFacts.from_json({**attributes, "digest": digest_of(members)})
        arrays = {
            name: _array_of(name, document, members)
            for name, document in documents.items()
            if document["node_type"] == "array"
        }
        for name, array in arrays.items():
            if array.shape[0] != facts.length:
                raise ValueError(f"array '{name}' has {array.shape[0]} rows, expected {facts.length}")
        return _Contents(facts, arrays)


def _array_of(name: str, document: Mapping[str, Any], members: Mapping[str, Member]) -> _Array:
    shape = tuple(document["shape"])
    chunk_shape = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    if chunk_shape[1:] != shape[1:] or chunk_shape[0] not in (1, shape[0]):
        raise ValueError(f"array '{name}' has chunks {chunk_shape}, expected one frame or all rows a chunk")
    keys = [chunk_key(name, row, len(shape)) for row in range(shape[0] // chunk_shape[0])]
    chunks = np.array([members[key] for key in keys], dtype=np.int64)
    codec = codec_from_documents(document["codecs"])
    dtype = np.dtype(document["data_type"])
    return _Array(shape, dtype, codec, chunks, document["attributes"])
