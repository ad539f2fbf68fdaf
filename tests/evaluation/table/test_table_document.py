"""From cells to the table's JSON, its page and its picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from table_cells import TABLE, cell_facts, small_plan

from robopolicy.control.loop import EpisodeSummary
from robopolicy.errors import ConfigError
from robopolicy.evaluation.episodes import EpisodeResult, results_json
from robopolicy.evaluation.statistics import holm, wilson
from robopolicy.evaluation.table.document import document, read_facts
from robopolicy.evaluation.table.facts import CellFacts
from robopolicy.evaluation.table.markdown import markdown
from robopolicy.evaluation.table.picture import picture, svg
from robopolicy.evaluation.table.plan import Cell, Plan
from robopolicy.files import to_json, write_json

RATES = {"diffusion": (0.70, 0.72), "bc": (0.20,)}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return small_plan(tmp_path)


def reach(plan: Plan) -> dict[Cell, CellFacts]:
    """All of block reach but the third seed of bc."""
    cells = [cell for cell in plan.cells() if cell.block == "reach" and cell.seed < 2]
    return {cell: cell_facts(plan, cell, RATES[cell.method]) for cell in cells}


def test_rows_pool_the_training_seeds_and_keep_each(plan: Plan) -> None:
    facts = reach(plan)
    rows = document("small", plan, facts)["blocks"][0]["rows"]
    assert [(row["method"], row["variant"]) for row in rows] == [
        ("diffusion", "ddim 10"),
        ("diffusion", "ddpm 100"),
        ("bc", "one pass"),
    ]
    solved = [facts[Cell("reach", "diffusion", seed)].variants["ddim 10"].successes.count("1") for seed in (0, 1)]
    assert rows[0]["success"] == wilson(sum(solved), 400).json()
    assert rows[0]["success_by_seed"] == [wilson(count, 200).json() for count in solved]
    assert rows[2]["measured_seeds"] == [0, 1]
    assert (rows[0]["capped"], rows[2]["capped"], rows[2]["steps"]) == (False, True, 500)


def test_the_json_is_enough_to_make_it_again(plan: Plan) -> None:
    facts = reach(plan)
    made = json.loads(to_json(document("small", plan, facts)))
    assert read_facts(made, plan) == facts
    assert json.loads(to_json(document("small", plan, read_facts(made, plan)))) == made
    with pytest.raises(ConfigError, match="a published table cannot be read"):
        read_facts({"cells": [{"block": "reach"}]}, plan)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("net=mlp", "net=unet"),
        ("minutes: 2", "minutes: 3"),
        ("episodes: 200", "episodes: 100"),
        ("sampler=ddim", "sampler=dpmpp"),
        ("seeds: [0, 1]", "seeds: [5]"),
    ],
)
def test_cells_of_another_plan_are_forgotten(plan: Plan, tmp_path: Path, before: str, after: str) -> None:
    facts = cell_facts(plan, Cell("reach", "diffusion", 0), RATES["diffusion"])
    assert facts.belongs(plan)
    assert not facts.belongs(small_plan(tmp_path, TABLE.replace(before, after, 1)))


def test_every_two_rows_are_compared_with_holms_correction(plan: Plan) -> None:
    differences = document("small", plan, reach(plan))["blocks"][0]["differences"]
    assert [(one["a"], one["b"]) for one in differences] == [
        ("diffusion/ddim 10", "diffusion/ddpm 100"),
        ("diffusion/ddim 10", "bc/one pass"),
        ("diffusion/ddpm 100", "bc/one pass"),
    ]
    assert all(one["training_seeds"] == [0, 1] for one in differences)
    assert [one["p_value_holm"] for one in differences] == pytest.approx(holm([one["p_value"] for one in differences]))
    assert [one["significant"] for one in differences[1:]] == [True, True]


def test_a_claim_is_judged_by_its_margin(plan: Plan) -> None:
    claim = document("small", plan, reach(plan))["claims"][0]
    assert (claim["pairs"], claim["margin"]) == (400, 0.05)
    assert claim["difference"]["estimate"] == pytest.approx(claim["candidate_mean"] - claim["reference_mean"])
    assert claim["not_worse"] is (claim["difference"]["low"] > -0.05)
    assert claim["family"] == 1
    assert claim["p_worse_holm"] == claim["p_worse"]
    assert claim["saturated"] is False


def test_claims_with_too_few_pairs_are_undecided_and_others_wait(plan: Plan) -> None:
    facts = {
        cell: cell_facts(plan, cell, RATES[cell.method])
        for cell in (Cell("push", "diffusion", 0), Cell("push", "bc", 0))
    }
    reach_claim, push_claim = document("small", plan, facts)["claims"]
    assert reach_claim["training_seeds"] == []
    assert push_claim["not_worse"] is None
    assert push_claim["p_worse"] is None
    assert "not_worse_after_holm" not in push_claim


def test_the_page_has_every_row_measured_or_not(plan: Plan) -> None:
    facts = reach(plan)
    for seed in (0, 1):
        cell = Cell("reach", "diffusion", seed)
        facts[cell] = cell_facts(plan, cell, (0.7, 0.7))
    page = markdown(document("small", plan, facts))
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    widths = {line.count("|") for line in rows if line.startswith(("| diffusion", "| bc", "| method"))}
    assert widths == {10, 11}
    assert "| bc | one pass |" in page
    assert "(1 of 3 runs missing)" in page
    assert page.count("not measured") == 3 + 1
    assert "500 (capped)" in page
    assert "undecided" not in page
    assert "python scripts/train.py policy=diffusion" in page
    assert "Not significant: 1 of 3 compared in success" in page
    assert "at 5 %: diffusion ddim 10 and diffusion ddpm 100 (+0.000). All others are." in page
    assert "1.25 | 0.50 (9)" in page


def test_seams_are_a_column_where_every_row_has_one(plan: Plan) -> None:
    facts = {
        cell: replace(
            one, variants={name: replace(found, seam=0.25 * (1 + cell.seed)) for name, found in one.variants.items()}
        )
        for cell, one in reach(plan).items()
    }
    made = document("small", plan, facts)
    assert [row["seam"] for row in made["blocks"][0]["rows"]] == [0.375, 0.375, 0.375]
    page = markdown(made)
    assert "| by training seed | seam | evaluations per control step |" in page
    assert page.count("| 0.375 | 1.25 |") == 3
    without = cell_facts(plan, Cell("reach", "bc", 0), RATES["bc"])
    assert "seam" not in markdown(document("small", plan, facts | {without.cell: without}))


def test_only_the_training_seeds_that_were_timed_have_milliseconds(plan: Plan) -> None:
    untimed = {"milliseconds_per_control_step": None, "milliseconds_of_slowest_call": None}
    facts = {
        cell: replace(one, variants={name: replace(found, **untimed) for name, found in one.variants.items()})
        if cell.seed or cell.method == "bc"
        else one
        for cell, one in reach(plan).items()
    }
    rows = document("small", plan, facts)["blocks"][0]["rows"]
    assert [row["milliseconds_per_control_step"] for row in rows] == [0.5, 0.5, None]
    page = markdown(document("small", plan, facts))
    assert "| 1.25 | 0.50 (9) |" in page
    assert "| 1.25 |  | 1.50 M |" in page


def test_several_datasets_in_one_block_are_said(plan: Plan) -> None:
    facts = reach(plan)
    first = next(iter(facts))
    facts[first] = replace(facts[first], dataset="other")
    assert "trained on 2 different datasets" in markdown(document("small", plan, facts))


def test_a_larger_row_is_filled_once_it_is_measured(plan: Plan, tmp_path: Path) -> None:
    results = [EpisodeResult(seed, EpisodeSummary(5, None, "", True, True, False, (0.25, 0.75))) for seed in range(4)]
    write_json(tmp_path / "large" / "result.json", results_json(results))
    assert document("small", plan, {})["larger"][0]["success"] is None
    filled = small_plan(tmp_path, TABLE.replace("runs/none", str(tmp_path / "large")))
    made = document("small", filled, {})
    assert made["larger"][0]["success"] == wilson(4, 4).json()
    assert "| push | a large one | 100.0 % [51.0, 100.0] | 0.750 in each |" in markdown(made)


def test_the_picture_has_a_panel_for_each_measured_block(plan: Plan) -> None:
    assert picture(document("small", plan, {})) is None
    facts = reach(plan)
    figure = picture(document("small", plan, facts))
    assert figure is not None
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "diffusion  ddim 10",
        "diffusion  ddpm 100",
        "bc  one pass",
    ]
    bar, dot, seeds = axes.lines[:3]
    estimates = [
        100 * facts[Cell("reach", "diffusion", seed)].variants["ddim 10"].values("success").mean() for seed in (0, 1)
    ]
    assert dot.get_xdata()[0] == pytest.approx(np.mean(estimates))
    assert bar.get_xdata()[0] < dot.get_xdata()[0] < bar.get_xdata()[1]
    assert list(seeds.get_xdata()) == pytest.approx(estimates)
    push = Cell("push", "bc", 0)
    facts[push] = cell_facts(plan, push, RATES["bc"])
    two = picture(document("small", plan, facts))
    assert two is not None
    assert len(two.axes) == 2
    assert svg(two).startswith(b"<?xml")


def test_a_table_with_series_draws_curves_over_the_cost_and_compares_nothing_but_its_claims(tmp_path: Path) -> None:
    text = TABLE + "series: {diffusion: [diffusion/ddim 10, diffusion/ddpm 100], cloning: [bc/one pass]}\n"
    plan = small_plan(tmp_path, text)
    cell = Cell("reach", "diffusion", 0)
    made = document("small", plan, {cell: cell_facts(plan, cell, [0.4, 0.8])})
    assert made["blocks"][0]["differences"] == []
    assert made["claims"][0]["training_seeds"] == [0]
    figure = picture(made)
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    (line,) = axes.get_lines()  # nothing was measured of the other curve
    assert line.get_label() == "diffusion"
    reach = made["blocks"][0]["rows"]
    assert sorted(line.get_ydata()) == sorted(100 * row["success"]["estimate"] for row in reach[:2])
    assert "against evaluations per control step" in markdown(made)


def test_a_curve_of_a_row_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"series.flow has \['flow/euler'\], which are rows of no block"):
        small_plan(tmp_path, TABLE + "series: {flow: [flow/euler]}\n")
