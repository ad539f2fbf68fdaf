"""How long an optimiser step takes on this machine, so that a budget in minutes becomes a number of steps.

Training itself must not look at a clock: its number of steps decides the learning rate. So a short run measures the
median pace under the conditions of the real one (one thread, as many such processes side by side), the steps that the
budget pays for follow, and a file keeps the pace for all training seeds and all later sittings. The budget is time of
one core: where other processes take a share of it, the pace is multiplied by the share that was left.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from robopolicy.errors import ConfigError
from robopolicy.evaluation.table.plan import Plan
from robopolicy.files import write_json
from robopolicy.jobs.processes import Command, Processes
from robopolicy.training.metrics import read_metrics

_LOG_EVERY = 10
_WARM_UP = 0.2
ENOUGH = 0.5
"""The least `core_share` at which a pace says something about this machine rather than about what else it did."""


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        seconds_per_step: of a whole core.
        overrides: of train.py.
        workers: trainings side by side.
        core_share: of a core that each of them got, import and all; about 1 on a machine that does nothing else.
    """

    seconds_per_step: float
    overrides: list[str]
    workers: int
    core_share: float


class Calibrations:
    """The paces of a table, in the file `path`, `<runs>/calibration.json`."""

    def __init__(self, runs: Path, plan: Plan) -> None:
        self.path = runs / "calibration.json"
        self._runs, self._plan = runs, plan
        self._paces = _read(self.path)

    def pace(self, block: str, method: str) -> Pace | None:
        """None while it is unknown, or was measured with other overrides."""
        pace = self._paces.get(f"{block}/{method}")
        return pace if pace and pace.overrides == self._plan.train_overrides(block, method) else None

    def measure(self, block: str, method: str, processes: Processes, workers: int) -> Pace:
        """Trains `workers` times at once for some steps and keeps the median pace. Raises ScriptError."""
        overrides = self._plan.train_overrides(block, method)
        folders = [self._runs / block / f"{method}_calibration_{number}" for number in range(workers)]
        began, used_before = time.monotonic(), _seconds_used()
        with ThreadPoolExecutor(workers) as pool:
            runs = [pool.submit(self._short_run, folder, overrides, processes) for folder in folders]
            paces = [seconds for run in runs for seconds in run.result()]
        core_share = (_seconds_used() - used_before) / (time.monotonic() - began) / workers
        pace = Pace(statistics.median(paces) * min(1.0, core_share), overrides, workers, round(core_share, 3))
        self._paces[f"{block}/{method}"] = pace
        write_json(self.path, {name: asdict(pace) for name, pace in self._paces.items()})
        return pace

    def _short_run(self, folder: Path, overrides: Sequence[str], processes: Processes) -> list[float]:
        """Seconds per step in every ten steps after the warm-up."""
        shutil.rmtree(folder, ignore_errors=True)
        steps = self._plan.calibration_steps
        logged = f"training.log_every={min(_LOG_EVERY, steps)}"
        options = (f"training.steps={steps}", logged, "held_out=0.0", f"run_folder={folder}")
        processes.run(Command("train", (*overrides, *options)), folder.with_suffix(".log"))
        paces = [1 / record["steps_per_second"] for record in read_metrics(folder) if "steps_per_second" in record]
        shutil.rmtree(folder)
        return paces[int(_WARM_UP * len(paces)) :]


def training_seconds(records: Sequence[Mapping[str, float]]) -> float:
    """How long the steps of a run took, whatever number of sittings they were taken in.

    Args:
        records: a run's metrics; those with `steps_per_second` stand for the steps since the one before.
    """
    seconds, before = 0.0, 0.0
    for record in records:
        if "steps_per_second" in record:
            seconds += (record["step"] - before) / record["steps_per_second"]
            before = record["step"]
    return seconds


def _seconds_used() -> float:
    """Processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _read(path: Path) -> dict[str, Pace]:
    if not path.is_file():
        return {}
    try:
        return {name: Pace(**pace) for name, pace in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): remove it, and the paces are measured again") from error
