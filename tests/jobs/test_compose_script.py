"""`scripts/compose.py` on two tiny policies: search, resuming, report, the composed run, and the null test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from script_runs import TINY, output_of, refusal_of

pytestmark = pytest.mark.slow

SMALL = ("slots=2", "workers=0", "first_episodes=1", "tuning_episodes=2", "divisions=2", "report_episodes=2")


@pytest.fixture(scope="module")
def flow_run(reach_data: Path, reach_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow policy on other demonstrations, in the action space of `reach_run`."""
    folder = tmp_path_factory.mktemp("flow")
    options = (f"data={reach_data}", "training.seed=3", f"action_statistics={reach_run}", "run_folder=flow", *TINY)
    output_of("train", "policy=flow", "task=reach", *options, cwd=folder)
    return folder / "flow"


def _result(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())


def test_a_search_finds_weights_and_reports_them(reach_run: Path, flow_run: Path, tmp_path: Path) -> None:
    options = (f"runs=[{reach_run},{flow_run}]", *SMALL)
    text = output_of("compose", *options, "run_folder=composed", cwd=tmp_path)
    found = _result(tmp_path / "composed")
    assert found["verdict"] in text
    assert sum(found["weights"]) == pytest.approx(1.0)
    assert [each["seeds"] for each in found["search"]["rounds"]] == [1, 2]
    assert [comparison["reference"] for comparison in found["comparisons"]] == ["run", "flow"]
    assert [episode["seed"] for episode in found["episodes"]] == [10000, 10001]
    assert not list((tmp_path / "composed").rglob("*.pt"))
    episodes = tmp_path / "composed" / "candidates" / "0.5_0.5.json"
    before = episodes.read_bytes()
    output_of("compose", *options, "run_folder=composed", cwd=tmp_path)
    assert episodes.read_bytes() == before
    again = _result(tmp_path / "composed")
    assert {**again, "seconds": 0, "command": ""} == {**found, "seconds": 0, "command": ""}
    sentence = refusal_of("compose", *options, "run_folder=composed", "noise_seed=1", cwd=tmp_path)
    assert "other settings (noise seed)" in sentence


def test_a_composed_run_evaluates_like_any_other(reach_run: Path, flow_run: Path, tmp_path: Path) -> None:
    given = (f"runs=[{reach_run},{flow_run}]", "weights=[0.5,0.5]", *SMALL, "run_folder=composed")
    output_of("compose", *given, cwd=tmp_path)
    options = ("episodes=2", "slots=2", "workers=0", "videos=0", "traces=0", "run_folder=evaluated")
    output_of("eval", "run=composed", *options, cwd=tmp_path)
    composed, evaluated = _result(tmp_path / "composed"), _result(tmp_path / "evaluated")
    assert evaluated["episodes"] == composed["episodes"]
    other = ("sampler=gpc_or", "task.max_steps=5", "task=reach", "replace=true")
    output_of("eval", "run=composed", *other, *options, cwd=tmp_path)
    assert "weight_1" in _result(tmp_path / "evaluated")["episodes"][0]["info"]


def test_a_policy_composed_with_itself_gains_nothing(reach_run: Path, tmp_path: Path) -> None:
    """Every composition acts as the policy does, so a policy alone wins and nothing is claimed."""
    text = output_of("compose", f"runs=[{reach_run},{reach_run}]", *SMALL, "run_folder=itself", cwd=tmp_path)
    found = _result(tmp_path / "itself")
    assert found["gain"] is False
    assert found["policies"] == ["run", "run (2)"]
    assert "no gain" in text
    episodes = {
        path.name: json.loads(path.read_text())["episodes"][0]
        for path in (tmp_path / "itself" / "candidates").glob("*_*.json")
    }
    rewards = {name: episode["rewards"] for name, episode in episodes.items()}
    assert len(set(rewards.values())) == 1
    assert len(rewards) == 3


def test_what_cannot_be_composed_is_one_sentence(
    reach_run: Path, reach_data: Path, flow_run: Path, tmp_path: Path
) -> None:
    options = (f"data={reach_data}", "training.seed=3", *TINY, "run_folder=elsewhere")
    output_of("train", "task=reach", *options, cwd=tmp_path)
    sentence = refusal_of("compose", f"runs=[{reach_run},elsewhere]", "run_folder=none", cwd=tmp_path)
    assert "normalise the action differently" in sentence
    assert "action_statistics=" in sentence
    runs = f"runs=[{reach_run},{flow_run}]"
    assert "sum 1.5" in refusal_of("compose", runs, "weights=[0.5,1.0]", "run_folder=none", cwd=tmp_path)
    assert "2 numbers" in refusal_of("compose", runs, "weights=[1.0]", "run_folder=none", cwd=tmp_path)
    assert "at least two" in refusal_of("compose", f"runs=[{reach_run}]", "run_folder=none", cwd=tmp_path)
    assert "divisions=0 is no choice" in refusal_of("compose", runs, "divisions=0", "run_folder=none", cwd=tmp_path)
