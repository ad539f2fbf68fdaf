"""What `scripts/compose.py` does: trained policies in, the best composition of them out, and what it is worth.

Weights are chosen on tuning seeds. The winner and every policy alone then run the report seeds, and the claim rests on
the paired difference to the policy that was the best one alone on the tuning seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from robopolicy.benchmarks.networks import check_device
from robopolicy.command import Run
from robopolicy.configuration import build, plain, whole
from robopolicy.dataset.dataset import Dataset
from robopolicy.errors import ConfigError
from robopolicy.evaluation.comparison import Comparison, Reference, compare_all
from robopolicy.evaluation.episodes import results_json
from robopolicy.evaluation.statistics import wilson
from robopolicy.files import write_text
from robopolicy.inference.compose import gradient_size
from robopolicy.inference.superposition import Superposition
from robopolicy.inference.weight_search import Found, Weights, is_parent, most_episodes, search, simplex_grid
from robopolicy.jobs.candidates import Candidates, Parent, loaded_parents
from robopolicy.jobs.seeds import RANGES, kinds_of
from robopolicy.jobs.train import CONFIG_FILE, windows_of
from robopolicy.policies.energy import EnergyPolicy

_WINDOWS = 256
"""Demonstrated chunks at which the gradients of energies are measured."""


def compose_runs(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Searches, reports and saves, and returns what `result.json` says."""
    torch.set_num_threads(1)  # beside the simulation workers more threads are slower, not faster
    check_device(config.device)
    folders = [Path(str(path)) for path in _listed(config, "runs")]
    if len(folders) < 2:
        raise ConfigError(f"runs={config.runs} is one policy, expected at least two: runs=[a,b]")
    divisions = whole(config, "divisions", least=1) or (10 if len(folders) == 2 else 4)
    parents = loaded_parents(folders)
    task = _task(config, folders[0])
    sampler = None if config.sampler is None else plain(config)["sampler"]
    candidates = Candidates(parents, task, sampler, _scales(config, parents, folders), config, run.folder)
    best, found = _given_weights(config, len(parents)), None
    candidates.policy(best or _equal(len(parents)))  # what cannot be composed is the first thing to be said
    candidates.claim_folder()
    if int(config.report_episodes):
        _say_differences(config, run, parents)
    if best is None:
        found = _search(config, run, candidates, divisions)
        best = found.best
    folder = candidates.save(best)
    write_text(run.folder / CONFIG_FILE, yaml.safe_dump({"task": task}, sort_keys=False))
    run.say(f"composed policy: {candidates.described(best)}, saved in {folder}")
    names = [parent.name for parent in parents]
    report = _report(config, run, candidates, best, found) if int(config.report_episodes) else {}
    return {
        "settings": candidates.settings | {"task": task["name"], "run": str(run.folder)},
        "policies": names,
        "weights": list(best),
        "search": None if found is None else _search_json(found),
        **report,
    }


def _say_differences(config: DictConfig, run: Run, parents: Sequence[Parent]) -> None:
    """What else than the composition could make a difference to a parent alone."""
    executions = {parent.name: parent.policy.horizon.execution for parent in parents}
    if config.execution is None and len(set(executions.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in executions.items())
        run.say(f"note: actions executed between calls differ ({told}): add execution= to compare at equal planning")
    samplers = {parent.name: str(getattr(parent.policy, "sampler", "none")) for parent in parents}
    if config.sampler is None and len(set(samplers.values())) > 1:
        told = "; ".join(f"{name}: {sampler}" for name, sampler in samplers.items())
        run.say(f"note: each policy alone has its own sampler ({told}): add sampler= to compare at equal ones")


def _search(config: DictConfig, run: Run, candidates: Candidates, divisions: int) -> Found:
    """The weights that do best on the tuning seeds."""
    grid = simplex_grid(len(candidates.parents), divisions)
    seeds = _seeds(config, run, "tuning", config.tuning_seed, config.tuning_episodes)
    first = int(config.first_episodes)
    with run.progress("searching", most_episodes(len(grid), len(seeds), first)) as advance:

        def scores(weights: Weights, some: Sequence[int]) -> list[tuple[float, float]]:
            results = candidates.evaluate(weights, some, lambda: advance(note=candidates.described(weights)))
            return [(float(result.success), result.max_reward) for result in results]

        found = search(grid, scores, seeds, first)
    for tried in found.rounds:
        ranking = ", ".join(
            f"{candidates.described(weights)} {successes:g}"
            for weights, successes in zip(tried.candidates, tried.successes, strict=True)
        )
        run.say(f"successes on {tried.seeds} tuning seeds: {ranking}")
    return found


def _report(config: DictConfig, run: Run, candidates: Candidates, best: Weights, found: Found | None) -> dict[str, Any]:
    """The winner and every policy alone on the report seeds, and what may be claimed."""
    seeds = _seeds(config, run, "result", config.seed, config.report_episodes)
    alone = candidates.alone
    with run.progress("reporting", (len(alone) + (best not in alone)) * len(seeds)) as advance:
        results = {
            weights: candidates.evaluate(weights, seeds, lambda: advance()) for weights in dict.fromkeys([best, *alone])
        }
    for weights, episodes in results.items():
        rate = wilson(sum(result.success for result in episodes), len(episodes))
        run.say(f"{candidates.described(weights)}: success {rate} episodes (95 % Wilson interval)")
    task = str(candidates.task["name"])
    references = [
        Reference(Path(parent.name), task, results[weights])
        for parent, weights in zip(candidates.parents, alone, strict=True)
    ]
    comparisons = compare_all(results[best], references)
    if not is_parent(best):
        for comparison in comparisons:
            run.say(f"against {comparison.reference}: {comparison}")
    rates = [comparison.success_b.estimate for comparison in comparisons]
    yardstick = alone.index(found.parent) if found else rates.index(max(rates))
    verdict = _verdict(comparisons[yardstick], best, searched=found is not None)
    run.say(verdict)
    return {
        **results_json(results[best]),
        "comparisons": [comparison.json() for comparison in comparisons],
        "compared_with": candidates.parents[yardstick].name,
        "gain": not is_parent(best) and comparisons[yardstick].success.low > 0.0,
        "verdict": verdict,
    }


def _verdict(comparison: Comparison, best: Weights, *, searched: bool) -> str:
    """What may be claimed, in one sentence."""
    if is_parent(best):
        return "no gain: all the weight is on one policy" + (", which alone did best on the tuning seeds" * searched)
    which = "the best policy alone on the tuning seeds" if searched else "the best policy alone on these seeds"
    found = f"{comparison.success} pairs against {comparison.reference}, {which}"
    if comparison.success.low > 0.0:
        return f"gain: success {found}"
    if comparison.success.high < 0.0:
        return f"no gain, a loss: success {found}"
    return f"no gain shown: the interval of the difference includes 0, {found}"


def _search_json(found: Found) -> dict[str, Any]:
    return {
        "best_parent": list(found.parent),
        "rounds": [
            {"seeds": each.seeds, "candidates": [list(w) for w in each.candidates], "successes": list(each.successes)}
            for each in found.rounds
        ],
    }


def _seeds(config: DictConfig, run: Run, kind: str, first: int, count: int) -> list[int]:
    """Raises ConfigError where there are none; says so where they are not of the kind that they should be."""
    if count < 1:
        raise ConfigError(f"{kind} episodes: {count}, expected at least 1")
    seeds = list(range(int(first), int(first) + int(count)))
    if (kinds := kinds_of(seeds)) != [kind]:
        run.say(
            f"warning: seeds {seeds[0]} to {seeds[-1]} are {' and '.join(kinds)} seeds, expected {kind} seeds, "
            f"{RANGES[kind].start} to {RANGES[kind].stop - 1}"
        )
    return seeds


def _given_weights(config: DictConfig, count: int) -> Weights | None:
    """Those of `weights`; equal ones for AND and OR, which make their own; None: they are to be searched."""
    given = plain(config)["weights"]
    if given is None:
        own = config.sampler is not None and isinstance(build(config.sampler), Superposition)
        return _equal(count) if own else None
    if not isinstance(given, list) or not all(isinstance(w, int | float) for w in given) or len(given) != count:
        raise ConfigError(f"weights={given}, expected a list of {count} numbers, one for each of runs")
    return tuple(float(weight) for weight in given)


def _equal(count: int) -> Weights:
    return (1.0 / count,) * count


def _listed(config: DictConfig, key: str) -> list[Any]:
    values = plain(config)[key]
    return values if isinstance(values, list) else [values]


def _task(config: DictConfig, first: Path) -> dict[str, Any]:
    """The task that was asked for, else the one that the first run was trained on."""
    task: dict[str, Any] = plain(config.task) if config.task is not None else plain(_trained(first).task)
    return task


def _scales(config: DictConfig, parents: Sequence[Parent], folders: Sequence[Path]) -> list[float] | None:
    """The size of each energy's gradient at the same demonstrations; None for policies without energies."""
    if not all(isinstance(parent.policy, EnergyPolicy) for parent in parents):
        return None
    dataset = Dataset.open(Path(config.data or _trained(folders[0]).data))
    scales = []
    for parent, folder in zip(parents, folders, strict=True):
        windows = windows_of(dataset.episodes, _trained(folder))
        batch = windows.batch(np.linspace(0, len(windows) - 1, min(_WINDOWS, len(windows))).astype(int))
        observation = {name: torch.as_tensor(value) for name, value in batch.observations.items()}
        assert isinstance(parent.policy, EnergyPolicy)
        scales.append(gradient_size(parent.policy, observation, torch.as_tensor(batch.actions)))
    return scales


def _trained(folder: Path) -> DictConfig:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{folder} has no {CONFIG_FILE}, which names its task and data: expected what train.py wrote")
    settings: dict[str, Any] = yaml.safe_load(path.read_text())
    return OmegaConf.create(settings)
