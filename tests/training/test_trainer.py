"""The trainer's promises: exact resume, the same run on more processes, learning, and honest files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_policies import small_policy
from synthetic import make_dataset

from robopolicy.configuration import load
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.statistics import dataset_statistics
from robopolicy.dataset.windows import Windows
from robopolicy.errors import ConfigError
from robopolicy.policies.factory import make_policy
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.training import checkpoint
from robopolicy.training.metrics import read_metrics
from robopolicy.training.trainer import Trainer, TrainingSettings

CONFIG: dict[str, Any] = {
    "horizon": {"observation_steps": 2, "prediction": 4, "execution": 2},
    "policy": {
        "_target_": "robopolicy.policies.generative.GenerativePolicy",
        "path": {"_target_": "robopolicy.denoise.paths.VariancePreserving", "steps": 20},
        "net": {
            "_target_": "robopolicy.nets.mlp.ResidualMlp",
            "_partial_": True,
            "width": 32,
            "blocks": 1,
            "dropout": 0.1,
        },
        "sampler": {"_target_": "robopolicy.denoise.sampler.make_sampler", "name": "ddim", "steps": 5},
    },
}


def settings(**changes: object) -> TrainingSettings:
    values = {"steps": 20, "batch_size": 16, "warmup_steps": 2, "log_every": 5, "validate_every": 5, "save_every": 10}
    return TrainingSettings(**{**values, "accelerator": "cpu", **changes})  # type: ignore[arg-type]


def make_trainer(
    dataset: Dataset,
    run: Path,
    options: TrainingSettings,
    resume_from: Path | None = None,
    config: Mapping[str, Any] = CONFIG,
) -> Trainer:
    torch.manual_seed(7)
    normaliser = SpecNormaliser.fit(dataset.spec, dataset_statistics(dataset.episodes))
    policy = make_policy(config, dataset.spec, normaliser)
    window = {"observations": ["position", "goal"], "observation_steps": 2, "horizon": 4}
    windows, held_out = Windows(dataset.episodes[1:], **window), Windows(dataset.episodes[:1], **window)  # type: ignore[arg-type]

    def describe(step: int) -> checkpoint.Description:
        return checkpoint.Description(config, policy.spec, "point", {}, options.seed, step, {}, "commit")

    return Trainer(policy, windows, held_out, options, run, describe, resume_from)


@pytest.mark.parametrize("name", ["diffusion", "ebt", "mode"])
def test_resuming_continues_bit_for_bit(tmp_path: Path, name: str) -> None:
    dataset, config = make_dataset(tmp_path / "data"), {**CONFIG, "policy": small_policy(name, "net.dropout=0.1")}
    straight = make_trainer(dataset, tmp_path / "straight", settings(), config=config)
    losses = straight.train()
    interrupted = make_trainer(dataset, tmp_path / "interrupted", settings(), config=config)

    def power_cut(step: int, loss: float) -> None:
        if step == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.train(power_cut)
    folder = checkpoint.newest(tmp_path / "interrupted")
    assert folder.name == "step_00000010"
    resumed = make_trainer(dataset, tmp_path / "interrupted", settings(), folder, config)
    assert resumed.train() == losses[10:]
    for name, tensor in straight.average.module(straight.policy).state_dict().items():
        assert torch.equal(tensor, resumed.average.module(resumed.policy).state_dict()[name]), name
    for run in ("straight", "interrupted"):
        for record in (records := read_metrics(tmp_path / run)):
            record.pop("steps_per_second", None)
        assert records == sorted(records, key=lambda record: record["step"])
    assert [r for r in read_metrics(tmp_path / "interrupted") if "validation_loss" in r] == [
        r for r in read_metrics(tmp_path / "straight") if "validation_loss" in r
    ]


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    make_trainer(dataset, tmp_path / "run", settings()).train()
    with pytest.raises(ConfigError, match="learning_rate changed"):
        make_trainer(dataset, tmp_path / "run", settings(learning_rate=1.0), checkpoint.newest(tmp_path / "run"))


def test_a_resumed_run_keeps_the_normalisation_that_it_was_trained_with(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_trainer(make_dataset(tmp_path / "data"), run, settings()).train()
    other = make_dataset(tmp_path / "other", episodes=3, length=30)
    resumed = make_trainer(other, run, settings(), checkpoint.newest(run))
    first = checkpoint.load(run)[0].normaliser.action
    assert torch.equal(resumed.average.module(resumed.policy).normaliser.action.scale, first.scale)


def test_training_learns_and_leaves_what_it_promises(tmp_path: Path) -> None:
    run = tmp_path / "run"
    losses = make_trainer(make_dataset(tmp_path / "data"), run, settings(steps=300, learning_rate=3e-3)).train()
    assert np.mean(losses[-30:]) < 0.6 * np.mean(losses[:30])
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_00000290", "step_00000300"]
    assert (run / "predictions.png").stat().st_size > 1000
    assert any((run / "tensorboard").iterdir())
    assert [record["step"] for record in read_metrics(run) if "loss" in record] == list(range(5, 301, 5))


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    trainer = make_trainer(make_dataset(tmp_path / "data"), tmp_path / "run", settings(precision="32-true"))
    with torch.no_grad():
        next(trainer.policy.parameters()).fill_(float("nan"))
    with pytest.raises(ConfigError, match="lower training.learning_rate"):
        trainer.train()


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_layers_compute_in_the_precision_that_was_asked_for(tmp_path: Path, precision: str, dtype: torch.dtype) -> None:
    trainer = make_trainer(make_dataset(tmp_path / "data"), tmp_path / "run", settings(steps=1, precision=precision))
    seen: set[torch.dtype] = set()
    for module in trainer.policy.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    for batch in trainer._batches():
        trainer._optimise(batch)
    assert trainer.step == 1
    assert seen == {dtype}


_DISTRIBUTED = """
import json, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
from test_trainer import CONFIG, make_trainer, settings
from robopolicy.dataset.dataset import Dataset
CONFIG["policy"]["net"]["dropout"] = 0.0
trainer = make_trainer(Dataset.open({data!r}), Path({run!r}), settings(batch_size=8))
losses = trainer.train()
threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in threads if "gloo" in name], threads  # they would abort the process now and then at its end
if trainer.fabric.is_global_zero:
    Path({out!r}).write_text(json.dumps(losses))
"""


def test_two_processes_do_what_one_does_with_the_doubled_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path / "data")
    script, out = tmp_path / "distributed.py", tmp_path / "losses.json"
    here = Path(__file__).parent
    names = {"tests": str(here.parent), "here": str(here), "data": str(dataset.path)}
    script.write_text(_DISTRIBUTED.format(**names, run=str(tmp_path / "two"), out=str(out)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    monkeypatch.setitem(CONFIG["policy"]["net"], "dropout", 0.0)
    one = make_trainer(dataset, tmp_path / "one", settings(batch_size=16)).train()
    np.testing.assert_allclose(json.loads(out.read_text()), one, rtol=1e-4)


def test_the_default_configuration_makes_valid_settings() -> None:
    assert TrainingSettings(**load("train").training).steps > 0


@pytest.mark.parametrize("change", [{"precision": "8bit"}, {"accelerator": "abacus"}])
def test_what_the_machine_cannot_do_is_one_sentence_and_no_run(tmp_path: Path, change: dict[str, str]) -> None:
    dataset = make_dataset(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"training\.accelerator=.* with training\.precision=.* does not work here"):
        make_trainer(dataset, tmp_path / "run", settings(**change))
    assert not (tmp_path / "run").exists()
