"""The generative policy on its three noise paths: what each learns on a problem with a known answer."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from robopolicy.configuration import build, load, plain
from robopolicy.denoise.descent import Descent
from robopolicy.denoise.noise import RowNoise, StepNoise
from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Target
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.nets.mlp import ResidualMlp
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.policies.policy import Horizon
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("toy", {"state": ArraySpec((1,))}, ArraySpec((1,)), 10.0)
HORIZON = Horizon(2, 4, 2)
TARGETS: tuple[Target, ...] = get_args(Target)
PATHS: dict[str, NoisePath] = {"diffusion": VariancePreserving(50), "flow": LinearPath(), "edm": ExplodingPath()}


def _policy(path: str, target: Target, sampler: str = "ddim", steps: int = 10) -> GenerativePolicy:
    net = partial(ResidualMlp, width=64, blocks=2, level_size=32)
    return GenerativePolicy(SPEC, HORIZON, net, PATHS[path], make_sampler(sampler, steps), target)


def _batch(rows: int) -> tuple[dict[str, Tensor], Tensor]:
    """State s in [-1, 1]; the chunk is constantly +0.5 or -0.5, whatever the state: two modes, mean zero."""
    generator = torch.Generator().manual_seed(rows)
    state = torch.rand(rows, 2, 1, generator=generator) * 2 - 1
    side = torch.randint(0, 2, (rows, 1, 1), generator=generator).float() - 0.5
    return {"state": state}, side.expand(rows, 4, 1).clone()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "target", "sampler", "steps"),
    [
        ("diffusion", "clean", "ddim", 10),
        ("diffusion", "v", "dpmpp", 10),
        ("flow", "velocity", "euler", 10),
        ("flow", "clean", "heun", 5),
        ("edm", "preconditioned", "ddim", 10),
        ("edm", "preconditioned", "dpmpp", 10),
    ],
)
def test_every_path_reaches_both_modes_and_nothing_between(path: str, target: Target, sampler: str, steps: int) -> None:
    torch.manual_seed(0)
    policy = _policy(path, target, sampler, steps)
    optimiser = torch.optim.Adam(policy.parameters(), lr=2e-3)
    for step in range(500):
        loss = policy.loss(*_batch(256 + step % 7), StepNoise((step,), 256 + step % 7)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    noise = RowNoise(0, [(row, 0) for row in range(200)])
    with torch.no_grad():
        sampled = policy.eval().sample(policy.encode(_batch(200)[0]), Request(noise))
    chunks = policy.unnormalise(sampled.normalised).mean(dim=(1, 2))
    assert float((chunks.abs() - 0.5).abs().lt(0.15).float().mean()) > 0.9
    assert 0.3 < float((chunks > 0).float().mean()) < 0.7


class _Oracle(nn.Module):
    """A perfect network for chunks that are all `value`; it only sees what a network sees."""

    def __init__(self, path: NoisePath, target: Target, value: float, **_: object) -> None:
        super().__init__()
        self.path, self.target, self.value = path, target, value
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        self.seen.append(x)
        t = self._times(level)[:, None, None]
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        spread = (0.25 * alpha**2 + sigma**2).sqrt()
        noisy = x * spread if self.target == "preconditioned" else x
        eps = (noisy - alpha * self.value) / sigma
        outputs = {
            "eps": eps,
            "clean": torch.full_like(x, self.value),
            "v": alpha * eps - sigma * self.value,
            "velocity": eps - self.value,
            "preconditioned": (sigma * self.value / 0.5 - 0.5 * alpha * eps) / spread,
        }
        return outputs[self.target]

    def _times(self, level: Tensor) -> Tensor:
        if isinstance(self.path, VariancePreserving):
            return (level + 1) / self.path.steps
        if isinstance(self.path, LinearPath):
            return level / 1000
        return (level / 250).exp() / 80.0


@pytest.mark.parametrize(("path", "target"), [(p, t) for p in PATHS for t in TARGETS if (p, t) != ("flow", "eps")])
def test_a_perfect_network_has_no_loss_and_samples_the_action(path: str, target: Target) -> None:
    """Inputs, levels, gains, targets and their reading agree between training and sampling."""
    net = partial(_Oracle, path=PATHS[path], target=target, value=0.4)
    policy = GenerativePolicy(SPEC, HORIZON, net, PATHS[path], make_sampler("ddim", 5), target)
    observation = {"state": torch.zeros(6, 2, 1)}
    loss = policy.loss(observation, torch.full((6, 4, 1), 0.4), StepNoise((0,), 6))
    assert loss.shape == (6,)
    assert float(loss.max()) < 1e-5
    sampled = policy.sample(policy.encode(observation), Request(RowNoise(0, [(row, 0) for row in range(6)])))
    torch.testing.assert_close(sampled.normalised, torch.full((6, 4, 1), 0.4), atol=2e-3, rtol=0)


def test_the_preconditioned_network_sees_inputs_of_unit_size() -> None:
    net = partial(_Oracle, path=PATHS["edm"], target="preconditioned", value=0.0)
    policy = GenerativePolicy(SPEC, HORIZON, net, PATHS["edm"], make_sampler("ddim", 3), "preconditioned")
    noise = RowNoise(0, [(row, 0) for row in range(2000)])
    policy.sample(policy.encode({"state": torch.zeros(2000, 2, 1)}), Request(noise))
    oracle = policy.net
    assert isinstance(oracle, _Oracle)
    assert float(oracle.seen[0].std()) == pytest.approx(1.0, abs=0.03)


def test_a_bound_denoiser_answers_in_single_precision_and_costs_one() -> None:
    policy = _policy("edm", "preconditioned")
    denoiser = policy.denoiser(policy.encode(_batch(3)[0]))
    assert denoiser.cost == 1
    with torch.autocast("cpu", torch.bfloat16):
        found = denoiser(torch.randn(3, 4, 1), torch.tensor(0.01))
    assert found.output.dtype == found.clean.dtype == torch.float32


@pytest.mark.parametrize(("path", "target"), [("diffusion", "v"), ("flow", "velocity"), ("edm", "preconditioned")])
@pytest.mark.parametrize("sampler", ["ddpm", "heun"])
def test_a_sample_does_not_depend_on_its_batch_mates(path: str, target: Target, sampler: str) -> None:
    torch.manual_seed(0)
    policy = _policy(path, target, sampler).eval()
    observation, _ = _batch(6)
    whole = policy.sample(policy.encode(observation), Request(RowNoise(1, [(row, 0) for row in range(6)]))).normalised
    part = {"state": observation["state"][2:4]}
    alone = policy.sample(policy.encode(part), Request(RowNoise(1, [(2, 0), (3, 0)]))).normalised
    torch.testing.assert_close(whole[2:4], alone, atol=1e-5, rtol=1e-5)


def test_eps_is_refused_on_a_path_that_starts_at_pure_noise() -> None:
    with pytest.raises(ConfigError, match="policy.target is 'eps', but this path starts at pure noise"):
        _policy("flow", "eps")


def test_a_data_deviation_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="policy.data_std is 0.0, expected a positive number"):
        GenerativePolicy(
            SPEC, HORIZON, partial(ResidualMlp), PATHS["edm"], make_sampler("ddim", 3), "preconditioned", data_std=0.0
        )


def test_a_heun_sampler_with_more_steps_than_levels_is_refused() -> None:
    policy = _policy("diffusion", "clean")
    with pytest.raises(ConfigError, match="sampler.steps is 51, expected 1 to 50"):
        policy.sampler = make_sampler("heun", 51)
    policy.sampler = make_sampler("heun", 50)


@pytest.mark.parametrize("sampler", [Descent(), "ddim", lambda denoiser, request: None])
def test_what_is_no_denoising_sampler_is_refused(sampler: Any) -> None:
    net = partial(ResidualMlp, width=16, blocks=1)
    with pytest.raises(ConfigError, match="a policy that denoises cannot use the sampler .* such as sampler=ddim"):
        GenerativePolicy(SPEC, HORIZON, net, PATHS["diffusion"], sampler)
    policy = _policy("diffusion", "clean")
    with pytest.raises(ConfigError, match="a policy that denoises cannot use the sampler"):
        policy.sampler = sampler
    assert str(policy.sampler) == "ddim, 10 steps, clip 1"


@pytest.mark.parametrize("policy", ["diffusion", "flow", "edm", "mode"])
def test_an_energy_is_no_network_to_denoise_with(policy: str) -> None:
    config = plain(load("train", ["task=reach", f"policy={policy}", "net=energy_small"]))
    with pytest.raises(ConfigError, match="EnergyTransformer, which belongs to policy=ebt"):
        make_policy(config, SPEC)


@pytest.mark.parametrize(
    ("policy", "path", "target", "sampler"),
    [
        ("diffusion", VariancePreserving, "clean", "ddim, 10 steps, clip 1"),
        ("flow", LinearPath, "velocity", "euler, 4 steps, clip 1"),
        ("edm", ExplodingPath, "preconditioned", "ddim, 10 steps, clip 1"),
    ],
)
def test_each_policy_file_brings_its_own_sampler(policy: str, path: type, target: str, sampler: str) -> None:
    config = plain(load("train", ["task=reach", f"policy={policy}"]))
    made = make_policy(config, SPEC)
    assert isinstance(made, GenerativePolicy)
    assert (type(made.path), made.target, str(made.sampler)) == (path, target, sampler)


@pytest.mark.parametrize("policy", ["diffusion", "flow", "edm"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp", "euler", "heun"])
def test_a_sampler_on_the_command_line_wins(policy: str, sampler: str) -> None:
    config = load("train", [f"policy={policy}", f"sampler={sampler}", "sampler.steps=7"])
    assert (config.policy.sampler.name, config.policy.sampler.steps) == (sampler, 7)
    assert str(build(config.sampler)) == f"{sampler}, 7 steps, clip 1"
