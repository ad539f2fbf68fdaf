"""`scripts/critic.py`: data of successes and failures in, a critic out that can choose among a policy's chunks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from script_runs import output_of, refusal_of

from robopolicy.dataset.dataset import Dataset
from robopolicy.evaluation.episodes import load_results
from robopolicy.rl.critic import load_critic
from robopolicy.training.metrics import read_metrics

TINY = (
    "training.steps=60",
    "training.warmup_steps=5",
    "training.learning_rate=3e-3",
    "training.validate_every=30",
    "critic.width=32",
    "held_out=0.3",
)


@pytest.fixture(scope="module")
def mixed_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve episodes of an expert that blunders; not to be changed."""
    folder = tmp_path_factory.mktemp("mixed")
    output_of("collect", "task=reach_mixed", "episodes=12", "workers=1", "out=mixed", "run_folder=run", cwd=folder)
    return folder / "mixed"


def test_failures_are_kept_and_say_that_they_are(mixed_data: Path) -> None:
    dataset = Dataset.open(mixed_data)
    assert [episode.number for episode in dataset.episodes] == list(range(12))
    success = [episode.metadata["success"] for episode in dataset.episodes]
    assert set(success) == {True, False}
    assert [bool(episode.read("success")[-1]) for episode in dataset.episodes] == success
    result = json.loads((mixed_data.parent / "run" / "result.json").read_text())
    assert (result["new_episodes"], result["failed_attempts"]) == (12, success.count(False))


@pytest.mark.slow
def test_a_critic_is_fitted_measured_and_kept(mixed_data: Path, tmp_path: Path) -> None:
    options = ("critic", f"data={mixed_data}", *TINY)
    output = output_of(*options, "run_folder=run", cwd=tmp_path)
    assert "held out, all windows: AUROC" in output
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert sum(row["windows"] for row in result["held_out"]["calibration"]) > 50
    assert result["held_out"]["auroc"] > 0.6
    assert [r["step"] for r in read_metrics(tmp_path / "run") if "validation_loss" in r] == [30, 60]
    critic, description = load_critic(tmp_path / "run")
    assert (critic.action_steps, critic.observation_steps) == (8, 2)
    assert description.dataset["fingerprint"] == Dataset.open(mixed_data).fingerprint()
    output_of(*options, "run_folder=again", cwd=tmp_path)
    weights = "checkpoints/step_00000060/weights.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (tmp_path / "again" / weights).read_bytes()
    assert "already holds a run" in refusal_of(*options, "run_folder=run", cwd=tmp_path)


@pytest.mark.slow
def test_a_critic_chooses_among_the_chunks_of_a_policy_made_fast(
    mixed_data: Path, reach_run: Path, tmp_path: Path
) -> None:
    output_of("critic", f"data={mixed_data}", *TINY, "run_folder=critic", cwd=tmp_path)
    options = ("critic=critic", "candidates=3", "temperature=0.5", "fast=bf16", "sampler=rti", "execution=4")
    small = ("task=reach", "task.max_steps=8", "episodes=2", "slots=2", "workers=1", "videos=0", "traces=0")
    output_of("eval", f"run={reach_run}", *options, *small, "run_folder=evaluation", cwd=tmp_path)
    found = json.loads((tmp_path / "evaluation/result.json").read_text())
    assert found["settings"]["critic"] == "one of 3 candidates, temperature 0.5, by critic"
    assert found["settings"]["network"].startswith("bf16, ")
    said = load_results(tmp_path / "evaluation/result.json")[0].info
    assert said["evaluations"][0] == 3 * 10.0  # there is no last answer to continue
    assert set(said["evaluations"][1:]) <= {3 * 2.0}
    assert all(0.0 <= value <= 1.0 for value in said["value"])
    assert (tmp_path / "evaluation/report.html").is_file()


@pytest.mark.slow
def test_data_without_failures_are_refused(reach_data: Path, tmp_path: Path) -> None:
    shutil.copytree(reach_data, tmp_path / "data")
    sentence = refusal_of("critic", "task=reach", "data=data", "run_folder=run", *TINY, cwd=tmp_path)
    assert sentence == "6 of 6 episodes of data succeeded, expected some but not all: collect with failures=keep"
