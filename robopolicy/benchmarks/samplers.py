"""How far samplers are from exact: the moments that each gives for a Gaussian target with a perfect network.

Every sampler is affine in its noise when the denoiser is, so its mean and standard deviation need no random numbers:
rows of a batch get no noise, or one unit of one draw, and their outputs are the coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Prediction, Target, training_target
from robopolicy.denoise.sampler import Request, make_sampler

PATHS: Mapping[str, NoisePath] = {
    "diffusion": VariancePreserving(100),
    "flow": LinearPath(),
    "edm": ExplodingPath(),
}


def run(
    *,
    mean: float = 0.3,
    std: float = 0.2,
    samplers: Sequence[str] = ("ddpm", "ddim", "euler", "dpmpp", "heun"),
    steps: Sequence[int] = (4, 10, 20, 100),
) -> dict[str, Any]:
    """For each path, sampler and number of steps its `evaluations`, `mean` and `std` and how far those are from the
    target's (`mean_error`, `std_error`), without clipping."""
    gaps = {
        name: {sampler: {str(count): _gap(path, sampler, count, mean, std) for count in steps} for sampler in samplers}
        for name, path in PATHS.items()
    }
    return {"target": {"mean": mean, "std": std}, "gaps": gaps}


def gaussian_moments(path: NoisePath, sampler: str, steps: int, mean: float, std: float) -> tuple[float, float, int]:
    """Mean and standard deviation of what a sampler without clipping makes of the target N(mean, std^2), and its
    evaluations."""
    denoiser = GaussianDenoiser(path, mean, std, (steps + 2, 1, 1))
    sampled = make_sampler(sampler, steps, clip=None)(denoiser, Request(_UnitNoise(steps + 2)))
    constant, *answers = sampled.normalised.flatten().tolist()
    return constant, sum((answer - constant) ** 2 for answer in answers) ** 0.5, int(sampled.evaluations[0])


@dataclass(frozen=True)
class GaussianDenoiser:
    """The perfect network for N(mean, std^2) in each coordinate, whatever its target, in the precision of x."""

    path: NoisePath
    mean: float
    std: float
    shape: tuple[int, int, int]
    target: Target = "clean"
    cost: int = 1

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = self.path.alpha(t.to(x.dtype)), self.path.sigma(t.to(x.dtype))
        away, variance = x - alpha * self.mean, alpha**2 * self.std**2 + sigma**2
        clean, eps = self.mean + alpha * self.std**2 * away / variance, sigma * away / variance
        return Prediction(x, training_target(self.target, clean, eps, alpha, sigma), alpha, sigma, self.target)


@dataclass(frozen=True)
class _UnitNoise:
    """Row 0 gets no noise, row k + 1 one unit of draw k."""

    rows: int

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        units = torch.eye(self.rows, dtype=torch.float64)[1 : count + 1]
        return units.reshape(count, self.rows, *(1 for _ in shape)).expand(count, self.rows, *shape)

    def uniform(self, count: int) -> Tensor:
        raise NotImplementedError("samplers draw normal numbers only")

    def branch(self, number: int) -> _UnitNoise:
        raise NotImplementedError("these samplers draw from one stream")


def _gap(path: NoisePath, sampler: str, steps: int, mean: float, std: float) -> dict[str, float]:
    found_mean, found_std, evaluations = gaussian_moments(path, sampler, steps, mean, std)
    return {
        "evaluations": evaluations,
        "mean": found_mean,
        "std": found_std,
        "mean_error": found_mean - mean,
        "std_error": found_std - std,
    }
