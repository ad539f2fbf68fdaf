"""AND and OR: tracked densities against analytic ones, equal parents, and what each operator is for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from gaussian_denoisers import GaussianDenoiser, noise_of
from torch import Tensor

from robopolicy.configuration import build, load
from robopolicy.denoise.paths import LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Denoiser, Request, Sampler, TableSampler
from robopolicy.denoise.tables import ddpm
from robopolicy.errors import ConfigError
from robopolicy.inference.mixture import ComposedDenoiser
from robopolicy.inference.superposition import Operator, Superposition

OPERATORS: tuple[Operator, ...] = ("or", "and")
PATH = VariancePreserving(100)


@dataclass(frozen=True)
class _Watched:
    """A denoiser that remembers what it was shown."""

    inner: GaussianDenoiser
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def path(self) -> NoisePath:
        return self.inner.path

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.inner.shape

    @property
    def cost(self) -> int:
        return 1

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        self.seen.append((x, t))
        return self.inner(x, t)


def _composed(*parents: Denoiser, path: NoisePath = PATH) -> ComposedDenoiser:
    return ComposedDenoiser(parents, (1.0 / len(parents),) * len(parents), path)


def _analytic(x: Tensor, t: Tensor, path: NoisePath, mean: float, std: float) -> Tensor:
    """log q_t(x) of a noised Gaussian, summed over the chunk."""
    time = t.double()
    alpha, variance = path.alpha(time), path.alpha(time) ** 2 * std**2 + path.sigma(time) ** 2
    squares = (x.double() - alpha * mean).square() / variance
    return -0.5 * (squares + (2 * math.pi * variance).log()).sum(dim=(1, 2))


def _last_seen(operator: Operator, steps: int, *parents: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Tracked and analytic log densities [n, B] of Gaussian parents (mean, std) where the last level is reached."""
    path = VariancePreserving(steps)
    first, *others = (GaussianDenoiser(path, mean, std, (400, 2, 1)) for mean, std in parents)
    watched = _Watched(first)
    sampler = Superposition(operator, steps, clip=None)
    sampled = sampler(_composed(watched, *others, path=path), Request(noise_of(400)))
    x, t = watched.seen[-1]
    tracked = torch.stack([sampled.info[f"log_density_{index}"] for index in range(len(parents))])
    return tracked, torch.stack([_analytic(x, t, path, mean, std) for mean, std in parents])


def test_the_tracked_density_is_the_analytic_one_to_the_order_of_the_step() -> None:
    """Its error is a random walk of errors of the order of the step and falls like its square root; that of a
    difference of densities, which is what OR acts on, falls nearly like the step itself."""
    total, difference = [], []
    for steps in (100, 400, 1600):
        tracked, known = _last_seen("or", steps, (-0.3, 0.3), (0.3, 0.2))
        error = tracked - known
        total.append(float(error.square().mean().sqrt()))
        difference.append(float((error[0] - error[1]).square().mean().sqrt()))
    assert total[0] < 0.5
    assert difference[0] < 0.5
    for coarse, fine in pairwise(total):
        assert 1.7 < coarse / fine < 2.8
    for coarse, fine in pairwise(difference):
        assert 2.5 < coarse / fine < 5.0


def test_and_makes_the_analytic_densities_of_parents_of_one_spread_equal() -> None:
    for steps in (50, 400):
        _, known = _last_seen("and", steps, (-0.4, 0.2), (0.3, 0.2))
        assert float((known[1] - known[0]).abs().max()) < 5.0 / steps


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("count", [2, 3])
def test_equal_parents_have_equal_weights_and_change_nothing(operator: Operator, count: int) -> None:
    parent = GaussianDenoiser(PATH, 0.2, 0.3, (50, 4, 2), "v")
    sampled = Superposition(operator)(_composed(*(parent,) * count), Request(noise_of(50)))
    alone = TableSampler(ddpm, 100, 1.0)(parent, Request(noise_of(50)))
    assert torch.equal(sampled.normalised, alone.normalised)
    for index in range(count):
        torch.testing.assert_close(sampled.info[f"weight_{index}"], torch.full((50,), 1.0 / count))
        assert torch.equal(sampled.info[f"log_density_{index}"], sampled.info["log_density_0"])
    assert sampled.evaluations.tolist() == [100 * count] * 50


def test_and_keeps_all_densities_equal() -> None:
    parents = [GaussianDenoiser(PATH, mean, std, (50, 4, 2)) for mean, std in ((-0.4, 0.3), (0.4, 0.3), (0.1, 0.2))]
    sampled = Superposition("and", clip=None)(_composed(*parents), Request(noise_of(50)))
    first = sampled.info["log_density_0"]
    for index in (1, 2):
        torch.testing.assert_close(sampled.info[f"log_density_{index}"], first, atol=2e-2, rtol=0)
    total = sum(sampled.info[f"weight_{index}"] for index in range(3))
    torch.testing.assert_close(total, torch.ones(50), atol=1e-5, rtol=0)


def test_and_lands_where_both_are_likely() -> None:
    """Between two equal Gaussians it is the plane of equal densities, half-way."""
    parents = [GaussianDenoiser(PATH, -0.3, 0.2, (200, 1, 1)), GaussianDenoiser(PATH, 0.3, 0.2, (200, 1, 1))]
    actions = Superposition("and", clip=None)(_composed(*parents), Request(noise_of(200))).normalised
    assert float(actions.abs().max()) < 0.02


def test_or_lands_under_one_or_the_other() -> None:
    parents = [GaussianDenoiser(PATH, -0.6, 0.1, (400, 4, 1)), GaussianDenoiser(PATH, 0.6, 0.1, (400, 4, 1))]
    sampled = Superposition("or")(_composed(*parents), Request(noise_of(400)))
    means = sampled.normalised.mean(dim=(1, 2))
    assert float(((means.abs() - 0.6).abs() < 0.25).float().mean()) > 0.95
    assert 0.35 < float((means > 0).float().mean()) < 0.65
    likelier = sampled.info["log_density_1"] > sampled.info["log_density_0"]
    assert torch.equal(likelier, means > 0)


def test_a_bias_and_no_temperature_are_fixed_weights() -> None:
    parents = [GaussianDenoiser(PATH, -0.6, 0.1, (40, 4, 1)), GaussianDenoiser(PATH, 0.6, 0.1, (40, 4, 1))]
    fixed = Superposition("or", temperature=0.0, bias=[math.log(3.0), 0.0])
    sampled = fixed(_composed(*parents), Request(noise_of(40)))
    plain = TableSampler(ddpm, 100, 1.0)(ComposedDenoiser(tuple(parents), (0.75, 0.25), PATH), Request(noise_of(40)))
    torch.testing.assert_close(sampled.normalised, plain.normalised, atol=1e-5, rtol=0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_rows_do_not_feel_each_other(operator: Operator) -> None:
    """The mean of a row's own noise decides it, whatever stands in the other rows."""
    parents = [GaussianDenoiser(PATH, -0.3, 0.2, (8, 4, 2)), GaussianDenoiser(PATH, 0.3, 0.2, (8, 4, 2))]

    class _Edited:
        """The same streams, but for the rows from the fourth on."""

        def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
            drawn = noise_of(8).normal(count, shape)
            drawn[:, 4:] = drawn[:, 4:].flip(0)
            return drawn

        def uniform(self, count: int) -> Tensor:
            return noise_of(8).uniform(count)

        def branch(self, number: int) -> _Edited:
            return self

    sampler = Superposition(operator)
    one = sampler(_composed(*parents), Request(noise_of(8))).normalised
    other = sampler(_composed(*parents), Request(_Edited())).normalised
    assert torch.equal(one[:4], other[:4])
    assert not torch.equal(one[4:], other[4:])


def test_what_cannot_be_superposed_is_one_sentence() -> None:
    one = GaussianDenoiser(PATH, 0.0, 0.2, (4, 4, 2))
    with pytest.raises(ConfigError, match="at least two policies"):
        Superposition("or")(one, Request(noise_of(4)))
    flow = GaussianDenoiser(LinearPath(), 0.0, 0.2, (4, 4, 2))
    with pytest.raises(ConfigError, match="LinearPath"):
        Superposition("and")(_composed(flow, flow, path=flow.path), Request(noise_of(4)))
    longer = GaussianDenoiser(PATH, 0.0, 0.2, (4, 6, 2))
    with pytest.raises(ConfigError, match="horizon.prediction"):
        Superposition("and")(_composed(one, longer), Request(noise_of(4)))
    with pytest.raises(ConfigError, match="each of the 2"):
        Superposition("or", bias=[1.0])(_composed(one, one), Request(noise_of(4)))
    with pytest.raises(ConfigError, match="'xor'"):
        Superposition("xor")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 or more"):
        Superposition("or", temperature=-1.0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_its_configuration(operator: Operator) -> None:
    sampler = build(load("eval", ["run=none", f"sampler=gpc_{operator}"]).sampler)
    assert isinstance(sampler, Superposition)
    assert isinstance(sampler, Sampler)
    assert (sampler.operator, sampler.steps) == (operator, 100)
