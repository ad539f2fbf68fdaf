"""Inpainting writes the prefix in, exactly, and touches no other row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from continued import Aware
from torch import Tensor

from robopolicy.benchmarks.samplers import GaussianDenoiser
from robopolicy.configuration import build, load, plain
from robopolicy.denoise.descent import Descent, DescentRule
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.inference.continuation import Continuation
from robopolicy.inference.inpaint import Inpaint, InpaintDescent
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.spec import ArraySpec, RobotSpec

SHAPE = (3, 6, 2)
FROZEN = 2
SAMPLERS = ["ddpm", "ddim", "euler", "heun", "dpmpp"]
PATHS: list[NoisePath] = [VariancePreserving(100), LinearPath(), ExplodingPath()]
on_every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)


def request(warm: list[bool], scale: float = 0.3) -> Request:
    previous = scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return Request(RowNoise(3, [(row, 1) for row in range(3)]), previous=previous, warm=torch.tensor(warm))


@dataclass(frozen=True)
class Chained:
    """A fixed nonlinear network in which every action depends on the one before it."""

    path: NoisePath
    shape: tuple[int, int, int] = SHAPE
    cost: int = 1
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        self.seen.append((x, t))
        return Prediction(x, torch.sin(x + x.roll(1, dims=1)), self.path.alpha(t), self.path.sigma(t), "v")


@on_every_path
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_the_prefix_is_the_last_chunks_bit_for_bit_clipped_or_not(path: NoisePath, name: str, scale: float) -> None:
    asked = request([True, False, True], scale)
    assert asked.previous is not None
    inner = make_sampler(name, 6)
    sampled = Inpaint(inner, FROZEN)(Chained(path), asked)
    alone = inner(Chained(path), request([True, False, True], scale))
    assert torch.equal(sampled.normalised[::2, :FROZEN], asked.previous[::2, :FROZEN])
    assert torch.equal(sampled.normalised[1], alone.normalised[1])
    assert not torch.equal(sampled.normalised[0, FROZEN:], alone.normalised[0, FROZEN:])
    assert torch.equal(sampled.evaluations, alone.evaluations)


@on_every_path
def test_the_network_sees_the_prefix_with_one_noise_at_its_level(path: NoisePath) -> None:
    asked, denoiser = request([True] * 3), Chained(path)
    assert asked.previous is not None
    Inpaint(make_sampler("ddpm", 6), FROZEN)(denoiser, asked)
    assert len(denoiser.seen) == 6
    noises = [
        (x - path.alpha(t) * asked.previous)[:, :FROZEN].double() / path.sigma(t).double() for x, t in denoiser.seen
    ]
    for noise in noises:
        torch.testing.assert_close(noise, noises[0], atol=3e-4, rtol=3e-4)
    assert 0.3 < float(noises[0].std()) < 3.0


@on_every_path
@pytest.mark.parametrize("name", SAMPLERS)
def test_what_does_not_depend_on_the_prefix_is_as_without_it(path: NoisePath, name: str) -> None:
    denoiser, inner = GaussianDenoiser(path, 0.3, 0.2, SHAPE), make_sampler(name, 6)
    sampled, alone = (run(denoiser, request([True] * 3)).normalised for run in (Inpaint(inner, FROZEN), inner))
    assert torch.equal(sampled[:, FROZEN:], alone[:, FROZEN:])


@pytest.mark.parametrize("warm", [[True, True, False], [True] * 3])
def test_a_row_does_not_depend_on_its_neighbours(warm: list[bool]) -> None:
    run = Inpaint(make_sampler("ddim", 6), FROZEN)
    wanted = run(Chained(LinearPath()), request([True] * 3)).normalised[0]
    assert torch.equal(run(Chained(LinearPath()), request(warm)).normalised[0], wanted)


def test_without_a_prefix_it_is_the_plain_sampler() -> None:
    inner = make_sampler("ddpm", 6)
    wanted = inner(Chained(LinearPath()), request([True] * 3)).normalised
    for frozen, warm in ((0, [True] * 3), (FROZEN, [False] * 3)):
        assert torch.equal(Inpaint(inner, frozen)(Chained(LinearPath()), request(warm)).normalised, wanted)
    fresh = Request(request([True] * 3).noise)
    assert torch.equal(Inpaint(inner, FROZEN)(Chained(LinearPath()), fresh).normalised, wanted)


@on_every_path
def test_around_a_continuation_the_rest_of_the_chunk_is_pulled(path: NoisePath) -> None:
    asked, inner = request([True, False, True]), make_sampler("ddim", 6)
    assert asked.previous is not None
    both = Inpaint(Continuation(inner, FROZEN, "ones"), FROZEN)(Chained(path), asked)
    alone = Inpaint(inner, FROZEN)(Chained(path), request([True, False, True]))
    assert torch.equal(both.normalised[::2, :FROZEN], asked.previous[::2, :FROZEN])
    assert torch.equal(both.normalised[1], alone.normalised[1])
    away = [(chunk.normalised - asked.previous)[::2, FROZEN:-1].abs().mean() for chunk in (both, alone)]
    assert float(away[0]) < float(away[1])
    assert both.evaluations.tolist() == [18, 6, 18]


@dataclass(frozen=True)
class Chain:
    """E = 1/2 mean of (a_0 - 0.3)^2 and (a_i - a_{i-1})^2: with a fixed prefix the rest ends at its last action."""

    step_size: Tensor = field(default_factory=lambda: torch.tensor(0.25))
    rule: DescentRule = field(default_factory=lambda: DescentRule(momentum=0.5, exponential=False))
    shape: tuple[int, int, int] = SHAPE
    cost: int = 1

    def energy(self, actions: Tensor, rows: Tensor) -> Tensor:
        first, steps = (actions[:, :1] - 0.3), actions.diff(dim=1)
        return 0.5 * torch.cat([first, steps], dim=1).square().mean(dim=(1, 2))


def test_a_descent_keeps_the_prefix_and_completes_the_chunk() -> None:
    asked, inner = request([True, False, True]), Descent(1, 400, tolerance=0.0, clip=None)
    assert asked.previous is not None
    sampled = InpaintDescent(inner, FROZEN)(Chain(), asked)
    alone = inner(Chain(), request([True, False, True]))
    assert torch.equal(sampled.normalised[::2, :FROZEN], asked.previous[::2, :FROZEN])
    last = asked.previous[::2, FROZEN - 1 : FROZEN].expand(-1, SHAPE[1] - FROZEN, -1)
    torch.testing.assert_close(sampled.normalised[::2, FROZEN:], last, atol=1e-4, rtol=0)
    assert torch.equal(sampled.normalised[1], alone.normalised[1])
    torch.testing.assert_close(sampled.info["energy"], Chain().energy(sampled.normalised, torch.arange(3)))


def test_clipping_leaves_the_prefix_of_a_descent_alone() -> None:
    asked = request([True] * 3, scale=3.0)
    assert asked.previous is not None
    sampled = InpaintDescent(Descent(), FROZEN)(Chain(), asked)
    assert torch.equal(sampled.normalised[:, :FROZEN], asked.previous[:, :FROZEN])
    assert float(sampled.normalised[:, FROZEN:].abs().max()) <= 1.0


def test_a_policys_chunks_keep_the_prefix() -> None:
    spec = RobotSpec("toy", {"state": ArraySpec((4,))}, ArraySpec((2,)), 10.0)
    config = plain(load("train", ["task=reach", "policy=diffusion", "net.width=16", "net.blocks=1"]))
    policy = make_policy({"policy": config["policy"], "horizon": config["horizon"]}, spec)
    assert isinstance(policy, GenerativePolicy)
    policy.sampler = build(load("eval", ["run=x", "sampler=inpaint", "sampler.sampler.name=ddim"]).sampler)
    assert str(policy.sampler) == "inpaint (first 2 actions) in ddim, 5 steps, clip 1"
    previous = torch.rand((3, policy.horizon.prediction, 2), generator=torch.Generator().manual_seed(0))
    asked = Request(request([True] * 3).noise, previous=previous, warm=torch.tensor([True] * 3))
    with torch.no_grad():
        sampled = policy.eval().sample(policy.encode({"state": torch.zeros(3, 2, 4)}), asked)
    assert torch.equal(sampled.normalised[:, :2], previous[:, :2])


def test_the_inner_sampler_is_told_of_the_action() -> None:
    assert Inpaint(Aware(), 2).for_actions(ArraySpec((3,))).sampler == Aware(3)
    assert Inpaint(make_sampler("ddim", 3), 2).for_actions(ArraySpec((3,))).steps == 3


def test_bad_values_are_refused() -> None:
    sampler = build(load("eval", ["run=x", "sampler=inpaint_ebt"]).sampler)
    assert isinstance(sampler, InpaintDescent)
    assert sampler.max_steps == 20
    with pytest.raises(ConfigError, match="sampler.frozen is -1"):
        Inpaint(make_sampler("ddim", 3), -1)
    with pytest.raises(ConfigError, match="chunks have 6 actions"):
        Inpaint(make_sampler("ddim", 3), 7)(Chained(LinearPath()), request([True] * 3))
    with pytest.raises(ConfigError, match="does not denoise: see inpaint_ebt"):
        Inpaint(Descent(), 2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs a descent inside"):
        InpaintDescent(make_sampler("ddim", 3), 2)  # type: ignore[arg-type]


def test_only_what_the_last_chunk_says_is_written_in() -> None:
    asked = replace(request([True, True, False]), known=torch.tensor([1, 6, 0]))
    assert asked.previous is not None
    sampled = Inpaint(make_sampler("ddim", 4), FROZEN)(Chained(PATHS[0]), asked)
    same = (sampled.normalised == asked.previous).all(dim=2)
    assert same.tolist() == [[True, *[False] * 5], [True, True, *[False] * 4], [False] * 6]
