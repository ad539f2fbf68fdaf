"""The generative policy with a mixture of experts: the balancing loss is trained, prepared levels are used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robopolicy.configuration import load, plain
from robopolicy.denoise.noise import RowNoise, StepNoise
from robopolicy.denoise.sampler import Request
from robopolicy.nets.mode import MixtureTransformer
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("toy", {"state": ArraySpec((4,))}, ArraySpec((3,)), 10.0)
SMALL = ["net.width=32", "net.blocks=2", "net.level_size=16"]


def _policy(*overrides: str) -> tuple[GenerativePolicy, MixtureTransformer]:
    torch.manual_seed(0)
    config = plain(load("train", ["task=lift", *overrides, "net=mode_small", *SMALL]))
    policy = make_policy({"policy": config["policy"], "horizon": config["horizon"]}, SPEC)
    assert isinstance(policy, GenerativePolicy)
    assert isinstance(policy.net, MixtureTransformer)
    return policy, policy.net


def _loss(policy: GenerativePolicy) -> Tensor:
    observation = {"state": torch.randn(8, policy.horizon.observation_steps, 4, generator=_generator())}
    actions = torch.randn(8, policy.horizon.prediction, 3, generator=_generator())
    return policy.loss(observation, actions, StepNoise((0,), 8))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def _sample(policy: GenerativePolicy) -> Tensor:
    state = torch.randn(3, policy.horizon.observation_steps, 4, generator=_generator())
    with torch.no_grad():
        encoded = policy.encode({"state": state})
        return policy.sample(encoded, Request(RowNoise(0, [(row, 0) for row in range(3)]))).normalised


def test_the_balancing_loss_is_added_in_training_only() -> None:
    policy, net = _policy("policy=mode")
    added = _loss(policy.train()) - _loss(policy.eval())
    level = policy.path.embed(policy.path.training_times(StepNoise((0,), 8).uniform(1)[0]))
    torch.testing.assert_close(added, net.auxiliary_loss(level))
    assert bool((added > 0).all())


@pytest.mark.parametrize("name", ["mode", "diffusion", "flow"])
@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_prepared_sampling_asks_no_router_and_gives_the_same_chunks(name: str, sampler: str) -> None:
    policy, net = _policy(f"policy={name}", f"sampler={sampler}")
    policy.eval()
    expected = _sample(policy)
    assert policy.prepare()
    calls: list[int] = []
    for mixture in net.mixtures():
        mixture.router.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(_sample(policy), expected, rtol=1e-4, atol=1e-5)
    assert calls == []


def test_a_network_without_experts_has_nothing_to_prepare() -> None:
    config = plain(load("train", ["task=lift", "policy=diffusion"]))
    policy = make_policy({"policy": config["policy"], "horizon": config["horizon"]}, SPEC)
    assert isinstance(policy, GenerativePolicy)
    assert not policy.prepare()


def test_policy_mode_takes_its_small_network_unless_another_is_named() -> None:
    assert load("train", ["policy=mode"]).net.width == load("train", ["net=mode_small"]).net.width
    assert load("train", ["policy=mode", "net=mode"]).net.width == 1024
    assert "unet1d" in load("train", ["net=unet", "policy=mode"]).net._target_
