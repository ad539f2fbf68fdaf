"""From measured cells to the table's JSON: every cell, the rows pooled over training seeds, and what may be claimed."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy.errors import ConfigError
from robopolicy.evaluation.comparison import INFORMATIVE
from robopolicy.evaluation.episodes import load_results
from robopolicy.evaluation.statistics import MARGINS, Array, bootstrap_mean, holm, not_worse, wilson
from robopolicy.evaluation.table.differences import (
    crossed_difference,
    crossed_mean,
    p_of_equal_success,
    p_of_less,
    p_of_none,
)
from robopolicy.evaluation.table.facts import CellFacts, VariantFacts
from robopolicy.evaluation.table.plan import Block, Cell, Claim, Larger, Plan, split_row

LEVEL = 0.05
Facts = Mapping[Cell, CellFacts]


def document(name: str, plan: Plan, facts: Facts) -> dict[str, Any]:
    """What `docs/results/<name>.json` says: `markdown` and `picture` are made from it and from nothing else."""
    return {
        "name": name,
        "title": plan.title,
        "reserve": plan.reserve,
        "machines": sorted({cell.machine for cell in facts.values()}),
        "series": plan.series,
        "blocks": [_block(plan, block, facts) for block in plan.blocks],
        "claims": _claims(plan, facts),
        "larger": [_larger(row) for row in plan.larger],
        "cells": [facts[cell].json() for cell in plan.cells() if cell in facts],
    }


def read_facts(published: Mapping[str, Any], plan: Plan) -> dict[Cell, CellFacts]:
    """The cells of an earlier document that `plan` still asks for. Raises ConfigError when it is no such document."""
    try:
        cells = [CellFacts.from_json(cell) for cell in published["cells"]]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"a published table cannot be read ({type(error).__name__}: {error}): remove it") from error
    return {cell.cell: cell for cell in cells if cell.belongs(plan)}


def _block(plan: Plan, name: str, facts: Facts) -> dict[str, Any]:
    block = plan.blocks[name]
    rows = [_row(plan, name, method, variant, facts) for method, variant in _rows(plan, block)]
    datasets = sorted({facts[cell].dataset for cell in plan.cells() if cell.block == name and cell in facts})
    return {
        "block": name,
        "task": plan.task(name),
        "minutes": block.minutes,
        "first_seed": block.first_seed,
        "episodes": block.episodes,
        "measure": block.measure,
        "datasets": datasets,
        "rows": rows,
        "differences": [] if plan.series else _differences(plan, name, facts),
    }


def _rows(plan: Plan, block: Block) -> list[tuple[str, str]]:
    return [(method, variant) for method in block.methods for variant in plan.methods[method].variants]


def _row(plan: Plan, block: str, method: str, variant: str, facts: Facts) -> dict[str, Any]:
    entry = plan.blocks[block].methods[method]
    cells = [facts[cell] for seed in entry.seeds if (cell := Cell(block, method, seed)) in facts]
    row: dict[str, Any] = {"method": method, "variant": variant, "seeds": entry.seeds}
    if not cells:
        return {**row, "measured_seeds": []}
    found = [cell.variants[variant] for cell in cells]
    rewards = np.stack([one.values("max_reward") for one in found])
    successes = [one.values("success") for one in found]
    return {
        **row,
        "measured_seeds": [cell.cell.seed for cell in cells],
        "success": _wilson(np.concatenate(successes)),
        "success_by_seed": [_wilson(values) for values in successes],
        "max_reward": crossed_mean(rewards).json(),
        "max_reward_by_seed": [bootstrap_mean(values).json() for values in rewards],
        "evaluations_per_control_step": statistics.fmean(one.evaluations_per_control_step for one in found),
        **_milliseconds(found),
        "seam": statistics.fmean(seams) if len(seams := _known(one.seam for one in found)) == len(found) else None,
        "parameters": cells[0].parameters,
        "steps": cells[0].steps,
        "capped": entry.max_steps is not None and cells[0].steps == entry.max_steps,
        "seconds_per_step": cells[0].seconds_per_step,
        "training_seconds": [cell.training_seconds for cell in cells],
    }


def _milliseconds(found: Sequence[VariantFacts]) -> dict[str, float | None]:
    """Of the training seeds that were timed."""
    spread = _known(one.milliseconds_per_control_step for one in found)
    slowest = _known(one.milliseconds_of_slowest_call for one in found)
    return {
        "milliseconds_per_control_step": statistics.fmean(spread) if spread else None,
        "milliseconds_of_slowest_call": max(slowest) if slowest else None,
    }


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _wilson(successes: Array) -> dict[str, float | int | str]:
    return wilson(int(successes.sum()), len(successes)).json()


def _differences(plan: Plan, block: str, facts: Facts) -> list[dict[str, Any]]:
    """Every two measured rows of a block: the difference and its p-value, Holm over all of them."""
    measure = plan.blocks[block].measure
    found: list[dict[str, Any]] = []
    for a, b in itertools.combinations(_rows(plan, plan.blocks[block]), 2):
        seeds, first, second = _paired(plan, block, a, b, measure, facts)
        if not seeds:
            continue
        difference = crossed_difference(first, second)
        p_value = p_of_equal_success(first, second) if measure == "success" else p_of_none(difference)
        names = {"a": "/".join(a), "b": "/".join(b), "training_seeds": seeds}
        found.append({**names, "difference": difference.json(), "p_value": p_value})
    for one, adjusted in zip(found, holm([one["p_value"] for one in found]), strict=True):
        one.update(p_value_holm=adjusted, significant=adjusted < LEVEL)
    return found


def _claims(plan: Plan, facts: Facts) -> list[dict[str, Any]]:
    """Each claim with its verdict; the p-values of those that can be decided are corrected for their number."""
    claims = [_claim(plan, claim, facts) for claim in plan.claims]
    decided = [claim for claim in claims if claim.get("p_worse") is not None]
    for claim, adjusted in zip(decided, holm([claim["p_worse"] for claim in decided]), strict=True):
        claim.update(p_worse_holm=adjusted, family=len(decided), not_worse_after_holm=adjusted < LEVEL / 2)
    return claims


def _claim(plan: Plan, claim: Claim, facts: Facts) -> dict[str, Any]:
    measure = claim.measure or plan.blocks[claim.block].measure
    named = {"block": claim.block, "candidate": claim.candidate, "reference": claim.reference, "measure": measure}
    rows = split_row(claim.candidate), split_row(claim.reference)
    seeds, first, second = _paired(plan, claim.block, *rows, measure, facts)
    if not seeds:
        return {**named, "training_seeds": []}
    difference = crossed_difference(first, second)
    margin = next((margin for pairs, margin in MARGINS if first.size >= pairs), None)
    _, _, successes = _paired(plan, claim.block, *rows, "success", facts)
    return {
        **named,
        "training_seeds": seeds,
        "pairs": first.size,
        "candidate_mean": float(first.mean()),
        "reference_mean": float(second.mean()),
        "difference": difference.json(),
        "margin": margin,
        "not_worse": not_worse(difference, first.size),
        "p_worse": None if margin is None else p_of_less(difference, -margin),
        "saturated": not INFORMATIVE[0] <= successes.mean() <= INFORMATIVE[1],
    }


def _paired(
    plan: Plan, block: str, a: tuple[str, str], b: tuple[str, str], measure: str, facts: Facts
) -> tuple[list[int], Array, Array]:
    """The training seeds that both rows have, and the scores [S, N] of both rows on them."""
    methods = plan.blocks[block].methods
    shared = [seed for seed in methods[a[0]].seeds if seed in methods[b[0]].seeds]
    seeds = [seed for seed in shared if all(Cell(block, row[0], seed) in facts for row in (a, b))]
    first, second = (
        [facts[Cell(block, method, seed)].variants[variant].values(measure) for seed in seeds]
        for method, variant in (a, b)
    )
    return seeds, np.array(first), np.array(second)


def _larger(row: Larger) -> dict[str, Any]:
    """With success and best reward where its evaluation has been made."""
    shown: dict[str, Any] = {"block": row.block, "what": row.what, "commands": row.commands}
    path = Path(row.evaluation) / "result.json"
    if not path.is_file():
        return {**shown, "success": None, "max_reward": None}
    results = load_results(path)
    return {
        **shown,
        "success": wilson(sum(result.success for result in results), len(results)).json(),
        "max_reward": bootstrap_mean([result.max_reward for result in results]).json(),
    }
