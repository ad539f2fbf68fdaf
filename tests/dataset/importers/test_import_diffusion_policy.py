from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs import Blosc
from shared import shared_data

from robopolicy.dataset.edit import verify
from robopolicy.dataset.importers.arrays import Extract
from robopolicy.dataset.importers.diffusion_policy import import_diffusion_policy
from robopolicy.dataset.statistics import dataset_statistics
from robopolicy.errors import DatasetError
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec(
    "pusht",
    {"agent_position": ArraySpec((2,)), "keypoints": ArraySpec((18,)), "block_pose": ArraySpec((3,))},
    ArraySpec((2,), low=(0.0, 0.0), high=(512.0, 512.0)),
    10.0,
)
STREAMS: Mapping[str, Extract] = {
    "agent_position": "state[:, 0:2]",
    "keypoints": "keypoint",
    "block_pose": "state[:, 2:5]",
    "image": "img",
}
IMAGE_SPEC = RobotSpec(
    "pusht", {"agent_position": ArraySpec((2,)), "image": ArraySpec((96, 96, 3), "uint8")}, SPEC.action, 10.0
)


def replay_store(path: Path, lengths: list[int], **changes: np.ndarray) -> dict[str, np.ndarray]:
    """A small store in the original Zarr v2 layout; a `.zip` path gives a zip file."""
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    arrays = {
        "state": rng.uniform(0, 500, (rows, 5)).astype(np.float32),
        "action": rng.integers(0, 512, (rows, 2)).astype(np.float32),
        "keypoint": rng.uniform(0, 500, (rows, 9, 2)).astype(np.float32),
        "img": rng.integers(0, 256, (rows, 96, 96, 3)).astype(np.float32),
        **changes,
    }
    store = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else path
    root = zarr.open_group(store, mode="w", zarr_format=2)
    for name, values in {
        **{f"data/{k}": v for k, v in arrays.items()},
        "meta/episode_ends": np.cumsum(lengths),
    }.items():
        array = root.create_array(
            name, shape=values.shape, chunks=values.shape, dtype=values.dtype, compressors=Blosc()
        )
        array[:] = values
    if path.suffix == ".zip":
        root.store.close()
    return arrays


@pytest.mark.parametrize("name", ["store.zarr", "store.zarr.zip"])
def test_a_store_is_imported_value_for_value(tmp_path: Path, name: str) -> None:
    arrays = replay_store(tmp_path / name, [4, 1, 6])
    seen: list[tuple[int, int]] = []
    dataset = import_diffusion_policy(
        tmp_path / name,
        tmp_path / "out",
        spec=SPEC,
        task="pusht",
        streams=STREAMS,
        progress=lambda *at: seen.append(at),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert dataset.spec == SPEC
    start = 0
    for episode, rows in zip(dataset.episodes, [4, 1, 6], strict=True):
        part = slice(start, start + rows)
        np.testing.assert_array_equal(episode.read("action"), arrays["action"][part])
        np.testing.assert_array_equal(episode.read("observation/agent_position"), arrays["state"][part, :2])
        np.testing.assert_array_equal(episode.read("observation/block_pose"), arrays["state"][part, 2:])
        np.testing.assert_array_equal(episode.read("observation/keypoints"), arrays["keypoint"][part].reshape(rows, 18))
        np.testing.assert_array_equal(episode.read("time_ns"), np.arange(rows) * 100_000_000)
        assert episode.metadata["origin"] == {"store": name, "first_row": start}
        assert set(episode.sources()) == {"human"}
        start += rows


def test_images_become_bytes_with_a_codec(tmp_path: Path) -> None:
    arrays = replay_store(tmp_path / "s.zarr", [3, 2])
    dataset = import_diffusion_policy(
        tmp_path / "s.zarr", tmp_path / "out", spec=IMAGE_SPEC, task="pusht", streams=STREAMS
    )
    frames = np.concatenate([episode.read("observation/image") for episode in dataset.episodes])
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, arrays["img"])
    small = import_diffusion_policy(
        tmp_path / "s.zarr",
        tmp_path / "jpeg",
        spec=IMAGE_SPEC,
        task="pusht",
        streams=STREAMS,
        codecs={"image": "jpeg:90"},
    )
    assert small.codecs == {"image": "jpeg:90"}
    assert verify(small.path).ok


def test_any_streams_may_be_made_by_a_function_or_a_choice_of_columns(tmp_path: Path) -> None:
    arrays = replay_store(tmp_path / "s.zarr", [5])
    spec = RobotSpec("any", {"angle": ArraySpec((2,)), "rest": ArraySpec((2,))}, ArraySpec((1,)), 5.0)
    streams: Mapping[str, Extract] = {
        "angle": lambda a: np.stack([np.sin(a["state"][:, 4]), np.cos(a["state"][:, 4])], axis=-1),
        "rest": "state[:, 3:]",
    }
    dataset = import_diffusion_policy(
        tmp_path / "s.zarr", tmp_path / "out", spec=spec, task="any", streams=streams, action="action[:,:1]"
    )
    episode = dataset.episodes[0]
    np.testing.assert_allclose(episode.read("observation/angle")[:, 0], np.sin(arrays["state"][:, 4]), atol=1e-6)
    np.testing.assert_array_equal(episode.read("observation/rest"), arrays["state"][:, 3:])
    np.testing.assert_array_equal(episode.read("action"), arrays["action"][:, :1])


def test_bad_stores_are_one_sentence_and_leave_nothing(tmp_path: Path) -> None:
    keypoints = np.zeros((5, 9, 2), np.float32)
    keypoints[3, 4, 1] = np.nan
    replay_store(tmp_path / "nan.zarr", [2, 3], keypoint=keypoints)
    replay_store(tmp_path / "shape.zarr", [2, 3], keypoint=np.zeros((5, 8, 2), np.float32))
    replay_store(tmp_path / "short.zarr", [2, 3], state=np.zeros((4, 5), np.float32))
    replay_store(tmp_path / "half.zarr", [2], img=np.full((2, 96, 96, 3), 0.5, np.float32))
    (tmp_path / "text.zarr.zip").write_text("no zip")
    (tmp_path / "empty.zarr").mkdir()
    before = sorted(tmp_path.iterdir())
    for name, spec, words in (
        ("nan.zarr", SPEC, r"episode 1 of .*nan.zarr', stream 'keypoints' is not finite in row 1"),
        ("shape.zarr", SPEC, r"'keypoints' has rows of shape \(8, 2\), expected \(18,\)"),
        ("short.zarr", SPEC, "data/state has 4 rows, but the last episode ends at 5"),
        ("half.zarr", IMAGE_SPEC, "uint8 cannot hold exactly"),
        ("text.zarr.zip", SPEC, "is no replay store"),
        ("empty.zarr", SPEC, "is no replay store"),
        ("absent.zarr", SPEC, "there is no replay store"),
        ("nan.zarr", RobotSpec("r", {"other": ArraySpec((1,))}, SPEC.action, 10.0), r"the streams \['other'\]"),
    ):
        with pytest.raises(DatasetError, match=words):
            import_diffusion_policy(tmp_path / name, tmp_path / "out", spec=spec, task="pusht", streams=STREAMS)
        assert sorted(tmp_path.iterdir()) == before


def test_a_source_that_is_not_in_the_store_is_named(tmp_path: Path) -> None:
    replay_store(tmp_path / "s.zarr", [2])
    spec = RobotSpec("any", {"x": ArraySpec((1,))}, SPEC.action, 5.0)
    for how, words in (("nothing", "no array 'nothing', there are"), ("state[0]", r"'state\[0\]' is no source")):
        with pytest.raises(DatasetError, match=words):
            import_diffusion_policy(tmp_path / "s.zarr", tmp_path / "out", spec=spec, task="any", streams={"x": how})


def test_all_human_pusht_episodes_are_imported(tmp_path: Path) -> None:
    source = shared_data("pusht") / "pusht_cchi_v7_replay.zarr"
    dataset = import_diffusion_policy(source, tmp_path / "pusht", spec=SPEC, task="pusht", streams=STREAMS)
    episodes = dataset.episodes
    assert len(episodes) == 186
    assert sum(episode.length for episode in episodes) == 22_972
    store = zarr.open_group(source, mode="r")
    state = np.concatenate([episode.read("observation/block_pose") for episode in episodes])
    np.testing.assert_array_equal(state, np.asarray(store["data/state"][:22_972])[:, 2:5])
    actions = dataset_statistics(episodes)["action"]
    assert actions.count == 22_972
    assert (actions.low >= 0).all()
    assert (actions.high <= 512).all()


@pytest.mark.slow
def test_the_images_of_the_human_episodes_survive_jpeg(tmp_path: Path) -> None:
    source = shared_data("pusht") / "pusht_cchi_v7_replay.zarr"
    dataset = import_diffusion_policy(
        source, tmp_path / "pusht", spec=IMAGE_SPEC, task="pusht", streams=STREAMS, codecs={"image": "jpeg:90"}
    )
    assert verify(dataset.path).ok
    episode = dataset.episodes[7]
    start = episode.metadata["origin"]["first_row"]
    original = np.asarray(zarr.open_group(source, mode="r")["data/img"][start : start + episode.length])
    assert np.abs(episode.read("observation/image") - original).mean() < 3.0
