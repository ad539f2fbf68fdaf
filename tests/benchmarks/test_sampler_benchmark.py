"""The table of samplers' gaps: exact moments, against Monte Carlo and against known values."""

from __future__ import annotations

import json

import pytest

from robopolicy.benchmarks import samplers
from robopolicy.benchmarks.samplers import GaussianDenoiser, gaussian_moments
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import ExplodingPath, LinearPath, VariancePreserving
from robopolicy.denoise.sampler import Request, make_sampler


def test_ddpm_with_all_levels_is_too_narrow() -> None:
    mean, std, evaluations = gaussian_moments(VariancePreserving(100), "ddpm", 100, 0.3, 0.2)
    assert mean == pytest.approx(0.3, abs=1e-4)
    assert std == pytest.approx(0.1854, abs=5e-5)
    assert evaluations == 100


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp", "heun"])
@pytest.mark.parametrize("path", [VariancePreserving(100), LinearPath(), ExplodingPath()])
def test_moments_are_those_of_samples(path: samplers.NoisePath, sampler: str) -> None:
    rows = 4000
    noise = RowNoise(0, [(row, 0) for row in range(rows)])
    denoiser = GaussianDenoiser(path, 0.3, 0.2, (rows, 4, 2))
    drawn = make_sampler(sampler, 7, clip=None)(denoiser, Request(noise)).normalised
    mean, std, _ = gaussian_moments(path, sampler, 7, 0.3, 0.2)
    assert float(drawn.mean()) == pytest.approx(mean, abs=5 * std / drawn.numel() ** 0.5)
    assert float(drawn.std()) == pytest.approx(std, rel=5 / (2 * drawn.numel()) ** 0.5)


def test_a_path_that_stops_short_of_pure_noise_stays_biased() -> None:
    """The exact flow of N(m, s^2) keeps (x - m) / sqrt(s^2 + sigma^2), so from N(0, max^2) its mean misses m."""
    for maximum in (1.0, 80.0):
        mean, _, _ = gaussian_moments(ExplodingPath(0.001, maximum), "heun", 400, 0.5, 0.2)
        assert mean == pytest.approx(0.5 - 0.2 * 0.5 / (0.04 + maximum**2) ** 0.5, abs=1e-4)


def test_the_report_has_every_combination() -> None:
    report = samplers.run(steps=[4, 10], samplers=["euler", "heun"])
    assert json.loads(json.dumps(report)) == report
    assert report["target"] == {"mean": 0.3, "std": 0.2}
    assert set(report["gaps"]) == {"diffusion", "flow", "edm"}
    cell = report["gaps"]["flow"]["heun"]["4"]
    assert cell["evaluations"] == 7
    assert cell["std_error"] == pytest.approx(cell["std"] - 0.2)
    assert cell["mean_error"] == pytest.approx(cell["mean"] - 0.3)
