"""Mixtures of perfect Gaussian denoisers against closed forms (methods.md 4f.1 to 4f.5), and mixtures of chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gaussian_denoisers import GaussianDenoiser, affine_recursion, noise_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Target
from robopolicy.denoise.rescale import on_path
from robopolicy.denoise.sampler import Denoiser, Request, Sampled, TableSampler
from robopolicy.denoise.tables import TableFunction, ddim, ddpm, euler
from robopolicy.errors import ConfigError
from robopolicy.inference.mixture import ComposedDenoiser, checked_weights, mixed

PATH = VariancePreserving(100)
ROWS = 20_000
SHAPE = (ROWS, 1, 1)


def _sample(
    parents: list[Denoiser],
    weights: list[float],
    path: NoisePath = PATH,
    table: TableFunction = ddpm,
    steps: int = 100,
) -> Sampled:
    composed = ComposedDenoiser(tuple(on_path(parent, path) for parent in parents), tuple(weights), path)
    return TableSampler(table, steps, None)(composed, Request(noise_of(parents[0].shape[0])))


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0, 1.4])
def test_equal_variances_mix_the_means_and_keep_the_variance(weight: float) -> None:
    parents: list[Denoiser] = [GaussianDenoiser(PATH, -0.4, 0.2, SHAPE), GaussianDenoiser(PATH, 0.5, 0.2, SHAPE)]
    drawn = _sample(parents, [weight, 1 - weight]).normalised.double()
    assert float(drawn.mean()) == pytest.approx(-0.4 * weight + 0.5 * (1 - weight), abs=4 * 0.19 / ROWS**0.5)
    assert float(drawn.std()) == pytest.approx(0.1854, abs=4 * 0.19 / (2 * ROWS) ** 0.5)


@pytest.mark.parametrize(
    ("weight", "mean", "std"), [(0.25, 0.0348, 0.2004), (0.5, -0.2419, 0.1460), (0.75, -0.4050, 0.1106)]
)
def test_unequal_variances_follow_the_affine_recursion(weight: float, mean: float, std: float) -> None:
    """Not the product of experts, which would be -0.25/.173, -0.40/.134, -0.464/.113."""
    levels = PATH.levels(100)
    known = affine_recursion(PATH, levels, ddpm(PATH, levels), [(-0.5, 0.1), (0.5, 0.3)], [weight, 1 - weight])
    assert known == pytest.approx((mean, std), abs=5e-5)
    parents: list[Denoiser] = [GaussianDenoiser(PATH, -0.5, 0.1, SHAPE), GaussianDenoiser(PATH, 0.5, 0.3, SHAPE)]
    drawn = _sample(parents, [weight, 1 - weight]).normalised.double()
    assert float(drawn.mean()) == pytest.approx(mean, abs=4 * std / ROWS**0.5)
    assert float(drawn.std()) == pytest.approx(std, abs=4 * std / (2 * ROWS) ** 0.5)


def _two(path: NoisePath, targets: tuple[Target, Target] = ("clean", "clean"), rows: int = 64) -> list[Denoiser]:
    shape = (rows, 3, 2)
    return [
        GaussianDenoiser(path, -0.5, 0.1, shape, targets[0]),
        GaussianDenoiser(path, 0.5, 0.3, shape, targets[1]),
    ]


@pytest.mark.parametrize("path", [PATH, ExplodingPath()])
def test_every_reading_mixes_to_the_same_trajectory(path: NoisePath) -> None:
    """Targets of one kind mix their outputs, of two kinds their clean actions. In float32 a reading from eps loses
    1 / alpha of precision at the noisiest levels, so those start a little lower."""
    levels = [float(level) for level in path.levels(100) if float(path.alpha(level)) > 0.05]
    drawn = {}
    for first in ("clean", "v", "velocity", "preconditioned", "eps"):
        for second in (first, "clean"):
            composed = ComposedDenoiser(tuple(_two(path, (first, second))), (0.3, 0.7), path)
            sampled = TableSampler(ddim, 100, None)(composed, Request(noise_of(64), levels))
            drawn[first, second] = sampled.normalised
    for found in drawn.values():
        torch.testing.assert_close(found, drawn["clean", "clean"], atol=1e-5, rtol=0)


def test_the_score_of_a_mixture_is_the_mixture_of_scores() -> None:
    parents = _two(PATH, ("v", "eps"))
    composed = ComposedDenoiser(tuple(parents), (0.3, 0.7), PATH)
    x, t = noise_of(64).normal(1, (3, 2))[0], torch.tensor(0.4)
    for reading in ("score", "eps", "v", "flow_velocity", "clean"):
        one, other = (getattr(parent(x, t), reading) for parent in parents)
        torch.testing.assert_close(getattr(composed(x, t), reading), 0.3 * one + 0.7 * other, atol=1e-5, rtol=1e-5)


def test_weights_of_another_sum_would_depend_on_the_reading() -> None:
    """Which is why they are refused."""
    one, other = (parent(torch.ones(64, 3, 2), torch.tensor(0.4)) for parent in _two(PATH))
    by_clean = 0.5 * one.clean + 0.7 * other.clean
    eps = 0.5 * one.eps + 0.7 * other.eps
    by_eps = (1.0 - one.sigma * eps) / one.alpha
    assert float((by_clean - by_eps).abs().max()) > 0.05


def test_identical_parents_do_not_feel_the_weights() -> None:
    one = GaussianDenoiser(PATH, 0.2, 0.3, (32, 4, 2), "eps")
    alone = TableSampler(ddpm, 100, 1.0)(one, Request(noise_of(32))).normalised
    for weights in ((0.5, 0.5), (0.1, 0.9), (1.7, -0.7), (0.2, 0.3, 0.5)):
        composed = ComposedDenoiser((one,) * len(weights), weights, PATH)
        assert torch.equal(TableSampler(ddpm, 100, 1.0)(composed, Request(noise_of(32))).normalised, alone)


def test_swapping_parents_and_weights_changes_nothing_but_rounding() -> None:
    a, b = _two(PATH, ("v", "clean"))
    forward, backward = _sample([a, b], [0.3, 0.7]), _sample([b, a], [0.7, 0.3])
    torch.testing.assert_close(forward.normalised, backward.normalised, atol=1e-5, rtol=0)


@pytest.mark.parametrize("leading", [PATH, LinearPath(), ExplodingPath()])
def test_parents_of_two_paths_mix_as_if_they_had_one(leading: NoisePath) -> None:
    """EDM's path ends before pure noise, hence its own tolerance."""
    mixed_paths: list[Denoiser] = [
        GaussianDenoiser(leading, -0.5, 0.1, SHAPE),
        GaussianDenoiser(LinearPath(), 0.5, 0.3, SHAPE, "velocity"),
        GaussianDenoiser(ExplodingPath(), 0.1, 0.2, SHAPE, "preconditioned"),
    ]
    one_path: list[Denoiser] = [
        GaussianDenoiser(leading, m, s, SHAPE) for m, s in ((-0.5, 0.1), (0.5, 0.3), (0.1, 0.2))
    ]
    found = _sample(mixed_paths, [0.3, 0.5, 0.2], leading, euler, 20).normalised
    known = _sample(one_path, [0.3, 0.5, 0.2], leading, euler, 20).normalised
    torch.testing.assert_close(found, known, atol=2e-3, rtol=0)


def test_the_cost_is_the_sum_of_the_parents() -> None:
    sampled = _sample(_two(PATH), [0.5, 0.5], steps=10, table=ddim)
    assert sampled.evaluations.tolist() == [20] * 64


def test_known_errors_make_a_parabola_with_the_known_minimum() -> None:
    """The squared error of the mixture, for parents with a bias and noise of a known variance on a perfect answer."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(50_000, 1, 4, generator=generator)
    biases = torch.tensor([[0.3, -0.1, 0.2, 0.0], [-0.2, 0.1, 0.0, 0.4]])
    variances = (0.05, 0.1)
    says = [
        truth + bias + variance**0.5 * torch.randn(truth.shape, generator=generator)
        for bias, variance in zip(biases, variances, strict=True)
    ]

    def closed_form(weight: float) -> float:
        bias = weight * biases[0] + (1 - weight) * biases[1]
        return float(bias.square().sum() + 4 * (weight**2 * variances[0] + (1 - weight) ** 2 * variances[1]))

    def measured(weight: float) -> float:
        return float((mixed(says, (weight, 1 - weight)) - truth).square().sum(dim=2).mean())

    weights = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert [measured(weight) for weight in weights] == pytest.approx([closed_form(w) for w in weights], rel=0.02)
    apart = biases[0] - biases[1]
    noise = 4 * variances[1], 4 * (variances[0] + variances[1])
    best = float((biases[1] @ (biases[1] - biases[0]) + noise[0]) / (apart @ apart + noise[1]))
    fitted = torch.linalg.lstsq(
        torch.tensor([[1.0, w, w * w] for w in weights]).double(),
        torch.tensor([[measured(w)] for w in weights]).double(),
    ).solution[:, 0]
    assert float(-fitted[1] / (2 * fitted[2])) == pytest.approx(best, abs=0.01)
    assert closed_form(best) < min(closed_form(0.0), closed_form(1.0))


def test_longer_chunks_decide_their_own_ends() -> None:
    short, middle, long = (torch.full((2, length, 1), value) for length, value in ((2, 1.0), (3, 10.0), (5, 100.0)))
    chunk = mixed([short, middle, long], (0.5, 0.3, 0.2))[0, :, 0].tolist()
    assert chunk == pytest.approx([23.5, 23.5, (3.0 + 20.0) / 0.5, 100.0, 100.0])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_a_chunk_is_always_an_affine_mixture(lengths: list[int], data: Any) -> None:
    """Parents that say the same at a step are reproduced there, whoever reaches it."""
    weights = data.draw(st.lists(st.floats(0.05, 1.0), min_size=len(lengths), max_size=len(lengths)))
    shares = [weight / sum(weights) for weight in weights]
    common: Tensor = torch.arange(6.0)[None, :, None]
    found = mixed([common[:, :length] for length in lengths], shares)
    assert torch.equal(found, common[:, : max(lengths)])


@pytest.mark.parametrize(
    ("weights", "lengths", "sentence"),
    [
        ([0.5, 0.6], [8, 8], "sum 1.1"),
        ([float("nan"), 1.0], [8, 8], "expected 1"),
        ([1.0], [8, 8], "one for each of the 2"),
        ([1.0, 0.5, -0.5], [8, 16, 16], "16 actions cancel out"),
    ],
)
def test_weights_that_are_none(weights: list[float], lengths: list[int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        checked_weights(weights, lengths)


def test_the_longer_parents_may_all_be_left_out() -> None:
    assert checked_weights([1.0, 0.0], [8, 16]) == (1.0, 0.0)
