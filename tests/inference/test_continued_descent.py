"""Real-time chunking of energies ends where closed forms say, as stable as the descent itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from continued import SHAPE, FixedNoise, draw, warm_request
from torch import Tensor

from robopolicy.configuration import build, load, plain
from robopolicy.denoise.descent import Descent, DescentRule
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.inference.continued_descent import ContinuedDescent
from robopolicy.inference.overlap import continuation_weights
from robopolicy.policies.energy import EnergyPolicy
from robopolicy.policies.factory import make_policy
from robopolicy.spec import ArraySpec, RobotSpec

MEAN = 0.3


@dataclass(frozen=True)
class Bowl:
    """E = h / 2 mean((a - MEAN)^2)."""

    curvature: float = 0.6
    step_size: Tensor = field(default_factory=lambda: torch.tensor(0.5, dtype=torch.float64))
    rule: DescentRule = field(default_factory=lambda: DescentRule(momentum=0.0, exponential=False))
    shape: tuple[int, int, int] = SHAPE
    cost: int = 1

    def energy(self, actions: Tensor, rows: Tensor) -> Tensor:
        return 0.5 * self.curvature * (actions - MEAN).square().mean(dim=(1, 2))


@pytest.mark.parametrize("rule", [DescentRule(momentum=0.0, exponential=False), DescentRule()])
def test_the_added_energy_ends_in_the_weighted_mean(rule: DescentRule) -> None:
    previous = draw(0)
    bowl = replace(Bowl(), rule=rule)
    inner = Descent(1, 400, tolerance=0.0, clip=None)
    request = Request(FixedNoise(draw(1)), previous=previous, warm=torch.tensor([True, False, True]))
    request = replace(request, known=torch.tensor([5, 0, 5]))
    sampled = ContinuedDescent(inner, 2, "linear", pull=0.2)(bowl, request)
    weights = continuation_weights(8, 2, 5, "linear").double()[:, None]
    stiffness, curvature = 0.2 / 0.5, 0.8 * 0.6
    wanted = (curvature * MEAN + stiffness * weights * previous) / (curvature + stiffness * weights)
    torch.testing.assert_close(sampled.normalised[::2], wanted[::2], atol=1e-6, rtol=1e-6)
    alone = inner(bowl, request)
    assert torch.equal(sampled.normalised[1], alone.normalised[1])
    assert torch.equal(sampled.info["energy"][1], alone.info["energy"][1])
    torch.testing.assert_close(sampled.info["energy"], bowl.energy(sampled.normalised, torch.arange(3)))


@pytest.mark.parametrize("pull", [0.1, 0.5, 0.95])
def test_the_mixed_step_is_stable_where_the_energys_own_is(pull: float) -> None:
    """Gains of 1.3 are just stable with momentum 0.9; a quadratic on top of one would not be."""
    previous = draw(0)
    bowl = replace(Bowl(), curvature=2.6, rule=DescentRule(momentum=0.9, exponential=False))
    request = Request(FixedNoise(draw(1)), previous=previous, warm=torch.ones(3, dtype=torch.bool))
    request = replace(request, known=torch.full((3,), 7))
    sampled = ContinuedDescent(Descent(1, 1000, tolerance=0.0, clip=None), 7, "hard", pull)(bowl, request)
    share = (pull / 0.5) / ((1.0 - pull) * 2.6 + pull / 0.5)
    torch.testing.assert_close(
        sampled.normalised[:, :7], (MEAN + share * (previous - MEAN))[:, :7], atol=1e-6, rtol=1e-6
    )


def test_one_plain_step_goes_the_share_of_the_pull_whatever_the_step_size() -> None:
    previous, start = draw(0), draw(1)
    for step_size in (0.1, 2.0):
        flat = replace(Bowl(), curvature=0.0, step_size=torch.tensor(step_size, dtype=torch.float64))
        request = Request(FixedNoise(start), previous=previous, warm=torch.ones(3, dtype=torch.bool))
        request = replace(request, known=torch.full((3,), 7))
        moved = ContinuedDescent(Descent(1, 1, clip=None), 7, "hard", 0.25)(flat, request).normalised
        torch.testing.assert_close(moved[:, :7], (start + 0.25 * (previous - start))[:, :7])
        assert torch.equal(moved[:, 7], start[:, 7])


def test_an_energy_policy_continues_its_warm_rows_only() -> None:
    torch.manual_seed(0)
    config = plain(load("train", ["task=reach", "policy=ebt", "net.width=16", "net.blocks=1", "net.heads=2"]))
    policy = make_policy(
        {"policy": config["policy"], "horizon": config["horizon"]},
        RobotSpec("toy", {"state": ArraySpec((4,))}, ArraySpec((3,)), 10.0),
    )
    assert isinstance(policy, EnergyPolicy)
    inner = policy.sampler
    encoded = policy.encode({"state": draw(7, (3, 2, 4), torch.float32)})
    shape = (3, policy.horizon.prediction, 3)
    previous = draw(8, shape, torch.float32).clamp(-1, 1)
    with torch.no_grad():
        alone = policy.sample(encoded, warm_request(previous, [True, False, True]))
        policy.sampler = ContinuedDescent(inner, 2)
        sampled = policy.sample(encoded, warm_request(previous, [True, False, True]))
    assert torch.equal(sampled.normalised[1], alone.normalised[1])
    assert torch.equal(sampled.evaluations[1], alone.evaluations[1])
    assert not torch.equal(sampled.normalised[::2, :2], alone.normalised[::2, :2])
    assert torch.equal(sampled.info["energy"][1], alone.info["energy"][1])


def test_the_configuration_builds_what_it_says() -> None:
    sampler = build(load("eval", ["run=x", "sampler=rtc_ebt"]).sampler)
    assert isinstance(sampler, ContinuedDescent)
    assert sampler.max_steps == 20
    assert "rtc (quadratic energy, pull 0.5, delay 2, exp weights) in descent" in str(sampler)


@pytest.mark.parametrize(
    ("override", "words"),
    [("delay=-1", "delay=-1, expected"), ("pull=1.0", "sampler.pull is 1"), ("schedule=cosine", "'cosine'")],
)
def test_bad_values_are_refused(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(load("eval", ["run=x", "sampler=rtc_ebt", f"sampler.{override}"]).sampler)


def test_a_sampler_that_denoises_is_refused() -> None:
    with pytest.raises(ConfigError, match="for those that denoise use rtc"):
        ContinuedDescent(make_sampler("euler", 4), 2)  # type: ignore[arg-type]
