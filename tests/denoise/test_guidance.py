"""Guidance is affine in every reading, exact on Gaussians, and nothing but one of the two at its ends."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from robopolicy.benchmarks.samplers import GaussianDenoiser
from robopolicy.denoise.guidance import guide
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Target
from robopolicy.denoise.sampler import Request, make_sampler

SHAPE = (3, 4, 2)
PATHS: list[NoisePath] = [VariancePreserving(100), LinearPath(), ExplodingPath()]
TARGETS = get_args(Target)
READINGS = ("clean", "eps", "v", "flow_velocity", "score")
WEIGHTS = (-0.5, 0.3, 1.5, 3.0)


def perfect(mean: float, path: NoisePath, target: Target) -> GaussianDenoiser:
    return GaussianDenoiser(path, mean, 0.2, SHAPE, target)


def request() -> Request:
    return Request(RowNoise(5, [(row, 0) for row in range(SHAPE[0])]))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_every_reading_is_mixed_alike(path: NoisePath, target: Target) -> None:
    with_goal, without = perfect(0.4, path, target), perfect(-0.2, path, target)
    x, t = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.tensor(0.6)
    for weight in WEIGHTS:
        guided = guide(with_goal, without, weight)(x, t)
        for reading in READINGS:
            c, u = (getattr(denoiser(x, t), reading) for denoiser in (with_goal, without))
            torch.testing.assert_close(getattr(guided, reading), (1 - weight) * u + weight * c)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp", "heun"])
def test_between_gaussians_of_one_width_it_samples_the_gaussian_with_the_mixed_mean(
    path: NoisePath, sampler: str
) -> None:
    run = make_sampler(sampler, 10, clip=None)
    for weight in WEIGHTS:
        guided = guide(perfect(0.4, path, "v"), perfect(-0.2, path, "v"), weight)
        mixed = perfect((1 - weight) * -0.2 + weight * 0.4, path, "v")
        torch.testing.assert_close(
            run(guided, request()).normalised, run(mixed, request()).normalised, atol=1e-6, rtol=1e-6
        )


def test_it_costs_both_evaluations_and_at_its_ends_one() -> None:
    with_goal, without = (perfect(mean, PATHS[0], "clean") for mean in (0.4, -0.2))
    assert guide(with_goal, without, 1.0) is with_goal
    assert guide(with_goal, without, 0.0) is without
    run = make_sampler("ddim", 10)
    for weight, evaluations in ((0.0, 10), (1.0, 10), (1.5, 20)):
        sampled = run(guide(with_goal, without, weight), request())
        assert sampled.evaluations.tolist() == [evaluations] * SHAPE[0]
    assert run(guide(guide(with_goal, without, 2.0), without, 2.0), request()).evaluations.tolist() == [30] * SHAPE[0]
