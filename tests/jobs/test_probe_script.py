"""`scripts/probe.py` and `scripts/eval.py` on a small energy policy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from script_runs import TINY, output_of, refusal_of

STARTS = ("episodes=3", "slots=3", "workers=0")


@pytest.fixture(scope="module")
def energy_run(reach_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("energy")
    options = (f"data={reach_data}", "net.heads=2", *TINY, "run_folder=run")
    output_of("train", "policy=ebt", "task=reach", *options, cwd=folder)
    return folder / "run"


def test_energies_of_demonstrations_and_of_starts(energy_run: Path, tmp_path: Path) -> None:
    """A change that does not touch the start leaves every energy as it was: each pair is a tie."""
    options = (
        "outside={robot:{image_size:48}}",
        "deviations=[0.5,100.0]",
        "run_folder=probe",
        "name=energies",
        "out=.",
    )
    text = output_of("probe", f"run={energy_run}", *STARTS, *options, cwd=tmp_path)
    assert "AUROC 0.500" in text
    found = json.loads((tmp_path / "probe" / "result.json").read_text())
    assert found["perturbed"]["100"]["estimate"] == 1.0
    assert found["perturbed"]["0.5"]["count"] == 2  # episodes held out
    published = json.loads((tmp_path / "energies.json").read_text())
    assert published["outside"] == found["outside"]
    assert published["command"].startswith("python scripts/probe.py")
    assert b"<svg" in (tmp_path / "energies.svg").read_bytes()
    assert found["outside"]["energies_inside"] == found["outside"]["energies_outside"]


def test_steps_and_energies_reach_results_and_report(energy_run: Path, tmp_path: Path) -> None:
    options = ("sampler=descent", "sampler.max_steps=3", *STARTS, "videos=0", "traces=0", "run_folder=evaluation")
    output_of("eval", f"run={energy_run}", "task.max_steps=20", "task=reach", *options, cwd=tmp_path)
    found = json.loads((tmp_path / "evaluation" / "result.json").read_text())
    assert found["settings"]["sampler"].startswith("descent, 2 to 3 steps")
    for episode in found["episodes"]:
        steps = [float(word) for word in episode["info"]["steps"].split()]
        assert len(steps) == len(episode["info"]["energy"].split()) >= 1
        assert set(steps) <= {2.0, 3.0}
    assert "What the policy said of its chunks" in (tmp_path / "evaluation" / "report.html").read_text()


def test_a_table_sampler_and_another_policy_are_refused(energy_run: Path, reach_run: Path, tmp_path: Path) -> None:
    assert "descent" in refusal_of("eval", f"run={energy_run}", "sampler=ddim", cwd=tmp_path)
    assert "only an energy policy" in refusal_of("probe", f"run={reach_run}", cwd=tmp_path)


def test_what_cannot_be_probed_is_one_sentence(energy_run: Path, reach_data: Path, tmp_path: Path) -> None:
    checkpoint = next((energy_run / "checkpoints").iterdir())
    assert "not a checkpoint" in refusal_of("probe", f"run={checkpoint}", cwd=tmp_path)
    shutil.copytree(energy_run, tmp_path / "run")
    shutil.copytree(reach_data, tmp_path / "data")
    next((tmp_path / "data").rglob("*.zip")).unlink()
    config = tmp_path / "run" / "train.yaml"
    config.write_text(config.read_text().replace(str(reach_data), str(tmp_path / "data")))
    assert "has changed since" in refusal_of("probe", "run=run", cwd=tmp_path)
