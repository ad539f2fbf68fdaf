from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation
from shared import shared_data

from robopolicy.dataset.conversion import absolute_to_delta
from robopolicy.dataset.edit import verify
from robopolicy.dataset.importers.osc import ABSOLUTE, DELTA, OUTPUT_MAX, osc_to_absolute
from robopolicy.dataset.importers.robosuite_hdf5 import (
    Demonstration,
    DemonstrationStreams,
    ReadStreams,
    import_robosuite_hdf5,
    states_or_observations,
    streams_from_observations,
)
from robopolicy.errors import DatasetError
from robopolicy.spec import ArraySpec, Part, RobotSpec

SPEC = RobotSpec(
    "panda",
    {"hand_position": ArraySpec((3,)), "cube": ArraySpec((3,))},
    ArraySpec(
        (10,),
        parts=(Part("position", 3, "position"), Part("rotation", 6, "rotation_6d"), Part("gripper", 1, "gripper")),
    ),
    20.0,
)
OBSERVATIONS = {"hand_position": "robot0_eef_pos", "cube": "object[:, 0:3]"}


def absolute_to_osc(targets: np.ndarray, positions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """The OSC actions [T, 7] that lead from the poses to the targets."""
    turns = np.concatenate([rotations[..., 0], rotations[..., 1]], axis=-1)
    anchors = np.concatenate([positions, turns, np.zeros((len(turns), 1))], axis=-1)
    return absolute_to_delta(targets, anchors, absolute=ABSOLUTE, delta=DELTA) / np.array([*OUTPUT_MAX, 1.0])


def demo_file(path: Path, lengths: list[int]) -> dict[str, dict[str, np.ndarray]]:
    """A robomimic-like file with observations; its demonstrations are numbered like "demo_10" after "demo_9"."""
    rng = np.random.default_rng(0)
    contents = {}
    with h5py.File(path, "w") as file:
        for number, rows in enumerate(lengths, start=9):
            arrays = {
                "actions": rng.uniform(-3, 3, (rows, 7)),
                "obs/robot0_eef_pos": rng.normal(size=(rows, 3)),
                "obs/robot0_eef_quat": Rotation.random(rows, random_state=number).as_quat(),
                "obs/object": rng.normal(size=(rows, 10)),
            }
            group = file.create_group(f"data/demo_{number}")
            group.attrs["model_file"] = "<mujoco/>"
            for name, values in arrays.items():
                group[name] = values
            contents[f"demo_{number}"] = arrays
    return contents


@given(hnp.arrays(np.float64, (5, 7), elements=st.floats(-1, 1)), st.integers(0, 99))
def test_osc_actions_round_trip_through_absolute_targets(actions: np.ndarray, seed: int) -> None:
    positions = np.random.default_rng(seed).normal(size=(5, 3))
    rotations = Rotation.random(5, random_state=seed).as_matrix()
    targets = osc_to_absolute(actions, positions, rotations)
    assert targets.shape == (5, 10)
    np.testing.assert_allclose(absolute_to_osc(targets, positions, rotations), actions, atol=1e-7)


def test_osc_actions_are_clipped_scaled_and_along_the_axes_of_the_world() -> None:
    turned = Rotation.from_euler("x", 1.0).as_matrix()
    action = [3.75, -0.5, 0.0, 0.0, 0.0, 2.0, -1.0]
    target = osc_to_absolute(action, [0.1, 0.2, 0.3], turned)
    np.testing.assert_allclose(target[:3], [0.15, 0.175, 0.3])
    expected = Rotation.from_rotvec([0.0, 0.0, 0.5]).as_matrix() @ turned
    np.testing.assert_allclose(target[3:9], np.concatenate([expected[:, 0], expected[:, 1]]), atol=1e-12)
    assert target[9] == -1.0


def test_a_file_with_observations_is_imported(tmp_path: Path) -> None:
    contents = demo_file(tmp_path / "demo.hdf5", [4, 7])
    dataset = import_robosuite_hdf5(
        tmp_path / "demo.hdf5",
        tmp_path / "out",
        spec=SPEC,
        task="lift",
        read_streams=streams_from_observations(SPEC, OBSERVATIONS),
        success=True,
    )
    assert verify(dataset.path).ok
    assert [episode.metadata["origin"]["demonstration"] for episode in dataset.episodes] == ["demo_9", "demo_10"]
    for episode, arrays in zip(dataset.episodes, contents.values(), strict=True):
        np.testing.assert_allclose(episode.read("observation/cube"), arrays["obs/object"][:, :3], rtol=1e-6)
        rotations = Rotation.from_quat(arrays["obs/robot0_eef_quat"]).as_matrix()
        again = absolute_to_osc(episode.read("action"), arrays["obs/robot0_eef_pos"], rotations)
        np.testing.assert_allclose(again, np.clip(arrays["actions"], -1, 1), atol=1e-5)
        assert episode.metadata["success"] is True


def test_the_real_file_has_states_only_and_a_callable_turns_them_into_streams(tmp_path: Path) -> None:
    source = shared_data("robosuite_lift") / "demo.hdf5"

    demonstrations: list[Demonstration] = []

    def read(demonstration: Demonstration) -> DemonstrationStreams:
        demonstrations.append(demonstration)
        assert demonstration.model_xml.startswith("<mujoco")
        assert demonstration.states is not None
        rows = len(demonstration.states)
        rotations = np.broadcast_to(np.eye(3), (rows, 3, 3))
        positions = demonstration.states[:, 1:4]
        return DemonstrationStreams(
            {"hand_position": positions, "cube": demonstration.states[:, 10:13]}, positions, rotations
        )

    dataset = import_robosuite_hdf5(source, tmp_path / "out", spec=SPEC, task="lift", read_streams=read)
    assert [episode.length for episode in dataset.episodes] == [482, 510, 392]
    first = demonstrations[0]
    assert first.states is not None
    again = absolute_to_osc(dataset.episodes[0].read("action"), first.states[:, 1:4], np.eye(3)[None].repeat(482, 0))
    np.testing.assert_allclose(again, np.clip(first.actions, -1, 1), atol=1e-5)
    with pytest.raises(DatasetError, match="demo_1 has no obs/, and no simulator states"):
        import_robosuite_hdf5(
            source, tmp_path / "o2", spec=SPEC, task="lift", read_streams=streams_from_observations(SPEC, OBSERVATIONS)
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_states_come_first_and_observations_where_there_are_none() -> None:
    def named(name: str) -> ReadStreams:
        nothing = np.zeros((1, 3))
        return lambda demonstration: DemonstrationStreams({name: nothing}, nothing, np.eye(3)[None])

    read = states_or_observations(named("states"), named("observations"))
    with_states = Demonstration("demo_0", np.zeros((1, 7)), np.zeros((1, 4)), "<mujoco/>", {"object": np.zeros((1, 7))})
    assert list(read(with_states).observations) == ["states"]
    for lacking in (replace(with_states, states=None), replace(with_states, model_xml="")):
        assert list(read(lacking).observations) == ["observations"]


def test_observations_without_a_pose_are_named(tmp_path: Path) -> None:
    demo_file(tmp_path / "demo.hdf5", [3])
    with h5py.File(tmp_path / "demo.hdf5", "r+") as file:
        del file["data/demo_9/obs/robot0_eef_quat"]
    with pytest.raises(
        DatasetError, match=r"demo_9: obs/ has no \['robot0_eef_quat'\], there are \['object', 'robot0_eef"
    ):
        import_robosuite_hdf5(
            tmp_path / "demo.hdf5",
            tmp_path / "out",
            spec=SPEC,
            task="lift",
            read_streams=streams_from_observations(SPEC, OBSERVATIONS),
        )


def test_bad_files_are_one_sentence_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.hdf5").write_text("hello")
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file["other"] = 1
    with h5py.File(tmp_path / "odd.hdf5", "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 6))
    with h5py.File(tmp_path / "nan.hdf5", "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 7))
        file["data/demo_0/obs/robot0_eef_pos"] = np.full((3, 3), np.nan)
        file["data/demo_0/obs/robot0_eef_quat"] = np.tile([0.0, 0, 0, 1], (3, 1))
        file["data/demo_0/obs/object"] = np.zeros((3, 10))
    before = sorted(tmp_path.iterdir())
    for name, words in (
        ("absent.hdf5", "there is no file"),
        ("text.hdf5", "no HDF5 file"),
        ("empty.hdf5", "no demonstrations"),
        ("odd.hdf5", r"demo_0 of .* has no actions of shape"),
        ("nan.hdf5", "demo_0, stream 'hand_position' is not finite in row 0"),
    ):
        with pytest.raises(DatasetError, match=words):
            import_robosuite_hdf5(
                tmp_path / name,
                tmp_path / "out",
                spec=SPEC,
                task="lift",
                read_streams=streams_from_observations(SPEC, OBSERVATIONS),
            )
        assert sorted(tmp_path.iterdir()) == before
