"""`scripts/table.py`: a small table in several sittings, one of which is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from script_runs import SCRIPTS, output_of, refusal_of, run_script

from robopolicy.dataset.dataset import Dataset

TABLE = """
title: Small
calibration_steps: 20
single_episodes: 1
methods:
  bc: {{train: [policy=bc_mse, policy.net.width=32, policy.net.blocks=1], variants: {{one pass: []}}}}
  diffusion: {{train: [net.width=32, net.blocks=1], variants: {{ddim 2: [sampler=ddim, sampler.steps=2]}}}}
  unknown: {{train: [policy=nothing], variants: {{one pass: []}}}}
blocks:
  reach:
    data: {data}
    minutes: 5
    episodes: 3
    train: [task.demonstrations.episodes=6, training.batch_size=32, training.save_every=50, held_out=0.2]
    methods:
      bc: {{seeds: [0, 1], max_steps: 20}}
      diffusion: {{seeds: [0], max_steps: {steps}}}
      unknown: {{seeds: [0]}}
  pusht: {{minutes: 1, episodes: 3, methods: {{bc: {{seeds: [0]}}}}}}
claims:
  - {{block: reach, candidate: diffusion/ddim 2, reference: bc/one pass}}
"""
NAMED = ("name=small", "file=small.yaml", "run_folder=run")


def write_table(folder: Path, data: Path, steps: int = 30) -> None:
    (folder / "small.yaml").write_text(TABLE.format(data=data, steps=steps))


@pytest.mark.slow
def test_several_sittings_fill_the_table(reach_data: Path, tmp_path: Path) -> None:
    write_table(tmp_path, reach_data)
    before = Dataset.open(reach_data).fingerprint()
    first = output_of("table", *NAMED, "methods=[bc]", "only=[reach]", cwd=tmp_path)
    assert Dataset.open(reach_data).fingerprint() == before  # six episodes are all that the block wants
    assert "2 cells, 2 of them left" in first
    assert "reach bc: " in first
    again = output_of("table", *NAMED, "methods=[bc]", cwd=tmp_path)
    assert "3 cells, 1 of them left" in again
    assert "pusht bc seed 0 left empty: data/pusht is not there and task 'pusht' has no expert: add source=" in again
    log = (tmp_path / "runs/table/small/reach/bc_0.log").read_text()
    assert log.count("$ python scripts/train.py") == 1

    last = run_script("table", *NAMED, "only=[reach]", "workers=2", cwd=tmp_path)
    assert last.returncode == 1
    assert "reach unknown seed 0 failed: train.py ended with status 1" in last.stdout
    assert "Could not find 'policy/nothing'" in last.stdout
    assert last.stderr.startswith("error: 1 of 4 cells failed: reach unknown seed 0")

    document = json.loads((tmp_path / "docs/results/small.json").read_text())
    cells = {(cell["method"], cell["seed"]): cell for cell in document["cells"]}
    assert sorted(cells) == [("bc", 0), ("bc", 1), ("diffusion", 0)]
    assert (cells["bc", 0]["steps"], cells["diffusion", 0]["steps"]) == (20, 30)
    evaluated = cells["diffusion", 0]["variants"]["ddim 2"]
    assert len(evaluated["successes"]) == len(evaluated["max_rewards"].split()) == 3
    assert evaluated["milliseconds_per_control_step"] > 0
    assert "| diffusion | ddim 2 |" in (tmp_path / "docs/results/small.md").read_text()
    assert (tmp_path / "docs/results/small.svg").is_file()


@pytest.mark.slow
def test_a_killed_training_goes_on_and_a_changed_one_is_refused(reach_data: Path, tmp_path: Path) -> None:
    write_table(tmp_path, reach_data, steps=5000)
    chosen = (*NAMED, "only=[reach]", "methods=[diffusion]")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "table.py"), *chosen],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = tmp_path / "runs/table/small/reach/diffusion_0"
    deadline = time.monotonic() + 120
    while not any(folder.glob("checkpoints/step_*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert not (folder / "result.json").exists()

    assert "reach diffusion seed 0: 5000 steps" in output_of("table", *chosen, cwd=tmp_path)
    log = (folder.parent / "diffusion_0.log").read_text()
    assert "$ python scripts/train.py resume=runs/table/small/reach/diffusion_0" in log
    assert "steps 0 to 5000" in log.split("resume=")[0]
    assert "steps 0 to 5000" not in log.split("resume=")[1]

    write_table(tmp_path, reach_data, steps=4000)
    changed = run_script("table", *chosen, cwd=tmp_path)
    assert changed.returncode == 1
    assert "holds a run with training.steps=5000, the table asks for 4000 (differences in all: 1)" in changed.stdout
    output_of("table", *chosen, "ignore=[training.steps]", cwd=tmp_path)


def test_what_is_unknown_is_one_sentence(tmp_path: Path) -> None:
    sentence = refusal_of("table", "name=none", cwd=tmp_path)
    assert sentence.startswith("there is no table ")
    assert "methods" in sentence.rpartition(" has ")[2].split(", ")
    write_table(tmp_path, Path("data/reach"))
    assert refusal_of("table", *NAMED, "only=[lift]", cwd=tmp_path) == (
        "only=['lift'] is no choice from this table, expected a list of ['pusht', 'reach']"
    )
    assert refusal_of("table", *NAMED, "workers=0", cwd=tmp_path).startswith("workers=0 runs nothing")
