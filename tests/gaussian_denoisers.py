"""Perfect denoisers of Gaussian actions: what a network would say that had learned N(mean, std^2) exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robopolicy.denoise.noise import StepNoise
from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.prediction import Prediction, Target, training_target
from robopolicy.denoise.tables import Table


@dataclass(frozen=True)
class GaussianDenoiser:
    """A `robopolicy.denoise.sampler.Denoiser` whose clean action is E[a | x_t] for a ~ N(mean, std^2), each element."""

    path: NoisePath
    mean: float
    std: float
    shape: tuple[int, int, int]
    target: Target = "clean"
    cost: int = 1

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        times = t.expand(len(x))
        alpha, sigma = self.path.alpha(times)[:, None, None], self.path.sigma(times)[:, None, None]
        clean = clean_of(x, alpha, sigma, self.mean, self.std)
        output = training_target(self.target, clean, (x - alpha * clean) / sigma, alpha, sigma)
        return Prediction(x, output, alpha, sigma, self.target)


def clean_of(x: Tensor, alpha: Tensor, sigma: Tensor, mean: float, std: float) -> Tensor:
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    return mean + gain * (x - alpha * mean)


def affine_recursion(
    path: NoisePath, levels: Tensor, table: Table, parents: list[tuple[float, float]], weights: list[float]
) -> tuple[float, float]:
    """Mean and standard deviation of what a table sampler makes, without clipping, of the mixture of Gaussian parents
    (mean, std): every step is affine in x, so both follow from the ones before."""
    times = levels.double()
    alpha, sigma = path.alpha(times), path.sigma(times)
    mean, variance = torch.zeros((), dtype=torch.float64), sigma[0] ** 2
    for k in range(len(times)):
        gains = [alpha[k] * std**2 / (alpha[k] ** 2 * std**2 + sigma[k] ** 2) for _, std in parents]
        slope = sum(w * gain for w, gain in zip(weights, gains, strict=True))
        offset = sum(w * m * (1 - g * alpha[k]) for w, (m, _), g in zip(weights, parents, gains, strict=True))
        own = table.x_gain[k] + table.clean_gain[k] * slope
        mean = own * mean + table.clean_gain[k] * offset
        variance = own**2 * variance + table.noise_gain[k] ** 2
    return float(mean), float(variance.sqrt())


def noise_of(rows: int, seed: int = 11) -> StepNoise:
    return StepNoise((seed,), rows)
