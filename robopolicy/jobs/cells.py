"""One cell of a table on disk: which commands it still needs, and what it measured once it needs none.

<runs>/<block>/<method>_<seed>/                 the training run
<runs>/<block>/<method>_<seed>/<variant>/       an evaluation on many seeds, 20 robots at a time
<runs>/<block>/<method>_<seed>/<variant>_single/    a short one with one robot, for milliseconds (first training seed)
<runs>/<block>/<method>_<seed>.log              the output of all of these commands
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from robopolicy.configuration import load, plain
from robopolicy.errors import RobopolicyError
from robopolicy.evaluation.episodes import EpisodeResult, load_results
from robopolicy.evaluation.table.facts import CellFacts, VariantFacts
from robopolicy.evaluation.table.plan import Cell, Plan, slug
from robopolicy.jobs.calibration import Pace, training_seconds
from robopolicy.jobs.processes import Command
from robopolicy.jobs.train import CONFIG_FILE
from robopolicy.training import checkpoint
from robopolicy.training.metrics import read_metrics

_SAVE_EVERY_S = 180
_LEAST_SAVE_EVERY = 100
_TUNING_SEED = 5_000
_RESULT = "result.json"
_NO_EFFECT = ("run_folder=", "workers=", "replace=")
"""Options of eval.py that do not change its result."""


class CellError(RobopolicyError):
    """A cell's folder holds something else than this cell."""


class CellFolder:
    """The folder of `cell` in the folder `runs` of the table.

    Args:
        pace: what calibration measured.
        ignore: keys of the training configuration that may differ from a run that is there, such as "training.seed".
    """

    def __init__(self, runs: Path, plan: Plan, cell: Cell, pace: Pace, ignore: Sequence[str] = ()) -> None:
        self.cell = cell
        self.path = runs / cell.block / f"{cell.method}_{cell.seed}"
        self.log = self.path.with_suffix(".log")
        self._plan, self._pace, self._ignore = plan, pace, ignore
        self._block = plan.blocks[cell.block]
        self._variants = plan.methods[cell.method].variants

    def remaining(self, workers: int = 1) -> list[Command]:
        """What must still be run, in this order; `workers` is the number of simulation processes.

        Raises CellError when the folder holds a run with another configuration.
        """
        training = self._training()
        evaluations = self._evaluations(workers)
        if training is not None:
            return [training, *evaluations.values()]
        return [command for folder, command in evaluations.items() if not self._evaluated(folder, command)]

    def facts(self) -> CellFacts:
        """What was measured, once nothing remains."""
        description = checkpoint.read_description(checkpoint.newest(self.path))
        return CellFacts(
            self.cell,
            overrides=tuple(self._overrides()),
            steps=description.step,
            seconds_per_step=self._pace.seconds_per_step,
            training_seconds=round(training_seconds(read_metrics(self.path)), 2),
            parameters=int(self._result(self.path)["parameters"]),
            dataset=str(description.dataset["fingerprint"]),
            commit=description.commit,
            machine=machine(),
            variants={name: self._variant(name) for name in self._variants},
        )

    @property
    def steps(self) -> int:
        """How many optimiser steps the budget pays for."""
        return self._plan.steps(self.cell.block, self.cell.method, self._pace.seconds_per_step)

    def _training(self) -> Command | None:
        """Starts or continues the training; None when it is done."""
        overrides = [*self._settings(), f"run_folder={self.path}"]
        if not (self.path / CONFIG_FILE).is_file():
            return Command("train", tuple(overrides))
        self._refuse_other_run(overrides)
        if (self.path / _RESULT).is_file():
            return None
        if not any((self.path / "checkpoints").glob("step_*")):
            return Command("train", tuple(overrides))
        return Command("train", (f"resume={self.path}",))

    def _overrides(self) -> list[str]:
        return self._plan.train_overrides(self.cell.block, self.cell.method)

    def _settings(self) -> list[str]:
        """What `_overrides` lacks; a checkpoint every three minutes, unless the table says otherwise."""
        save_every = max(_LEAST_SAVE_EVERY, round(_SAVE_EVERY_S / self._pace.seconds_per_step))
        seed_and_steps = [f"training.seed={self.cell.seed}", f"training.steps={self.steps}"]
        return [f"training.save_every={save_every}", *self._overrides(), *seed_and_steps]

    def _refuse_other_run(self, overrides: Sequence[str]) -> None:
        there = _flat(yaml.safe_load((self.path / CONFIG_FILE).read_text()))
        wanted = _composed(tuple(overrides))
        ignored = ("run_folder", "training.save_every", *self._ignore)
        changed = sorted(
            key for key in there.keys() | wanted.keys() if there.get(key) != wanted.get(key) and key not in ignored
        )
        if changed:
            key = changed[0]
            raise CellError(
                f"{self.path} holds a run with {key}={there.get(key)}, the table asks for {wanted.get(key)} "
                f"(differences in all: {len(changed)}): remove it to train again, or add "
                f"ignore=[{','.join(changed[:3])}] to keep it"
            )

    def _evaluations(self, workers: int) -> dict[Path, Command]:
        commands = {}
        for name, overrides in self._variants.items():
            many = [f"episodes={self._block.episodes}", f"seed={self._block.first_seed}", f"workers={workers}"]
            single = [f"episodes={self._plan.single_episodes}", f"seed={_TUNING_SEED}", "slots=1", "workers=1"]
            folders = [(self.path / slug(name), many)]
            if self._times:
                folders.append((self._single(name), single))
            for folder, options in folders:
                given = [f"run={self.path}", f"run_folder={folder}", "videos=0", "traces=0", *options, *overrides]
                commands[folder] = Command("eval", (*given, "replace=true"))
        return commands

    @property
    def _times(self) -> bool:
        """Milliseconds are measured once a method: another training seed gives the same network other weights."""
        return self.cell.seed == self._block.methods[self.cell.method].seeds[0]

    def _single(self, variant: str) -> Path:
        return self.path / f"{slug(variant)}_single"

    def _evaluated(self, folder: Path, command: Command) -> bool:
        """Whether `folder` has the result of this command on the trained steps."""
        if not (folder / _RESULT).is_file():
            return False
        result = self._result(folder)
        same = _effective(shlex.split(result["command"])[2:]) == _effective(command.arguments)
        trained = self._result(self.path)["steps"]
        return same and str(result["settings"]["checkpoint"]).startswith(f"step {trained},")

    def _variant(self, name: str) -> VariantFacts:
        episodes = load_results(self.path / slug(name) / _RESULT)
        cost = self._result(self.path / slug(name))["cost"]
        timed = self._milliseconds(self._result(self._single(name))["cost"]) if self._times else {}
        return VariantFacts(
            overrides=tuple(self._variants[name]),
            first_seed=self._block.first_seed,
            successes="".join("1" if episode.success else "0" for episode in episodes),
            max_rewards=" ".join(f"{episode.max_reward:.4g}" for episode in episodes),
            evaluations_per_control_step=round(cost["evaluations_per_control_step"], 4),
            seam=_mean_seam(episodes),
            **timed,
        )

    @staticmethod
    def _milliseconds(cost: Mapping[str, float]) -> dict[str, float]:
        seconds = cost["milliseconds_per_call"] * cost["policy_calls"]
        return {
            "milliseconds_per_control_step": round(seconds / cost["control_steps"], 4),
            "milliseconds_of_slowest_call": round(cost["milliseconds_of_slowest_call"], 2),
        }

    @staticmethod
    def _result(folder: Path) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((folder / _RESULT).read_text())
        return result


def _mean_seam(episodes: Sequence[EpisodeResult]) -> float | None:
    """Over all chunks that had one before them."""
    seams = [seam for episode in episodes for seam in episode.info.get("seam", ())]
    return round(statistics.fmean(seams), 5) if seams else None


def machine() -> str:
    """The processor's name where the system tells it, and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {cores} cores"


@lru_cache(maxsize=512)
def _composed(overrides: tuple[str, ...]) -> Mapping[str, Any]:
    """The flat training configuration, as it comes back from a YAML file."""
    return _flat(yaml.safe_load(yaml.safe_dump(plain(load("train", overrides)))))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix.rstrip("."): value}
    return {name: entry for key in value for name, entry in _flat(value[key], f"{prefix}{key}.").items()}


def _effective(arguments: Sequence[str]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith(_NO_EFFECT)]
