"""What `scripts/table.py` does: fills a table of methods x tasks x training seeds, in as many sittings as it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from robopolicy.command import Run
from robopolicy.configuration import CONFIG_FOLDER, plain
from robopolicy.errors import ConfigError, RobopolicyError
from robopolicy.evaluation.statistics import wilson
from robopolicy.evaluation.table.document import document, read_facts
from robopolicy.evaluation.table.facts import CellFacts
from robopolicy.evaluation.table.markdown import markdown
from robopolicy.evaluation.table.picture import picture, svg
from robopolicy.evaluation.table.plan import Cell, Plan, read_plan
from robopolicy.files import write_bytes, write_json, write_text
from robopolicy.jobs.processes import Processes, interruptible, locked
from robopolicy.jobs.sitting import Options, Outcome, Sitting


class TableError(RobopolicyError):
    """Some cells of a table failed."""


def table(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Works on what is missing and writes the table after every cell; returns what `result.json` says.

    Raises TableError at the end when a cell failed.
    """
    path = Path(config.file) if config.file is not None else CONFIG_FOLDER / "table" / f"{config.name}.yaml"
    plan = read_plan(path)
    runs = Path(config.runs) / (plan.cells_of or config.name)
    chosen = _chosen(plan, plain(config))
    options = _options(config)
    busy = f"{runs} is being worked on: another sitting, or a cell that one had started, has not ended yet"
    with locked(runs / "lock", busy) as lock:
        processes = Processes(lock)
        with interruptible(processes):
            sitting = Sitting(plan, runs, processes, options, run.say)
            page = _Page(plan, config.name, Path(config.out))
            outcomes = _work(sitting, chosen, page, run)
    return _summary(chosen, outcomes, page, run)


def _work(sitting: Sitting, chosen: Sequence[Cell], page: _Page, run: Run) -> list[Outcome]:
    """Every cell that was finished before or was tried now."""
    outcomes = [outcome for cell in page.plan.cells() if (outcome := _before(sitting, cell)) is not None]
    page.add(outcomes)
    outcomes = [outcome for outcome in outcomes if outcome.cell in chosen]
    for outcome in outcomes:
        if outcome.problem:
            run.say(_line(outcome))
    known = {outcome.cell for outcome in outcomes}
    left = [cell for cell in chosen if cell not in known]
    minutes = sum(page.plan.blocks[cell.block].minutes for cell in left)
    run.say(f"{len(chosen)} cells, {len(left)} of them left: about {minutes:.0f} minutes of training, and evaluations")
    with run.progress("cells", len(chosen)) as advance:
        advance(len(chosen) - len(left))
        for number, outcome in enumerate(sitting.work(left), len(chosen) - len(left) + 1):
            outcomes.append(outcome)
            page.add([outcome])
            run.say(f"[{number}/{len(chosen)}] {_line(outcome)}")
            advance(note=str(outcome.cell))
    return outcomes


def _before(sitting: Sitting, cell: Cell) -> Outcome | None:
    """A cell that is finished, or that cannot be worked on; None for one that is to be done."""
    try:
        facts = sitting.finished(cell)
    except RobopolicyError as error:
        return Outcome(cell, problem=str(error))
    return Outcome(cell, facts) if facts else None


class _Page:
    """The published table: what earlier sittings wrote, even on another machine, and what this one adds."""

    def __init__(self, plan: Plan, name: str, out: Path) -> None:
        self.plan, self._name = plan, name
        self.path = out / f"{name}.md"
        former = out / f"{name}.json"
        self._facts: dict[Cell, CellFacts] = read_facts(_read(former), plan) if former.is_file() else {}

    def add(self, outcomes: Sequence[Outcome]) -> None:
        self._facts |= {outcome.cell: outcome.facts for outcome in outcomes if outcome.facts is not None}
        made = document(self._name, self.plan, self._facts)
        write_json(self.path.with_suffix(".json"), made)
        write_text(self.path, markdown(made))
        if (figure := picture(made)) is not None:
            write_bytes(self.path.with_suffix(".svg"), svg(figure))


def _read(path: Path) -> dict[str, Any]:
    try:
        published: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}): remove it, cells that were run are read again") from error
    return published


def _line(outcome: Outcome) -> str:
    if outcome.facts is None:
        return f"{outcome.cell} {'left empty' if outcome.empty else 'failed'}: {outcome.problem}"
    facts = outcome.facts
    rates = [f"{name} {_rate(variant.successes)}" for name, variant in facts.variants.items()]
    return f"{outcome.cell}: {facts.steps} steps in {facts.training_seconds:.0f} s; success {'; '.join(rates)}"


def _rate(successes: str) -> str:
    return str(wilson(successes.count("1"), len(successes)))


def _chosen(plan: Plan, config: Mapping[str, Any]) -> list[Cell]:
    """What `only`, `methods` and `seeds` leave. Raises ConfigError for a name that the table does not have."""
    cells = list(plan.cells())
    for option, key in (("only", "block"), ("methods", "method"), ("seeds", "seed")):
        wanted = config[option]
        if wanted is None:
            continue
        known = sorted({getattr(cell, key) for cell in plan.cells()})
        if not isinstance(wanted, list) or set(wanted) - set(known):
            raise ConfigError(f"{option}={wanted} is no choice from this table, expected a list of {known}")
        cells = [cell for cell in cells if getattr(cell, key) in wanted]
    return cells


def _options(config: DictConfig) -> Options:
    if not int(config.workers) >= 1:
        raise ConfigError(f"workers={config.workers} runs nothing, expected at least 1")
    if config.minutes is not None and not isinstance(config.minutes, int | float):
        raise ConfigError(f"minutes={config.minutes} is no number of minutes")
    ignore = plain(config)["ignore"]
    if not isinstance(ignore, list):
        raise ConfigError(f"ignore={ignore} is no list, expected keys such as [training.save_every]")
    return Options(int(config.workers), config.minutes, config.source, [str(key) for key in ignore])


def _summary(chosen: Sequence[Cell], outcomes: Sequence[Outcome], page: _Page, run: Run) -> Mapping[str, Any]:
    finished = [str(outcome.cell) for outcome in outcomes if outcome.facts is not None]
    failed = [str(outcome.cell) for outcome in outcomes if outcome.facts is None and not outcome.empty]
    run.say(f"{len(finished)} of {len(chosen)} cells are finished; the table: {page.path}")
    if failed:
        raise TableError(f"{len(failed)} of {len(chosen)} cells failed: {', '.join(failed)}; the reasons stand above")
    left = [str(cell) for cell in chosen if str(cell) not in finished]
    return {"finished": finished, "left": left, "table": str(page.path)}
