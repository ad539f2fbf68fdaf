"""`scripts/publish.py`: the figures of a run as JSON and pictures, or one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from script_runs import output_of, refusal_of


@pytest.fixture(scope="module")
def evaluation(reach_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    options = ("episodes=3", "slots=3", "workers=1", "videos=0", "traces=0", "run_folder=evaluation")
    output_of("eval", f"run={reach_run}", *options, cwd=folder)
    (folder / "evaluation" / "videos").mkdir()
    (folder / "evaluation" / "videos" / "seed_10001.mp4").write_bytes(b"a film")
    return folder / "evaluation"


def test_figures_and_pictures_are_written(reach_run: Path, evaluation: Path, tmp_path: Path) -> None:
    options = (f"run={reach_run}", f"evaluation={evaluation}", "name=reach_tiny", "run_folder=run")
    assert "wrote docs/results/reach_tiny.json" in output_of("publish", *options, cwd=tmp_path)
    out = tmp_path / "docs" / "results"
    names = ["reach_tiny.json", "reach_tiny_episodes.svg", "reach_tiny_training.svg"]
    assert sorted(path.name for path in out.iterdir()) == [names[0], names[1], "reach_tiny_seed_10001.mp4", names[2]]
    assert (out / "reach_tiny_seed_10001.mp4").read_bytes() == b"a film"
    for name in names[1:]:
        assert b"<svg" in (out / name).read_bytes()
    document = json.loads((out / names[0]).read_text())
    assert [command.split()[1] for command in document["commands"]] == ["scripts/train.py", "scripts/eval.py"]
    assert document["training"]["config"]["task"]["name"] == "reach"
    assert any("validation_loss" in record for record in document["training"]["records"])
    evaluated = json.loads((evaluation / "result.json").read_text())
    assert document["evaluation"]["success"] == evaluated["success"]
    assert [episode["seed"] for episode in document["evaluation"]["episodes"]] == [10000, 10001, 10002]
    assert all("rewards" not in episode for episode in document["evaluation"]["episodes"])


def test_what_is_not_there_is_named(reach_run: Path, evaluation: Path, tmp_path: Path) -> None:
    options = (f"run={reach_run}", "evaluation=none", "name=x")
    assert refusal_of("publish", *options, cwd=tmp_path).startswith("there is no file none/result.json")
    options = ("run=none", f"evaluation={evaluation}", "name=x")
    assert refusal_of("publish", *options, cwd=tmp_path).startswith("run=none has no metrics.jsonl")
    shutil.copytree(reach_run, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "result.json").unlink()
    options = ("run=unfinished", f"evaluation={evaluation}", "name=x")
    assert refusal_of("publish", *options, cwd=tmp_path) == "unfinished has no result.json: its command is not finished"
