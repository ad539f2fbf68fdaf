"""`scripts/train.py`: a run folder with everything in it, or none at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from script_runs import output_of, refusal_of

from robopolicy.dataset.dataset import Dataset
from robopolicy.training import checkpoint


def test_a_run_folder_has_configuration_metrics_checkpoint_and_result(reach_run: Path, reach_data: Path) -> None:
    result = json.loads((reach_run / "result.json").read_text())
    assert result["steps"] == 20
    assert result["last_loss"] > 0
    policy, description = checkpoint.load(reach_run)
    assert sum(parameter.numel() for parameter in policy.parameters()) == result["parameters"]
    assert description.task == "reach"
    assert description.dataset["fingerprint"] == Dataset.open(reach_data).fingerprint()
    assert (reach_run / "train.yaml").is_file()
    records = [json.loads(line) for line in (reach_run / "metrics.jsonl").read_text().splitlines()]
    assert any("validation_loss" in record for record in records)


def test_a_used_run_folder_is_refused(reach_run: Path, reach_data: Path, tmp_path: Path) -> None:
    shutil.copytree(reach_run, tmp_path / "run")
    sentence = refusal_of("train", "task=reach", f"data={reach_data}", "run_folder=run", cwd=tmp_path)
    assert sentence == "run already holds a run: use resume=run to continue it, or another run_folder"


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (("policy=diffusion", "sampler=descent"), "a policy that denoises cannot use the sampler 'descent, "),
        (("policy=diffusion", "net=energy_small"), "an EnergyTransformer, which belongs to policy=ebt"),
        (("policy=ebt", "net=mlp"), "policy=ebt needs an energy as its network"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(
    reach_data: Path, tmp_path: Path, choices: tuple[str, ...], words: str
) -> None:
    options = ("task=reach", f"data={reach_data}", "run_folder=run")
    assert words in refusal_of("train", *options, *choices, cwd=tmp_path)


def test_a_finished_run_resumes_to_nothing_new(reach_run: Path, tmp_path: Path) -> None:
    shutil.copytree(reach_run, tmp_path / "run")
    before = (tmp_path / "run/checkpoints/step_00000020/weights.safetensors").read_bytes()
    assert "steps 20 to 20" in output_of("train", "resume=run", cwd=tmp_path)
    assert (tmp_path / "run/checkpoints/step_00000020/weights.safetensors").read_bytes() == before


def test_resuming_takes_no_other_options(reach_run: Path, tmp_path: Path) -> None:
    sentence = refusal_of("train", f"resume={reach_run}", "training.steps=30", cwd=tmp_path)
    assert sentence == "resume= continues a run with its own configuration, leave out training.steps=30"
