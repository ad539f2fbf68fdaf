"""Training and inference benchmarks with tiny settings: what they promise, not how fast it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robopolicy.benchmarks import inference, training
from robopolicy.errors import ConfigError


def test_training_reports_each_network_and_precision_and_cleans_up(tmp_path: Path) -> None:
    report = training.run(nets=["mlp"], steps=4, batch=8, rows=40, folder=str(tmp_path))
    assert set(report["steps_per_s"]["mlp"]) == {"32-true", "bf16-mixed"}
    assert min(report["steps_per_s"]["mlp"].values()) > 0
    assert report["device"].startswith("cpu")
    assert list(tmp_path.iterdir()) == []


def test_inference_reports_calls_and_chunks() -> None:
    report = inference.run(nets=["mlp"], batches=[1, 4], seconds=0.0)
    calls, chunks = report["milliseconds_per_call"]["mlp"], report["milliseconds_per_chunk"]["mlp"]
    assert {name: set(row) for name, row in calls.items()} == {"ddim": {"1", "4"}, "ddpm": {"1", "4"}}
    assert chunks["ddim"]["4"] == pytest.approx(calls["ddim"]["4"] / 4)
    assert report["steps"] == {"ddim": 10, "ddpm": 100}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("run", [training.run, inference.run])
def test_a_device_that_is_not_here_is_one_sentence(run: object) -> None:
    assert callable(run)
    with pytest.raises(ConfigError, match="device=cuda: torch finds no GPU on this machine"):
        run(device="cuda")
    with pytest.raises(ConfigError, match="device=tpu is unknown"):
        run(device="tpu")
