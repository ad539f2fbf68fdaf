"""What a table is to hold: `configs/table/<name>.yaml`, read and checked.

A block is one task with a training budget; a cell is one (block, method, training seed). The classes are the schema of
the file: every key that is not here is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from robopolicy.errors import ConfigError

MEASURES = ("success", "max_reward")


@dataclass
class Method:
    """Attributes:
    train: Hydra overrides of train.py.
    variants: how it is evaluated: name to overrides of eval.py.
    """

    train: list[str]
    variants: dict[str, list[str]]


@dataclass
class Entry:
    """A method in one block.

    Attributes:
        seeds: of training.
        train: more overrides of train.py, after those of block and method.
        max_steps: optimiser steps at most, for a method that the whole budget would overfit.
    """

    seeds: list[int]
    train: list[str] = field(default_factory=list)
    max_steps: int | None = None


@dataclass
class Block:
    """One task.

    Attributes:
        minutes: the training budget of every cell, of one core.
        episodes, first_seed: environment seeds of every evaluation.
        methods: which of the table's methods, in the order of the rows.
        task: the name of its YAML file; the block's own name where not given.
        data: the dataset; `data/<task>` where not given.
        train: overrides of train.py for every method.
        measure: what the task is about, "success" or "max_reward".
    """

    minutes: float
    episodes: int
    methods: dict[str, Entry]
    first_seed: int = 10_000
    task: str | None = None
    data: str | None = None
    train: list[str] = field(default_factory=list)
    measure: str = "success"


@dataclass
class Claim:
    """A comparison that was named before anything was measured: is the candidate not worse than the reference?

    Candidate and reference are written "method/variant"; `measure` is the block's where not given.
    """

    block: str
    candidate: str
    reference: str
    measure: str | None = None


@dataclass
class Larger:
    """A row that this table's machine does not measure; it is filled when `evaluation` (a folder) has a result."""

    block: str
    what: str
    commands: list[str]
    evaluation: str


@dataclass(frozen=True)
class Cell:
    """One training run and its evaluations."""

    block: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.block} {self.method} seed {self.seed}"


@dataclass
class Plan:
    """The whole file.

    Attributes:
        reserve: share of the budget that is left for validation and for a machine busier than at calibration.
        calibration_steps: optimiser steps of the run that measures the seconds a step takes.
        single_episodes: episodes of the evaluation that measures milliseconds, one robot at a time.
        cells_of: another table, whose trained cells this one evaluates in its own ways; None: it has its own.
        series: rows ("method/variant") by the name of a curve. With curves the table is about what an evaluation buys:
            success is drawn against evaluations per control step, and rows are not compared with each other but for
            the claims.
    """

    title: str
    methods: dict[str, Method]
    blocks: dict[str, Block]
    claims: list[Claim] = field(default_factory=list)
    larger: list[Larger] = field(default_factory=list)
    reserve: float = 0.05
    calibration_steps: int = 200
    single_episodes: int = 3
    cells_of: str | None = None
    series: dict[str, list[str]] = field(default_factory=dict)

    def cells(self) -> Iterator[Cell]:
        """Block by block, and in each the first training seed of every method before the second."""
        for name, block in self.blocks.items():
            seeds = sorted({seed for entry in block.methods.values() for seed in entry.seeds})
            for seed in seeds:
                yield from (Cell(name, method, seed) for method, entry in block.methods.items() if seed in entry.seeds)

    def train_overrides(self, block: str, method: str) -> list[str]:
        """For train.py, all but seed, steps and folders."""
        there = self.blocks[block]
        own = [*there.train, *self.methods[method].train, *there.methods[method].train]
        return [f"task={self.task(block)}", f"data={self.data(block)}", *own]

    def steps(self, block: str, method: str, seconds_per_step: float) -> int:
        """How many optimiser steps the budget pays for, capped by `max_steps`."""
        there = self.blocks[block]
        affordable = max(1, math.floor(60 * there.minutes * (1 - self.reserve) / seconds_per_step))
        return min(affordable, there.methods[method].max_steps or affordable)

    def task(self, block: str) -> str:
        return self.blocks[block].task or block

    def data(self, block: str) -> str:
        return self.blocks[block].data or f"data/{self.task(block)}"


def read_plan(path: Path) -> Plan:
    """Raises ConfigError in one sentence when the file is missing, malformed, or does not fit together."""
    try:
        loaded = OmegaConf.create(yaml.safe_load(path.read_text()))
        plan = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Plan), loaded))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no table {path}: {_neighbours(path)}") from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    assert isinstance(plan, Plan)
    for problem in _problems(plan):
        raise ConfigError(f"{path}: {problem}")
    return plan


def slug(variant: str) -> str:
    """A variant's name as that of a folder."""
    return re.sub(r"[^a-z0-9]+", "_", variant.lower()).strip("_")


def split_row(row: str) -> tuple[str, str]:
    """ "flow/euler 4" as method and variant."""
    method, _, variant = row.partition("/")
    return method, variant


def _neighbours(path: Path) -> str:
    names = sorted(other.stem for other in path.parent.glob("*.yaml"))
    return f"{path.parent} has {', '.join(names) or 'none'}"


def _problems(plan: Plan) -> Iterator[str]:
    for name, method in plan.methods.items():
        if not re.fullmatch(r"[\w -]+", name):
            yield f"methods has the name '{name}', expected letters, digits, spaces, - and _"
        slugs = [slug(variant) for variant in method.variants]
        if not slugs or not all(slugs) or len(set(slugs)) < len(slugs):
            yield f"methods.{name}.variants has the names {list(method.variants)}, expected some that differ"
    for name, block in plan.blocks.items():
        if unknown := sorted(set(block.methods) - set(plan.methods)):
            yield f"blocks.{name}.methods has {unknown}, which methods does not, only {sorted(plan.methods)}"
        yield from _measure_problem(f"blocks.{name}", block.measure)
        if block.minutes <= 0 or block.episodes < 1:
            yield f"blocks.{name} has minutes {block.minutes} and episodes {block.episodes}, expected more than none"
    for claim in plan.claims:
        yield from _claim_problems(plan, claim)
    everywhere = {row for block in plan.blocks.values() for row in _rows(plan, block)}
    for name, rows in plan.series.items():
        if unknown := sorted(set(rows) - everywhere):
            yield f"series.{name} has {unknown}, which are rows of no block"
    for larger in plan.larger:
        if larger.block not in plan.blocks:
            yield f"larger has the block '{larger.block}', there are {sorted(plan.blocks)}"


def _claim_problems(plan: Plan, claim: Claim) -> Iterator[str]:
    block = plan.blocks.get(claim.block)
    rows = _rows(plan, block) if block else []
    for row in (claim.candidate, claim.reference):
        if row not in rows:
            yield f"claims: block '{claim.block}' has no row '{row}', only {rows}"
    yield from _measure_problem("claims", claim.measure or MEASURES[0])


def _rows(plan: Plan, block: Block) -> Sequence[str]:
    return [f"{method}/{variant}" for method in block.methods for variant in plan.methods[method].variants]


def _measure_problem(where: str, measure: str) -> Iterator[str]:
    if measure not in MEASURES:
        yield f"{where}.measure is '{measure}', expected one of {', '.join(MEASURES)}"
