"""Real-time chunking against the exact recursion for a Gaussian, and what it leaves alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
from continued import SHAPE, Aware, FixedNoise, draw, warm_request
from torch import Tensor

from robopolicy.benchmarks.samplers import GaussianDenoiser
from robopolicy.configuration import build, load, plain
from robopolicy.denoise.descent import Descent
from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Denoiser, Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.inference.continuation import (
    Continuation,
    Jacobian,
    continue_chunk,
)
from robopolicy.inference.overlap import continuation_weights
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.spec import ArraySpec, RobotSpec

MEAN, STD = 0.3, 0.2
PATHS: list[NoisePath] = [VariancePreserving(100), LinearPath(), ExplodingPath()]
JACOBIANS: list[Jacobian] = ["network", "identity"]
SPEC = RobotSpec("toy", {"state": ArraySpec((4,))}, ArraySpec((3,)), 10.0)
on_every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
with_both = pytest.mark.parametrize("jacobian", JACOBIANS)


def gain_of(alpha: float, sigma: float, beta: float) -> float:
    return beta * sigma if alpha == 0.0 else min(beta * sigma, (alpha**2 + sigma**2) / alpha)


def exact_recursion(
    path: NoisePath, levels: Tensor, start: Tensor, previous: Tensor, weights: Tensor, beta: float, jacobian: Jacobian
) -> Tensor:
    """DDIM's steps for N(MEAN, STD^2), whose clean action is MEAN + k (x - alpha MEAN), in plain numbers."""
    times = [*levels.double(), torch.tensor(0.0, dtype=torch.float64)]
    x = float(path.sigma(times[0])) * start
    for now, after in itertools.pairwise(times):
        alpha, sigma = float(path.alpha(now)), float(path.sigma(now))
        slope = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        clean = MEAN + slope * (x - alpha * MEAN)
        factor = slope if jacobian == "network" else 1.0 / (alpha + sigma)
        clean = clean + gain_of(alpha, sigma, beta) * factor * weights[..., None] * (previous - clean)
        x = float(path.alpha(after)) * clean + float(path.sigma(after)) * (x - alpha * clean) / sigma
    return x


@on_every_path
@with_both
@pytest.mark.parametrize("steps", [1, 5, 20])
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_a_gaussian_follows_the_exact_recursion(path: NoisePath, jacobian: Jacobian, steps: int, sampler: str) -> None:
    previous, start = draw(0), draw(1)
    weights = torch.stack([continuation_weights(8, 2, 5, "exp").double() * row for row in (1.0, 0.5, 0.0)])
    guided = continue_chunk(GaussianDenoiser(path, MEAN, STD, SHAPE, "v"), previous, weights, 5.0, jacobian)
    sampled = make_sampler(sampler, steps, clip=None)(guided, Request(FixedNoise(start)))
    wanted = exact_recursion(path, path.levels(steps), start, previous, weights, 5.0, jacobian)
    torch.testing.assert_close(sampled.normalised, wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("std", [0.01, 0.2, 1.0])
@with_both
def test_on_the_straight_path_it_is_the_published_velocity_rule(std: float, jacobian: Jacobian) -> None:
    """In its own words: time runs to the data, x1 = x + (1 - t) v, five steps, beta 5."""
    previous, start = draw(0), draw(1)
    x = start
    for index in range(5):
        t = index / 5
        slope = t * std**2 / (t**2 * std**2 + (1 - t) ** 2)
        ahead = MEAN + slope * (x - t * MEAN)
        velocity = (ahead - x) / (1 - t)
        ratio = (t**2 + (1 - t) ** 2) / (1 - t) ** 2
        weight = min(5.0, ratio * (1 - t) / t) if t else 5.0
        x = x + 0.2 * (velocity + weight * (slope if jacobian == "network" else 1.0) * (previous - ahead))
    denoiser = GaussianDenoiser(LinearPath(), MEAN, std, SHAPE, "velocity")
    guided = continue_chunk(denoiser, previous, torch.ones(SHAPE[:2]).double(), 5.0, jacobian)
    sampled = make_sampler("euler", 5, clip=None)(guided, Request(FixedNoise(start)))
    torch.testing.assert_close(sampled.normalised, x, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("std", "jacobian", "share"),
    [
        (0.001, "identity", 0.150),
        (0.05, "identity", 0.141),
        (0.2, "identity", 0.063),
        (0.001, "network", 1.000),
        (0.05, "network", 0.959),
        (0.2, "network", 0.564),
        (1.0, "network", 0.000),
    ],
)
def test_the_prefix_is_not_reproduced(std: float, jacobian: Jacobian, share: float) -> None:
    """What moving the last chunk by 1 leaves as an error, after five steps with beta 5: about 15 % with the identity,
    far more with the true Jacobian of a narrow target, which the network will not leave."""
    previous = draw(0)
    run = make_sampler("euler", 5, clip=None)
    denoiser = GaussianDenoiser(LinearPath(), MEAN, std, SHAPE)
    answers = [
        run(
            continue_chunk(denoiser, previous + moved, torch.ones(SHAPE[:2]), 5.0, jacobian),
            Request(FixedNoise(draw(1))),
        ).normalised
        for moved in (0.0, 1.0)
    ]
    left = 1.0 - (answers[1] - answers[0])
    torch.testing.assert_close(left, torch.full_like(left, share), atol=6e-4, rtol=0)


@with_both
@pytest.mark.parametrize("path", [VariancePreserving(100), ExplodingPath()], ids=["vp", "edm"])
def test_the_rule_means_the_same_on_every_path(path: NoisePath, jacobian: Jacobian) -> None:
    """x / (alpha + sigma) at sigma / (alpha + sigma) is the straight path."""
    previous, weights = draw(0), torch.rand(SHAPE[:2], generator=torch.Generator().manual_seed(4)).double()
    here, straight = (
        continue_chunk(GaussianDenoiser(kind, MEAN, STD, SHAPE), previous, weights, 5.0, jacobian)
        for kind in (path, LinearPath())
    )
    for t in path.levels(10).double():
        alpha, sigma = path.alpha(t), path.sigma(t)
        x = alpha * draw(5) + sigma * draw(6)
        scaled = straight(x / (alpha + sigma), sigma / (alpha + sigma))
        torch.testing.assert_close(here(x, t).clean, scaled.clean, atol=1e-9, rtol=1e-9)


def small_policy(*overrides: str) -> GenerativePolicy:
    torch.manual_seed(0)
    config = plain(load("train", ["task=reach", *overrides]))
    policy = make_policy({"policy": config["policy"], "horizon": config["horizon"]}, SPEC)
    assert isinstance(policy, GenerativePolicy)
    with torch.no_grad():
        for parameter in policy.parameters():  # networks begin as zero: nothing to differentiate
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy.eval()


def denoiser_of(policy: GenerativePolicy, rows: int) -> Denoiser:
    with torch.no_grad():
        return policy.denoiser(policy.encode({"state": draw(7, (rows, 2, 4), torch.float32)}))


MLP = ("net.width=16", "net.blocks=1")


@pytest.mark.parametrize("name", ["diffusion", "flow", "edm"])
def test_the_networks_jacobian_is_that_of_finite_differences(name: str) -> None:
    denoiser = denoiser_of(small_policy(f"policy={name}", *MLP), 3)
    path, shape = denoiser.path, denoiser.shape
    previous, direction = draw(8, shape, torch.float32), draw(9, shape, torch.float32)
    weights = continuation_weights(shape[1], 2, 8, "linear").expand(shape[:2])
    t = path.levels(4)[2]
    x = 2.0 * float(path.sigma(t)) * draw(10, shape, torch.float32)
    with torch.no_grad():
        plain_clean, guided = denoiser(x, t).clean, continue_chunk(denoiser, previous, weights, 5.0)(x, t)
        size = 0.01 * float(path.sigma(t))
        slope = (denoiser(x + size * direction, t).clean - denoiser(x - size * direction, t).clean) / (2.0 * size)
    assert not guided.clean.requires_grad
    gain = gain_of(float(path.alpha(t)), float(path.sigma(t)), 5.0)
    error = weights[:, :, None] * (previous - plain_clean)
    along = ((guided.clean - plain_clean) / gain * direction).sum(dim=(1, 2))
    torch.testing.assert_close(along, (error * slope).sum(dim=(1, 2)), atol=2e-3, rtol=2e-2)


NETS = {
    "mlp": ("policy=flow", *MLP),
    "unet": ("policy=diffusion", "net=unet_small", "net.channels=[16,32]"),
    "transformer": ("policy=flow", "net=transformer_small"),
    "dit": ("policy=edm", "net=dit_small"),
    "mode": ("policy=mode", "net=mode_small", "net.width=32", "net.blocks=2"),
}


@with_both
@pytest.mark.parametrize("net", NETS)
def test_rows_that_are_not_warm_are_the_plain_samplers_bit_for_bit(net: str, jacobian: Jacobian) -> None:
    policy = small_policy(*NETS[net])
    inner = make_sampler("ddim", 3)
    policy.sampler = Continuation(inner, 2, jacobian=jacobian)
    denoiser = denoiser_of(policy, 3)
    previous = draw(8, denoiser.shape, torch.float32).clamp(-1, 1)
    with torch.no_grad():
        alone = inner(denoiser, warm_request(previous, [False] * 3))
        mixed = policy.sampler(denoiser, warm_request(previous, [True, False, True]))
        other = policy.sampler(denoiser, warm_request(previous * 0.5, [False, False, True]))
    assert torch.equal(mixed.normalised[1], alone.normalised[1])
    assert torch.equal(other.normalised[:2], alone.normalised[:2])
    assert not torch.equal(mixed.normalised[0], alone.normalised[0])
    factor = 3 if jacobian == "network" else 1
    assert mixed.evaluations.tolist() == [3 * factor, 3, 3 * factor]


@with_both
def test_a_row_does_not_depend_on_its_neighbours(jacobian: Jacobian) -> None:
    policy = small_policy("policy=flow", *MLP)
    sampler = Continuation(make_sampler("euler", 4), 2, jacobian=jacobian)
    denoiser = denoiser_of(policy, 3)
    previous = draw(8, denoiser.shape, torch.float32).clamp(-1, 1)
    others = torch.cat([-previous[:1], previous[1:2], 0.0 * previous[2:]])
    with torch.no_grad():
        first = sampler(denoiser, warm_request(previous, [True, True, False])).normalised[1]
        second = sampler(denoiser, warm_request(others, [False, True, True])).normalised[1]
    assert torch.equal(first, second)


@on_every_path
@with_both
@pytest.mark.parametrize("name", ["ddpm", "ddim", "euler", "dpmpp", "heun"])
def test_without_weight_it_is_the_plain_sampler_bit_for_bit(path: NoisePath, jacobian: Jacobian, name: str) -> None:
    denoiser, inner = GaussianDenoiser(path, MEAN, STD, SHAPE, "v"), make_sampler(name, 6)
    previous = draw(0, dtype=torch.float32)
    wanted = inner(denoiser, warm_request(previous, [True] * 3))
    hard, none = Continuation(inner, 0, "hard", jacobian=jacobian), Continuation(inner, 2, max_weight=0.0)
    some = Continuation(inner, 2, jacobian=jacobian)
    results = [
        hard(denoiser, warm_request(previous, [True] * 3)),
        none(denoiser, warm_request(previous, [True] * 3)),
        some(denoiser, warm_request(previous, [False] * 3)),
        some(denoiser, replace(warm_request(previous, [True] * 3), previous=None, warm=None)),
    ]
    for result in results:
        assert torch.equal(result.normalised, wanted.normalised)
        assert torch.equal(result.evaluations, wanted.evaluations)
    guided = continue_chunk(denoiser, previous, torch.zeros(3, 8), 5.0, jacobian)
    assert torch.equal(inner(guided, warm_request(previous, [True] * 3)).normalised, wanted.normalised)


@dataclass(frozen=True)
class Opaque:
    """A denoiser that gives no gradients, as a compiled one may."""

    inner: Denoiser

    @property
    def path(self) -> NoisePath:
        return self.inner.path

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.inner.shape

    @property
    def cost(self) -> int:
        return self.inner.cost

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        with torch.no_grad():
            return self.inner(x, t)


def test_a_denoiser_without_gradients_is_refused_in_one_sentence() -> None:
    opaque = Opaque(GaussianDenoiser(LinearPath(), MEAN, STD, SHAPE))
    request = warm_request(draw(0, dtype=torch.float32), [True] * 3)
    with pytest.raises(ConfigError, match="use jacobian=identity"):
        Continuation(make_sampler("euler", 2), 2)(opaque, request)
    Continuation(make_sampler("euler", 2), 2, jacobian="identity")(opaque, request)


def test_it_is_a_sampler_of_a_policy_and_tells_the_inner_one_of_the_action() -> None:
    policy = small_policy("policy=flow", *MLP)
    policy.sampler = Continuation(Aware(), 2)
    assert isinstance(policy.sampler, Continuation)
    assert policy.sampler.sampler == Aware(3)
    assert policy.sampler.steps == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rtc", "rtc (network Jacobian, beta 5, delay 2, exp weights) in euler, 5 steps"),
        ("rtc_identity", "rtc (identity Jacobian"),
    ],
)
def test_configurations_build_what_they_say(name: str, words: str) -> None:
    sampler = build(load("eval", ["run=x", f"sampler={name}"]).sampler)
    assert isinstance(sampler, Continuation)
    assert words in str(sampler)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sampler=rtc", "sampler.schedule=cosine"], "sampler.schedule is 'cosine', expected one of exp, linear"),
        (["sampler=rtc", "sampler.jacobian=none"], "sampler.jacobian is 'none', expected one of network, identity"),
        (["sampler=rtc", "sampler.max_weight=-1"], "sampler.max_weight is -1"),
        (["sampler=rtc", "sampler.delay=-1"], "sampler.delay=-1"),
    ],
)
def test_bad_values_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(load("eval", ["run=x", *overrides]).sampler)


def test_the_wrong_kind_of_sampler_inside_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not denoise: for energies use rtc_ebt"):
        Continuation(Descent(), 2)  # type: ignore[arg-type]
