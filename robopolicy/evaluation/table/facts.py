"""What was measured in one cell, compact enough to be committed and complete enough to compute every interval again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.evaluation.table.plan import Cell, Plan


@dataclass(frozen=True)
class VariantFacts:
    """One evaluation of a trained policy, on the environment seeds first_seed, first_seed + 1, ...

    Attributes:
        overrides: of eval.py.
        successes: a character "1" or "0" for each environment seed.
        max_rewards: the best reward of each, separated by spaces.
        evaluations_per_control_step: of one network on one row.
        milliseconds_per_control_step: for one robot, in the time that its policy calls took; measured for the first
            training seed only.
        milliseconds_of_slowest_call: the first call, which warms up, included.
        seam: how far a chunk's first action is from what the chunk before it had said of that tick, on average (root
            mean square over the normalised action); None where no chunk had one before it.
    """

    overrides: tuple[str, ...]
    first_seed: int
    successes: str
    max_rewards: str
    evaluations_per_control_step: float
    milliseconds_per_control_step: float | None = None
    milliseconds_of_slowest_call: float | None = None
    seam: float | None = None

    def values(self, measure: str) -> NDArray[np.float64]:
        """[N] success (0 or 1) or best reward of every episode."""
        found = list(self.successes) if measure == "success" else self.max_rewards.split()
        return np.array(found, dtype=np.float64)


@dataclass(frozen=True)
class CellFacts:
    """One training run and its evaluations.

    Attributes:
        overrides: of train.py; seed and steps stand beside them.
        seconds_per_step: at calibration.
        training_seconds: what the steps took, over all sittings, with validation and checkpoints between them.
        dataset: its fingerprint.
    """

    cell: Cell
    overrides: tuple[str, ...]
    steps: int
    seconds_per_step: float
    training_seconds: float
    parameters: int
    dataset: str
    commit: str
    machine: str
    variants: Mapping[str, VariantFacts]

    def json(self) -> dict[str, Any]:
        plain = asdict(self)
        return {**plain.pop("cell"), **plain}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> CellFacts:
        """Raises KeyError or TypeError for anything but what `json` gave."""
        rest = dict(data)
        cell = Cell(*(rest.pop(key) for key in ("block", "method", "seed")))
        variants = {
            name: VariantFacts(**{**variant, "overrides": tuple(variant["overrides"])})
            for name, variant in rest.pop("variants").items()
        }
        return CellFacts(cell, overrides=tuple(rest.pop("overrides")), variants=variants, **rest)

    def belongs(self, plan: Plan) -> bool:
        """Whether `plan` still asks for this cell, trained and evaluated like this."""
        if self.cell not in plan.cells():
            return False
        block = plan.blocks[self.cell.block]
        wanted = plan.train_overrides(self.cell.block, self.cell.method)
        steps = plan.steps(self.cell.block, self.cell.method, self.seconds_per_step)
        evaluated = {
            name: (list(facts.overrides), facts.first_seed, len(facts.successes))
            for name, facts in self.variants.items()
        }
        asked = {
            name: (overrides, block.first_seed, block.episodes)
            for name, overrides in plan.methods[self.cell.method].variants.items()
        }
        return (list(self.overrides), self.steps) == (wanted, steps) and evaluated == asked
