"""A denoiser on another path: equal noise ratios, and perfect Gaussian denoisers that agree wherever they stand."""

from __future__ import annotations

import pytest
import torch
from gaussian_denoisers import GaussianDenoiser, noise_of
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.rescale import RescaledDenoiser, on_path, same_path
from robopolicy.denoise.sampler import Request, TableSampler
from robopolicy.denoise.tables import ddim, ddpm

SHAPE = (200, 4, 2)
PATHS: dict[str, NoisePath] = {"diffusion": VariancePreserving(100), "flow": LinearPath(), "edm": ExplodingPath()}
CONTINUOUS = ["flow", "edm"]


@given(time=st.floats(1e-3, 1.0), name=st.sampled_from(CONTINUOUS))
def test_a_time_is_found_by_its_noise_ratio(time: float, name: str) -> None:
    path, t = PATHS[name], torch.tensor(time, dtype=torch.float64)
    ratio = path.sigma(t) / (path.alpha(t) + path.sigma(t))
    assert float(path.time_at(ratio)) == pytest.approx(time, rel=1e-9)


def test_levels_are_found_by_their_noise_ratio() -> None:
    path = PATHS["diffusion"]
    times = torch.arange(1, 101, dtype=torch.float64) / 100
    ratios = path.sigma(times) / (path.alpha(times) + path.sigma(times))
    assert torch.equal(path.time_at(ratios), times)
    assert torch.equal(path.time_at(ratios + 1e-7), times)


def test_more_noise_than_a_path_has_is_its_end() -> None:
    assert float(PATHS["edm"].time_at(torch.tensor(1.0))) == 1.0
    assert float(PATHS["edm"].time_at(torch.tensor(0.999))) == 1.0


def test_same_paths() -> None:
    assert same_path(VariancePreserving(100), VariancePreserving(100))
    assert not same_path(VariancePreserving(100), VariancePreserving(50))
    assert not same_path(VariancePreserving(100), VariancePreserving(100, "linear"))
    assert same_path(LinearPath(), LinearPath("logit_normal"))
    assert same_path(ExplodingPath(), ExplodingPath(minimum=0.1, spacing="karras"))
    assert not same_path(ExplodingPath(maximum=80.0), ExplodingPath(maximum=10.0))
    denoiser = GaussianDenoiser(LinearPath(), 0.0, 1.0, SHAPE)
    assert on_path(denoiser, LinearPath()) is denoiser


@pytest.mark.parametrize(
    ("own", "seen", "tolerance"),
    [
        ("flow", "diffusion", 2e-6),
        ("edm", "diffusion", 3e-3),  # whose end is not pure noise: there x still seems to tell of the action
        ("edm", "flow", 3e-3),
        ("flow", "edm", 2e-6),
    ],
)
@pytest.mark.parametrize("target", ["clean", "v", "velocity"])
def test_a_perfect_denoiser_says_the_same_on_every_path(own: str, seen: str, tolerance: float, target: str) -> None:
    path = PATHS[seen]
    there = RescaledDenoiser(GaussianDenoiser(PATHS[own], 0.3, 0.2, SHAPE, target), path)  # type: ignore[arg-type]
    here = GaussianDenoiser(path, 0.3, 0.2, SHAPE)
    for t in path.levels(10):
        x = (
            path.alpha(t) * 0.3
            + (path.sigma(t) ** 2 + 0.04 * path.alpha(t) ** 2).sqrt() * noise_of(200).normal(1, (4, 2))[0]
        )
        torch.testing.assert_close(there(x, t).clean, here(x, t).clean, atol=tolerance, rtol=0)


def test_samples_are_those_of_the_path() -> None:
    path = PATHS["diffusion"]
    there = RescaledDenoiser(GaussianDenoiser(PATHS["flow"], 0.3, 0.2, SHAPE, "velocity"), path)
    for table in (ddim, ddpm):
        sampler = TableSampler(table, 50, None)
        a = sampler(there, Request(noise_of(200)))
        b = sampler(GaussianDenoiser(path, 0.3, 0.2, SHAPE), Request(noise_of(200)))
        torch.testing.assert_close(a.normalised, b.normalised, atol=1e-5, rtol=0)
        assert torch.equal(a.evaluations, b.evaluations)


def test_the_quietest_level_is_the_nearest_of_less_noise() -> None:
    """Time 0 is no level: there is no network for it, and its noise is none to scale by."""
    path = VariancePreserving(100)
    assert path.time_at(torch.tensor([0.0, 1e-4, 0.004])).tolist() == pytest.approx([0.01, 0.01, 0.01])
