"""Where randomness comes from: explicit streams, so that a result never depends on a row's neighbours.

At inference row i draws from its own stream, keyed by seed, row and control step (`RowNoise`). In training the noise of
a step is a function of seed and step, and each process takes its share of the global batch (`StepNoise`), so that the
number of processes does not change what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_BRANCH = 0x6272_616E
"""Part of the key of every branch: a key that only has a number more could be another stream's own, and one that only
has a zero more seeds the same stream."""


class Noise(Protocol):
    """Random numbers for one call, a row for each sample of the batch."""

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        """[count, B, *shape] standard normal, float32."""

    def uniform(self, count: int) -> Tensor:
        """[count, B] uniform in [0, 1), float32."""

    def branch(self, number: int) -> Noise:
        """Further streams of the same rows, independent of these and of those of other numbers.

        What is drawn here changes nothing there, so several calls for one batch do not depend on each other's draws.
        """


class RowNoise:
    """One stream a row, keyed by (seed, row key, control step)."""

    def __init__(
        self,
        seed: int,
        rows: Sequence[tuple[int, int]],
        device: torch.device | str = "cpu",
        branches: tuple[int, ...] = (),
    ) -> None:
        """`rows` holds (row key, control step) of each row of the batch, `branches` how to get here; non-negative."""
        self._seed, self._rows, self._branches = seed, rows, branches
        self._generators = [generator_for(seed, *row, *branches) for row in rows]
        self._device = device

    def branch(self, number: int) -> RowNoise:
        return RowNoise(self._seed, self._rows, self._device, (*self._branches, _BRANCH, number))

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        rows = [torch.randn(count, *shape, generator=generator) for generator in self._generators]
        return torch.stack(rows, dim=1).to(self._device)

    def uniform(self, count: int) -> Tensor:
        rows = [torch.rand(count, generator=generator) for generator in self._generators]
        return torch.stack(rows, dim=1).to(self._device)


class StepNoise:
    """The noise of one training step: rows `start` to `stop` of a global batch of `total` rows."""

    def __init__(
        self,
        key: tuple[int, ...],
        total: int,
        start: int = 0,
        stop: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._generator = generator_for(*key)
        self._key = key
        self._total = total
        self._mine = slice(start, total if stop is None else stop)
        self._device = device

    def branch(self, number: int) -> StepNoise:
        return StepNoise((*self._key, _BRANCH, number), self._total, self._mine.start, self._mine.stop, self._device)

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(count, self._total, *shape, generator=self._generator)
        return drawn[:, self._mine].to(self._device)

    def uniform(self, count: int) -> Tensor:
        return torch.rand(count, self._total, generator=self._generator)[:, self._mine].to(self._device)


def generator_for(*key: int) -> torch.Generator:
    """A CPU generator seeded from non-negative integers; different keys give independent streams (SeedSequence)."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)
