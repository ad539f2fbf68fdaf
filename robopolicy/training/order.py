"""In which order windows are visited and what they draw: functions of seed and step, so resuming needs no state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DRAWS = 1
"""Keeps the draws apart from the order, whose key is (seed, epoch)."""


class BatchOrder:
    """Shuffled epochs of `count` windows cut into global batches of `batch_size`; the remainder of an epoch is dropped.

    A set smaller than one batch is visited with repetition, so that every batch has the same size.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if count < 1 or batch_size < 1:
            raise ValueError(f"cannot cut {count} windows into batches of {batch_size}")
        self._count, self._batch_size, self._seed = count, batch_size, seed
        self.steps_per_epoch = max(1, count // batch_size)
        self._epoch = -1
        self._permutation: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> NDArray[np.int64]:
        """[batch_size] windows of the global batch of `step`."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng((self._seed, epoch))
            shuffled = generator.permutation(self._count)
            self._permutation = np.resize(shuffled, max(self._count, self._batch_size)).astype(np.int64)
            self._epoch = epoch
        start = position * self._batch_size
        return self._permutation[start : start + self._batch_size]

    def draws(self, step: int) -> NDArray[np.float64]:
        """[batch_size] in [0, 1) for what the windows of `step` leave to chance: the rows of future goals."""
        return np.random.default_rng((self._seed, step, _DRAWS)).random(self._batch_size)
