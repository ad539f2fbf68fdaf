"""The benchmarks run with tiny settings and say what they promise; how fast they are is no test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robopolicy.benchmarks import loading, recording
from robopolicy.benchmarks.frames import camera_frames
from robopolicy.dataset.codecs import Jpeg


def test_loading_reports_both_rates_and_cleans_up(tmp_path: Path) -> None:
    report = loading.run(episodes=2, rows=5, batch=8, image_batch=4, seconds=0.05, folder=str(tmp_path))
    assert report["windows"] == 10
    assert report["state_windows_per_s"] > 0
    assert report["image_windows_per_s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_recording_reports_the_first_and_the_last_episodes(tmp_path: Path) -> None:
    report = recording.run(episodes=3, seconds=0.1, compared=1, folder=str(tmp_path))
    for part in ("first", "last"):
        assert 0 < report[part]["step_p50_ms"] <= report[part]["step_p99_ms"] <= report[part]["step_max_ms"]
        assert report[part]["commit_max_ms"] > 0
    assert list(tmp_path.iterdir()) == []


def test_frames_move_and_compress_like_pictures_not_like_noise() -> None:
    frames = camera_frames(3, 96, 96)
    assert not np.array_equal(frames[0], frames[1])
    assert 0.05 < len(Jpeg(90).encode(frames[0])) / frames[0].nbytes < 0.4
