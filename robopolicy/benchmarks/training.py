"""Training steps a second, by the trainer itself, for the networks that the examples use, in fp32 and in bf16."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from robopolicy.benchmarks.networks import SPEC, check_device, device_name, policy_config
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.importers.arrays import write_episode
from robopolicy.dataset.statistics import dataset_statistics
from robopolicy.dataset.windows import Windows
from robopolicy.policies.factory import make_untrained
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.training import checkpoint
from robopolicy.training.trainer import Trainer, TrainingSettings


def run(
    *,
    device: str = "cpu",
    nets: Sequence[str] = ("mlp", "unet_small"),
    precisions: Sequence[str] = ("32-true", "bf16-mixed"),
    steps: int = 30,
    batch: int = 256,
    rows: int = 2000,
    folder: str | None = None,
) -> dict[str, Any]:
    """Trains each network for `steps` steps on random data in a temporary folder (below `folder`).

    Returns `steps_per_s` (median step of the second half) by network and precision, and the settings. Raises
    ConfigError for a device that is not here.
    """
    check_device(device)
    with tempfile.TemporaryDirectory(dir=folder) as root:
        dataset = _dataset(Path(root) / "data", rows)
        rates = {
            net: {
                precision: _steps_per_s(
                    dataset, net, Path(root) / net / precision, _settings(device, precision, steps, batch)
                )
                for precision in precisions
            }
            for net in nets
        }
    return {"steps_per_s": rates, "batch": batch, "steps": steps, "device": device_name(device)}


def _settings(device: str, precision: str, steps: int, batch: int) -> TrainingSettings:
    return TrainingSettings(
        steps=steps, batch_size=batch, precision=precision, accelerator=device, warmup_steps=1, log_every=steps
    )


def _steps_per_s(dataset: Dataset, net: str, run_folder: Path, settings: TrainingSettings) -> float:
    config = policy_config(net)
    horizon = config["horizon"]
    windows = Windows(
        dataset,
        observations=["state"],
        observation_steps=horizon["observation_steps"],
        horizon=horizon["prediction"],
    )
    policy = make_untrained(config, SPEC, SpecNormaliser.fit(SPEC, dataset_statistics(dataset.episodes)))
    facts = {"fingerprint": dataset.fingerprint(), "versions": {}}

    def describe(step: int) -> checkpoint.Description:
        return checkpoint.Description(config, SPEC, "benchmark", facts, settings.seed, step, {}, "")

    times = [time.perf_counter()]
    trainer = Trainer(policy, windows, None, settings, run_folder, describe)
    trainer.train(lambda step, loss: times.append(time.perf_counter()))  # the loss is read, so the step is complete
    took = [after - before for before, after in pairwise(times)]
    return 1.0 / median(took[len(took) // 2 :])


def _dataset(path: Path, rows: int) -> Dataset:
    rng = np.random.default_rng(0)
    dataset = Dataset.create(path, spec=SPEC, task="benchmark", versions={})
    states, actions = rng.normal(size=(rows, 14)).astype(np.float32), rng.normal(size=(rows, 10))
    write_episode(
        dataset, 0, {"state": states}, actions, source="script", stop_reason="made", success=None, metadata={}
    )
    return dataset
