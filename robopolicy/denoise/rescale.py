"""A denoiser seen on another noise path.

A noisy sample x = alpha a + sigma eps is, but for its scale, decided by the noise ratio u = sigma / (alpha + sigma):
two paths have the same samples, scaled, at times of equal u. So a denoiser of one path answers on another when x is
scaled to its own path and it is told its own time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robopolicy.denoise.paths import NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Denoiser

_PROBES = 100


def same_path(a: NoisePath, b: NoisePath) -> bool:
    """Whether both have the same alpha and sigma at all times; how they train and space their levels may differ."""
    if type(a) is not type(b):
        return False
    if isinstance(a, VariancePreserving) and isinstance(b, VariancePreserving) and a.steps != b.steps:
        return False
    count = a.steps if isinstance(a, VariancePreserving) else _PROBES
    times = torch.arange(count + 1, dtype=torch.float64) / count
    return bool(torch.equal(a.alpha(times), b.alpha(times)) and torch.equal(a.sigma(times), b.sigma(times)))


def on_path(denoiser: Denoiser, path: NoisePath) -> Denoiser:
    """The denoiser itself where its path is `path`, else a view of it."""
    return denoiser if same_path(denoiser.path, path) else RescaledDenoiser(denoiser, path)


@dataclass(frozen=True)
class RescaledDenoiser:
    """A `robopolicy.denoise.sampler.Denoiser` on `path` that asks one of another path.

    Where `path` has more noise than the denoiser's own path can have, the denoiser is asked at its greatest time. x is
    scaled by the ratio of the sigmas, so that the noise in it is what the network expects; of the action there is then
    a little less.
    """

    denoiser: Denoiser
    path: NoisePath

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.denoiser.shape

    @property
    def cost(self) -> int:
        return self.denoiser.cost

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """A prediction of the clean action, whatever the network's own target."""
        times = t.expand(len(x))
        alpha, sigma = self.path.alpha(times), self.path.sigma(times)
        own_times = self.denoiser.path.time_at(sigma / (alpha + sigma))
        gain = self.denoiser.path.sigma(own_times) / sigma
        clean = self.denoiser(_column(gain) * x, own_times).clean
        return Prediction(x, clean, _column(alpha), _column(sigma), "clean")


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]
