"""Training windows: for one moment, the past observations up to now, the actions from now on, and perhaps a goal.

`window_rows` is the one place that says which rows those are; deployment calls it for its observation history too.
Small arrays lie in RAM, concatenated, so a batch is a gather; images too where they fit, else they are decoded from the
files when asked for.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.goals import Goal
from robopolicy.dataset.layout import ACTION, OBSERVATION
from robopolicy.dataset.statistics import check_finite
from robopolicy.errors import DatasetError

Rows = NDArray[np.int64]
Indices = Sequence[int] | NDArray[np.integer[Any]]
Draws = NDArray[np.floating[Any]]


def window_rows(
    step: ArrayLike, *, start: ArrayLike, stop: ArrayLike, observation_steps: int, horizon: int
) -> tuple[Rows, Rows]:
    """Which rows a window reads: observations [..., To] ending with now, actions [..., Tp] beginning with now.

    Rows outside the episode are replaced by its first or last one. An actor with a history of n observations asks with
    step n - 1, start 0, stop n and horizon 0.

    Args:
        step: [...] the row of now, start <= step < stop.
        start: [...] the episode's first row.
        stop: [...] one more than its last row.
        observation_steps: To.
        horizon: Tp, may be 0.
    """
    now = np.asarray(step, dtype=np.int64)[..., None]
    first, last = np.asarray(start, dtype=np.int64)[..., None], np.asarray(stop, dtype=np.int64)[..., None] - 1
    past, future = np.arange(1 - observation_steps, 1), np.arange(horizon)
    return np.maximum(now + past, first), np.minimum(now + future, last)


@dataclass(frozen=True)
class WindowBatch:
    """B windows.

    Attributes:
        observations: [B, To, ...] for each stream: float32, or uint8/uint16 for images. Index -1 is now. A goal is
            [B, 1, ...].
        actions: [B, Tp, D] float32, physical units. Index 0 belongs to the newest observation.
    """

    observations: dict[str, NDArray[Any]]
    actions: NDArray[np.float32]


class Windows:
    """One window for every row of every episode; window i belongs to row i of the episodes laid end to end.

    Args:
        source: a dataset, or some of its episodes.
        observations: names of the streams to read.
        observation_steps: To, at least 1.
        horizon: Tp, at least 1.
        decoding_threads: for images; None takes one a core.
        image_memory: bytes; if all images together take no more, they are decoded once and kept.
        goals: further streams, each the value of a stream at a later row of the same episode.

    Raises DatasetError for an unknown stream, no episode, arrays of other shapes, or data that are not finite.
    """

    def __init__(
        self,
        source: Dataset | Sequence[Episode],
        *,
        observations: Sequence[str],
        observation_steps: int,
        horizon: int,
        decoding_threads: int | None = None,
        image_memory: int = 0,
        goals: Mapping[str, Goal] | None = None,
    ) -> None:
        if observation_steps < 1 or horizon < 1:
            raise DatasetError(
                f"a window has {observation_steps} observations and {horizon} actions, expected 1 or more"
            )
        self.episodes = source.episodes if isinstance(source, Dataset) else tuple(source)
        if not self.episodes:
            raise DatasetError("there are no episodes to make windows from; record or import some first")
        self.observation_steps = observation_steps
        self.horizon = horizon
        self.goals = dict(goals or {})
        lengths = np.array([episode.length for episode in self.episodes], dtype=np.int64)
        self._stop = np.repeat(np.cumsum(lengths), lengths)
        self._start = self._stop - np.repeat(lengths, lengths)
        self._episode = np.repeat(np.arange(len(lengths)), lengths)
        self._observations = tuple(observations)
        streams = dict.fromkeys([*observations, *(goal.stream for goal in self.goals.values())])
        self._check_shapes([ACTION, *(f"{OBSERVATION}/{name}" for name in streams)], source)
        self._actions = self._concatenated(ACTION)
        images = [name for name in streams if self._is_image(name)]
        self._in_memory: dict[str, NDArray[Any]] = {
            name: self._concatenated(f"{OBSERVATION}/{name}") for name in streams if name not in images
        }
        self._threads = decoding_threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "image decoder")  # starts no thread before its first task
        if self._image_bytes(images) <= image_memory:
            everything = np.arange(len(self))
            self._in_memory |= {name: self._frames(f"{OBSERVATION}/{name}", everything) for name in images}

    def __len__(self) -> int:
        return len(self._start)

    def batch(self, indices: Indices, draws: Draws | None = None) -> WindowBatch:
        """The windows `indices` (each 0 to len - 1), in that order.

        `draws` [B] in [0, 1) choose the rows of `future` goals, one draw for all goals of a window; without them a
        goal lies half-way to the end.
        """
        steps = np.asarray(indices, dtype=np.int64)
        if steps.size and not (steps.min() >= 0 and steps.max() < len(self)):
            raise IndexError(f"window indices {steps.min()} to {steps.max()}, there are {len(self)} windows")
        past, future = window_rows(
            steps,
            start=self._start[steps],
            stop=self._stop[steps],
            observation_steps=self.observation_steps,
            horizon=self.horizon,
        )
        observations = {name: self._values(name, past) for name in self._observations}
        chosen = np.full(len(steps), 0.5) if draws is None else draws
        for name, goal in self.goals.items():
            observations[name] = self._values(goal.stream, goal.rows(steps, self._stop[steps], chosen)[:, None])
        return WindowBatch(observations, self._actions[future])

    def batches(
        self, index_batches: Iterable[Indices], prefetch: int = 2, draws: Iterable[Draws] | None = None
    ) -> Iterator[WindowBatch]:
        """`batch` of each entry, in order, read ahead by `prefetch` threads (0: read when asked).

        `draws` gives those of each batch. Leaving the iterator early ends its threads; an error in one of them is
        raised here.
        """
        if prefetch < 1:
            yield from map(self.batch, index_batches, repeat(None) if draws is None else draws)
            return
        waiting: deque[Future[WindowBatch]] = deque()
        with ThreadPoolExecutor(prefetch, "window prefetch") as pool:
            try:
                for indices, drawn in zip(index_batches, repeat(None) if draws is None else draws, strict=False):
                    waiting.append(pool.submit(self.batch, indices, drawn))
                    if len(waiting) > prefetch:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _is_image(self, name: str) -> bool:
        """Small streams have statistics, images have none."""
        return f"{OBSERVATION}/{name}" not in self.episodes[0].statistics

    def _check_shapes(self, names: Sequence[str], source: Dataset | Sequence[Episode]) -> None:
        """Against the dataset's spec, or the first episode's where only episodes were given."""
        first = self.episodes[0]
        expected, who = {name: first.shape(name)[1:] for name in names}, f"'{first.path}'"
        if isinstance(source, Dataset):
            streams = {f"{OBSERVATION}/{name}": spec.shape for name, spec in source.spec.observations.items()}
            expected, who = {**expected, ACTION: source.spec.action.shape, **streams}, f"dataset '{source.path}'"
        for episode in self.episodes:
            for name in names:
                if (found := episode.shape(name)[1:]) != expected[name]:
                    raise DatasetError(
                        f"array '{name}' of episode file '{episode.path}' has rows of shape {found}, but {who} has "
                        f"{expected[name]}; take the file out with data.py action=delete"
                    )

    def _concatenated(self, name: str) -> NDArray[np.float32]:
        parts = []
        for episode in self.episodes:
            values = episode.read(name).astype(np.float32)
            check_finite(values, f"'{name}' in episode file '{episode.path}'")
            parts.append(values)
        return np.concatenate(parts)

    def _values(self, name: str, rows: Rows) -> NDArray[Any]:
        """[*rows.shape, ...] of one stream."""
        values = self._in_memory.get(name)
        return self._frames(f"{OBSERVATION}/{name}", rows) if values is None else values[rows]

    def _image_bytes(self, names: Sequence[str]) -> int:
        """What all images of these streams take, decoded."""
        first, arrays = self.episodes[0], [f"{OBSERVATION}/{name}" for name in names]
        return sum(len(self) * math.prod(first.shape(name)[1:]) * first.dtype(name).itemsize for name in arrays)

    def _frames(self, name: str, rows: Rows) -> NDArray[Any]:
        """[*rows.shape, H, W, C], decoded by all threads together."""
        flat = rows.ravel()
        shape = self.episodes[0].shape(name)[1:]
        out = np.empty((len(flat), *shape), dtype=self.episodes[0].dtype(name))
        episodes, local = self._episode[flat].tolist(), (flat - self._start[flat]).tolist()

        def decode(places: NDArray[np.int64]) -> None:
            for place in places.tolist():
                self.episodes[episodes[place]].frame_into(name, local[place], out[place])

        list(self._pool.map(decode, np.array_split(np.arange(len(flat)), self._threads)))  # waits; raises their errors
        return out.reshape(*rows.shape, *shape)


def split(
    dataset: Dataset | Sequence[Episode], held_out_fraction: float, seed: int
) -> tuple[tuple[Episode, ...], tuple[Episode, ...]]:
    """Whole episodes for training and for validation, by chance from `seed`; each part sorted by number.

    A fraction above 0 holds out at least one episode. Raises DatasetError when no episode would remain for training.
    """
    episodes = dataset.episodes if isinstance(dataset, Dataset) else tuple(dataset)
    if not 0.0 <= held_out_fraction < 1.0:
        raise DatasetError(f"the held-out fraction is {held_out_fraction:g}, expected 0 or more and less than 1")
    count = int(np.ceil(held_out_fraction * len(episodes) - 1e-9))
    if count >= len(episodes):
        raise DatasetError(f"holding out {count} of {len(episodes)} episodes leaves none for training; record more")
    chosen = set(np.random.default_rng(seed).permutation(len(episodes))[:count].tolist())
    training = tuple(episode for place, episode in enumerate(episodes) if place not in chosen)
    return training, tuple(episode for place, episode in enumerate(episodes) if place in chosen)
