"""What a policy predicts beside what was demonstrated, on a few windows."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from robopolicy.dataset.windows import Windows
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request
from robopolicy.evaluation.pictures import action_names
from robopolicy.policies.policy import PolicyModule

_WINDOWS = 4
_SAMPLES = 5
_MOST_DIMENSIONS = 8


@torch.no_grad()
def prediction_picture(policy: PolicyModule, windows: Windows, seed: int) -> Figure:
    """A grid: one column a window, one row an action dimension, demonstrated and sampled chunks over time."""
    chosen = np.linspace(0, len(windows) - 1, _WINDOWS).astype(np.int64)
    batch = windows.batch(chosen)
    device = next(policy.parameters()).device
    observation = {name: torch.as_tensor(value, device=device) for name, value in batch.observations.items()}
    encoded = policy.encode(observation).repeat(_SAMPLES)
    noise = RowNoise(seed, [(int(row), sample) for row in chosen for sample in range(_SAMPLES)], device)
    sampled = policy.unnormalise(policy.sample(encoded, Request(noise)).normalised)
    chunks = sampled.view(len(chosen), _SAMPLES, *sampled.shape[1:]).cpu().numpy()

    names = action_names(policy.spec.action)
    shown = min(len(names), _MOST_DIMENSIONS)
    time_s = (np.arange(policy.horizon.prediction) + 1) / policy.spec.rate_hz
    figure = Figure(figsize=(3.0 * len(chosen), 1.6 * shown + 0.6), layout="constrained")
    axes = figure.subplots(shown, len(chosen), sharex=True, sharey="row", squeeze=False)
    for column, window in enumerate(chosen):
        axes[0][column].set_title(f"window {window}", fontsize=9)
        axes[-1][column].set_xlabel("time ahead (s)")
        for row in range(shown):
            axes[row][column].plot(time_s, chunks[column, :, :, row].T, color="tab:blue", alpha=0.5, linewidth=1)
            axes[row][column].plot(time_s, batch.actions[column, :, row], color="black", linewidth=1.5)
            axes[row][column].tick_params(labelsize=8)
    for row in range(shown):
        axes[row][0].set_ylabel(names[row], fontsize=8)
    figure.suptitle("demonstrated (black) and sampled (blue) chunks", fontsize=10)
    return figure
