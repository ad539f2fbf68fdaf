"""Encoding image frames beside the control loop: a bounded queue and a few threads.

The loop's thread only copies a frame and appends it. When the encoders cannot keep up and the queue is full, that is an
error for a robot (a stop with a reason, never a dropped frame) and a wait for a simulation, whose time can stand still.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.dataset.codecs import ChunkCodec
from robopolicy.errors import RecordingError
from robopolicy.spec import ArraySpec

_WAIT_S = 0.001


class FrameBuffers:
    """Copies of one stream's frames, in memory that is used again.

    Fresh memory would cost the loop's thread its page faults, which can take longer than the copy. `ready` buffers are
    made at once, more when they are needed.
    """

    def __init__(self, spec: ArraySpec, ready: int = 4) -> None:
        self._spec = spec
        self._free = deque(np.full(spec.shape, 1, dtype=spec.dtype) for _ in range(ready))

    def copy_of(self, frame: NDArray[Any]) -> NDArray[Any]:
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(self._spec.shape, dtype=self._spec.dtype)
        np.copyto(buffer, frame, casting="same_kind")
        return buffer

    def give_back(self, buffer: NDArray[Any]) -> None:
        self._free.append(buffer)


@dataclass(frozen=True)
class FrameJob:
    """One frame to be encoded and stored as member `key`; its memory then goes back to `buffers`."""

    key: str
    frame: NDArray[Any]
    codec: ChunkCodec
    buffers: FrameBuffers


class FrameEncoder:
    """Threads that encode frames and hand the bytes to `store`, in no particular order.

    One thread feeds it: first `make_room`, then `submit`. `submit` neither waits nor raises, so a caller can put it
    last, when nothing else can go wrong.

    Args:
        store: called from the threads with a member's name and bytes.
        threads: how many encode.
        limit: frames that may wait.
        wait: at the limit, wait for room instead of raising.
    """

    def __init__(self, store: Callable[[str, bytes], None], *, threads: int, limit: int, wait: bool) -> None:
        self._store = store
        self._limit = limit
        self._wait = wait
        self._jobs: SimpleQueue[FrameJob | None] = SimpleQueue()
        self._error: Exception | None = None
        self._threads = [threading.Thread(target=self._work, name="frame encoder", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def make_room(self, frames: int) -> None:
        """Raises RecordingError when `frames` more do not fit into the queue, or when an earlier frame failed."""
        while self._wait and self._error is None and 0 < self._jobs.qsize() > self._limit - frames:
            time.sleep(_WAIT_S)
        self._raise_error()
        waiting = self._jobs.qsize()
        if frames and waiting + frames > self._limit:
            raise RecordingError(
                f"the encoder queue is full: {waiting} frames wait of at most {self._limit}; "
                f"record fewer or smaller images, use a faster codec, or allow more encoder threads"
            )

    def submit(self, jobs: Sequence[FrameJob]) -> None:
        """Queues frames that `make_room` has made room for."""
        for job in jobs:
            self._jobs.put(job)

    def finish(self) -> None:
        """Waits until every frame is stored and ends the threads. Raises RecordingError when one failed."""
        self._end()
        self._raise_error()

    def abort(self) -> None:
        """Forgets the frames that wait and ends the threads."""
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()
        self._end()

    def _end(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _raise_error(self) -> None:
        if self._error is not None:
            raise RecordingError(f"a frame could not be stored: {self._error}") from self._error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is not None:
                continue
            try:
                encoded = job.codec.encode(job.frame)
                job.buffers.give_back(job.frame)
                self._store(job.key, encoded)
            except Exception as error:
                self._error = error
