"""`scripts/doctor.py` and `scripts/bench.py`: findings in words and in JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

from script_runs import output_of, refusal_of


def test_the_doctor_has_a_finding_for_everything(tmp_path: Path) -> None:
    lines = output_of("doctor", "run_folder=run", cwd=tmp_path).splitlines()
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for name in ("machine", "python", "gpu", "package mujoco", "rendering"):
        assert any(line.startswith(name) and result[name] in line for line in lines)


def test_an_unknown_benchmark_lists_the_known_ones(tmp_path: Path) -> None:
    sentence = refusal_of("bench", "name=speed", cwd=tmp_path)
    known = "loading, recording, training, inference, experts, rendering, loop, samplers"
    assert sentence.startswith(f"name=speed is no benchmark, there are: {known}")
    assert refusal_of("bench", cwd=tmp_path) == "bench.py needs name=..."


def test_a_benchmark_leaves_its_figures(tmp_path: Path) -> None:
    tiny = {"episodes": 2, "rows": 5, "batch": 8, "image_batch": 4, "seconds": 0.05}
    options = [f"+benchmarks.loading.{name}={value}" for name, value in tiny.items()]
    assert "state_windows_per_s" in output_of("bench", "name=loading", *options, "run_folder=run", cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["name"], result["cores"]) == ("loading", os.cpu_count())
    assert result["figures"]["windows"] == 10


def test_a_device_reaches_those_benchmarks_that_compute_on_one(tmp_path: Path) -> None:
    sentence = refusal_of("bench", "name=loading", "device=cuda", cwd=tmp_path)
    assert sentence == "name=loading computes on no device, leave out device=cuda"
    for name in ("training", "inference"):
        assert refusal_of("bench", f"name={name}", "device=tpu", cwd=tmp_path).startswith("device=tpu is unknown")
