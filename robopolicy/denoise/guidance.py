"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598; on goals: BESO, arXiv 2304.02532).

One network is asked twice, with the condition and without it, and answers

    output = (1 - w) u + w c.

A target is an affine function of the clean action with coefficients that both answers share, and the weights have sum
one, so mixing outputs mixes the readings (clean, eps, v, velocity, score) in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Denoiser


def guide(conditional: Denoiser, unconditional: Denoiser, weight: float) -> Denoiser:
    """The guided denoiser: at weights 1 and 0 the one or the other itself, elsewhere both, at the cost of both.

    Both must share path, shape and target.
    """
    if weight == 1.0:
        return conditional
    if weight == 0.0:
        return unconditional
    return GuidedDenoiser(conditional, unconditional, weight)


@dataclass(frozen=True)
class GuidedDenoiser:
    """A `robopolicy.denoise.sampler.Denoiser` that mixes two; below 0 and above 1 it extrapolates."""

    conditional: Denoiser
    unconditional: Denoiser
    weight: float

    @property
    def path(self) -> NoisePath:
        return self.conditional.path

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.conditional.shape

    @property
    def cost(self) -> int:
        return self.conditional.cost + self.unconditional.cost

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        with_goal, without = self.conditional(x, t), self.unconditional(x, t)
        return replace(with_goal, output=(1.0 - self.weight) * without.output + self.weight * with_goal.output)
