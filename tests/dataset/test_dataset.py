from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import CAMERA_SPEC, SMALL_SPEC, make_tick, record_episode, small_dataset

from robopolicy.dataset.dataset import Dataset
from robopolicy.errors import DatasetError, SpecError
from robopolicy.spec import ArraySpec, RobotSpec


def test_an_opened_dataset_equals_the_created_one(tmp_path: Path) -> None:
    made = small_dataset(tmp_path / "d", [2, 3], CAMERA_SPEC, front="jpeg:90")
    found = Dataset.open(tmp_path / "d")
    assert found.spec == made.spec
    assert found.spec.observations == made.spec.observations
    assert (found.task, found.versions) == ("test", {"simulator": "1"})
    assert found.codecs == {"front": "jpeg:90", "depth": "blosc"}
    assert [episode.length for episode in found.episodes] == [2, 3]
    assert found.fingerprint() == made.fingerprint()


def test_numbers_go_on_after_the_highest_one(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [])
    assert dataset.next_number() == 0
    record_episode(dataset, 7, 2)
    record_episode(dataset, 1_234_567, 2)
    assert dataset.next_number() == 1_234_568
    assert [episode.number for episode in dataset.episodes] == [7, 1_234_567]


def test_an_episode_is_never_overwritten(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [2])
    before = dataset.episode_paths[0].read_bytes()
    with pytest.raises(DatasetError, match="there already"):
        dataset.writer(0)
    assert dataset.episode_paths[0].read_bytes() == before
    assert not dataset.unfinished


def test_one_number_has_one_writer_and_an_abandoned_file_is_taken_over(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [])
    (dataset.path / "episode_000000.zarr.zip.partial").write_bytes(b"left by a crash" * 1000)
    assert [path.name for path in dataset.unfinished] == ["episode_000000.zarr.zip.partial"]
    assert dataset.episodes == ()
    with dataset.writer(0) as writer:
        with pytest.raises(DatasetError, match="another process"):
            dataset.writer(0)
        writer.record(make_tick(SMALL_SPEC, 0, np.random.default_rng(0)))
        writer.commit(stop_reason="done", success=True, metadata={})
    assert dataset.unfinished == ()
    assert dataset.episodes[0].length == 1


def _record_many(path: Path, numbers: list[int]) -> None:
    dataset = Dataset.open_or_create(path, spec=CAMERA_SPEC, task="test", versions={}, codecs={"front": "jpeg:90"})
    for number in numbers:
        record_episode(dataset, number, 3 + number % 4)
        assert number in [episode.number for episode in dataset.episodes]


def test_processes_may_write_one_dataset_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    shares = [list(range(start, 30, 3)) for start in range(3)]
    workers = [context.Process(target=_record_many, args=(tmp_path / "d", share)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    dataset = Dataset.open(tmp_path / "d")
    assert [(e.number, e.length) for e in dataset.episodes] == [(number, 3 + number % 4) for number in range(30)]
    assert dataset.unfinished == ()
    assert dataset.episodes[29].read("observation/front").shape == (4, 48, 64, 3)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1, "episodes": {"a": 3}}', None])
def test_the_index_may_be_deleted_or_damaged_at_any_time(tmp_path: Path, content: str | None) -> None:
    expected = small_dataset(tmp_path / "d", [2, 3]).fingerprint()
    index = tmp_path / "d" / "index.json"
    assert set(json.loads(index.read_text())["episodes"]) == {"episode_000000.zarr.zip", "episode_000001.zarr.zip"}
    if content is None:
        index.unlink()
    else:
        index.write_text(content)
    found = Dataset.open(tmp_path / "d")
    assert found.fingerprint() == expected
    assert [episode.metadata["seed"] for episode in found.episodes] == [0, 1]


def test_the_index_is_used_and_gives_the_same_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small_dataset(tmp_path / "d", [4]).episodes[0].facts
    monkeypatch.setattr("robopolicy.dataset.episode.read_members", None)
    again = Dataset.open(tmp_path / "d").episodes[0].facts
    assert again.to_json() == first.to_json()


def test_a_dataset_is_not_created_twice(tmp_path: Path) -> None:
    small_dataset(tmp_path / "d", [1])
    with pytest.raises(DatasetError, match="already"):
        small_dataset(tmp_path / "d", [])
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["dataset.json", "episode_000000.zarr.zip"]


OTHERS = [
    (replace(SMALL_SPEC, rate_hz=20.0), "rate_hz is 20, expected 10"),
    (replace(SMALL_SPEC, action=ArraySpec((3,))), r"action: shape is \(3,\), expected \(2,\)"),
    (replace(SMALL_SPEC, observations={"pose": ArraySpec((3,))}), "stream 'state' is missing"),
    (replace(SMALL_SPEC, observations={"state": ArraySpec((3,), "float64")}), "dtype is 'float64'"),
    (replace(SMALL_SPEC, observations={"state": ArraySpec((3,)), "more": ArraySpec((1,))}), "no stream .'more'."),
]


@pytest.mark.parametrize(("spec", "words"), OTHERS)
def test_another_robot_is_refused_with_the_difference(tmp_path: Path, spec: RobotSpec, words: str) -> None:
    small_dataset(tmp_path / "d", [1])
    with pytest.raises(SpecError, match=words):
        Dataset.open_or_create(tmp_path / "d", spec=spec, task="test", versions={})


def test_another_task_or_codec_is_refused(tmp_path: Path) -> None:
    small_dataset(tmp_path / "d", [], CAMERA_SPEC, front="jpeg:90")
    with pytest.raises(DatasetError, match="holds task 'test', not 'other'"):
        Dataset.open_or_create(tmp_path / "d", spec=CAMERA_SPEC, task="other", versions={})
    with pytest.raises(DatasetError, match="codec 'jpeg:90', not 'blosc'"):
        Dataset.open_or_create(tmp_path / "d", spec=CAMERA_SPEC, task="test", versions={}, codecs={"front": "blosc"})


def test_a_reopened_dataset_goes_on_with_the_versions_of_today(tmp_path: Path) -> None:
    small_dataset(tmp_path / "d", [2])
    dataset = Dataset.open_or_create(tmp_path / "d", spec=SMALL_SPEC, task="test", versions={"simulator": "2"})
    record_episode(dataset, 1, 2)
    assert [episode.metadata["versions"]["simulator"] for episode in dataset.episodes] == ["1", "2"]


def test_depth_refuses_a_lossy_codec_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="stream 'depth'"):
        small_dataset(tmp_path / "d", [], CAMERA_SPEC, depth="jpeg:90")
    with pytest.raises(DatasetError, match="'state'.* image streams are"):
        small_dataset(tmp_path / "d", [], CAMERA_SPEC, state="jpeg:90")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_hold_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(DatasetError, match="no dataset in"):
            Dataset.open(path)
    with pytest.raises(DatasetError, match="is a file"):
        small_dataset(tmp_path / "file", [])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 2}'])
def test_a_damaged_or_newer_description_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=r"dataset.json' (is damaged|has schema version 2)"):
        Dataset.open(tmp_path)
