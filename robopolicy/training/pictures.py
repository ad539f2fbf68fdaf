"""What a policy predicts beside what was demonstrated, on a few windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robopolicy.dataset.windows import Windows
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request
from robopolicy.evaluation.pictures import action_names
from robopolicy.policies.policy import LearnedPolicy

Array = NDArray[np.floating[Any]]

_WINDOWS = 4
_SAMPLES = 5
_MOST_DIMENSIONS = 8


@torch.no_grad()
def prediction_picture(policy: LearnedPolicy, windows: Windows, seed: int) -> Figure:
    """A grid: one column a window; the newest image of each camera, then a row for each action dimension with
    demonstrated and sampled chunks over time."""
    chosen = np.linspace(0, len(windows) - 1, _WINDOWS).astype(np.int64)
    batch = windows.batch(chosen)
    device = next(policy.parameters()).device
    observation = {name: torch.as_tensor(value, device=device) for name, value in batch.observations.items()}
    encoded = policy.encode(observation).repeat(_SAMPLES)
    noise = RowNoise(seed, [(int(row), sample) for row in chosen for sample in range(_SAMPLES)], device)
    sampled = policy.unnormalise(policy.sample(encoded, Request(noise)).normalised)
    chunks = sampled.view(len(chosen), _SAMPLES, *sampled.shape[1:]).cpu().numpy()

    names = action_names(policy.spec.action)[:_MOST_DIMENSIONS]
    cameras = [name for name, array in policy.spec.observations.items() if array.is_image]
    time_s = (np.arange(policy.horizon.prediction) + 1) / policy.spec.rate_hz
    rows = len(cameras) + len(names)
    figure = Figure(figsize=(3.0 * len(chosen), 1.6 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, len(chosen), squeeze=False)
    for column, window in enumerate(chosen):
        axes[0][column].set_title(f"window {window}", fontsize=9)
        for row, name in enumerate(cameras):
            axes[row][column].imshow(batch.observations[name][column, -1])
            axes[row][column].axis("off")
        _chunks(axes[len(cameras) :, column], time_s, chunks[column], batch.actions[column])
    for row, name in enumerate(names, len(cameras)):
        axes[row][0].set_ylabel(name, fontsize=8)
        _share_limits(axes[row])
    figure.suptitle("demonstrated (black) and sampled (blue) chunks", fontsize=10)
    return figure


def _chunks(axes: Any, time_s: Array, sampled: Array, demonstrated: Array) -> None:
    """One axes for each action dimension: samples [S, Tp, D] and the demonstration [Tp, D]."""
    for dimension, place in enumerate(axes):
        place.plot(time_s, sampled[:, :, dimension].T, color="tab:blue", alpha=0.5, linewidth=1)
        place.plot(time_s, demonstrated[:, dimension], color="black", linewidth=1.5)
        place.tick_params(labelsize=8, labelbottom=place is axes[-1])
    axes[-1].set_xlabel("time ahead (s)")


def _share_limits(row: Any) -> None:
    for place in row[1:]:
        place.sharey(row[0])
        place.tick_params(labelleft=False)
