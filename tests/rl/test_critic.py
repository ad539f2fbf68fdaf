"""The critic: shapes, what it learns where the value is known, and how it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robopolicy.errors import CheckpointError, ConfigError
from robopolicy.nets.ensemble import EnsembleMlp
from robopolicy.rl.critic import EnsembleCritic, load_critic, make_critic
from robopolicy.spec import ArraySpec, RobotSpec
from robopolicy.training import checkpoint

SPEC = RobotSpec("toy", {"state": ArraySpec((1,)), "more": ArraySpec((2,))}, ArraySpec((2,)), 10.0)
CONFIG = {
    "critic": {
        "_target_": "robopolicy.rl.critic.EnsembleCritic",
        "observation_steps": 2,
        "action_steps": 3,
        "heads": 3,
        "width": 32,
        "layers": 2,
    }
}


def make(**options: Any) -> EnsembleCritic:
    torch.manual_seed(0)
    critic = make_critic({"critic": {**CONFIG["critic"], **options}}, SPEC).eval()
    critic.normaliser.action.offset.fill_(0.3)
    return critic


def batch(rows: int, candidates: int, steps: int = 3, seed: int = 1) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    observation = {
        name: torch.randn(rows, 2, *array.shape, generator=generator) for name, array in SPEC.observations.items()
    }
    return observation, torch.randn(rows, candidates, steps, 2, generator=generator)


@torch.no_grad()
def test_heads_are_networks_of_their_own() -> None:
    torch.manual_seed(0)
    ensemble, x = EnsembleMlp(3, 4, width=8, layers=2), torch.randn(6, 4)
    for parameter in ensemble.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    found = ensemble(x)
    for head in range(3):
        hidden = x
        for linear, norm, act, _ in ensemble.hidden:
            hidden = hidden @ linear.weight[head] + linear.bias[head]
            hidden = act(nn.functional.layer_norm(hidden, (8,)) * norm.gain[head] + norm.shift[head])
        expected = hidden @ ensemble.outlet.weight[head] + ensemble.outlet.bias[head]
        torch.testing.assert_close(found[head], expected[:, 0])


@torch.no_grad()
@pytest.mark.parametrize("aggregate", ["min", "mean"])
def test_values_are_the_heads_aggregated_and_lie_in_the_unit_interval(aggregate: str) -> None:
    critic = make(aggregate=aggregate)
    observation, actions = batch(5, 7)
    values, heads = critic(observation, actions), torch.sigmoid(critic.logits(observation, actions))
    assert heads.shape == (3, 5, 7)
    torch.testing.assert_close(values, heads.amin(dim=0) if aggregate == "min" else heads.mean(dim=0))
    assert ((values > 0) & (values < 1)).all()
    assert heads.std(dim=0).min() > 0


@torch.no_grad()
def test_candidates_and_rows_are_scored_one_by_one() -> None:
    critic = make()
    observation, actions = batch(4, 6)
    values = critic(observation, actions)
    for row in range(4):
        alone = critic({name: value[row : row + 1] for name, value in observation.items()}, actions[row : row + 1])
        torch.testing.assert_close(alone[0], values[row])
    order = torch.tensor([5, 3, 1, 0, 2, 4])
    torch.testing.assert_close(critic(observation, actions[:, order]), values[:, order])


@torch.no_grad()
def test_it_reads_the_first_actions_and_the_newest_observations_only() -> None:
    critic = make()
    observation, actions = batch(4, 2)
    longer = {name: torch.cat([9.0 + value, value], dim=1) for name, value in observation.items()}
    more = torch.cat([actions, 9.0 + actions], dim=2)
    assert torch.equal(critic({**longer, "unread": torch.zeros(1)}, more), critic(observation, actions))


def test_values_have_a_gradient_in_the_actions() -> None:
    critic, (observation, actions) = make(), batch(4, 2)
    (slope,) = torch.autograd.grad(critic(observation, actions.requires_grad_()).sum(), actions)
    assert slope.abs().amax(dim=(2, 3)).min() > 0


def test_the_loss_is_least_where_the_value_is_the_mean_return() -> None:
    """The cross-entropy of returns 0.2 and 0.7, each half of the time, has its minimum at 0.45."""
    critic, (observation, actions) = make(heads=1), batch(1, 1)
    losses = []
    for value in (0.40, 0.44, 0.45, 0.46, 0.50):
        with torch.no_grad():
            for parameter in critic.net.outlet.parameters():
                parameter.zero_()
            critic.net.outlet.bias.fill_(torch.logit(torch.tensor(value)))
            returns = (torch.tensor([0.2]), torch.tensor([0.7]))
            losses.append(sum(float(critic.loss(observation, actions[:, 0], label)) for label in returns))
    assert losses.index(min(losses)) == 2


def test_it_learns_a_known_value() -> None:
    """Success comes with probability (1 + s a) / 2 for state s and first action a in [-1, 1]."""
    critic = make(width=64).train()
    optimiser = torch.optim.AdamW(critic.parameters(), lr=2e-3, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(0)

    def drawn(rows: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        state = torch.rand(rows, 2, 1, generator=generator) * 2 - 1
        actions = torch.rand(rows, 3, 2, generator=generator) * 2 - 1
        chance = (1 + state[:, -1, 0] * actions[:, 0, 0]) / 2
        return {"state": state, "more": torch.zeros(rows, 2, 2)}, actions, chance

    for _ in range(400):
        observation, actions, chance = drawn(512)
        success = (torch.rand(512, generator=generator) < chance).float()
        loss = critic.loss(observation, actions, success).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    observation, actions, chance = drawn(1000)
    with torch.no_grad():
        error = critic.eval()(observation, actions[:, None])[:, 0] - chance
    assert error.square().mean().sqrt() < 0.06


def _save(run: Path, critic: EnsembleCritic) -> Path:
    description = checkpoint.Description(CONFIG, SPEC, "toy", {"fingerprint": "f"}, 1, 5, {}, "c")
    return checkpoint.save(run, critic, description, None, "critic")


@torch.no_grad()
def test_a_critic_that_comes_back_gives_the_same_values(tmp_path: Path) -> None:
    critic, (observation, actions) = make(), batch(4, 2)
    folder = _save(tmp_path, critic)
    assert sorted(path.name for path in folder.iterdir()) == ["critic.json", "weights.safetensors"]
    loaded, description = load_critic(tmp_path)
    assert not loaded.training
    assert (description.step, description.spec) == (5, SPEC)
    assert torch.equal(loaded(observation, actions), critic(observation, actions))
    assert torch.equal(load_critic(folder)[0](observation, actions), critic(observation, actions))


def test_a_critic_is_no_policy_and_a_run_without_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no checkpoint: expected .*/critic.json, as critic.py writes"):
        load_critic(tmp_path)
    _save(tmp_path, make())
    with pytest.raises(CheckpointError, match=r"holds a critic, expected a policy, as train.py writes"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "lacks the key 'critic'"),
        ({"critic": {"_target_": "os.system"}}, "outside the packages"),
        ({"critic": {**CONFIG["critic"], "heads": 2}}, "'net.hidden.0.0.weight' has shape"),
        ({"critic": {**CONFIG["critic"], "_target_": "robopolicy.nets.ensemble.EnsembleNorm"}}, "does not take these"),
    ],
)
def test_a_description_that_cannot_be_trusted_is_refused(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    path = _save(tmp_path, make()) / "critic.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "config": config}))
    with pytest.raises(CheckpointError, match=words):
        load_critic(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 0}, "critic.heads is 0, expected at least 1"),
        ({"action_steps": 0}, "critic.action_steps is 0"),
        ({"aggregate": "max"}, "critic.aggregate is 'max', expected one of min, mean"),
    ],
)
def test_impossible_critics_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**options)
