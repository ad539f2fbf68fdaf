"""What `scripts/critic.py` does: recorded episodes in, a critic fitted to their returns out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import yaml
from omegaconf import DictConfig

from robopolicy.benchmarks.networks import check_device
from robopolicy.command import Run
from robopolicy.configuration import plain
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.statistics import dataset_statistics
from robopolicy.dataset.windows import Windows, split
from robopolicy.denoise.noise import generator_for
from robopolicy.errors import ConfigError, DatasetError
from robopolicy.files import write_text
from robopolicy.jobs.train import open_for
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.rl.critic import EnsembleCritic, make_critic
from robopolicy.rl.fit import FitSettings, Recorded, assess, fit
from robopolicy.training import checkpoint
from robopolicy.training.metrics import Metrics

CONFIG_FILE = "critic.yaml"
_CHANCE = 0.6
"""An AUROC below this is worth a warning."""


def fit_critic(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Fits to the last step and returns what `result.json` says."""
    settings = FitSettings(**plain(config.training))
    dataset = open_for(config)
    check_device(config.device)
    spec = dataset.spec.select(list(config.observations))
    training, held_out = split(dataset, float(config.held_out), settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_for(settings.seed).initial_seed())
        critic = make_critic(_critic_config(config), spec, SpecNormaliser.fit(spec, dataset_statistics(training)))
    recorded = _recorded(training, config, critic)
    unseen = _recorded(held_out, config, critic) if held_out else None
    succeeded = _check_mixed(dataset)
    if (run.folder / "checkpoints").exists():
        raise ConfigError(f"{run.folder} already holds a run: choose another run_folder")
    write_text(run.folder / CONFIG_FILE, yaml.safe_dump(plain(config), sort_keys=False))
    run.say(
        f"{len(training)} episodes, {len(recorded)} windows, {len(held_out)} episodes held out; {succeeded} of "
        f"{len(dataset.episodes)} succeeded"
    )
    metrics = Metrics(run.folder)
    with run.progress("fitting", settings.steps) as advance:
        fitted = fit(
            critic.to(config.device),
            recorded,
            unseen,
            settings,
            metrics,
            lambda step, loss: advance(note=f"loss {loss:.4f}"),
        )
    metrics.close()
    checkpoint.save(run.folder, fitted, _description(config, critic, dataset, settings), None, "critic")
    figures = {} if unseen is None else assess(fitted, unseen, settings.batch_size)
    _say(run, figures)
    return {"run": str(run.folder), "steps": settings.steps, "held_out": figures}


def _critic_config(config: DictConfig) -> dict[str, Any]:
    return {"critic": plain(config)["critic"]}


def _recorded(episodes: Sequence[Episode], config: DictConfig, critic: EnsembleCritic) -> Recorded:
    windows = Windows(
        episodes,
        observations=list(config.observations),
        observation_steps=critic.observation_steps,
        horizon=critic.action_steps,
        image_memory=round(1e9 * float(config.image_memory_gb)),
    )
    return Recorded(windows, float(config.discount), config.device)


def _check_mixed(dataset: Dataset) -> int:
    """How many episodes succeeded. Raises DatasetError when all did or none: there is nothing to tell apart."""
    succeeded = sum(bool(episode.metadata.get("success")) for episode in dataset.episodes)
    if succeeded in (0, len(dataset.episodes)):
        raise DatasetError(
            f"{succeeded} of {len(dataset.episodes)} episodes of {dataset.path} succeeded, expected some but not all: "
            "collect with failures=keep"
        )
    return succeeded


def _description(
    config: DictConfig, critic: EnsembleCritic, dataset: Dataset, settings: FitSettings
) -> checkpoint.Description:
    facts = {
        "fingerprint": dataset.fingerprint(),
        "episodes": len(dataset.episodes),
        "held_out": float(config.held_out),
        "discount": float(config.discount),
        "versions": dict(dataset.versions),
    }
    return checkpoint.Description(
        _critic_config(config),
        critic.spec,
        config.task.name,
        facts,
        settings.seed,
        settings.steps,
        checkpoint.versions(),
        checkpoint.commit(),
    )


def _say(run: Run, figures: Mapping[str, Any]) -> None:
    for name, text in (("auroc", "all windows"), ("first_auroc", "first windows of episodes")):
        if figures.get(name) is not None:
            run.say(f"held out, {text}: AUROC {figures[name]:.3f}")
    if figures.get("auroc") is not None and figures["auroc"] < _CHANCE:
        run.say("warning: it orders held-out windows hardly better than chance; train longer, or record more failures")
    if figures:
        run.say(f"held out: values are off by {figures['calibration_error']:.3f} on average")
    run.say(f"critic in {run.folder}")
