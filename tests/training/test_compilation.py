from __future__ import annotations

import shutil

import pytest
import torch
from synthetic import SPEC

from robopolicy.denoise.noise import StepNoise
from robopolicy.errors import ConfigError
from robopolicy.policies.factory import make_policy
from robopolicy.policies.policy import LearnedPolicy
from robopolicy.training.average import Average
from robopolicy.training.compilation import compile_networks

CPU = torch.device("cpu")


def _policy() -> LearnedPolicy:
    head = {"_target_": "robopolicy.nets.mlp.RegressionMlp", "_partial_": True, "width": 8, "blocks": 1}
    config = {
        "horizon": {"observation_steps": 1, "prediction": 2, "execution": 1},
        "policy": {"_target_": "robopolicy.policies.cloning.MeanSquaredCloning", "net": head},
    }
    torch.manual_seed(0)
    return make_policy(config, SPEC)


def test_without_a_compiler_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match="there is no C.. compiler here .*g.., .*training.compile=false"):
        compile_networks(_policy(), CPU)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler for torch.compile")
def test_a_compiled_policy_has_the_same_loss_gradients_and_names_of_weights() -> None:
    plain, compiled = _policy(), _policy()
    compile_networks(compiled, CPU)
    Average(compiled)  # copies it
    assert list(compiled.state_dict()) == list(plain.state_dict())
    observation = {"position": torch.randn(5, 1, 2), "goal": torch.randn(5, 1, 1)}
    actions, losses = torch.randn(5, 2, 2), []
    for policy in (plain, compiled):
        losses.append(policy.loss(observation, actions, StepNoise((0,), 5)))
        losses[-1].mean().backward()
    torch.testing.assert_close(losses[1], losses[0])
    for mine, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
