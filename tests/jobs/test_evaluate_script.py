"""`scripts/eval.py`: the last link of collect, train, evaluate; options that are chosen are the ones in force."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from damage import truncate
from script_runs import output_of, refusal_of

SMALL = ("slots=3", "workers=1", "videos=0", "traces=1", "run_folder=evaluation")


def result(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "evaluation" / "result.json").read_text())
    return data


def test_collect_train_and_evaluate_end_in_a_report(reach_run: Path, tmp_path: Path) -> None:
    text = output_of("eval", f"run={reach_run}", "episodes=4", *SMALL, cwd=tmp_path)
    assert "of 4 episodes (95 % Wilson interval)" in text
    assert "report: evaluation/report.html" in text
    found = result(tmp_path)
    assert [episode["seed"] for episode in found["episodes"]] == [10000, 10001, 10002, 10003]
    assert found["success"]["count"] == 4
    assert found["settings"]["task"] == "reach"
    assert found["cost"]["evaluations_per_control_step"] > 0
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "reach" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_task_and_a_sampler_that_were_chosen_are_used(reach_run: Path, tmp_path: Path) -> None:
    options = ("task=reach", "task.max_steps=1", "sampler=ddpm", "episodes=3")
    output_of("eval", f"run={reach_run}", *options, *SMALL, cwd=tmp_path)
    found = result(tmp_path)
    assert [episode["steps"] for episode in found["episodes"]] == [1, 1, 1]
    assert "ddpm" in found["settings"]["sampler"].lower()


@pytest.mark.slow
def test_a_policy_compared_with_itself_does_not_differ(reach_run: Path, tmp_path: Path) -> None:
    options = ("eval", f"run={reach_run}", "episodes=3", *SMALL)
    output_of(*options, cwd=tmp_path)
    first = result(tmp_path)
    shutil.move(tmp_path / "evaluation" / "result.json", tmp_path / "first.json")
    output_of(*options, "against=first.json", cwd=tmp_path)
    second = result(tmp_path)
    assert second["episodes"] == first["episodes"]
    assert "comparison" in second


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal_of("eval", "run=runs/none", cwd=tmp_path).startswith("runs/none has no checkpoint")


def test_a_reference_that_is_not_there_is_refused(reach_run: Path, tmp_path: Path) -> None:
    sentence = refusal_of("eval", f"run={reach_run}", "against=none.json", cwd=tmp_path)
    assert sentence.startswith("there is no file none.json")


def test_damaged_weights_are_refused(reach_run: Path, tmp_path: Path) -> None:
    shutil.copytree(reach_run, tmp_path / "run")
    truncate(tmp_path / "run/checkpoints/step_00000020/weights.safetensors")
    sentence = refusal_of("eval", "run=run", "episodes=1", cwd=tmp_path)
    assert sentence.startswith("run/checkpoints/step_00000020/weights.safetensors cannot be read")
