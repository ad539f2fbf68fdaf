from __future__ import annotations

import json
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from recordings import CAMERA_SPEC, SMALL_SPEC, make_tick, record_episode, small_dataset

from robopolicy.dataset import archive
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.episode import Episode
from robopolicy.errors import DatasetError


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_every_array_equals_what_zarr_reads(tmp_path: Path, rows: int) -> None:
    episode = small_dataset(tmp_path / "d", [rows], CAMERA_SPEC, front="jpeg:90").episodes[0]
    group = zarr.open_group(zarr.storage.ZipStore(episode.path, mode="r"), mode="r")
    assert group.attrs["length"] == rows
    for name in episode.names:
        np.testing.assert_array_equal(group[name][:], episode.read(name), err_msg=name)
        assert episode.read(name).dtype == group[name].dtype == episode.dtype(name)
        assert episode.shape(name) == group[name].shape


def test_frames_come_in_the_order_asked_for(tmp_path: Path) -> None:
    episode = small_dataset(tmp_path / "d", [6], CAMERA_SPEC).episodes[0]
    whole = episode.read("observation/depth")
    np.testing.assert_array_equal(episode.frames("observation/depth", [5, 0, 5]), whole[[5, 0, 5]])


def test_threads_may_read_one_episode_together(tmp_path: Path) -> None:
    episode = small_dataset(tmp_path / "d", [8], CAMERA_SPEC, front="jpeg:90").episodes[0]
    expected, found = Episode(episode.path).read("observation/front"), []
    threads = [threading.Thread(target=lambda: found.append(episode.read("observation/front"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(frames, expected) for frames in found)


@pytest.mark.parametrize("keep", [0, 1, 30, 200, -1, -22, -500])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, keep: int) -> None:
    dataset = small_dataset(tmp_path / "d", [5])
    file = dataset.episode_paths[0]
    data = file.read_bytes()
    file.write_bytes(data[:keep])
    with pytest.raises(DatasetError, match=r"episode_000000.zarr.zip' is damaged .*data.py action=delete") as caught:
        _ = Dataset.open(tmp_path / "d").episodes
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_anywhere_in_the_data_is_found(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [4], CAMERA_SPEC, front="jpeg:90")
    file = dataset.episode_paths[0]
    good = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        members = [info for info in archive.infolist() if "/c/" in info.filename]
    for member in members:
        place = member.header_offset + 30 + len(member.filename) + member.file_size // 2
        file.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        episode = Episode(file)
        with pytest.raises(DatasetError, match="damaged"):
            episode.read(member.filename.split("/c/")[0])


def test_a_file_that_is_no_zip_a_missing_one_and_a_wrong_name(tmp_path: Path) -> None:
    (tmp_path / "episode_000001.zarr.zip").write_text("hello")
    with pytest.raises(DatasetError, match="damaged"):
        _ = Episode(tmp_path / "episode_000001.zarr.zip").length
    with pytest.raises(DatasetError, match="no episode file"):
        Episode(tmp_path / "episode_000002.zarr.zip")
    with pytest.raises(DatasetError, match="expected a name like"):
        Episode(tmp_path / "other.zip")


def test_a_missing_array_and_a_row_out_of_range_are_named(tmp_path: Path) -> None:
    episode = small_dataset(tmp_path / "d", [3], CAMERA_SPEC).episodes[0]
    with pytest.raises(DatasetError, match="has no array 'observation/back'"):
        episode.read("observation/back")
    with pytest.raises(DatasetError, match="rows 0 to 2, asked for 3"):
        episode.frames("observation/front", [3])


def test_a_newer_schema_is_refused_with_its_number(tmp_path: Path) -> None:
    file = small_dataset(tmp_path / "d", [3]).episode_paths[0]
    with zipfile.ZipFile(file) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    root = json.loads(contents["zarr.json"])
    root["attributes"]["schema_version"] = 99
    contents["zarr.json"] = json.dumps(root).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    with pytest.raises(DatasetError, match="schema version 99"):
        _ = Episode(file).length


def test_a_file_replaced_behind_our_back_is_noticed(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "d", [3])
    episode = dataset.episodes[0]
    before = episode.read("action")
    episode.path.unlink()
    rng = np.random.default_rng(5)
    with dataset.writer(0) as writer:
        writer.record(make_tick(SMALL_SPEC, 0, rng))
        writer.commit(stop_reason="done", success=None, metadata={})
    np.testing.assert_array_equal(episode.read("action"), before)  # still mapped: the old file's own data
    archive._mapped.cache_clear()
    with pytest.raises(DatasetError, match="changed since"):
        episode.read("action")
    assert dataset.episodes[0].length == 1


def test_more_episodes_than_files_that_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small_dataset(tmp_path / "d", [2] * 5)
    monkeypatch.setattr(archive, "_mapped", archive.lru_cache(maxsize=2)(archive._mapped.__wrapped__))
    for _ in range(2):
        for episode in dataset.episodes:
            assert episode.read("action").shape == (2, 2)
    assert record_episode(dataset, 5, 2)


def test_a_zip_of_a_later_version_is_one_sentence(tmp_path: Path) -> None:
    """As a flipped bit in its directory makes one: zipfile then raises NotImplementedError."""
    path = small_dataset(tmp_path / "d", [3]).episode_paths[0]
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 6] = 0xFF  # version needed to extract
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="is damaged .*zip file version"):
        _ = Episode(path).length
