from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import CAMERA_SPEC, SMALL_SPEC, make_tick, record_episode, small_dataset

from robopolicy.control.loop import Tick
from robopolicy.control.robot import Outcome, Sample
from robopolicy.dataset.codecs import Blosc
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.writer import EpisodeWriter
from robopolicy.errors import DatasetError, RecordingError
from robopolicy.spec import ArraySpec, RobotSpec

STREAMS = st.dictionaries(
    st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True),
    st.sampled_from(
        [
            ArraySpec((3,)),
            ArraySpec((2, 4), "float64"),
            ArraySpec((5, 6, 3), "uint8"),
            ArraySpec((5, 6, 1), "uint16"),
            ArraySpec((1,), "int32"),
        ]
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(streams=STREAMS, rows=st.integers(1, 12), outcomes=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_what_was_recorded_is_read_back_bit_for_bit(
    streams: dict[str, ArraySpec], rows: int, outcomes: bool, seed: int
) -> None:
    spec = RobotSpec("any", streams, ArraySpec((2,)), 20.0)
    rng = np.random.default_rng(seed)
    ticks = [make_tick(spec, step, rng, {"energy": step / 3} if step % 2 else {}) for step in range(rows)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.create(Path(folder) / "d", spec=spec, task="t", versions={})
        with dataset.writer(3, wait_for_encoder=True) as writer:
            for step, tick in enumerate(ticks):
                writer.record(tick)
                if outcomes:
                    writer.record_outcome(Outcome(step / 7, step == 2, step == 4), step == rows - 1)
            writer.commit(stop_reason="operator", success=None, metadata={"seed": seed})
        (episode,) = Dataset.open(Path(folder) / "d").episodes
        assert (episode.number, episode.length) == (3, rows)
        assert episode.metadata == {"seed": seed, "stop_reason": "operator", "success": None, "versions": {}}
        assert episode.sources() == tuple(tick.source for tick in ticks)
        np.testing.assert_array_equal(episode.read("action"), [tick.action for tick in ticks])
        np.testing.assert_array_equal(episode.read("action_requested"), [tick.action_requested for tick in ticks])
        np.testing.assert_array_equal(episode.read("time_ns"), [tick.time_ns for tick in ticks])
        for name in streams:
            samples = [tick.observation[name] for tick in ticks]
            np.testing.assert_array_equal(episode.read(f"observation/{name}"), [s.value for s in samples])
            np.testing.assert_array_equal(episode.read(f"observation_time_ns/{name}"), [s.time_ns for s in samples])
            np.testing.assert_array_equal(episode.read(f"observation_sequence/{name}"), [s.sequence for s in samples])
        if rows > 1:
            expected = [tick.info.get("energy", np.nan) for tick in ticks]
            np.testing.assert_array_equal(episode.read("info/energy"), expected)
        assert ("reward" in episode.names) == outcomes
        if outcomes:
            np.testing.assert_array_equal(episode.read("reward"), np.arange(rows) / 7)
            np.testing.assert_array_equal(episode.read("terminated"), np.arange(rows) == 4)
            np.testing.assert_array_equal(episode.read("truncated"), np.arange(rows) == rows - 1)
            np.testing.assert_array_equal(episode.read("success"), np.arange(rows) == 2)


def test_a_caller_may_reuse_its_buffers(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [], CAMERA_SPEC)
    rng = np.random.default_rng(0)
    tick = make_tick(CAMERA_SPEC, 0, rng)
    expected = {name: sample.value.copy() for name, sample in tick.observation.items()}
    action = tick.action.copy()
    with dataset.writer(0) as writer:
        writer.record(tick)
        for sample in tick.observation.values():
            sample.value[...] = 0
        tick.action[...] = 0
        writer.commit(stop_reason="done", success=True, metadata={})
    episode = dataset.episodes[0]
    np.testing.assert_array_equal(episode.read("action"), [action])
    for name, value in expected.items():
        np.testing.assert_array_equal(episode.read(f"observation/{name}"), [value])


def test_frames_reach_their_rows_though_threads_store_them_in_any_order(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [], CAMERA_SPEC)
    ticks = record_episode(dataset, 0, 150)
    found = dataset.episodes[0].read("observation/depth")
    np.testing.assert_array_equal(found, [tick.observation["depth"].value for tick in ticks])


class _Gate(Blosc):
    """Encodes only while the gate is open."""

    gate = threading.Event()

    def encode(self, chunk: np.ndarray[Any, Any]) -> bytes:
        self.gate.wait()
        return super().encode(chunk)


def _gated_writer(path: Path, **options: Any) -> EpisodeWriter:
    _Gate.gate.clear()
    codecs = {"front": _Gate(), "depth": _Gate()}
    return EpisodeWriter(path / "episode_000000.zarr.zip", CAMERA_SPEC, codecs, encoder_threads=1, **options)


def _record_all(writer: EpisodeWriter, ticks: Iterable[Tick]) -> None:
    for tick in ticks:
        writer.record(tick)


def _later(tick: Tick) -> Tick:
    time.sleep(0.01)
    return tick


def test_a_full_queue_is_an_error_and_loses_no_frame_of_the_rows_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ticks = [make_tick(CAMERA_SPEC, step, rng) for step in range(20)]
    with _gated_writer(tmp_path, queue_frames=8) as writer:
        with pytest.raises(RecordingError, match="encoder queue is full: .* at most 8"):
            _record_all(writer, ticks)
        recorded = writer.length
        assert recorded in (4, 5)
        _Gate.gate.set()
        writer.commit(stop_reason="recorder", success=False, metadata={})
    episode = Episode(tmp_path / "episode_000000.zarr.zip")
    assert episode.length == recorded
    expected = [tick.observation["front"].value for tick in ticks[:recorded]]
    np.testing.assert_array_equal(episode.read("observation/front"), expected)


def test_a_simulation_waits_for_the_encoders_instead(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with _gated_writer(tmp_path, queue_frames=2, wait_for_encoder=True) as writer:
        opener = threading.Timer(0.05, _Gate.gate.set)
        opener.start()
        for step in range(20):
            writer.record(make_tick(CAMERA_SPEC, step, rng))
        opener.join()
        writer.commit(stop_reason="done", success=None, metadata={})
    assert (tmp_path / "episode_000000.zarr.zip").is_file()


class _Broken(Blosc):
    def encode(self, chunk: np.ndarray[Any, Any]) -> bytes:
        raise OSError("no space left on device")


def test_a_frame_that_cannot_be_stored_stops_the_recording_and_leaves_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codecs = {"front": _Broken(), "depth": _Broken()}
    with EpisodeWriter(tmp_path / "episode_000000.zarr.zip", CAMERA_SPEC, codecs) as writer:
        writer.record(make_tick(CAMERA_SPEC, 0, rng))
        with pytest.raises(RecordingError, match="no space left"):
            _record_all(writer, (_later(make_tick(CAMERA_SPEC, 1, rng)) for _ in range(1000)))
        with pytest.raises(RecordingError, match="no space left"):
            writer.commit(stop_reason="recorder", success=False, metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_names_row_and_stream(tmp_path: Path, bad: float) -> None:
    dataset = small_dataset(tmp_path / "d", [])
    rng = np.random.default_rng(0)
    with dataset.writer(0) as writer:
        writer.record(make_tick(SMALL_SPEC, 0, rng))
        tick = make_tick(SMALL_SPEC, 1, rng)
        tick.observation["state"].value[1] = bad
        with pytest.raises(RecordingError, match=r"row 1 of .*episode_000000.* stream 'state' is not finite"):
            writer.record(tick)
        writer.commit(stop_reason="recorder", success=False, metadata={})
    assert dataset.episodes[0].length == 1


def test_ticks_that_do_not_fit_the_spec_are_refused(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [])
    action = np.zeros(2)

    def tick(observation: dict[str, Sample], action: np.ndarray[Any, Any] = action) -> Tick:
        return Tick(0, 0, observation, action, action, "human", {})

    with dataset.writer(0) as writer:
        for bad, words in (
            (tick({}), "streams"),
            (tick({"state": Sample(np.zeros(4, np.float32), 0, 0)}), "stream 'state' is float32 .4,., expected"),
            (tick({"state": Sample(np.array(["a", "b", "c"]), 0, 0)}), "stream 'state'"),
            (tick({"state": Sample(np.zeros(3, np.float32), 0, 0)}, np.zeros(3)), "action"),
        ):
            with pytest.raises(RecordingError, match=words):
                writer.record(bad)
        assert writer.length == 0


def test_discard_leaves_nothing_and_may_be_repeated(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [], CAMERA_SPEC)
    before = sorted(dataset.path.iterdir())
    writer = dataset.writer(0)
    writer.record(make_tick(CAMERA_SPEC, 0, np.random.default_rng(0)))
    assert len(dataset.unfinished) == 1
    writer.discard()
    writer.discard()
    assert sorted(dataset.path.iterdir()) == before
    with pytest.raises(RecordingError, match="discarded"):
        writer.record(make_tick(CAMERA_SPEC, 1, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("metadata", "words"), [({"a": object()}, "JSON"), ({"a": float("nan")}, "JSON"), ({"success": 1}, "rename")]
)
def test_metadata_that_cannot_be_kept_are_an_error(tmp_path: Path, metadata: dict[str, Any], words: str) -> None:
    dataset = small_dataset(tmp_path / "d", [])
    with dataset.writer(0) as writer:
        writer.record(make_tick(SMALL_SPEC, 0, np.random.default_rng(0)))
        with pytest.raises(DatasetError, match=words):
            writer.commit(stop_reason="done", success=True, metadata=metadata)
    assert not dataset.unfinished
    assert not dataset.episodes


def test_an_episode_without_rows_is_not_committed(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [])
    with dataset.writer(0) as writer, pytest.raises(DatasetError, match="no rows"):
        writer.commit(stop_reason="done", success=True, metadata={})
    assert not dataset.unfinished


def test_the_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small_dataset(tmp_path / "d", [])
    events: list[str] = []
    sync, rename = os.fsync, Path.rename

    def spy_sync(handle: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")  # noqa: PTH112
        sync(handle)

    def spy_rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", spy_sync)
    monkeypatch.setattr(Path, "rename", spy_rename)
    record_episode(dataset, 0, 3)
    assert events == ["file", "rename", "folder"]


def test_the_same_recording_gives_the_same_fingerprint(tmp_path: Path) -> None:
    first = small_dataset(tmp_path / "a", [40, 3], CAMERA_SPEC)
    second = small_dataset(tmp_path / "b", [40, 3], CAMERA_SPEC)
    assert first.fingerprint() == second.fingerprint()
    record_episode(second, 2, 1)
    assert first.fingerprint() != second.fingerprint()
