"""A checkpoint comes back as it was, or is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_policies import POLICIES, small_policy
from synthetic import SPEC

from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request
from robopolicy.errors import CheckpointError
from robopolicy.policies.factory import make_policy
from robopolicy.policies.policy import LearnedPolicy
from robopolicy.training import checkpoint

CONFIG = {
    "horizon": {"observation_steps": 1, "prediction": 2, "execution": 1},
    "policy": {
        "_target_": "robopolicy.policies.cloning.MeanSquaredCloning",
        "net": {"_target_": "robopolicy.nets.mlp.RegressionMlp", "_partial_": True, "width": 8, "blocks": 1},
    },
}


def _save(run: Path, step: int = 5) -> tuple[LearnedPolicy, Path]:
    policy = make_policy(CONFIG, SPEC)
    policy.normaliser.action.offset.fill_(3.0)
    description = checkpoint.Description(CONFIG, SPEC, "point", {"fingerprint": "f"}, 1, step, {"torch": "2"}, "c")
    return policy, checkpoint.save(run, policy, description, {"step": step})


def test_weights_normalisation_and_description_come_back(tmp_path: Path) -> None:
    policy, folder = _save(tmp_path)
    loaded, description = checkpoint.load(tmp_path)
    assert not loaded.training
    assert loaded.spec == SPEC
    assert (description.task, description.step, description.seed, description.commit) == ("point", 5, 1, "c")
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert checkpoint.load(folder)[1] == description
    assert checkpoint.load_training_state(folder) == {"step": 5}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_comes_back_gives_the_same_chunks(tmp_path: Path, name: str) -> None:
    config = {**CONFIG, "policy": small_policy(name, "sampler.clip=null")}
    torch.manual_seed(0)
    policy = make_policy(config, SPEC).eval()
    with torch.no_grad():
        for parameter in policy.parameters():  # some start at zero, which would hide them
            parameter.add_(0.1 * torch.randn_like(parameter))
    checkpoint.save(tmp_path, policy, checkpoint.Description(config, SPEC, "point", {}, 0, 1, {}, "c"), {})
    loaded, _ = checkpoint.load(tmp_path)
    assert torch.equal(_chunks(loaded), _chunks(policy))


def _chunks(policy: LearnedPolicy) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    observation = {"position": torch.randn(3, 1, 2, generator=generator), "goal": torch.zeros(3, 1, 1)}
    with torch.no_grad():
        sampled = policy.sample(policy.encode(observation), Request(RowNoise(0, [(row, 0) for row in range(3)])))
    return policy.unnormalise(sampled.normalised)


def test_only_the_newest_two_are_kept_and_an_unfinished_one_does_not_count(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _save(tmp_path, step)
    (tmp_path / "checkpoints" / ".step_00000009.unfinished").mkdir()
    assert checkpoint.newest(tmp_path).name == "step_00000003"
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("step_*")) == ["step_00000002", "step_00000003"]


def test_no_file_is_a_pickle_but_the_training_state(tmp_path: Path) -> None:
    _, folder = _save(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["policy.json", "training.pt", "weights.safetensors"]
    json.loads((folder / "policy.json").read_text())
    assert load_file(folder / "weights.safetensors")


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        checkpoint.load(tmp_path)


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    _, folder = _save(tmp_path)
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"weights.safetensors cannot be read"):
        checkpoint.load(tmp_path)


def test_a_missing_statistic_in_the_weights_is_named(tmp_path: Path) -> None:
    _, folder = _save(tmp_path)
    weights = load_file(folder / "weights.safetensors")
    del weights["normaliser.action.scale"]
    save_file(weights, folder / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"missing \['normaliser.action.scale'\]"):
        checkpoint.load(tmp_path)


def test_a_misshaped_statistic_is_named(tmp_path: Path) -> None:
    _, folder = _save(tmp_path)
    weights = load_file(folder / "weights.safetensors")
    weights["normaliser.action.scale"] = torch.ones(5)
    save_file(weights, folder / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"'normaliser.action.scale' has shape \[5\], expected \[2\]"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"spec": {"name": "x"}}, "malformed"),
        ({"config": {**CONFIG, "policy": {"_target_": "os.system"}}}, "outside the packages"),
        ({"config": {**CONFIG, "goals": {"streams": ["goal"]}}}, r"policy.json: goals .* is malformed"),
        ({"config": {**CONFIG, "goals": {"names": ["goal"], "dropout": 1.0}}}, "policy.json: goal_dropout is 1"),
        ({"config": {**CONFIG, "policy": {"_target_": "robopolicy.dataset.edit.delete"}}}, "outside the packages"),
    ],
)
def test_a_description_that_cannot_be_trusted_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    _, folder = _save(tmp_path)
    path = folder / "policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(tmp_path)


def test_a_pickle_in_the_training_state_is_not_executed(tmp_path: Path) -> None:
    _, folder = _save(tmp_path)
    torch.save({"harmful": CheckpointError}, folder / "training.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load_training_state(folder)


def test_what_is_no_policy_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none does not exist, expected a folder that train\.py wrote"):
        checkpoint.newest(tmp_path / "none")
    folder = tmp_path / "run" / "checkpoints" / "step_00000001"
    folder.mkdir(parents=True)
    (folder / "critic.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"run holds a critic, expected a policy, as train\.py writes"):
        checkpoint.newest(tmp_path / "run")
    assert checkpoint.newest(tmp_path / "run", "critic") == folder
