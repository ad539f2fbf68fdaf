"""How many training windows a second: small streams from RAM, and pairs of 96x96 JPEG frames from episode files."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy.benchmarks.frames import camera_frames
from robopolicy.control.loop import Tick
from robopolicy.control.robot import Sample
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.windows import Windows
from robopolicy.spec import ArraySpec, RobotSpec


def run(
    *,
    episodes: int = 100,
    rows: int = 120,
    batch: int = 256,
    image_batch: int = 64,
    seconds: float = 3.0,
    horizon: int = 16,
    codec: str = "jpeg:90",
    folder: str | None = None,
) -> dict[str, Any]:
    """Makes a dataset in a temporary folder (below `folder`), then reads random windows for `seconds` twice over.

    Returns `state_windows_per_s`, `image_windows_per_s` (both the whole batch as a training gets it) and the settings.
    """
    with tempfile.TemporaryDirectory(dir=folder) as root:
        dataset = _dataset(Path(root) / "loading", episodes, rows, codec)
        state = Windows(dataset, observations=["state"], observation_steps=2, horizon=horizon)
        images = Windows(dataset, observations=["image", "state"], observation_steps=2, horizon=horizon)
        return {
            "state_windows_per_s": _rate(state, batch, seconds),
            "image_windows_per_s": _rate(images, image_batch, seconds),
            "batch": batch,
            "image_batch": image_batch,
            "observation_steps": 2,
            "horizon": horizon,
            "image": f"96x96x3 {codec}",
            "windows": len(state),
        }


def _rate(windows: Windows, batch: int, seconds: float) -> float:
    rng = np.random.default_rng(0)
    windows.batch(rng.integers(len(windows), size=batch))
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        requests = [rng.integers(len(windows), size=batch) for _ in range(20)]
        for part in windows.batches(requests):
            count += len(part.actions)
    return count / elapsed


def _dataset(path: Path, episodes: int, rows: int, codec: str) -> Dataset:
    streams = {"state": ArraySpec((20,)), "image": ArraySpec((96, 96, 3), "uint8")}
    spec = RobotSpec("benchmark", streams, ArraySpec((10,)), 10.0)
    dataset = Dataset.create(path, spec=spec, task="benchmark", versions={}, codecs={"image": codec})
    frames = camera_frames(60, 96, 96)
    rng = np.random.default_rng(0)
    for number in range(episodes):
        with dataset.writer(number, wait_for_encoder=True) as writer:
            for step in range(rows):
                now = step * spec.period_ns
                state = Sample(rng.normal(size=20), now, step)
                image = Sample(frames[(step + number) % len(frames)], now, step)
                action = rng.normal(size=10)
                writer.record(Tick(step, now, {"state": state, "image": image}, action, action, "script", {}))
            writer.commit(stop_reason="done", success=None, metadata={})
    return dataset
