"""Demonstrations in the HDF5 files of robosuite and robomimic: `data/demo_*` with actions, states, perhaps `obs/`.

Where a file has observations they are read; where it has flat simulator states only, the caller brings a function that
turns a demonstration into streams, because this package knows no simulator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from robopolicy.dataset.creation import Progress, complete_or_nothing
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.importers.arrays import Arrays, Extract, check_mapping, extract, write_episode
from robopolicy.dataset.importers.osc import OUTPUT_MAX, osc_to_absolute
from robopolicy.errors import DatasetError
from robopolicy.rotation import convert, to_matrix
from robopolicy.spec import RobotSpec

START_STATE = "start_state"
"""Where an episode's metadata hold the simulator state that it began in."""

_POSITION, _QUATERNION = "robot0_eef_pos", "robot0_eef_quat"


@dataclass(frozen=True)
class Demonstration:
    """One `data/demo_*` group.

    Attributes:
        name: such as "demo_3".
        actions: [T, 7] OSC actions, as stored.
        states: [T, S] flat simulator states before each action; None when the file has none.
        model_xml: the simulator's model, empty when the file has none.
        observations: arrays of `obs/`, [T, ...]; empty when the file has none.
    """

    name: str
    actions: NDArray[np.float64]
    states: NDArray[np.float64] | None
    model_xml: str
    observations: Arrays


@dataclass(frozen=True)
class DemonstrationStreams:
    """A demonstration as streams of the robot, [T, ...] each, and the pose that its deltas start from.

    Attributes:
        observations: every stream of the robot.
        positions: [T, 3] end effector in the world, m, before each action.
        rotations: [T, 3, 3] its rotation matrix.
        start_state: [S] the first state of the robot's own simulator, stored in the metadata so that a replay can
            begin there; None when the streams do not come from states.
    """

    observations: Arrays
    positions: NDArray[np.float64]
    rotations: NDArray[np.float64]
    start_state: NDArray[np.float64] | None = None


ReadStreams = Callable[[Demonstration], DemonstrationStreams]


def hand_pose(arrays: Arrays) -> NDArray[np.float64]:
    """[T, 9] position and 6-D rotation of robosuite's hand: `robot0_eef_pos` and `robot0_eef_quat` (x, y, z, w)."""
    if missing := [name for name in (_POSITION, _QUATERNION) if name not in arrays]:
        raise DatasetError(f"obs/ has no {missing}, there are {sorted(arrays)}")
    turned = convert(np.roll(arrays[_QUATERNION], 1, axis=-1), "quaternion", "rotation_6d")
    return np.concatenate([np.asarray(arrays[_POSITION], dtype=np.float64), turned], axis=-1)


def streams_from_observations(
    spec: RobotSpec, streams: Mapping[str, Extract], pose: Callable[[Arrays], NDArray[np.float64]] = hand_pose
) -> ReadStreams:
    """Reads the robot's streams from `obs/`, as `streams` says.

    Args:
        pose: [T, 9] position and 6-D rotation of the frame that the actions move, from the arrays of `obs/`.
    """
    check_mapping(spec, streams, "the HDF5 file's obs/")

    def read(demonstration: Demonstration) -> DemonstrationStreams:
        arrays, name = demonstration.observations, demonstration.name
        if not arrays:
            raise DatasetError(
                f"{name} has no obs/, and no simulator states with their model either: there is nothing to import"
            )
        try:
            poses = pose(arrays)
        except DatasetError as error:
            raise DatasetError(f"{name}: {error}") from error
        observations = {
            key: extract(arrays, streams[key], stream, f"{name}, stream '{key}'")
            for key, stream in spec.observations.items()
        }
        return DemonstrationStreams(observations, poses[:, :3], to_matrix(poses[:, 3:], "rotation_6d"))

    return read


def states_or_observations(states: ReadStreams, observations: ReadStreams) -> ReadStreams:
    """`states` for demonstrations that have simulator states with their model, `observations` for the others."""

    def read(demonstration: Demonstration) -> DemonstrationStreams:
        has_states = demonstration.states is not None and bool(demonstration.model_xml)
        return (states if has_states else observations)(demonstration)

    return read


def import_robosuite_hdf5(
    source: Path | str,
    out: Path | str,
    *,
    spec: RobotSpec,
    task: str,
    read_streams: ReadStreams,
    output_max: tuple[float, ...] = OUTPUT_MAX,
    success: bool | None = None,
    versions: Mapping[str, str] | None = None,
    codecs: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """A new dataset in `out` with every demonstration of `source`, complete or not at all.

    OSC deltas become absolute targets: position, 6-D rotation and gripper, which is the robot's action ([10]).

    Args:
        read_streams: `streams_from_observations(...)`, or the caller's own for files with simulator states only.
        output_max: scale of the six deltas in the controller that recorded the file.
        success: what is known of all demonstrations.

    Raises DatasetError when the file is no such HDF5 file, or its arrays do not fit or are not finite.
    """
    if spec.action.shape != (10,):
        raise DatasetError(f"robot '{spec.name}' has an action of shape {spec.action.shape}, '{source}' gives (10,)")
    with _open(Path(source)) as file, complete_or_nothing(out) as folder:
        dataset = Dataset.create(folder, spec=spec, task=task, versions=versions or {}, codecs=codecs)
        names = _demonstration_names(file)
        for number, name in enumerate(names):
            demonstration = _read(file["data"][name], name, Path(source))
            streams = read_streams(demonstration)
            targets = osc_to_absolute(demonstration.actions, streams.positions, streams.rotations, output_max)
            where = f"{name} of '{source}'"
            start = {} if streams.start_state is None else {START_STATE: streams.start_state.tolist()}
            write_episode(
                dataset,
                number,
                {key: extract(streams.observations, key, s, f"{where}, {key}") for key, s in spec.observations.items()},
                extract({"action": targets}, "action", spec.action, f"{where}, action"),
                source="human",
                stop_reason="imported",
                success=success,
                metadata={"origin": {"file": Path(source).name, "demonstration": name}, **start},
            )
            if progress is not None:
                progress(number + 1, len(names))
    return Dataset.open(out)


def _open(source: Path) -> Any:
    if not source.is_file():
        raise DatasetError(f"there is no file '{source}'; give an HDF5 file of robosuite or robomimic")
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise DatasetError(f"'{source}' is no HDF5 file or a damaged one ({error})") from error
    if "data" not in file or not _demonstration_names(file):
        file.close()
        raise DatasetError(f"'{source}' has no demonstrations data/demo_*; is it a file of robosuite or robomimic?")
    return file


def _demonstration_names(file: Any) -> list[str]:
    names = [name for name in file["data"] if re.fullmatch(r"demo_\d+", name)]
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _read(group: Any, name: str, source: Path) -> Demonstration:
    if "actions" not in group or group["actions"].ndim != 2 or group["actions"].shape[1] != 7:
        raise DatasetError(f"{name} of '{source}' has no actions of shape [T, 7]")
    states = np.asarray(group["states"][:], dtype=np.float64) if "states" in group else None
    observations = {key: np.asarray(array[:]) for key, array in group["obs"].items()} if "obs" in group else {}
    actions = np.asarray(group["actions"][:], dtype=np.float64)
    return Demonstration(name, actions, states, str(group.attrs.get("model_file", "")), observations)
