"""`scripts/data.py`: a summary, a verdict, imports that are complete or not at all, merging, deleting."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from damage import corrupt, truncate
from recordings import small_dataset
from script_runs import output_of, refusal_of, run_script
from shared import shared_data

from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.layout import episode_name
from robopolicy.dataset.windows import Windows
from sim.lift import LiftSimulation, make_environment
from sim.pusht import keypoints_from_pose


def result(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "run" / "result.json").read_text())
    return data


def replay_store(path: Path, lengths: list[int]) -> np.ndarray:
    """A small Push-T store of Diffusion Policy's layout; returns its states."""
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    states = rng.uniform(0, 500, (rows, 5)).astype(np.float32)
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root["data/state"] = states
    root["data/action"] = rng.integers(0, 512, (rows, 2)).astype(np.float32)
    root["meta/episode_ends"] = np.cumsum(lengths)
    return states


def test_info_says_what_there_is(reach_data: Path, tmp_path: Path) -> None:
    text = output_of("data", "action=info", f"data={reach_data}", "run_folder=run", cwd=tmp_path)
    dataset = Dataset.open(reach_data)
    rows = sum(episode.length for episode in dataset.episodes)
    for words in (
        "task reach on robot reach at 10 Hz",
        f"6, numbers 0 to 5; {rows:,} rows",
        "6 succeeded",
        f"script: {rows:,} rows",
        "effector_position  float32 [2]  m  in world",
        "action position[1]",
    ):
        assert words in text
    found = result(tmp_path)
    assert (found["action"], found["episodes"], found["rows"]) == ("info", 6, rows)
    assert found["statistics"]["action"]["count"] == rows


def test_verify_passes_a_good_dataset_and_reports_unfinished_recordings(reach_data: Path, tmp_path: Path) -> None:
    shutil.copytree(reach_data, tmp_path / "reach")
    (tmp_path / "reach" / f"{episode_name(9)}.partial").write_bytes(b"half")
    text = output_of("data", "action=verify", "data=reach", "run_folder=run", cwd=tmp_path)
    assert "reach: 6 episodes" in text
    assert "unfinished, ignored by all readers: reach/episode_000009.zarr.zip.partial" in text
    assert result(tmp_path)["unfinished"] == ["reach/episode_000009.zarr.zip.partial"]


def test_verify_names_every_damaged_file_and_fails(reach_data: Path, tmp_path: Path) -> None:
    shutil.copytree(reach_data, tmp_path / "reach")
    truncate(tmp_path / "reach" / episode_name(1))
    corrupt(tmp_path / "reach" / episode_name(4))
    run = run_script("data", "action=verify", "data=reach", "run_folder=run", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("error: reach has 2 damaged of 6 episodes (named above): ")
    assert run.stderr.count("\n") == 1
    assert [name for number in range(6) if (name := episode_name(number)) in run.stdout] == [
        episode_name(1),
        episode_name(4),
    ]
    assert not (tmp_path / "run").exists()


def test_a_replay_store_becomes_a_dataset_of_the_task(tmp_path: Path) -> None:
    states = replay_store(tmp_path / "store.zarr", [5, 3])
    output_of("data", "action=import", "source=store.zarr", "task=pusht", "data=out", "run_folder=run", cwd=tmp_path)
    assert result(tmp_path)["episodes"] == 2
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.versions == {"imported from": "diffusion_policy store.zarr"}
    poses = np.concatenate([episode.read("observation/block_pose") for episode in dataset.episodes])
    np.testing.assert_array_equal(poses, states[:, 2:])
    keypoints = np.concatenate([episode.read("observation/keypoints") for episode in dataset.episodes])
    np.testing.assert_allclose(keypoints, keypoints_from_pose(states[:, 2:]).reshape(-1, 18), atol=1e-3)


def test_recorded_images_are_imported_with_a_codec(tmp_path: Path) -> None:
    source = zarr.open_group(shared_data("pusht") / "pusht_cchi_v7_replay.zarr", mode="r", zarr_format=2)
    ends = np.asarray(source["meta/episode_ends"][:2])
    small = zarr.open_group(tmp_path / "two.zarr", mode="w", zarr_format=2)
    for name in ("state", "action", "img"):
        small[f"data/{name}"] = np.asarray(source[f"data/{name}"][: ends[-1]])
    small["meta/episode_ends"] = ends
    options = ("action=import", "source=two.zarr", "task=pusht", "task.robot.image_stream=true", "data=out")
    assert "rows of shape (96, 96, 3), expected (192, 192, 3)" in refusal_of("data", *options, cwd=tmp_path)
    options = (*options, "task.robot.image_size=96", "codecs={image: jpeg:95}", "run_folder=run")
    output_of("data", *options, cwd=tmp_path)
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.codecs == {"image": "jpeg:95"}
    assert [episode.length for episode in dataset.episodes] == [ends[0], ends[1] - ends[0]]
    with zarr.storage.ZipStore(dataset.episode_paths[1], mode="r") as store:
        frames = np.asarray(zarr.open_group(store, mode="r")["observation/image"][:5])
    recorded = np.asarray(small["data/img"][ends[0] : ends[0] + 5])
    assert np.abs(frames - recorded).mean() < 4
    batch = Windows(dataset, observations=["image"], observation_steps=2, horizon=2).batch([int(ends[0]) + 4])
    np.testing.assert_array_equal(batch.observations["image"][0], frames[3:])


def test_a_demonstration_without_states_is_read_from_its_observations(tmp_path: Path) -> None:
    """The present simulator's own observations, as robomimic stores them, give the streams of the task."""
    simulation, environment, seen, observed = LiftSimulation(), make_environment(use_object_obs=True), [], []
    for _ in range(4):
        environment.reset()
        observed.append(environment._get_observations(force_update=True))
        seen.append(simulation.observe_at(environment.sim.data._data.qpos))
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        file["data/demo_0/actions"] = np.zeros((4, 7))
        for name in ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"):
            file[f"data/demo_0/obs/{name}"] = np.stack([row[name] for row in observed])
        file["data/demo_0/obs/object"] = np.stack([row["object-state"] for row in observed])
    options = ("action=import", "source=demo.hdf5", "task=lift", "data=out", "run_folder=run")
    output_of("data", *options, cwd=tmp_path)
    episode = Dataset.open(tmp_path / "out").episodes[0]
    for name in seen[0]:
        expected = np.stack([row[name] for row in seen])
        np.testing.assert_allclose(episode.read(f"observation/{name}"), expected, atol=1e-5, err_msg=name)
    poses = np.stack([row["end_effector_pose"] for row in seen])
    np.testing.assert_allclose(episode.read("action")[:, :9], poses, atol=1e-5)


def test_an_import_that_fails_leaves_nothing(tmp_path: Path) -> None:
    replay_store(tmp_path / "nan.zarr", [5, 3])
    root = zarr.open_group(tmp_path / "nan.zarr", mode="r+", zarr_format=2)
    broken = np.asarray(root["data/state"][:])
    broken[6, 1] = np.nan
    root["data/state"] = broken
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    for options, words in (
        (["source=nan.zarr", "task=pusht", "data=out"], "episode 1 of 'nan.zarr', stream 'agent_position' is not fini"),
        (["source=none.zarr", "task=pusht", "data=out"], "there is no replay store 'none.zarr'"),
        (["source=nan.zarr", "task=pusht", "data=full"], "'full' is there already"),
        (["source=notes.txt", "task=pusht", "data=out"], "the name of 'notes.txt' does not tell its format"),
        (["source=nan.zarr", "task=reach", "data=out"], "task 'reach' cannot read diffusion_policy"),
        (["source=nan.zarr", "task=pusht", "data=out", "format=csv"], "format=csv is unknown"),
        (["source=nan.zarr", "data=out"], "action=import needs source="),
    ):
        assert refusal_of("data", "action=import", *options, cwd=tmp_path).startswith(words)


def test_merge_joins_and_delete_takes_out(reach_data: Path, tmp_path: Path) -> None:
    merge = ("data", "action=merge", f"source=[{reach_data},{reach_data}]", "data=both", "run_folder=run")
    assert "both: 12 episodes" in output_of(*merge, cwd=tmp_path)
    assert refusal_of(*merge, cwd=tmp_path).startswith("'both' is there already")
    delete = ("data", "action=delete", "data=both", "episodes=[3,11]", "run_folder=run")
    assert "would take out episode_000003.zarr.zip, episode_000011.zarr.zip" in output_of(*delete, cwd=tmp_path)
    assert len(Dataset.open(tmp_path / "both").episodes) == 12
    output_of(*delete, "confirm=true", cwd=tmp_path)
    assert result(tmp_path)["deleted"] is True
    left = [episode.number for episode in Dataset.open(tmp_path / "both").episodes]
    assert left == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert (tmp_path / "both" / "deleted" / episode_name(3)).exists()
    assert refusal_of(*delete, "confirm=true", cwd=tmp_path).endswith("has no episodes [3, 11]; nothing was deleted")


def test_datasets_of_different_robots_are_not_merged(reach_data: Path, tmp_path: Path) -> None:
    small_dataset(tmp_path / "small", [3])
    sentence = refusal_of("data", "action=merge", f"source=[{reach_data},small]", "data=out", cwd=tmp_path)
    assert "does not fit dataset 'small': stream 'effector_position' is missing" in sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["action=erase"], "action=erase is unknown, expected one of info, verify, import, merge, delete"),
        (["action=info", "episodes=[1]"], "action=info takes no episodes=..., leave it out"),
        (["action=verify", "task=reach"], "action=verify takes no task=..., leave it out"),
        (["action=delete"], "action=delete needs episodes=[3,5] (their numbers), got episodes=None"),
        (["action=delete", "episodes=first"], "action=delete needs episodes=[3,5] (their numbers), got episodes=first"),
        (["action=merge", "source=a"], "action=merge needs source=[a,b]"),
    ],
)
def test_options_that_do_not_belong_are_refused(tmp_path: Path, options: list[str], words: str) -> None:
    assert refusal_of("data", *options, "data=x", cwd=tmp_path).startswith(words)


@pytest.mark.slow
def test_robosuites_own_lift_demonstrations_are_imported_and_lift_the_cube_again(tmp_path: Path) -> None:
    source = shared_data("robosuite_lift") / "demo.hdf5"
    output_of("data", "action=import", f"source={source}", "task=lift", "data=human", "run_folder=run", cwd=tmp_path)
    dataset = Dataset.open(tmp_path / "human")
    assert [episode.length for episode in dataset.episodes] == [482, 510, 392]
    assert {source for episode in dataset.episodes for source in episode.sources()} == {"human"}
    text = output_of("replay", "task=lift", "data=human", "run_folder=run", cwd=tmp_path)
    assert "success: 3 of 3" in text
    for episode in result(tmp_path)["episodes"]:
        assert episode["errors"]["end_effector_pose"] < 0.1
        assert episode["errors"]["cube_position"] < 0.01


@pytest.mark.slow
def test_the_human_push_t_episodes_are_imported_and_replay_to_two_pixels(tmp_path: Path) -> None:
    source = shared_data("pusht") / "pusht_cchi_v7_replay.zarr"
    output_of("data", "action=import", f"source={source}", "task=pusht", "data=human", "run_folder=run", cwd=tmp_path)
    assert result(tmp_path)["episodes"] == 186
    output_of("replay", "task=pusht", "data=human", "run_folder=run", cwd=tmp_path)
    replayed = result(tmp_path)
    assert (replayed["within"]["count"], replayed["filter_changes"], replayed["tolerance"]) == (186, 0, 2.0)
    assert replayed["within"]["estimate"] >= 0.9
