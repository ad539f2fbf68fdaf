from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damage import remove_array
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import CAMERA_SPEC, SMALL_SPEC, record_episode, small_dataset

from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.edit import delete, merge, verify
from robopolicy.errors import DatasetError, SpecError
from robopolicy.spec import ArraySpec


def test_a_good_dataset_verifies_and_reports_half_files(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [3, 5], CAMERA_SPEC, front="jpeg:90")
    half = dataset.path / "episode_000002.zarr.zip.partial"
    half.write_bytes(b"half")
    report = verify(dataset.path)
    assert report.ok
    assert (report.episodes, report.rows, report.unfinished) == (2, 8, (half,))


def test_verify_and_merge_tell_how_far_they_are(tmp_path: Path) -> None:
    small_dataset(tmp_path / "a", [2, 3])
    seen: list[tuple[int, int]] = []
    verify(tmp_path / "a", lambda *at: seen.append(at))
    merge([tmp_path / "a", tmp_path / "a"], tmp_path / "b", lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_every_damaged_episode_is_one_problem(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [4, 4, 4], CAMERA_SPEC, front="jpeg:90")
    first, second, _ = dataset.episode_paths
    data = bytearray(first.read_bytes())
    data[data.index(b"observation/front/c/2/0/0/0") + 300] ^= 1  # opens well: only decoding finds it
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-50])
    report = verify(dataset.path)
    assert not report.ok
    assert (report.episodes, report.rows) == (3, 4)
    assert ["episode_000000" in report.problems[0], "episode_000001" in report.problems[1]] == [True, True]
    assert len(report.problems) == 2


def test_an_episode_of_another_shape_is_a_problem(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [2])
    other = small_dataset(tmp_path / "o", [2], replace(SMALL_SPEC, observations={"state": ArraySpec((4,))}))
    other.episode_paths[0].rename(dataset.path / "episode_000001.zarr.zip")
    (problem,) = verify(dataset.path).problems
    assert "'observation/state'" in problem
    assert "(4,), the dataset says float32 (3,)" in problem


@pytest.mark.parametrize(
    "name", ["action_requested", "source", "time_ns", "observation_time_ns/state", "observation_sequence/state"]
)
def test_a_missing_array_is_a_problem(tmp_path: Path, name: str) -> None:
    dataset = small_dataset(tmp_path / "d", [2, 3])
    remove_array(dataset.episode_paths[1], name)
    report = verify(dataset.path)
    assert report.rows == 2
    (problem,) = report.problems
    assert f"episode_000001.zarr.zip' has no array '{name}'" in problem


def test_verify_needs_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset in"):
        verify(tmp_path)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=3))
def test_a_merge_holds_every_episode_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]]
) -> None:
    root = tmp_path_factory.mktemp("merge")
    sources = [small_dataset(root / str(index), rows) for index, rows in enumerate(lengths)]
    merged = merge([source.path for source in sources], root / "out")
    expected = [episode for source in sources for episode in source.episodes]
    assert [episode.number for episode in merged.episodes] == list(range(len(expected)))
    for found, wanted in zip(merged.episodes, expected, strict=True):
        assert found.facts.digest == wanted.facts.digest
        np.testing.assert_array_equal(found.read("action"), wanted.read("action"))
    assert [len(source.episodes) for source in sources] == [len(rows) for rows in lengths]


def test_a_merge_joins_versions(tmp_path: Path) -> None:
    small_dataset(tmp_path / "a", [1])
    Dataset.create(tmp_path / "b", spec=SMALL_SPEC, task="test", versions={"simulator": "2", "controller": "x"})
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert merged.versions == {"controller": "x", "simulator": "1 and 2"}


def test_a_merge_that_cannot_be_leaves_nothing(tmp_path: Path) -> None:
    small_dataset(tmp_path / "a", [2])
    small_dataset(tmp_path / "b", [2], replace(SMALL_SPEC, rate_hz=20.0))
    broken = small_dataset(tmp_path / "c", [2, 2])
    broken.episode_paths[1].write_bytes(b"gone")
    Dataset.create(tmp_path / "t", spec=SMALL_SPEC, task="other", versions={})
    before = sorted(path.name for path in tmp_path.iterdir())
    for sources, words in ((["a", "b"], "rate_hz is 20"), (["a", "c"], "damaged"), (["a", "t"], "task 'other'")):
        with pytest.raises((SpecError, DatasetError), match=words):
            merge([tmp_path / name for name in sources], tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    with pytest.raises(DatasetError, match="there already"):
        merge([tmp_path / "a"], tmp_path / "b")
    with pytest.raises(DatasetError, match="no datasets"):
        merge([], tmp_path / "out")


def test_a_deletion_is_a_dry_run_until_confirmed_and_can_be_undone(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [1, 2, 3])
    before = dataset.fingerprint()
    assert [file.name for file in delete(dataset.path, [1])] == ["episode_000001.zarr.zip"]
    assert dataset.fingerprint() == before
    delete(dataset.path, [1, 1], confirm=True)
    assert [episode.number for episode in Dataset.open(dataset.path).episodes] == [0, 2]
    moved = dataset.path / "deleted" / "episode_000001.zarr.zip"
    moved.rename(dataset.path / moved.name)
    assert Dataset.open(dataset.path).fingerprint() == before


def test_a_number_can_be_deleted_again(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [1])
    for _ in range(3):
        delete(dataset.path, [0], confirm=True)
        record_episode(dataset, 0, 2)
    assert len(list((dataset.path / "deleted").iterdir())) == 3
    assert dataset.episodes[0].length == 2


def test_a_wrong_number_deletes_nothing(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [1, 2])
    with pytest.raises(DatasetError, match=r"no episodes \[5\]; nothing was deleted"):
        delete(dataset.path, [0, 5], confirm=True)
    assert len(dataset.episodes) == 2


def test_a_damaged_episode_can_be_deleted(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [1, 2])
    dataset.episode_paths[0].write_bytes(b"")
    delete(dataset.path, [0], confirm=True)
    assert verify(dataset.path).ok
