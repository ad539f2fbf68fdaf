"""The summary of a dataset: every number where it belongs, in words and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from damage import truncate
from recordings import CAMERA_SPEC, record_episode, small_dataset
from synthetic import make_dataset

from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.layout import episode_name
from robopolicy.dataset.summary import summarise
from robopolicy.errors import DatasetError


def test_counts_add_up(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "a", [4, 7], CAMERA_SPEC, front="jpeg:80")
    record_episode(dataset, 5, 3, success=None)
    record_episode(dataset, 6, 1, success=False)
    (tmp_path / "a" / f"{episode_name(9)}.partial").write_bytes(b"half")
    summary = summarise(dataset)
    assert (summary.numbers, summary.rows, summary.seconds) == ((0, 1, 5, 6), 15, 0.5)
    assert summary.successes == {"succeeded": 2, "unknown": 1, "failed": 1}
    assert summary.sources == {"policy": 7, "human": 8}
    assert summary.unfinished == ("episode_000009.zarr.zip.partial",)
    files = sum(path.stat().st_size for path in dataset.path.iterdir() if path.name != "index.json")
    assert files <= summary.size_bytes < files + 20_000
    states = np.concatenate([episode.read("observation/state") for episode in dataset.episodes])
    np.testing.assert_allclose(summary.statistics["observation/state"].mean, states.mean(axis=0), rtol=1e-6)


def test_the_text_names_streams_codecs_and_elements(tmp_path: Path) -> None:
    camera = str(summarise(small_dataset(tmp_path / "a", [4], CAMERA_SPEC, front="jpeg:80")))
    for words in ("uint8 [48, 64, 3]  codec jpeg:80", "uint16 [24, 32, 1]  codec blosc", "state [2]", "4 rows"):
        assert words in camera
    point = str(summarise(make_dataset(tmp_path / "b", episodes=2)))
    for words in ("position:2 (position, absolute)", "action position[1]", "goal [0]", "script: 24 rows"):
        assert words in point


def test_versions_of_dataset_and_episodes_are_joined(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "a", [4])
    newer = Dataset.open_or_create(
        dataset.path, spec=dataset.spec, task="test", versions={"simulator": "2", "controller": "b"}
    )
    record_episode(newer, 1, 3)
    assert summarise(newer).versions == {"controller": "b", "simulator": "1 and 2"}


def test_an_empty_dataset_has_a_summary_too(tmp_path: Path) -> None:
    summary = summarise(small_dataset(tmp_path / "a", []))
    assert (summary.numbers, summary.rows, summary.statistics) == ((), 0, {})
    assert "episodes    0; 0 rows" in str(summary)
    assert json.loads(json.dumps(summary.json()))["episodes"] == 0


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "a", [4, 5])
    truncate(dataset.episode_paths[1])
    with pytest.raises(DatasetError, match=r"episode_000001\.zarr\.zip' is damaged"):
        summarise(Dataset.open(dataset.path))
