"""A small table and made-up cells of it, for tests of what is written from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robopolicy.evaluation.table.facts import CellFacts, VariantFacts
from robopolicy.evaluation.table.plan import Cell, Plan, read_plan

TABLE = """
title: Two methods
reserve: 0.1
methods:
  diffusion: {train: [policy=diffusion], variants: {ddim 10: [sampler=ddim], ddpm 100: [sampler=ddpm]}}
  bc: {train: [policy=bc_mse], variants: {one pass: []}}
blocks:
  reach:
    minutes: 2
    episodes: 200
    train: [net=mlp]
    methods:
      diffusion: {seeds: [0, 1]}
      bc: {seeds: [0, 1, 2], train: [training.batch_size=64], max_steps: 500}
  push:
    task: pusht
    minutes: 1
    episodes: 50
    measure: max_reward
    methods: {diffusion: {seeds: [0]}, bc: {seeds: [0]}}
claims:
  - {block: reach, candidate: diffusion/ddim 10, reference: diffusion/ddpm 100}
  - {block: push, candidate: bc/one pass, reference: diffusion/ddpm 100, measure: success}
larger:
  - {block: push, what: a large one, commands: [python scripts/train.py policy=diffusion], evaluation: runs/none}
"""


def small_plan(folder: Path, text: str = TABLE) -> Plan:
    path = folder / "small.yaml"
    path.write_text(text)
    return read_plan(path)


def cell_facts(plan: Plan, cell: Cell, rates: Sequence[float], seconds_per_step: float = 0.01) -> CellFacts:
    """A cell whose variants succeed at these rates, each with the same random numbers, so that they are paired."""
    block = plan.blocks[cell.block]
    draws = np.random.default_rng(cell.seed).random(block.episodes)
    variants = {}
    for (name, overrides), rate in zip(plan.methods[cell.method].variants.items(), rates, strict=True):
        solved = draws < rate
        variants[name] = VariantFacts(
            overrides=tuple(overrides),
            first_seed=block.first_seed,
            successes="".join(str(int(one)) for one in solved),
            max_rewards=" ".join(f"{0.5 + 0.5 * one:g}" for one in solved),
            evaluations_per_control_step=1.25,
            milliseconds_per_control_step=0.5,
            milliseconds_of_slowest_call=9.0,
        )
    return CellFacts(
        cell,
        overrides=tuple(plan.train_overrides(cell.block, cell.method)),
        steps=plan.steps(cell.block, cell.method, seconds_per_step),
        seconds_per_step=seconds_per_step,
        training_seconds=100.0,
        parameters=1_500_000,
        dataset="abc",
        commit="0",
        machine="a machine, 2 cores",
        variants=variants,
    )
