"""What a dataset holds, as text for a person and as JSON for a program. No image is decoded for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robopolicy.dataset.dataset import Dataset, joined_versions
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.layout import ACTION, OBSERVATION, SOURCE
from robopolicy.dataset.statistics import Statistics, dataset_statistics
from robopolicy.spec import ArraySpec


@dataclass(frozen=True)
class DatasetSummary:
    """Of one dataset.

    Attributes:
        numbers: of the episodes, ascending.
        seconds: rows over the rate.
        successes: how many episodes "succeeded", "failed" or are "unknown".
        sources: rows by who acted in them.
        size_bytes: of all files in the folder, deleted episodes included.
        versions: every version that an episode was made with.
        statistics: of the action and the small streams; empty without episodes.
    """

    dataset: Dataset
    numbers: tuple[int, ...]
    rows: int
    seconds: float
    successes: Mapping[str, int]
    sources: Mapping[str, int]
    size_bytes: int
    unfinished: tuple[str, ...]
    versions: Mapping[str, str]
    statistics: Mapping[str, Statistics]

    def json(self) -> dict[str, Any]:
        dataset, spec = self.dataset, self.dataset.spec
        return {
            "data": str(dataset.path),
            "task": dataset.task,
            "robot": spec.to_json(),
            "codecs": dataset.codecs,
            "episodes": len(self.numbers),
            "numbers": list(self.numbers),
            "rows": self.rows,
            "seconds_recorded": self.seconds,
            "successes": dict(self.successes),
            "sources": dict(self.sources),
            "size_bytes": self.size_bytes,
            "unfinished": list(self.unfinished),
            "versions": dict(self.versions),
            "statistics": {name: statistics.to_json() for name, statistics in self.statistics.items()},
        }

    def __str__(self) -> str:
        return "\n".join([*self._facts(), "", *self._streams(), "", *self._table()])

    def _facts(self) -> Iterator[str]:
        dataset, spec = self.dataset, self.dataset.spec
        numbers = f", numbers {self.numbers[0]} to {self.numbers[-1]}" if self.numbers else ""
        minutes, seconds = divmod(self.seconds, 60)
        yield f"{dataset.path}: task {dataset.task} on robot {spec.name} at {spec.rate_hz:g} Hz"
        yield f"episodes    {len(self.numbers)}{numbers}; {self.rows:,} rows, {minutes:.0f} min {seconds:.1f} s"
        yield "outcomes    " + (", ".join(f"{count} {name}" for name, count in self.successes.items()) or "none")
        yield "sources     " + (", ".join(f"{name}: {rows:,} rows" for name, rows in self.sources.items()) or "none")
        yield f"on disk     {self.size_bytes / 1e6:.2f} MB"
        yield "unfinished  " + (", ".join(self.unfinished) or "none")
        yield "versions    " + (", ".join(f"{name} {version}" for name, version in self.versions.items()) or "none")

    def _streams(self) -> Iterator[str]:
        spec = self.dataset.spec
        width = max(len(name) for name in (*spec.observations, ACTION))
        for name, array in {**spec.observations, ACTION: spec.action}.items():
            codec = f"  codec {self.dataset.codecs[name]}" if name in self.dataset.codecs else ""
            yield f"{name:<{width}}  {_described(array, with_mode=name == ACTION)}{codec}"

    def _table(self) -> Iterator[str]:
        rows = [row for name, statistics in self.statistics.items() for row in self._elements(name, statistics)]
        width = max((len(row[0]) for row in rows), default=0)
        if rows:
            yield f"{'':<{width}}  {'low':>11} {'high':>11} {'mean':>11} {'std':>11}"
        for name, values in rows:
            yield f"{name:<{width}}  " + " ".join(f"{value:>11.5g}" for value in values)

    def _elements(self, name: str, statistics: Statistics) -> Iterator[tuple[str, list[float]]]:
        """One row of the table for each number of a stream, named by its part."""
        spec = self.dataset.spec
        stream = name.removeprefix(f"{OBSERVATION}/")
        array = spec.action if name == ACTION else spec.observations[stream]
        columns = [getattr(statistics, key) for key in ("low", "high", "mean", "std")]
        for index in np.ndindex(columns[0].shape):
            yield f"{stream} {_element(array, index)}".rstrip(), [float(column[index]) for column in columns]


def summarise(dataset: Dataset) -> DatasetSummary:
    """Reads the facts of every episode. Raises DatasetError when a file is damaged."""
    episodes = dataset.episodes
    rows = sum(episode.length for episode in episodes)
    files = [file for file in dataset.path.rglob("*") if file.is_file()]
    return DatasetSummary(
        dataset=dataset,
        numbers=tuple(episode.number for episode in episodes),
        rows=rows,
        seconds=rows / dataset.spec.rate_hz,
        successes=Counter(_OUTCOMES[episode.metadata["success"]] for episode in episodes),
        sources=sum((_sources(episode) for episode in episodes), Counter()),
        size_bytes=sum(file.stat().st_size for file in files),
        unfinished=tuple(file.name for file in dataset.unfinished),
        versions=joined_versions([dataset.versions, *(episode.metadata["versions"] for episode in episodes)]),
        statistics=dataset_statistics(episodes) if episodes else {},
    )


_OUTCOMES = {True: "succeeded", False: "failed", None: "unknown"}


def _sources(episode: Episode) -> Counter[str]:
    codes, counts = np.unique(episode.read(SOURCE), return_counts=True)
    names = episode.attributes(SOURCE)["names"]
    return Counter({names[code]: int(count) for code, count in zip(codes.tolist(), counts, strict=True)})


def _described(array: ArraySpec, *, with_mode: bool) -> str:
    parts = [f"{part.name}:{part.size} ({part.kind}{f', {part.mode}' if with_mode else ''})" for part in array.parts]
    words = [f"{array.dtype} {list(array.shape)}", array.unit, f"in {array.frame}" if array.frame else "", *parts]
    return "  ".join(word for word in words if word)


def _element(array: ArraySpec, index: tuple[int, ...]) -> str:
    """Such as "position[2]"; the bare index where the array has no parts."""
    for part, place in array.slices():
        if len(index) == 1 and place.start <= index[0] < place.stop:
            return f"{part.name}[{index[0] - place.start}]"
    return str(list(index)) if index else ""
