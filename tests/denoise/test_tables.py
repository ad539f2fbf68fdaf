"""Sampling a known Gaussian: for every path, prediction type and sampler it must follow the sampler's affine recursion.

The recursion is worked out here once more, from textbook formulas in numpy: x is kept as its coefficients on (1, first
noise, second noise, ...), so a sampler's output is compared number by number, not only in its moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor

from robopolicy.benchmarks.samplers import GaussianDenoiser, gaussian_moments
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Target
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.denoise.tables import ddim, dpmpp, euler

Array = NDArray[np.float64]
MEAN, STD = 0.3, 0.2
ROWS, SHAPE = 5, (4, 2)
PATHS: dict[str, NoisePath] = {"diffusion": VariancePreserving(100), "flow": LinearPath(), "edm": ExplodingPath()}
TARGETS: tuple[Target, ...] = get_args(Target)
_PRODUCTS = np.concatenate(
    [[1.0], DDPMScheduler(100, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double().numpy()]
)


def perfect(path: NoisePath, target: Target) -> GaussianDenoiser:
    """The network for N(MEAN, STD^2)."""
    return GaussianDenoiser(path, MEAN, STD, (ROWS, *SHAPE), target)


@dataclass(frozen=True)
class DoubleNoise:
    """Rows' own streams in double precision, so that nothing else rounds."""

    noise: RowNoise

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        return self.noise.normal(count, shape).double()

    def uniform(self, count: int) -> Tensor:
        return self.noise.uniform(count).double()


def _row_noise() -> RowNoise:
    return RowNoise(7, [(row, 0) for row in range(ROWS)])


def _levels(name: str, target: Target, steps: int) -> list[float]:
    """The path's own; where alpha(1) = 0 the eps target says nothing of the action, so there a little less than 1."""
    levels: list[float] = PATHS[name].levels(steps).tolist()
    return [63 / 64, *levels[1:]] if name == "flow" and target == "eps" else levels


def _alpha_sigma(name: str, t: float) -> tuple[float, float]:
    if name == "diffusion":
        product = float(_PRODUCTS[round(100 * t)])
        return product**0.5, (1 - product) ** 0.5
    return (1 - t, t) if name == "flow" else (1.0, 80.0 * t)


# --- the recursions, from textbooks ------------------------------------------------------------------------------


class Recursion:
    """x as coefficients on (1, z_0, z_1, ...), walked down the levels of a path."""

    def __init__(self, name: str, levels: list[float]) -> None:
        self.name = name
        self.ends = [_alpha_sigma(name, t) for t in [*levels, 0.0]]
        self.steps = len(levels)
        self.one, *self.units = np.eye(self.steps + 2)
        self.x = self.ends[0][1] * self.units[0]

    def clean(self, x: Array, index: int) -> Array:
        """E[a | x] of a ~ N(MEAN, STD^2) and x | a ~ N(alpha a, sigma^2)."""
        alpha, sigma = self.ends[index]
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        return MEAN * self.one + gain * (x - alpha * MEAN * self.one)


def _ddpm(walk: Recursion) -> Array:
    """Bayes' rule: prior N(alpha_s a, sigma_s^2) of x_s, likelihood N(r x_s, sigma_t^2 - r^2 sigma_s^2) of x_t."""
    x = walk.x
    for i in range(walk.steps):
        (alpha, sigma), (alpha_s, sigma_s) = walk.ends[i], walk.ends[i + 1]
        clean, ratio = walk.clean(x, i), alpha / alpha_s
        kalman = sigma_s**2 * ratio / sigma**2
        variance = max(sigma_s**2 - kalman * ratio * sigma_s**2, 0.0)
        x = alpha_s * clean + kalman * (x - ratio * alpha_s * clean) + variance**0.5 * walk.units[i + 1]
    return x


def _ddim(walk: Recursion) -> Array:
    x = walk.x
    for i in range(walk.steps):
        (alpha, sigma), (alpha_s, sigma_s) = walk.ends[i], walk.ends[i + 1]
        clean = walk.clean(x, i)
        x = alpha_s * clean + sigma_s * (x - alpha * clean) / sigma
    return x


def _in_clock(walk: Recursion, x: Array, i: int) -> tuple[Array, float]:
    """dz/du and u of the path in its clock: z = (1 - u) a + u eps, for EDM z = x = a + u eps."""
    alpha, sigma = walk.ends[i]
    clean = walk.clean(x, i)
    eps = (x - alpha * clean) / sigma
    return (eps, sigma) if walk.name == "edm" else (eps - clean, sigma / (alpha + sigma))


def _clock_scale(walk: Recursion, i: int) -> tuple[float, float]:
    alpha, sigma = walk.ends[i]
    return (sigma, 1.0) if walk.name == "edm" else (sigma / (alpha + sigma), alpha + sigma)


def _euler(walk: Recursion, *, second_order: bool = False) -> Array:
    x = walk.x
    for i in range(walk.steps):
        (clock, scale), (next_clock, next_scale) = _clock_scale(walk, i), _clock_scale(walk, i + 1)
        slope, _ = _in_clock(walk, x, i)
        ahead = next_scale * (x / scale + (next_clock - clock) * slope)
        if second_order and i + 1 < walk.steps:
            slope = (slope + _in_clock(walk, ahead, i + 1)[0]) / 2
            ahead = next_scale * (x / scale + (next_clock - clock) * slope)
        x = ahead
    return x


def _heun(walk: Recursion) -> Array:
    return _euler(walk, second_order=True)


def _dpmpp(walk: Recursion) -> Array:
    """Lu et al., algorithm 2, with first-order steps at both ends."""
    with np.errstate(divide="ignore"):
        logs = [np.log(alpha) - np.log(sigma) for alpha, sigma in walk.ends]
    x, previous = walk.x, walk.one
    for i in range(walk.steps):
        (_, sigma), (alpha_s, sigma_s) = walk.ends[i], walk.ends[i + 1]
        step, clean = logs[i + 1] - logs[i], walk.clean(x, i)
        used = clean
        if 0 < i < walk.steps - 1:
            ratio = (logs[i] - logs[i - 1]) / step
            used = (1 + 1 / (2 * ratio)) * clean - 1 / (2 * ratio) * previous
        x, previous = sigma_s / sigma * x - alpha_s * np.expm1(-step) * used, clean
    return x


RECURSIONS: dict[str, Callable[[Recursion], Array]] = {
    "ddpm": _ddpm,
    "ddim": _ddim,
    "euler": _euler,
    "dpmpp": _dpmpp,
    "heun": _heun,
}


# --- the checks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize("sampler", RECURSIONS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", PATHS)
def test_every_path_target_and_sampler_follows_its_recursion(
    name: str, target: Target, sampler: str, steps: int
) -> None:
    levels = _levels(name, target, steps)
    coefficients = RECURSIONS[sampler](Recursion(name, levels))
    draws = _row_noise().normal(1 if sampler == "heun" else steps + 1, SHAPE).double()
    expected = coefficients[0] + torch.einsum("n,n...->...", torch.from_numpy(coefficients[1 : len(draws) + 1]), draws)
    request = Request(DoubleNoise(_row_noise()), levels)
    sampled = make_sampler(sampler, 99, clip=None)(perfect(PATHS[name], target), request)
    assert sampled.normalised.dtype == torch.float64
    torch.testing.assert_close(sampled.normalised, expected, atol=1e-9, rtol=1e-9)
    assert sampled.evaluations.tolist() == [2 * steps - 1 if sampler == "heun" else steps] * ROWS


@pytest.mark.parametrize("sampler", RECURSIONS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", PATHS)
def test_single_precision_stays_close_to_the_recursion(name: str, target: Target, sampler: str) -> None:
    levels = _levels(name, target, 10)
    coefficients = RECURSIONS[sampler](Recursion(name, levels))
    draws = _row_noise().normal(1 if sampler == "heun" else 11, SHAPE).double()
    expected = coefficients[0] + torch.einsum("n,n...->...", torch.from_numpy(coefficients[1 : len(draws) + 1]), draws)
    request = Request(_row_noise(), levels)
    sampled = make_sampler(sampler, 99, clip=None)(perfect(PATHS[name], target), request).normalised
    assert sampled.dtype == torch.float32
    torch.testing.assert_close(sampled.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("steps", [1, 3, 10, 100])
def test_euler_is_ddim_on_every_path(name: str, steps: int) -> None:
    path = PATHS[name]
    first, second = ddim(path, path.levels(steps)), euler(path, path.levels(steps))
    torch.testing.assert_close(first.x_gain, second.x_gain, atol=1e-12, rtol=0)
    torch.testing.assert_close(first.clean_gain, second.clean_gain, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("steps", [1, 3, 10, 100])
def test_ddim_on_a_gaussian_has_a_closed_form(name: str, steps: int) -> None:
    """x - alpha mean shrinks by (sigma sigma' + alpha alpha' std^2) / (alpha^2 std^2 + sigma^2) a step."""
    path = PATHS[name]
    ends = [_alpha_sigma(name, t) for t in [*path.levels(steps).tolist(), 0.0]]
    factors = [(s * s1 + a * a1 * STD**2) / (a**2 * STD**2 + s**2) for (a, s), (a1, s1) in pairwise(ends)]
    start = ends[0][1] * _row_noise().normal(steps + 1, SHAPE)[0].double()
    expected = MEAN + float(np.prod(factors)) * (start - ends[0][0] * MEAN)
    sampled = make_sampler("ddim", steps, clip=None)(perfect(path, "clean"), Request(DoubleNoise(_row_noise())))
    torch.testing.assert_close(sampled.normalised, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("sampler", "low", "high"), [("ddim", 0.95, 1.05), ("ddpm", 0.95, 1.05), ("heun", 1.95, 2.05), ("dpmpp", 1.7, 2.05)]
)
def test_the_gap_to_the_target_shrinks_with_the_samplers_order(sampler: str, low: float, high: float) -> None:
    """On the linear path, which starts at exactly pure noise, so that nothing else is wrong. The first-order steps of
    dpmpp at both ends cost it a little."""
    coarse, fine = (abs(gaussian_moments(LinearPath(), sampler, n, MEAN, STD)[1] - STD) for n in (400, 800))
    assert low < np.log2(coarse / fine) < high


def test_dpmpp_is_first_order_at_both_ends() -> None:
    table, first_order = dpmpp(LinearPath(), LinearPath().levels(5)), ddim(LinearPath(), LinearPath().levels(5))
    assert table.previous_gain[[0, 1, 4]].tolist() == [0.0, 0.0, 0.0]  # row 1: from alpha = 0 nothing to extrapolate
    assert bool((table.previous_gain[2:4] < 0).all())
    torch.testing.assert_close(table.clean_gain + table.previous_gain, first_order.clean_gain)


@pytest.mark.parametrize("make", [ddim, euler, dpmpp])
@pytest.mark.parametrize("name", PATHS)
def test_steps_keep_what_is_known_of_the_path(name: str, make: Any) -> None:
    """A network that always says the same clean action ends there, through alpha' a + sigma' eps at every level."""
    path = PATHS[name]
    table, clean, eps = make(path, path.levels(7)), 0.3, -1.1
    ends = [_alpha_sigma(name, t) for t in [*path.levels(7).tolist(), 0.0]]
    for i in range(7):
        (alpha, sigma), (next_alpha, next_sigma) = ends[i], ends[i + 1]
        x = alpha * clean + sigma * eps
        moved = float(table.x_gain[i]) * x + float(table.clean_gain[i] + table.previous_gain[i]) * clean
        assert moved == pytest.approx(next_alpha * clean + next_sigma * eps, abs=1e-9)
