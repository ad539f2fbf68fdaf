"""What recording costs the control loop: two 640x480 cameras, episodes of 3 s at 30 Hz, from the first to the last."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.benchmarks.frames import camera_frames
from robopolicy.control.clock import WallClock
from robopolicy.control.loop import Tick
from robopolicy.control.robot import Sample
from robopolicy.dataset.dataset import Dataset
from robopolicy.spec import ArraySpec, RobotSpec

_CAMERAS = ("left", "right")


def run(
    *,
    episodes: int = 200,
    seconds: float = 3.0,
    rate_hz: float = 30.0,
    codec: str = "jpeg:90",
    pace_all: bool = False,
    compared: int = 3,
    folder: str | None = None,
) -> dict[str, Any]:
    """Records `episodes` into one dataset in a temporary folder (below `folder`).

    The first and the last `compared` episodes keep the rate; those between do only with `pace_all`. Returns, for the
    first and for the last ones, the milliseconds that `record` took in the loop's thread and those of `commit`.
    """
    streams = {"state": ArraySpec((20,)), **{name: ArraySpec((480, 640, 3), "uint8") for name in _CAMERAS}}
    spec = RobotSpec("benchmark", streams, ArraySpec((10,)), rate_hz)
    frames = camera_frames(30, 480, 640)
    steps_ms, commits_ms = [], []
    with tempfile.TemporaryDirectory(dir=folder) as root:
        dataset = Dataset.create(
            Path(root) / "recording", spec=spec, task="benchmark", versions={}, codecs=dict.fromkeys(_CAMERAS, codec)
        )
        for number in range(episodes):
            paced = pace_all or number < compared or number >= episodes - compared
            step_ms, commit_ms = _record_episode(dataset, number, frames, round(seconds * rate_hz), paced)
            steps_ms.append(step_ms)
            commits_ms.append(commit_ms)
    return {
        "episodes": episodes,
        "cameras": f"{len(_CAMERAS)} of 640x480, {codec}",
        "first": _summary(steps_ms[:compared], commits_ms[:compared]),
        "last": _summary(steps_ms[-compared:], commits_ms[-compared:]),
    }


def _record_episode(
    dataset: Dataset, number: int, frames: NDArray[np.uint8], rows: int, paced: bool
) -> tuple[list[float], float]:
    clock, period_ns, took_ms = WallClock(), dataset.spec.period_ns, []
    rng = np.random.default_rng(number)
    with dataset.writer(number, wait_for_encoder=not paced) as writer:
        start_ns = clock.now_ns()
        for step in range(rows):
            now_ns = start_ns + step * period_ns
            images = {name: Sample(frames[(step + k) % len(frames)], now_ns, step) for k, name in enumerate(_CAMERAS)}
            observation = {"state": Sample(rng.normal(size=20), now_ns, step), **images}
            action = rng.normal(size=10)
            tick = Tick(step, now_ns, observation, action, action, "script", {"energy": 0.0})
            before = time.perf_counter()
            writer.record(tick)
            took_ms.append(1e3 * (time.perf_counter() - before))
            if paced:
                clock.sleep_until(now_ns + period_ns)
        before = time.perf_counter()
        writer.commit(stop_reason="done", success=None, metadata={"seed": number})
        return took_ms, 1e3 * (time.perf_counter() - before)


def _summary(steps_ms: list[list[float]], commits_ms: list[float]) -> dict[str, float]:
    took = np.concatenate(steps_ms)
    return {
        "step_p50_ms": float(np.percentile(took, 50)),
        "step_p99_ms": float(np.percentile(took, 99)),
        "step_max_ms": float(took.max()),
        "commit_max_ms": max(commits_ms),
    }
