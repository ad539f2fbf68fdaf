"""One sitting at a table: finds what is missing, makes data, measures paces, runs cells until done or out of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from robopolicy.configuration import load
from robopolicy.dataset.dataset import DATASET_FILE, Dataset
from robopolicy.errors import RobopolicyError
from robopolicy.evaluation.table.facts import CellFacts
from robopolicy.evaluation.table.plan import Cell, Plan
from robopolicy.jobs.calibration import ENOUGH, Calibrations
from robopolicy.jobs.cells import CellFolder
from robopolicy.jobs.processes import Command, Processes, StoppedError

_DEMONSTRATIONS = "task.demonstrations."
"""Overrides of a block's trainings that its collection must know too."""


class NoSourceError(RobopolicyError):
    """A dataset can only be imported, and nobody said from where."""


@dataclass(frozen=True)
class Options:
    """How to work.

    Attributes:
        workers: cells that run side by side, one thread each.
        minutes: after these no new cell is started; None: no limit.
        source: what a task without an expert gets its demonstrations from.
        ignore: keys of the training configuration in which a finished cell may differ.
    """

    workers: int = 1
    minutes: float | None = None
    source: str | None = None
    ignore: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """A cell that was measured, or why it was not; `empty` when it could not be, for want of data."""

    cell: Cell
    facts: CellFacts | None = None
    problem: str = ""
    empty: bool = False


class Sitting:
    """Works on the cells of `plan` in the folder `runs`; `say` hears of data and paces."""

    def __init__(
        self, plan: Plan, runs: Path, processes: Processes, options: Options, say: Callable[[str], None]
    ) -> None:
        self._plan, self._runs, self._processes, self._options, self._say = plan, runs, processes, options, say
        self._calibrations = Calibrations(runs, plan)
        self._began = time.monotonic()

    def finished(self, cell: Cell) -> CellFacts | None:
        """What was measured in a cell that needs nothing more. Raises RobopolicyError for a folder of another run."""
        folder = self._folder(cell)
        return folder.facts() if folder and not folder.remaining() else None

    def work(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Runs unfinished cells, block by block, and yields each as it is done; those not started are not yielded."""
        for block in self._plan.blocks:
            there = [cell for cell in cells if cell.block == block]
            if not there or self._late():
                continue
            problem, lacking = self._without_data(block)
            if problem:
                yield from (Outcome(cell, problem=problem, empty=lacking) for cell in there)
                continue
            ready: list[Cell] = []
            for method in dict.fromkeys(cell.method for cell in there):
                of_method = [cell for cell in there if cell.method == method]
                if problem := self._without_pace(block, method):
                    yield from (Outcome(cell, problem=problem) for cell in of_method)
                else:
                    ready += of_method
            yield from self._run([cell for cell in there if cell in ready])

    def _folder(self, cell: Cell) -> CellFolder | None:
        """None while the pace is unknown."""
        pace = self._calibrations.pace(cell.block, cell.method)
        return CellFolder(self._runs, self._plan, cell, pace, self._options.ignore) if pace else None

    def _late(self) -> bool:
        minutes = self._options.minutes
        return minutes is not None and time.monotonic() - self._began >= 60 * minutes

    def _without_data(self, block: str) -> tuple[str, bool]:
        """Collects or imports the block's dataset if need be; the reason where that fails, and whether it is that
        nobody said what to import."""
        try:
            command = self._data_command(block)
            if command is not None:
                self._say(f"{block}: {command}")
                folder = self._runs / block / "data"
                arguments = (*command.arguments, f"run_folder={folder}")
                self._processes.run(Command(command.script, arguments), folder.with_suffix(".log"))
        except StoppedError:
            raise
        except RobopolicyError as error:
            return str(error), isinstance(error, NoSourceError)
        return "", False

    def _data_command(self, block: str) -> Command | None:
        """None where the dataset is there and complete. Raises NoSourceError."""
        task, data = self._plan.task(block), self._plan.data(block)
        chosen = [f"task={task}", *(o for o in self._plan.blocks[block].train if o.startswith(_DEMONSTRATIONS))]
        config = load("collect", chosen)
        there = len(Dataset.open(data).episodes) if (Path(data) / DATASET_FILE).is_file() else 0
        if there >= int(config.episodes) or (there and config.task.expert is None):
            return None
        if config.task.expert is not None:
            return Command("collect", (*chosen, f"out={data}", f"workers={self._simulation_workers()}"))
        if self._options.source is None:
            what = f"{data} is not there and task '{task}' has no expert"
            raise NoSourceError(f"{what}: add source=<its demonstrations> or import them")
        options = (f"task={task}", f"data={data}", f"source={self._options.source}")
        return Command("data", ("action=import", *options))

    def _without_pace(self, block: str, method: str) -> str:
        """Measures the pace if it is unknown; the reason where that fails."""
        if self._calibrations.pace(block, method):
            return ""
        try:
            pace = self._calibrations.measure(block, method, self._processes, self._options.workers)
        except StoppedError:
            raise
        except RobopolicyError as error:
            return str(error)
        steps = self._plan.steps(block, method, pace.seconds_per_step)
        minutes = self._plan.blocks[block].minutes
        self._say(
            f"{block} {method}: {1e3 * pace.seconds_per_step:.1f} ms a step, {steps} steps in {minutes:g} minutes"
        )
        if pace.core_share < ENOUGH:
            self._say(
                f"warning: it had {pace.core_share:.0%} of a core, so something else is running and the pace is too "
                f"slow; on a quiet machine, remove {self._calibrations.path} to measure again"
            )
        return ""

    def _run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        waiting = iter(cells)
        running: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(self._options.workers) as pool:
            while True:
                while len(running) < self._options.workers and not self._late():
                    cell = next(waiting, None)
                    if cell is None:
                        break
                    running.add(pool.submit(self._run_cell, cell, *self._prepared(cell)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)

    def _prepared(self, cell: Cell) -> tuple[CellFolder | None, list[Command], str]:
        """What a cell still needs, found in the main thread: Hydra does not work in several at once."""
        try:
            folder = self._folder(cell)
            return folder, folder.remaining(self._simulation_workers()) if folder else [], ""
        except RobopolicyError as error:
            return None, [], str(error)

    def _run_cell(self, cell: Cell, folder: CellFolder | None, commands: Sequence[Command], problem: str) -> Outcome:
        if folder is None:
            return Outcome(cell, problem=problem)
        try:
            for command in commands:
                self._processes.run(command, folder.log)
            return Outcome(cell, folder.facts())
        except StoppedError:
            raise
        except RobopolicyError as error:
            return Outcome(cell, problem=str(error))

    def _simulation_workers(self) -> int:
        """Two for a cell on its own; else the other core belongs to another cell."""
        return 2 if self._options.workers == 1 else 1
