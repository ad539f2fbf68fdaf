"""`scripts/collect.py`: as many episodes as asked for, the same ones whatever the number of workers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import zarr
from diary_robot import make_diary_robot
from script_runs import output_of, refusal_of

from robopolicy.configuration import load, plain
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.edit import verify
from robopolicy.dataset.windows import Windows
from robopolicy.errors import RenderingError
from robopolicy.jobs.collect import Target, attempts
from sim.gl import probe_gl


def test_it_collects_until_the_dataset_has_enough_and_then_more(reach_data: Path, tmp_path: Path) -> None:
    options = ("collect", "task=reach", "out=data/reach", "run_folder=run")
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
        (["task=reach", "failures=hide"], "failures=hide is unknown, expected discard or keep"),
        (["task=reach", "teleop=keyboard"], "teleop=keyboard is unknown, expected scripted"),
        (["task=reach", "codecs=jpeg"], "codecs=jpeg is no choice of codecs, expected such as codecs={image: jpeg:90}"),
        (["task=reach", "codecs={image: jpeg:90}"], "codecs are given for ['image'], but the image streams are []"),
        (["task=pusht"], "task 'pusht' has no scripted expert: import demonstrations with data.py action=import"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_made(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    assert refusal_of("collect", *options, "out=data/x", cwd=tmp_path).startswith(sentence)


def test_new_episodes_carry_the_versions_of_today(tmp_path: Path) -> None:
    """As when the simulator was upgraded between two collections."""
    task = plain(load("collect", ["task=reach"]).task)
    for first, version in ((0, "1.0"), (1, "2.0")):
        target = Target(tmp_path / "reach", {"mujoco": version}, None)
        assert [attempt.kept for attempt in attempts(task, target, 1, first, 1)] == [True]
    dataset = Dataset.open(tmp_path / "reach")
    assert dataset.versions == {"mujoco": "1.0"}
    assert [episode.metadata["versions"]["mujoco"] for episode in dataset.episodes] == ["1.0", "2.0"]


def test_a_workers_robot_is_started_on_one_thread_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    diary = tmp_path / "diary"
    task = {**plain(load("collect", ["task=reach"]).task), "robot": partial(make_diary_robot, diary)}
    assert len(list(attempts(task, Target(tmp_path / "reach", {}, None), 2, 0, 1))) == 2
    assert diary.read_text().split() == ["imported-with-1", "started", "closed"]


def test_a_camera_makes_an_image_dataset(tmp_path: Path) -> None:
    try:
        probe_gl()
    except RenderingError as error:
        pytest.skip(str(error))
    camera = ("task.robot.image_stream=true", "task.robot.image_size=48", "codecs={image: jpeg:90}")
    options = ("task=reach", "out=reach", "episodes=2", "workers=1", "run_folder=run")
    output_of("collect", *options, *camera, cwd=tmp_path)
    dataset = Dataset.open(tmp_path / "reach")
    assert dataset.codecs == {"image": "jpeg:90"}
    assert verify(dataset.path).ok
    first = dataset.episodes[0]
    with zarr.storage.ZipStore(first.path, mode="r") as store:
        frames = zarr.open_group(store, mode="r")["observation/image"][:]
    assert (frames.shape, frames.dtype) == ((first.length, 48, 48, 3), "uint8")
    assert frames.std() > 5
    assert not (frames[0] == frames[-1]).all()
    windows = Windows(dataset, observations=["image", "effector_position"], observation_steps=2, horizon=4)
    batch = windows.batch([0, first.length - 1, first.length])
    assert batch.observations["image"].shape == (3, 2, 48, 48, 3)
    assert (batch.observations["image"][1] == frames[-2:]).all()
    sentence = refusal_of("collect", *options, "more=1", cwd=tmp_path)
    assert "stream 'image' is missing" in sentence
