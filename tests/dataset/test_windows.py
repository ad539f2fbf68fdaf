from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import CAMERA_SPEC, SMALL_SPEC, small_dataset

from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.statistics import dataset_statistics
from robopolicy.dataset.windows import Windows, split, window_rows
from robopolicy.errors import DatasetError
from robopolicy.spec import ArraySpec

LENGTHS = [5, 1, 9]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("windows") / "d", LENGTHS, CAMERA_SPEC, front="jpeg:90")


def naive_rows(step: int, start: int, stop: int, past: int, future: int) -> tuple[list[int], list[int]]:
    """One row at a time, as one would explain it."""
    observations, actions = [], []
    for back in reversed(range(past)):
        row = step - back
        while row < start:
            row += 1
        observations.append(row)
    for ahead in range(future):
        row = step + ahead
        while row >= stop:
            row -= 1
        actions.append(row)
    return observations, actions


@given(st.integers(0, 50), st.integers(1, 30), st.data(), st.integers(1, 9), st.integers(0, 20))
def test_rows_equal_a_naive_reference(start: int, length: int, data: st.DataObject, past: int, future: int) -> None:
    stop = start + length
    step = data.draw(st.integers(start, stop - 1))
    observations, actions = window_rows(step, start=start, stop=stop, observation_steps=past, horizon=future)
    assert (observations.tolist(), actions.tolist()) == naive_rows(step, start, stop, past, future)


@given(st.integers(1, 9), st.integers(1, 5))
def test_a_deployed_history_is_the_beginning_of_an_episode(seen: int, past: int) -> None:
    deployed, none = window_rows(seen - 1, start=0, stop=seen, observation_steps=past, horizon=0)
    trained, _ = window_rows(seen - 1, start=0, stop=100, observation_steps=past, horizon=4)
    assert none.shape == (0,)
    np.testing.assert_array_equal(deployed, trained)


def test_every_window_equals_slicing_its_episode(dataset: Dataset) -> None:
    windows = Windows(dataset, observations=["state", "front", "depth"], observation_steps=3, horizon=4)
    assert len(windows) == sum(LENGTHS)
    batch = windows.batch(np.arange(len(windows)))
    index = 0
    for episode in dataset.episodes:
        arrays = {name: episode.read(f"observation/{name}") for name in ("state", "front", "depth")}
        actions = episode.read("action").astype(np.float32)
        for step in range(episode.length):
            past, future = naive_rows(step, 0, episode.length, 3, 4)
            for name, array in arrays.items():
                np.testing.assert_array_equal(batch.observations[name][index], array[past])
            np.testing.assert_array_equal(batch.actions[index], actions[future])
            index += 1
    assert batch.actions.dtype == batch.observations["state"].dtype == np.float32
    assert batch.observations["front"].dtype == np.uint8
    assert batch.observations["depth"].dtype == np.uint16


def test_images_kept_in_memory_are_those_of_the_files(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    names, total = ["state", "front", "depth"], sum(LENGTHS) * (48 * 64 * 3 + 24 * 32 * 2)
    read, kept = (
        Windows(dataset, observations=names, observation_steps=2, horizon=1, image_memory=memory)
        for memory in (total - 1, total)
    )
    expected = read.batch(np.arange(len(read)))
    monkeypatch.setattr(Episode, "frame_into", None)
    found = kept.batch(np.arange(len(kept)))
    for name in names:
        assert found.observations[name].dtype == expected.observations[name].dtype
        np.testing.assert_array_equal(found.observations[name], expected.observations[name])
    with pytest.raises(TypeError):
        read.batch([0])


def test_a_batch_keeps_the_order_asked_for_and_batches_theirs(dataset: Dataset) -> None:
    windows = Windows(dataset, observations=["state", "front"], observation_steps=2, horizon=2)
    rng = np.random.default_rng(0)
    requests = [rng.integers(len(windows), size=4) for _ in range(12)]
    whole = windows.batch(np.arange(len(windows)))
    for prefetch in (0, 1, 3):
        found = list(windows.batches(requests, prefetch))
        assert len(found) == len(requests)
        for indices, batch in zip(requests, found, strict=True):
            np.testing.assert_array_equal(batch.actions, whole.actions[indices])
            np.testing.assert_array_equal(batch.observations["front"], whole.observations["front"][indices])


def test_leaving_the_iterator_early_ends_its_threads_and_reads_little_ahead(dataset: Dataset) -> None:
    windows = Windows(dataset, observations=["state"], observation_steps=1, horizon=1)
    asked = 0

    def requests() -> Iterator[list[int]]:
        nonlocal asked
        while True:
            asked += 1
            yield [0]

    batches = windows.batches(requests(), prefetch=2)
    next(batches)
    assert asked == 3
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("window prefetch")]


def test_an_error_while_reading_ahead_reaches_the_caller(dataset: Dataset) -> None:
    windows = Windows(dataset, observations=["state"], observation_steps=1, horizon=1)
    batches = windows.batches([[0], [len(windows)], [0]])
    next(batches)
    with pytest.raises(IndexError, match="there are 15 windows"):
        list(batches)


def test_a_damaged_frame_is_an_error_in_the_batch_that_needs_it(tmp_path: Path) -> None:
    damaged = small_dataset(tmp_path / "d", [6], CAMERA_SPEC, front="jpeg:90")
    windows = Windows(damaged, observations=["front"], observation_steps=1, horizon=1)
    data = bytearray(damaged.episode_paths[0].read_bytes())
    place = data.index(b"observation/front/c/3/0/0/0") + 400
    data[place] ^= 0xFF
    with damaged.episode_paths[0].open("r+b") as file:  # in place: the map sees it
        file.write(data)
    windows.batch([0, 1, 2, 4])
    with pytest.raises(DatasetError, match="damaged"):
        windows.batch([2, 3])


def test_values_that_are_not_finite_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small_dataset(tmp_path / "d", [3])
    read = type(dataset.episodes[0]).read

    def with_nan(episode: object, name: str) -> np.ndarray:
        values = read(episode, name)  # type: ignore[arg-type]
        if name == "observation/state":
            values[2, 1] = np.nan
        return values

    monkeypatch.setattr(type(dataset.episodes[0]), "read", with_nan)
    with pytest.raises(DatasetError, match=r"'observation/state' in episode file .*episode_000000.* row 2"):
        Windows(dataset, observations=["state"], observation_steps=1, horizon=1)


@pytest.mark.parametrize("odd", [0, 1])
def test_an_episode_of_other_shapes_is_named(tmp_path: Path, odd: int) -> None:
    dataset = small_dataset(tmp_path / "d", [3, 3])
    wider = replace(SMALL_SPEC, observations={"state": ArraySpec((4,))})
    other = small_dataset(tmp_path / "o", [3, 3], wider)
    shutil.copy(other.episode_paths[odd], dataset.episode_paths[odd])
    name = f"episode_00000{odd}.zarr.zip"
    with pytest.raises(
        DatasetError, match=rf"'observation/state' of episode file '.*{name}' has .*\(4,\), but dataset"
    ):
        Windows(Dataset.open(dataset.path), observations=["state"], observation_steps=1, horizon=1)
    with pytest.raises(DatasetError, match="'observation/state' of episode file '.*episode_000001"):
        Windows(Dataset.open(dataset.path).episodes, observations=["state"], observation_steps=1, horizon=1)
    with pytest.raises(DatasetError, match="array 'observation/state' of .*episode_000001.* of the first episode have"):
        dataset_statistics(Dataset.open(dataset.path).episodes)


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [2, 2], CAMERA_SPEC)
    turned = replace(CAMERA_SPEC.observations["front"], shape=(64, 48, 3))  # as many bytes
    spec = replace(CAMERA_SPEC, observations={**CAMERA_SPEC.observations, "front": turned})
    shutil.copy(small_dataset(tmp_path / "o", [2, 2], spec).episode_paths[1], dataset.episode_paths[1])
    with pytest.raises(
        DatasetError, match=r"'observation/front' of .*episode_000001.* has rows of shape \(64, 48, 3\)"
    ):
        Windows(Dataset.open(dataset.path), observations=["front"], observation_steps=1, horizon=1)


def test_bad_requests_are_named(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no array 'observation/nothing'"):
        Windows(dataset, observations=["nothing"], observation_steps=1, horizon=1).batch([0])
    with pytest.raises(DatasetError, match="expected 1 or more"):
        Windows(dataset, observations=["state"], observation_steps=0, horizon=1)
    with pytest.raises(DatasetError, match="no episodes"):
        Windows(small_dataset(tmp_path / "empty", []), observations=["state"], observation_steps=1, horizon=1)


@given(st.integers(2, 15), st.floats(0, 0.99), st.integers(0, 99))
def test_a_split_is_a_partition(count: int, fraction: float, seed: int) -> None:
    episodes = [_Numbered(number) for number in range(count)]
    wanted = int(np.ceil(fraction * count - 1e-9))
    if wanted >= count:
        with pytest.raises(DatasetError, match="leaves none"):
            split(episodes, fraction, seed)  # type: ignore[arg-type]
        return
    training, held_out = split(episodes, fraction, seed)  # type: ignore[arg-type]
    assert len(held_out) == wanted
    assert sorted(e.number for e in (*training, *held_out)) == list(range(count))
    for part in (training, held_out):
        assert [e.number for e in part] == sorted(e.number for e in part)
    assert split(episodes, fraction, seed) == (training, held_out)  # type: ignore[arg-type]


def test_a_split_depends_on_its_seed_and_refuses_odd_fractions(dataset: Dataset) -> None:
    episodes = [_Numbered(number) for number in range(20)]
    assert len({split(episodes, 0.2, seed)[1] for seed in range(10)}) > 1  # type: ignore[arg-type]
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(DatasetError, match="held-out fraction"):
            split(dataset, fraction, 0)


class _Numbered:
    def __init__(self, number: int) -> None:
        self.number = number
