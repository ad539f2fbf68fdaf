"""Future goals and dropped ones are drawn by seed and step: resuming continues bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from synthetic import SPEC, make_dataset

from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.goals import Goal, statistics_with_goals, with_goals
from robopolicy.dataset.statistics import dataset_statistics
from robopolicy.dataset.windows import Windows
from robopolicy.policies.factory import make_policy
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.training import checkpoint
from robopolicy.training.trainer import Trainer, TrainingSettings

GOALS = {"goal_position": Goal("position", "future")}
CONFIG = {
    "horizon": {"observation_steps": 2, "prediction": 4, "execution": 2},
    "goals": {"names": list(GOALS), "dropout": 0.3},
    "policy": {
        "_target_": "robopolicy.policies.generative.GenerativePolicy",
        "path": {"_target_": "robopolicy.denoise.paths.VariancePreserving", "steps": 20},
        "target": "clean",
        "net": {"_target_": "robopolicy.nets.mlp.ResidualMlp", "_partial_": True, "width": 32, "blocks": 1},
        "sampler": {"_target_": "robopolicy.denoise.sampler.make_sampler", "name": "ddim", "steps": 5},
    },
}
SETTINGS = TrainingSettings(
    steps=12, batch_size=16, warmup_steps=2, log_every=4, validate_every=4, save_every=6, accelerator="cpu"
)


def make_trainer(dataset: Dataset, run: Path, resume_from: Path | None = None) -> Trainer:
    spec = with_goals(SPEC.select(["position"]), SPEC, GOALS)
    statistics = statistics_with_goals(dataset_statistics(dataset.episodes), GOALS)
    torch.manual_seed(7)
    policy = make_policy(CONFIG, spec, SpecNormaliser.fit(spec, statistics))
    training, held_out = (
        Windows(episodes, observations=["position"], observation_steps=2, horizon=4, goals=GOALS)
        for episodes in (dataset.episodes[1:], dataset.episodes[:1])
    )

    def describe(step: int) -> checkpoint.Description:
        return checkpoint.Description(CONFIG, policy.spec, "point", {}, 0, step, {}, "commit")

    return Trainer(policy, training, held_out, SETTINGS, run, describe, resume_from)


def test_resuming_with_goals_continues_bit_for_bit(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    losses = make_trainer(dataset, tmp_path / "straight").train()

    def power_cut(step: int, loss: float) -> None:
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(dataset, tmp_path / "interrupted").train(power_cut)
    folder = checkpoint.newest(tmp_path / "interrupted")
    assert folder.name == "step_00000006"
    assert make_trainer(dataset, tmp_path / "interrupted", folder).train() == losses[6:]
    policy, description = checkpoint.load(tmp_path / "straight")
    assert policy.goals.names == ["goal_position"]
    assert list(description.spec.observations) == ["position", "goal_position"]
