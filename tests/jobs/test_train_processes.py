"""`scripts/train.py` when its process is killed, and when there are two of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from script_runs import SCRIPTS, TINY, output_of

CPU = ("training.accelerator=cpu",)


def weights(run: Path, step: int) -> dict[str, np.ndarray]:
    return load_file(run / f"checkpoints/step_{step:08d}/weights.safetensors")


def started(*command: str, cwd: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *command], cwd=cwd, env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_checkpoint_bit_for_bit(reach_data: Path, tmp_path: Path) -> None:
    options = ("task=reach", f"data={reach_data}", *TINY, *CPU, "training.steps=90", "training.save_every=30")
    output_of("train", *options, "run_folder=whole", cwd=tmp_path)
    process = started(str(SCRIPTS / "train.py"), *options, "run_folder=killed", cwd=tmp_path)
    first, deadline = tmp_path / "killed/checkpoints/step_00000030/policy.json", time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert first.exists()
    assert not (tmp_path / "killed" / "result.json").exists()
    output_of("train", "resume=killed", cwd=tmp_path)
    whole, resumed = weights(tmp_path / "whole", 90), weights(tmp_path / "killed", 90)
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name], values, err_msg=name)


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_twice_the_batch(reach_data: Path, tmp_path: Path) -> None:
    options = ("task=reach", f"data={reach_data}", *TINY, *CPU, "training.steps=12")
    output_of("train", *options, "training.batch_size=32", "run_folder=one", cwd=tmp_path)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPTS / "train.py"))
    process = started(*torchrun, *options, "training.batch_size=16", "run_folder=two", cwd=tmp_path)
    assert process.wait(timeout=240) == 0
    one, two = weights(tmp_path / "one", 12), weights(tmp_path / "two", 12)
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len((tmp_path / "one" / "metrics.jsonl").read_text().splitlines())
