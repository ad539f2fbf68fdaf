"""What `scripts/probe.py` does: is the energy of an energy policy low where demonstrations are, and high elsewhere?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from robopolicy.actors.policy import PolicyActor
from robopolicy.command import Run
from robopolicy.configuration import build, plain
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.windows import Windows, split
from robopolicy.denoise.noise import StepNoise
from robopolicy.errors import ConfigError
from robopolicy.evaluation.episodes import EpisodeJob
from robopolicy.evaluation.lockstep import evaluate
from robopolicy.evaluation.statistics import bootstrap_auroc, wilson
from robopolicy.jobs.train import CONFIG_FILE, windows_of
from robopolicy.policies.energy import EnergyPolicy
from robopolicy.training import checkpoint


def probe(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Compares energies of demonstrated and perturbed chunks, and of chunks inside and outside the training region."""
    torch.set_num_threads(1)
    policy, _ = checkpoint.load(Path(config.run))
    if not isinstance(policy, EnergyPolicy):
        raise ConfigError(f"{config.run} holds a {type(policy).__name__}: only an energy policy has energies to probe")
    if config.sampler is not None:
        policy.sampler = build(config.sampler)
    settings: dict[str, Any] = yaml.safe_load((Path(config.run) / CONFIG_FILE).read_text())
    trained: DictConfig = OmegaConf.create(settings)
    windows = _held_out(config, trained)
    perturbed = perturbation_shares(policy, windows, list(config.deviations), int(config.noise_seed))
    for deviation, share in perturbed.items():
        run.say(f"a demonstrated chunk has less energy than itself perturbed by {deviation:g}: {share}")
    result: dict[str, Any] = {
        "windows": len(windows),
        "perturbed": {f"{deviation:g}": share.json() for deviation, share in perturbed.items()},
    }
    if config.outside:
        result["outside"] = _outside(config, trained, policy, run)
    return result


def perturbation_shares(
    policy: EnergyPolicy, windows: Windows, deviations: Sequence[float], noise_seed: int
) -> dict[float, Any]:
    """For each standard deviation (normalised units), the share of windows whose own chunk has the lower energy."""
    batch = windows.batch(np.arange(len(windows)))
    with torch.no_grad():
        encoded = policy.encode({name: torch.as_tensor(value) for name, value in batch.observations.items()})
        chunks = policy.normalise(torch.as_tensor(batch.actions))
        noise = StepNoise((noise_seed,), len(windows)).normal(1, chunks.shape[1:])[0]
        own = policy.energy(encoded, chunks)
        lower = {d: own < policy.energy(encoded, chunks + d * noise) for d in deviations}
    return {deviation: wilson(int(below.sum()), len(windows)) for deviation, below in lower.items()}


def first_energies(config: DictConfig, task: Mapping[str, Any], policy: EnergyPolicy) -> NDArray[np.float64]:
    """The final energy of the first chunk of each episode."""
    job = EpisodeJob(task["robot"], 1, task["step_limits"], policy.horizon.observation_steps)
    seeds = range(int(config.seed), int(config.seed) + int(config.episodes))
    actor = PolicyActor(policy, seed=int(config.noise_seed), batch_size=int(config.slots))
    results = evaluate(job, list(seeds), actor, slots=int(config.slots), workers=int(config.workers))
    return np.array([result.info["energy"][0] for result in results])


def _held_out(config: DictConfig, trained: DictConfig) -> Windows:
    """Windows of the episodes that training did not see, or of another dataset."""
    if config.data is not None:
        return windows_of(Dataset.open(Path(config.data)).episodes, trained)
    held_out = split(Dataset.open(Path(trained.data)), float(trained.held_out), int(trained.training.seed))[1]
    if not held_out:
        raise ConfigError(f"{config.run} held no episode out of its training: name other demonstrations with data=...")
    return windows_of(held_out, trained)


def _outside(config: DictConfig, trained: DictConfig, policy: EnergyPolicy, run: Run) -> dict[str, Any]:
    changes = plain(config.outside)
    outside_task = plain({"task": OmegaConf.merge(trained.task, changes)})["task"]
    inside = first_energies(config, plain(trained.task), policy)
    outside = first_energies(config, outside_task, policy)
    auroc = bootstrap_auroc(outside, inside)
    run.say(f"final energy tells starts outside ({changes}) from those inside: AUROC {auroc}")
    return {
        "changes": changes,
        "sampler": str(policy.sampler),
        "auroc": auroc.json(),
        "energies_inside": inside.tolist(),
        "energies_outside": outside.tolist(),
    }
