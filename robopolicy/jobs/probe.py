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
from robopolicy.command import Run, command_line
from robopolicy.configuration import build, plain
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.windows import Windows, split
from robopolicy.denoise.noise import Noise, StepNoise
from robopolicy.errors import ConfigError, DatasetError
from robopolicy.evaluation import pictures
from robopolicy.evaluation.episodes import EpisodeJob
from robopolicy.evaluation.lockstep import evaluate
from robopolicy.evaluation.statistics import Interval, bootstrap_auroc, bootstrap_mean
from robopolicy.files import write_bytes, write_json
from robopolicy.jobs.train import CONFIG_FILE, windows_of
from robopolicy.policies.energy import EnergyPolicy
from robopolicy.training import checkpoint


def probe(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Compares energies of demonstrated and perturbed chunks, and of chunks inside and outside the training region."""
    torch.set_num_threads(1)
    policy, description = checkpoint.load(Path(config.run))
    if not isinstance(policy, EnergyPolicy):
        raise ConfigError(f"{config.run} holds a {type(policy).__name__}: only an energy policy has energies to probe")
    if config.sampler is not None:
        policy.sampler = build(config.sampler)
    trained = _training_config(Path(config.run))
    episodes = _held_out(config, trained, description.dataset["fingerprint"])
    perturbed = perturbation_shares(
        policy,
        [windows_of([episode], trained) for episode in episodes],
        list(config.deviations),
        int(config.noise_seed),
    )
    for deviation, share in perturbed.items():
        run.say(
            f"share of an episode's chunks that have less energy than themselves perturbed by {deviation:g}: {share} "
            "episodes"
        )
    result: dict[str, Any] = {
        "perturbed": {f"{deviation:g}": share.json() for deviation, share in perturbed.items()},
    }
    if config.outside:
        result["outside"] = _outside(config, trained, policy, run)
    if config.name is not None:
        _publish(Path(config.out) / config.name, result, run)
    return result


def perturbation_shares(
    policy: EnergyPolicy, episodes: Sequence[Windows], deviations: Sequence[float], noise_seed: int
) -> dict[float, Interval]:
    """For each standard deviation (normalised units), the share of an episode's windows whose own chunk has the lower
    energy: mean over the episodes, and its bootstrap over them, for the windows of one episode are much alike."""
    shares = [
        _shares_of_one(policy, windows, deviations, StepNoise((noise_seed, number), len(windows)))
        for number, windows in enumerate(episodes)
    ]
    return {deviation: bootstrap_mean([share[deviation] for share in shares]) for deviation in deviations}


@torch.no_grad()
def _shares_of_one(
    policy: EnergyPolicy, windows: Windows, deviations: Sequence[float], noise: Noise
) -> dict[float, float]:
    batch = windows.batch(np.arange(len(windows)))
    encoded = policy.encode({name: torch.as_tensor(value) for name, value in batch.observations.items()})
    chunks = policy.normalise(torch.as_tensor(batch.actions))
    perturbation = noise.normal(1, chunks.shape[1:])[0]
    own = policy.energy(encoded, chunks)
    lower = {deviation: own < policy.energy(encoded, chunks + deviation * perturbation) for deviation in deviations}
    return {deviation: float(below.float().mean()) for deviation, below in lower.items()}


def first_energies(config: DictConfig, task: Mapping[str, Any], policy: EnergyPolicy) -> NDArray[np.float64]:
    """The final energy of the first chunk of each episode."""
    job = EpisodeJob(task["robot"], 1, task["step_limits"], policy.horizon.observation_steps)
    seeds = range(int(config.seed), int(config.seed) + int(config.episodes))
    actor = PolicyActor(policy, seed=int(config.noise_seed), batch_size=int(config.slots))
    results = evaluate(job, list(seeds), actor, slots=int(config.slots), workers=int(config.workers))
    return np.array([result.info["energy"][0] for result in results])


def _publish(path: Path, result: Mapping[str, Any], run: Run) -> None:
    write_json(path.with_name(f"{path.name}.json"), {"command": command_line("probe"), **result})
    if "outside" in result:
        energies = (np.array(result["outside"][f"energies_{side}"]) for side in ("inside", "outside"))
        write_bytes(path.with_name(f"{path.name}.svg"), pictures.energy_histograms(*energies))
    run.say(f"wrote {path}.json")


def _training_config(run: Path) -> DictConfig:
    path = run / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"run={run} has no {CONFIG_FILE}: expected the folder that train.py wrote, not a checkpoint")
    settings: dict[str, Any] = yaml.safe_load(path.read_text())
    return OmegaConf.create(settings)


def _held_out(config: DictConfig, trained: DictConfig, fingerprint: str) -> Sequence[Episode]:
    """The episodes that training did not see, or those of another dataset."""
    if config.data is not None:
        return Dataset.open(Path(config.data)).episodes
    dataset = Dataset.open(Path(trained.data))
    if dataset.fingerprint() != fingerprint:
        raise DatasetError(
            f"{dataset.path} has changed since {config.run} was trained on it, so what it held out is unknown: name "
            "other demonstrations with data=..."
        )
    held_out = split(dataset, float(trained.held_out), int(trained.training.seed))[1]
    if not held_out:
        raise ConfigError(f"{config.run} held no episode out of its training: name other demonstrations with data=...")
    return held_out


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
