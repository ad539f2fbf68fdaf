"""Recording one episode: rows come in tick by tick, `commit` makes them one immutable file, `discard` leaves nothing.

`record` costs the same in the first and in the last episode of a dataset: it copies the tick, queues the image frames
for the encoder threads and touches no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.loop import Tick
from robopolicy.control.robot import Outcome
from robopolicy.dataset import layout
from robopolicy.dataset.codecs import Blosc, ChunkCodec
from robopolicy.dataset.encoder import FrameBuffers, FrameEncoder, FrameJob
from robopolicy.dataset.episode_file import EpisodeFile
from robopolicy.dataset.rows import Rows
from robopolicy.errors import DatasetError, RecordingError
from robopolicy.spec import RobotSpec

_SMALL_ARRAYS = Blosc(level=5)
_OWN_METADATA = ("stop_reason", "success", "versions")


class EpisodeWriter:
    """A `robopolicy.control.loop.Recorder` for one episode. As a context manager it discards what was not committed.

    Args:
        path: the file that `commit` makes.
        spec: what the ticks look like.
        codecs: for each image stream of `spec`.
        versions: stored with the episode (simulator, controller).
        wait_for_encoder: let `record` wait when the encoders fall behind, for time that can stand still.
        encoder_threads: how many threads encode images.
        queue_frames: image frames that may wait for them.
    """

    def __init__(
        self,
        path: Path,
        spec: RobotSpec,
        codecs: Mapping[str, ChunkCodec],
        *,
        versions: Mapping[str, str] | None = None,
        wait_for_encoder: bool = False,
        encoder_threads: int = 2,
        queue_frames: int = 128,
    ) -> None:
        self.path = path
        self._spec = spec
        self._codecs = dict(codecs)
        self._versions = dict(versions or {})
        self._file = EpisodeFile(path)
        self._encoder = FrameEncoder(
            self._file.add, threads=encoder_threads if codecs else 0, limit=queue_frames, wait=wait_for_encoder
        )
        self._buffers = {name: FrameBuffers(spec.observations[name]) for name in codecs}
        self._rows = Rows(spec, self._buffers)
        self._open = True

    @property
    def length(self) -> int:
        """Rows recorded so far."""
        return self._rows.length

    def record(self, tick: Tick) -> None:
        """Adds a row; copies whatever the tick's owner may reuse.

        Raises RecordingError when the tick does not fit the spec or is not finite, when the encoder queue is full, or
        when storing an earlier frame failed. The row is then not part of the episode; those before it are.
        """
        if not self._open:
            raise RecordingError(f"'{self.path}' is committed or discarded already: no row can be added")
        self._encoder.make_room(len(self._codecs))
        row = self._rows.checked(tick, self.path)
        jobs = [self._job(name, row.pop(f"{layout.OBSERVATION}/{name}")) for name in self._codecs]
        self._rows.append(row, tick)
        self._encoder.submit(jobs)  # last: the threads that it wakes compete for the interpreter

    def record_outcome(self, outcome: Outcome, truncated: bool) -> None:
        """What the row recorded last led to."""
        self._rows.set_outcome(outcome, truncated)

    def commit(self, *, stop_reason: str, success: bool | None, metadata: Mapping[str, Any]) -> Path:
        """Makes the episode permanent and returns its file.

        Args:
            stop_reason: why it ended, in words.
            success: None where nobody knows.
            metadata: anything JSON can hold, such as the seed; `stop_reason`, `success` and `versions` are ours.

        Raises DatasetError for an episode without rows or for metadata that JSON cannot hold, RecordingError when a
        frame could not be stored. The episode is then discarded.
        """
        try:
            own = {"stop_reason": stop_reason, "success": success, "versions": self._versions}
            attributes = self._attributes(own, metadata)
            self._encoder.finish()
            for name, data in self._members(attributes):
                self._file.add(name, data)
            self._file.commit()
        except BaseException:
            self.discard()
            raise
        self._open = False
        return self.path

    def discard(self) -> None:
        """Forgets the episode and leaves nothing behind; does nothing after a commit."""
        if self._open:
            self._open = False
            self._encoder.abort()
            self._file.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _job(self, name: str, frame: NDArray[Any]) -> FrameJob:
        key = layout.chunk_key(f"{layout.OBSERVATION}/{name}", self.length, frame.ndim + 1)
        return FrameJob(key, frame, self._codecs[name], self._buffers[name])

    def _attributes(self, own: Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes:
        if not self._open:
            raise RecordingError(f"'{self.path}' is committed or discarded already")
        if self.length == 0:
            raise DatasetError(f"'{self.path}' would have no rows; discard an episode in which nothing was recorded")
        if taken := [name for name in metadata if name in _OWN_METADATA]:
            raise DatasetError(
                f"the metadata of '{self.path}' have {taken}, which the episode sets itself; rename them"
            )
        attributes = {
            "schema_version": layout.SCHEMA_VERSION,
            "length": self.length,
            "metadata": {**metadata, **own},
            "statistics": self._rows.statistics(self.path),
        }
        try:
            return layout.to_json_bytes(layout.group_document(attributes))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"the metadata of '{self.path}' cannot be written as JSON: {error}") from error

    def _members(self, root: bytes) -> list[tuple[str, bytes]]:
        arrays = self._rows.arrays()
        members = [(layout.DOCUMENT, root)]
        names = [*arrays, *(f"{layout.OBSERVATION}/{name}" for name in self._codecs)]
        for group in layout.group_names(names):
            members.append((f"{group}/{layout.DOCUMENT}", layout.to_json_bytes(layout.group_document({}))))
        for name, array in arrays.items():
            attributes = {"names": self._rows.source_names} if name == layout.SOURCE else None
            members.append(_document(name, array.shape, array.shape, array.dtype, _SMALL_ARRAYS, attributes))
            members.append((layout.chunk_key(name, 0, array.ndim), _SMALL_ARRAYS.encode(array)))
        for name, codec in self._codecs.items():
            spec = self._spec.observations[name]
            shape, frame = (self.length, *spec.shape), (1, *spec.shape)
            members.append(_document(f"{layout.OBSERVATION}/{name}", shape, frame, np.dtype(spec.dtype), codec, None))
        return members


def _document(
    name: str,
    shape: Sequence[int],
    chunk: Sequence[int],
    dtype: np.dtype[Any],
    codec: ChunkCodec,
    attributes: Mapping[str, Any] | None,
) -> tuple[str, bytes]:
    document = layout.array_document(shape, chunk, dtype, codec.documents(dtype), attributes)
    return f"{name}/{layout.DOCUMENT}", layout.to_json_bytes(document)
