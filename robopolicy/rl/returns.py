"""Returns of recorded episodes: what a critic is fitted to.

For a sparse task the return from row t on is discount^n if the episode succeeds n rows later, and 0 if it never does:
the chance of success, lessened by how long it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robopolicy.dataset.episode import Episode
from robopolicy.dataset.layout import SUCCESS
from robopolicy.errors import DatasetError

Array = NDArray[np.float32]


def returns_of(episodes: Sequence[Episode], discount: float) -> Array:
    """[rows] of the episodes laid end to end, as `robopolicy.dataset.windows.Windows` numbers its windows.

    Raises DatasetError for an episode of which nobody knows whether it succeeded.
    """
    return np.concatenate([returns_to_go(_success(episode), discount) for episode in episodes])


def returns_to_go(success: NDArray[np.bool_], discount: float) -> Array:
    """[length]; `success` [length] says of each row whether its action led to it, so there the return is 1."""
    rows = np.arange(len(success))
    at = np.where(success, rows, len(success))
    steps = np.minimum.accumulate(at[::-1])[::-1] - rows  # to the next row that succeeds
    return np.where(rows + steps < len(success), discount**steps, 0.0).astype(np.float32)


def _success(episode: Episode) -> NDArray[np.bool_]:
    """[length]; of an episode without outcomes the last row has what its metadata say."""
    if SUCCESS in episode.names:
        return np.asarray(episode.read(SUCCESS), dtype=np.bool_)
    known = episode.metadata.get("success")
    if known is None:
        raise DatasetError(
            f"episode file '{episode.path}' does not say whether it succeeded, so it has no return: take it out with "
            "data.py action=delete"
        )
    success = np.zeros(episode.length, dtype=np.bool_)
    success[-1] = bool(known)
    return success
