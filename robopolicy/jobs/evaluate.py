"""What `scripts/eval.py` does: a trained policy on unseen seeds in simulation, a result with intervals and a report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig

from robopolicy.actors.policy import PolicyActor
from robopolicy.benchmarks.networks import check_device
from robopolicy.command import Run
from robopolicy.configuration import build, plain, whole
from robopolicy.errors import ConfigError
from robopolicy.evaluation.comparison import Comparison, Reference, compare_all, load_reference
from robopolicy.evaluation.episodes import EpisodeJob, EpisodeResult, results_json, success_by_detail
from robopolicy.evaluation.lockstep import evaluate
from robopolicy.evaluation.report import write_evaluation
from robopolicy.evaluation.statistics import bootstrap_mean, wilson
from robopolicy.files import write_bytes
from robopolicy.inference.warm_start import RealTimeIteration, WarmDescent
from robopolicy.jobs.choices import choose
from robopolicy.jobs.seeds import DEMONSTRATION, kinds_of
from robopolicy.jobs.task import robot_spec
from robopolicy.jobs.train import CONFIG_FILE
from robopolicy.policies.policy import PolicyModule
from robopolicy.spec import check_fits
from robopolicy.training import checkpoint
from robopolicy.training.metrics import read_metrics

VIDEO_FOLDER = "videos"
"""In an evaluation's folder: one MP4 file for each episode that was filmed, besides the copy in the report."""


def evaluate_run(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Evaluates a run and returns what `result.json` says."""
    torch.set_num_threads(1)  # beside the simulation workers more threads are slower, not faster
    trained, seeds = Path(config.run), _seeds(config)
    execution = whole(config, "execution", least=1)
    _refuse_used(run.folder, replace=bool(config.replace))
    checkpoint.newest(trained)  # a run that is none is the first thing to be said
    task = _task(config, trained)
    references = _references(config, task["name"], seeds)
    loaded, description = checkpoint.load(trained)
    check_device(config.device)
    policy, chosen = choose(loaded, config, trained, run.say)
    job = EpisodeJob(task["robot"], int(task["max_steps"]), task["step_limits"], policy.horizon.observation_steps)
    spec = robot_spec(task)
    check_fits(policy.spec, spec, who=f"the policy of {trained}", whom=f"task '{task['name']}'")
    actor = PolicyActor(
        policy,
        seed=int(config.noise_seed),
        batch_size=int(config.slots),
        device=config.device,
        execution=execution,
    )
    _say_execution(loaded, actor, run)
    if DEMONSTRATION in (kinds := kinds_of(seeds)):
        run.say(
            f"warning: demonstration seeds are among {seeds[0]} to {seeds[-1]}, so this says nothing about new ones"
        )
    began = time.perf_counter()
    results = _run_episodes(config, run, job, list(seeds), actor)
    settings = _settings(
        config, task, trained, description, {**chosen, "actions between calls": str(actor.execution)}, kinds
    )
    cost = _cost(results, actor, time.perf_counter() - began)
    comparisons = compare_all(results, references)
    report = write_evaluation(
        run.folder,
        results,
        title=_title(config, task["name"], trained),
        settings={**settings, "policy calls": _pace(cost)},
        spec=spec,
        training=read_metrics(trained),
        comparisons=comparisons,
    )
    for result in results:
        if result.video is not None:
            write_bytes(run.folder / VIDEO_FOLDER / f"seed_{result.seed}.mp4", result.video)
    _say(run, results, comparisons, cost)
    run.say(f"report: {report}")
    return {
        "settings": settings,
        **results_json(results),
        "comparisons": [comparison.json() for comparison in comparisons],
        "cost": cost,
        "report": str(report),
    }


def _title(config: DictConfig, task: str, trained: Path) -> str:
    """What was evaluated, and what was asked for beside it; the settings have it in full."""
    words = [f"{task}: {trained.name}"]
    if config.sampler is not None:
        words.append(str(config.sampler.get("name") or config.sampler["_target_"].rsplit(".", 1)[-1]))
    if config.critic is not None:
        words.append(f"critic {Path(config.critic).name}")
    return ", ".join(words)


def _refuse_used(folder: Path, *, replace: bool) -> None:
    """Raises ConfigError where a result would be lost: always a training run's, an evaluation's unless it may go."""
    if (folder / "checkpoints").exists():
        raise ConfigError(f"run_folder={folder} holds a training run, whose result this would replace: choose another")
    if (folder / "result.json").exists() and not replace:
        raise ConfigError(f"run_folder={folder} holds a result: choose another, or replace it with replace=true")


def _seeds(config: DictConfig) -> range:
    """Of the environments. Raises ConfigError where there is nothing to evaluate, or no slot to do it in."""
    seeds = range(int(config.seed), int(config.seed) + int(config.episodes))
    if not seeds or seeds[0] < 0:
        raise ConfigError(
            f"episodes={config.episodes} from seed={config.seed} on leave nothing to evaluate: expected at least 1, 0"
        )
    if int(config.slots) < 1:
        raise ConfigError(f"slots={config.slots} has no room for an episode, expected at least 1")
    return seeds


def _say_execution(policy: PolicyModule, actor: PolicyActor, run: Run) -> None:
    """Where real-time iteration is not asked at every control step."""
    if isinstance(getattr(policy, "sampler", None), RealTimeIteration | WarmDescent) and actor.execution > 1:
        run.say(
            f"note: real-time iteration is meant for execution=1, here {actor.execution} actions a chunk are executed"
        )


def _settings(
    config: DictConfig,
    task: Mapping[str, Any],
    trained: Path,
    description: checkpoint.Description,
    chosen: Mapping[str, str],
    kinds: Sequence[str],
) -> dict[str, object]:
    """What must be known to repeat the evaluation, and to trust it."""
    return {
        "task": task["name"],
        "run": str(trained),
        "checkpoint": f"step {description.step}, averaged weights",
        **{name: what for name, what in chosen.items() if what not in ("none", "reference")},
        "seeds": " and ".join(kinds),
        "slots": int(config.slots),
        "noise seed": int(config.noise_seed),
        "device": config.device,
        "training seed": description.seed,
        "dataset": f"{description.dataset['episodes']} episodes, {description.dataset['fingerprint'][:12]}",
        "dataset made with": _listed(description.dataset["versions"]),
        "simulator": _listed(build(task["versions"])),
        "versions": _listed(checkpoint.versions()),
        "commit of training": description.commit,
        "commit of evaluation": checkpoint.commit(),
    }


def _task(config: DictConfig, trained: Path) -> dict[str, Any]:
    """The task that was asked for, else the one of the training run."""
    if config.task is not None:
        return plain(config.task)
    path = trained / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{trained} has no {CONFIG_FILE} that names its task: add task=...")
    task: dict[str, Any] = yaml.safe_load(path.read_text())["task"]
    return task


def _references(config: DictConfig, task: str, seeds: Sequence[int]) -> list[Reference]:
    """Those of `against`, one path or several; whether they can be paired is known before anything runs."""
    against = plain(config)["against"]
    paths = against if isinstance(against, list) else [against] if against else []
    references = [load_reference(Path(str(path))) for path in paths]
    for reference in references:
        reference.check(task, seeds)
    return references


def _run_episodes(
    config: DictConfig, run: Run, job: EpisodeJob, seeds: Sequence[int], actor: PolicyActor
) -> list[EpisodeResult]:
    done, succeeded = 0, 0
    with run.progress("evaluating", len(seeds)) as advance:

        def on_episode(result: EpisodeResult) -> None:
            nonlocal done, succeeded
            done, succeeded = done + 1, succeeded + result.success
            advance(note=f"success {succeeded} of {done}")

        return evaluate(
            job,
            seeds,
            actor,
            slots=int(config.slots),
            workers=int(config.workers),
            videos=seeds[: int(config.videos)],
            traces=seeds[: int(config.traces)],
            on_episode=on_episode,
        )


def _cost(results: Sequence[EpisodeResult], actor: PolicyActor, seconds: float) -> dict[str, float]:
    """Evaluations of one network on one row per control step, and what a padded call took: on average, at worst."""
    steps = sum(result.summary.steps for result in results)
    return {
        "control_steps": steps,
        "evaluations_per_control_step": actor.evaluations / max(steps, 1),
        "policy_calls": actor.calls,
        "milliseconds_per_call": 1e3 * actor.seconds / max(actor.calls, 1),
        "milliseconds_of_slowest_call": 1e3 * actor.slowest_seconds,
        "control_steps_per_second": steps / seconds,
    }


def _pace(cost: Mapping[str, float]) -> str:
    mean, worst = cost["milliseconds_per_call"], cost["milliseconds_of_slowest_call"]
    return f"{cost['policy_calls']}, {mean:.1f} ms each, the slowest {worst:.1f} ms"


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _say(
    run: Run,
    results: Sequence[EpisodeResult],
    comparisons: Sequence[Comparison],
    cost: Mapping[str, float],
) -> None:
    success = wilson(sum(result.success for result in results), len(results))
    run.say(f"success {success} episodes (95 % Wilson interval)")
    run.say(f"mean of the best reward {bootstrap_mean([result.max_reward for result in results])} (95 % bootstrap)")
    for name, rates in success_by_detail(results).items():
        run.say(f"success by {name}: " + "; ".join(f"{name} {value}: {rate}" for value, rate in rates.items()))
    for comparison in comparisons:
        run.say(f"against {comparison.reference}: {comparison}")
    run.say(f"policy calls: {_pace(cost)}")
