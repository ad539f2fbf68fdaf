"""`scripts/collect.py`: as many episodes as asked for, the same ones whatever the number of workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from script_runs import output_of, refusal_of

from robopolicy.dataset.dataset import Dataset


def test_it_collects_until_the_dataset_has_enough_and_then_more(reach_data: Path, tmp_path: Path) -> None:
    options = ("collect", "task=reach", "data=data/reach", "run_folder=run")
    output_of(*options, "episodes=4", "workers=2", cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["episodes"], result["new_episodes"], result["failed_attempts"]) == (4, 4, 0)
    assert result["counters"].get("limited", 0) == result["counters"].get("shortened", 0) == 0
    output_of(*options, "more=2", "workers=1", cwd=tmp_path)
    dataset = Dataset.open(tmp_path / "data" / "reach")
    assert dataset.fingerprint() == Dataset.open(reach_data).fingerprint()
    for episode in dataset.episodes:
        assert episode.metadata["seed"] == episode.number
        assert episode.metadata["success"] is True
        assert set(episode.sources()) == {"script"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["task=reach", "seed=4999", "episodes=2"], "episode 5000 is no demonstration seed (0 to 4999)"),
        (["task=reach", "more=some"], "more=some is no number of episodes"),
        (["task=reach", "teleop=keyboard"], "teleop=keyboard is unknown, expected scripted"),
        (["task=pusht"], "task 'pusht' has no scripted expert: import demonstrations with data.py action=import"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_made(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    assert refusal_of("collect", *options, "data=data/x", cwd=tmp_path).startswith(sentence)
