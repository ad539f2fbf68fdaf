"""Samplers against diffusers' schedulers, and against the affine recursion that a Gaussian target has."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Request, TableSampler, ddim, ddpm, make_sampler
from robopolicy.errors import ConfigError

SHAPE = (3, 4, 2)


@dataclass(frozen=True)
class GaussianDenoiser:
    """The perfect denoiser of N(mean, std^2)."""

    path: NoisePath
    mean: float
    std: float
    shape: tuple[int, int, int] = SHAPE

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        eps = sigma * (x - alpha * self.mean) / (alpha**2 * self.std**2 + sigma**2)
        return Prediction(x, eps, alpha, sigma, "eps")


@dataclass(frozen=True)
class WildDenoiser:
    """A fixed nonlinear network whose clean actions leave [-1, 1]."""

    path: NoisePath
    shape: tuple[int, int, int] = SHAPE

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        return Prediction(x, torch.sin(3 * x) + 0.5 * x, self.path.alpha(t), self.path.sigma(t), "eps")


def _noise(rows: int = SHAPE[0]) -> RowNoise:
    return RowNoise(11, [(row, 0) for row in range(rows)])


@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddpm_is_diffusers_ddpm(clip: float | None) -> None:
    path = VariancePreserving(100)
    denoiser = WildDenoiser(path)
    scheduler = DDPMScheduler(
        100, beta_schedule="squaredcos_cap_v2", variance_type="fixed_small", clip_sample=clip is not None
    )
    noise = _noise().normal(101, SHAPE[1:]).double()
    x = float(path.sigma(torch.tensor(1.0, dtype=torch.float64))) * noise[0]
    for index, k in enumerate(range(99, -1, -1)):
        eps = denoiser(x, torch.tensor((k + 1) / 100)).eps
        without_noise = scheduler.step(eps, k, x, generator=torch.Generator().manual_seed(0)).prev_sample
        drawn = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        deviation = scheduler._get_variance(k).sqrt() if k else 0.0
        x = without_noise + deviation * (noise[index + 1] - drawn) if k else without_noise
    sampled = TableSampler(ddpm, 100, clip)(denoiser, Request(_noise()))
    torch.testing.assert_close(sampled.normalised.double(), x, atol=2e-4, rtol=1e-3)
    assert sampled.evaluations.tolist() == [100] * SHAPE[0]


@pytest.mark.parametrize("steps", [5, 10, 50])
def test_ddim_is_diffusers_ddim(steps: int) -> None:
    path = VariancePreserving(100)
    denoiser = WildDenoiser(path)
    scheduler = DDIMScheduler(
        100, beta_schedule="squaredcos_cap_v2", clip_sample=True, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    x = float(path.sigma(torch.tensor(1.0))) * _noise().normal(steps + 1, SHAPE[1:])[0]
    for k in scheduler.timesteps.tolist():
        eps = denoiser(x, torch.tensor((k + 1) / 100)).eps
        x = scheduler.step(eps, k, x, use_clipped_model_output=True).prev_sample
    sampled = TableSampler(ddim, steps)(denoiser, Request(_noise()))
    torch.testing.assert_close(sampled.normalised, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("table", "steps"), [(ddpm, 100), (ddpm, 7), (ddim, 100), (ddim, 4)])
def test_a_gaussian_target_follows_the_affine_recursion(table: object, steps: int) -> None:
    """Mean and variance of the output follow from the coefficients alone; the gap to the target is the method's."""
    path, mean, std = VariancePreserving(100), 0.3, 0.2
    levels = path.levels(steps).double()
    gains = table(path, levels)  # type: ignore[operator]
    expected_mean, variance = 0.0, float(path.sigma(levels[0])) ** 2
    for i in range(steps):
        alpha, sigma = float(path.alpha(levels[i])), float(path.sigma(levels[i]))
        spread = alpha**2 * std**2 + sigma**2
        slope, constant = alpha * std**2 / spread, mean * sigma**2 / spread  # clean = slope x + constant
        gain = float(gains.x_gain[i] + gains.clean_gain[i] * slope)
        expected_mean = gain * expected_mean + float(gains.clean_gain[i]) * constant
        variance = gain**2 * variance + float(gains.noise_gain[i]) ** 2
    rows = 4000
    denoiser = GaussianDenoiser(path, mean, std, (rows, 4, 2))
    sampled = TableSampler(table, steps, None)(denoiser, Request(_noise(rows))).normalised  # type: ignore[arg-type]
    count = sampled.numel()
    assert float(sampled.mean()) == pytest.approx(expected_mean, abs=5 * variance**0.5 / count**0.5)
    assert float(sampled.std()) == pytest.approx(variance**0.5, rel=5 / (2 * count) ** 0.5)
    if table is ddpm and steps == 100:
        assert variance**0.5 == pytest.approx(0.1854, abs=1e-4)


def test_rows_are_independent_of_the_batch() -> None:
    path = VariancePreserving(100)
    together = TableSampler(ddpm, 20)(WildDenoiser(path), Request(_noise())).normalised
    alone = TableSampler(ddpm, 20)(WildDenoiser(path, (1, 4, 2)), Request(RowNoise(11, [(1, 0)]))).normalised
    assert torch.equal(together[1:2], alone)


def test_explicit_levels_replace_the_samplers_own() -> None:
    path = VariancePreserving(100)
    request = Request(_noise(), levels=[0.5, 0.2, 0.01])
    assert TableSampler(ddim, 50)(WildDenoiser(path), request).evaluations.tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match="must descend"):
        TableSampler(ddim, 50)(WildDenoiser(path), Request(_noise(), levels=[0.2, 0.5]))


def test_clipped_samples_end_inside_the_bounds() -> None:
    sampled = TableSampler(ddpm, 100, 1.0)(WildDenoiser(VariancePreserving(100)), Request(_noise())).normalised
    assert float(sampled.abs().max()) <= 1.0 + 1e-6


def test_an_unknown_sampler_is_named() -> None:
    with pytest.raises(ConfigError, match="'euler'.*ddpm, ddim"):
        make_sampler("euler", 10)
