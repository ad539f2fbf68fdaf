"""Compositions as one table: who gained, once the number of tries is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from script_runs import output_of, refusal_of

from robopolicy.errors import ConfigError
from robopolicy.evaluation.statistics import paired_difference, wilson
from robopolicy.jobs.compositions import page, summary

PAIRS = 200


def composed(folder: Path, wins: int, losses: int, both: int = 120) -> Path:
    """What compose.py writes for a composition that alone solves `wins` seeds, and its parent `losses`, of 200."""
    ours = [1] * (both + wins) + [0] * (PAIRS - both - wins)
    theirs = [1] * both + [0] * wins + [1] * losses + [0] * (PAIRS - both - wins - losses)
    difference = paired_difference(ours, theirs)
    comparison = {
        "reference": "b",
        "success_b": wilson(sum(theirs), PAIRS).json(),
        "success_difference": difference.json(),
        "discordant": [wins, losses],
    }
    other = {**comparison, "reference": "a", "discordant": [60, 0]}
    result: dict[str, Any] = {
        "command": f"python scripts/compose.py run_folder={folder}",
        "settings": {"task": "lift_hard"},
        "policies": ["a", "b"],
        "weights": [0.25, 0.75],
        "search": None,
        "success": wilson(sum(ours), PAIRS).json(),
        "comparisons": [other, comparison],
        "compared_with": "b",
        "gain": difference.low > 0.0,
    }
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_a_gain_must_survive_the_number_of_tries(tmp_path: Path) -> None:
    clear, narrow = composed(tmp_path / "clear", 40, 10), composed(tmp_path / "narrow", 16, 4)
    nothing = [composed(tmp_path / f"none_{index}", 10, 10) for index in range(4)]
    alone = summary([narrow])["compositions"][0]
    assert alone["gain"]
    assert alone["p_holm"] == pytest.approx(2 * sum(1 * c for c in (1, 20, 190, 1140, 4845)) / 2**20)
    among = summary([clear, narrow, *nothing])["compositions"]
    assert [row["gain"] for row in among] == [True, False, False, False, False, False]
    assert among[1]["p_holm"] == pytest.approx(5 * alone["p_holm"])
    assert among[2]["p_holm"] == 1.0


def test_the_page_has_a_line_for_each_and_counts_the_gains(tmp_path: Path) -> None:
    document = summary([composed(tmp_path / "a", 40, 10), composed(tmp_path / "b", 0, 0)])
    text = page(json.loads(json.dumps(document)), "gpc")
    assert text.startswith("# Compositions: 1 of 2 gain\n")
    lines = [line for line in text.splitlines() if line.startswith("| lift_hard: a, b | 0.25 / 0.75, given | ")]
    assert [line.endswith("a gain |") for line in lines] == [True, False]
    assert "| b | +0.000 [-0.018, +0.018] | 1 |" in lines[1]


def test_folders_without_a_report_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"compositions: .*none/result.json cannot be read"):
        summary([tmp_path / "none"])
    unfinished = composed(tmp_path / "unfinished", 1, 1)
    (unfinished / "result.json").write_text(json.dumps({"weights": [1.0, 0.0]}))
    with pytest.raises(ConfigError, match=r"lacks \['compared_with', 'comparisons'\]"):
        summary([unfinished])


def test_publish_writes_the_table(tmp_path: Path) -> None:
    folder = composed(tmp_path / "runs" / "a", 40, 10)
    said = output_of("publish", f"compositions=[{folder}]", "name=gpc", "run_folder=run", cwd=tmp_path)
    assert "wrote docs/results/gpc.md" in said
    assert json.loads((tmp_path / "docs/results/gpc.json").read_text())["compositions"][0]["gain"]
    assert refusal_of("publish", "compositions=[]", "name=gpc", cwd=tmp_path).startswith(
        "compositions=[], expected a list"
    )
    sentence = "publish.py needs run=... and evaluation=..., or compositions=[...]"
    assert refusal_of("publish", "name=gpc", cwd=tmp_path) == sentence
