"""What `scripts/train.py` does: dataset and configuration in, a run folder with metrics and checkpoints out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from robopolicy.command import Run, is_main_process
from robopolicy.configuration import plain
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.goals import Goal, goals_from, statistics_with_goals, with_goals
from robopolicy.dataset.statistics import Statistics, dataset_statistics
from robopolicy.dataset.windows import Windows, split
from robopolicy.denoise.noise import generator_for
from robopolicy.errors import ConfigError, DatasetError
from robopolicy.files import write_text
from robopolicy.policies.factory import make_untrained
from robopolicy.policies.normaliser import Normaliser, SpecNormaliser
from robopolicy.policies.policy import LearnedPolicy
from robopolicy.spec import RobotSpec
from robopolicy.training import checkpoint
from robopolicy.training.trainer import Trainer, TrainingSettings

CONFIG_FILE = "train.yaml"


def train(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Trains to the last step and returns what `result.json` says."""
    resume_from = None
    if config.resume is not None:
        config, resume_from = _former(config, run)
    settings = TrainingSettings(**plain(config.training))
    dataset = open_for(config)
    if resume_from is not None:
        _refuse_other_data(dataset, resume_from)
    goals = _goals(config)
    spec = with_goals(dataset.spec.select(list(config.task.observations)), dataset.spec, goals)
    training, held_out = split(dataset, float(config.held_out), settings.seed)
    windows = windows_of(training, config)
    held_out_windows = windows_of(held_out, config) if held_out else None
    statistics = statistics_with_goals(dataset_statistics(training), goals)
    normaliser = _normaliser(config, spec, statistics, resumed=resume_from is not None)
    policy = _seeded_policy(config, spec, normaliser, settings.seed)
    describe = _describer(config, policy, dataset, settings)
    if resume_from is None and is_main_process():
        _refuse_used(run.folder)
    trainer = Trainer(policy, windows, held_out_windows, settings, run.folder, describe, resume_from)
    if resume_from is None and is_main_process():
        _write_config(config, run.folder)
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    if trainer.step == settings.steps:
        run.say(f"{run.folder} is trained already: for more steps begin a new run with training.steps")
    run.say(
        f"{len(training)} episodes, {len(windows)} windows, {len(held_out)} episodes held out; "
        f"{parameters / 1e6:.2f} M parameters; steps {trainer.step} to {settings.steps}"
    )
    with run.progress("training", settings.steps - trainer.step) as advance:
        losses = trainer.train(lambda step, loss: advance(note=f"loss {loss:.4f}"))
    run.say(f"trained {settings.steps} steps, checkpoints in {run.folder}")
    return {
        "run": str(run.folder),
        "steps": settings.steps,
        "parameters": parameters,
        "last_loss": losses[-1] if losses else None,
    }


def open_for(config: DictConfig) -> Dataset:
    """The dataset of a training configuration; raises DatasetError when it does not fit the task, or is empty."""
    dataset = Dataset.open(Path(config.data))
    if dataset.task != config.task.name:
        raise DatasetError(
            f"{config.data} holds demonstrations of task '{dataset.task}', expected '{config.task.name}'"
        )
    there = sorted(dataset.spec.observations)
    if missing := sorted(set(config.task.observations) - set(there)):
        raise DatasetError(f"{config.data} has no streams {missing}, which task '{dataset.task}' needs, only {there}")
    if not dataset.episodes:
        raise DatasetError(f"{config.data} has no committed episode: collect demonstrations first")
    return dataset


def windows_of(episodes: Any, config: DictConfig) -> Windows:
    """The windows of `episodes` that a training configuration asks for."""
    return Windows(
        episodes,
        observations=list(config.task.observations),
        observation_steps=config.horizon.observation_steps,
        horizon=config.horizon.prediction,
        image_memory=round(1e9 * float(config.image_memory_gb)),
        goals=_goals(config),
    )


def _seeded_policy(config: DictConfig, spec: Any, normaliser: SpecNormaliser, seed: int) -> LearnedPolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_for(seed).initial_seed())
        return make_untrained(_policy_config(config), spec, normaliser)


def _policy_config(config: DictConfig) -> dict[str, Any]:
    full = plain(config)
    chosen = {"policy": full["policy"], "horizon": full["horizon"]}
    if goals := _goals(config):
        chosen["goals"] = {"names": list(goals), "dropout": full["goal_dropout"]}
    return chosen


def _goals(config: DictConfig) -> dict[str, Goal]:
    return goals_from(plain(config)["task"].get("goals"))


def _normaliser(
    config: DictConfig, spec: RobotSpec, statistics: Mapping[str, Statistics], *, resumed: bool
) -> SpecNormaliser:
    """Fitted to the data; a run that is resumed brings its own, and may be older than the options."""
    scale, other = config.get("discrete_scale"), config.get("action_statistics")
    if scale is not None and other is not None:
        raise ConfigError(f"discrete_scale={scale} and action_statistics={other} exclude each other: leave one out")
    normaliser = SpecNormaliser.fit(spec, statistics, 1.0 if scale is None else float(scale))
    if other is not None and not resumed:
        normaliser.action = _action_normaliser(Path(other), spec)
    return normaliser


def _action_normaliser(run: Path, spec: RobotSpec) -> Normaliser:
    """That of a trained policy with the same action, so that the two can be composed."""
    policy, _ = checkpoint.load(run)
    if not isinstance(policy, LearnedPolicy):
        raise ConfigError(
            f"action_statistics={run} holds a {type(policy).__name__}, which has no statistics of its own: name one of "
            "the policies that it is made of"
        )
    if problems := spec.action.differences(policy.spec.action):
        raise ConfigError(f"action_statistics={run} is of another action: {'; '.join(problems)}")
    return policy.normaliser.action


def _describer(config: DictConfig, policy: LearnedPolicy, dataset: Dataset, settings: TrainingSettings) -> Any:
    facts = {
        "fingerprint": dataset.fingerprint(),
        "episodes": len(dataset.episodes),
        "held_out": float(config.held_out),
        "versions": dict(dataset.versions),
    }
    versions, commit = checkpoint.versions(), checkpoint.commit()

    def describe(step: int) -> checkpoint.Description:
        return checkpoint.Description(
            _policy_config(config), policy.spec, config.task.name, facts, settings.seed, step, versions, commit
        )

    return describe


def _refuse_other_data(dataset: Dataset, resume_from: Path) -> None:
    if checkpoint.read_description(resume_from).dataset["fingerprint"] != dataset.fingerprint():
        raise DatasetError(f"{dataset.path} has changed since {resume_from} was trained on it: start a new run")


def _refuse_used(folder: Path) -> None:
    if (folder / "checkpoints").exists():
        raise ConfigError(f"{folder} already holds a run: use resume={folder} to continue it, or another run_folder")


def _write_config(config: DictConfig, folder: Path) -> None:
    write_text(folder / CONFIG_FILE, yaml.safe_dump(plain(config), sort_keys=False))


def _former(config: DictConfig, run: Run) -> tuple[DictConfig, Path]:
    """The configuration that a run was started with, and its newest checkpoint."""
    others = [argument for argument in sys.argv[1:] if not argument.startswith("resume=")]
    if others:
        raise ConfigError(f"resume= continues a run with its own configuration, leave out {' '.join(others)}")
    folder = Path(config.resume)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"resume={folder} is no training run: it has no {CONFIG_FILE}")
    run.folder = folder
    former: dict[str, Any] = yaml.safe_load(path.read_text())
    return OmegaConf.create(former), checkpoint.newest(folder)
