"""A task with goals from demonstrations to guided evaluation, through the scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from script_runs import TINY, output_of, refusal_of

SMALL = ("episodes=4", "slots=4", "workers=1", "videos=0", "traces=0", "sampler.steps=3")


@pytest.mark.slow
def test_a_policy_with_goals_is_trained_and_guided(tmp_path: Path) -> None:
    output_of("collect", "task=reach_goals", "episodes=6", "workers=1", "run_folder=collection", cwd=tmp_path)
    options = ("task=reach_goals", "task.goals.goal_effector_position.when=future", "goal_dropout=0.3")
    output_of("train", *options, "run_folder=run", *TINY, cwd=tmp_path)
    policy = json.loads(next((tmp_path / "run").glob("checkpoints/*/policy.json")).read_text())
    assert policy["config"]["goals"] == {"names": ["goal_effector_position"], "dropout": 0.3}
    assert list(policy["spec"]["observations"]) == ["effector_position", "goal_effector_position"]
    for weight in ("null", "0", "1", "1.5"):
        text = output_of(
            "eval", "run=run", f"guidance={weight}", "sampler=ddim", *SMALL, f"run_folder=w{weight}", cwd=tmp_path
        )
        assert "success by goal: goal 0: " in text
        result = json.loads((tmp_path / f"w{weight}" / "result.json").read_text())
        assert result["settings"]["guidance"] == ("1" if weight == "null" else weight)
        rates = result["success_by_detail"]["goal"]
        assert sum(rate["count"] for rate in rates.values()) == 4
    assert "expected a number such as 1.5" in refusal_of("eval", "run=run", "guidance=much", cwd=tmp_path)
    assert "stream 'goal_effector_position' is missing" in refusal_of("eval", "run=run", "task=reach", cwd=tmp_path)


def test_a_policy_without_goals_refuses_guidance(reach_run: Path, tmp_path: Path) -> None:
    assert "guidance=1.5 needs a policy with goals" in refusal_of(
        "eval", f"run={reach_run}", "guidance=1.5", cwd=tmp_path
    )
