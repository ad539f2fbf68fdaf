"""Lift demonstrations that robosuite or robomimic stored, as streams of the `lift` task.

Flat simulator states come first: they give every stream exactly, and where to begin a replay. Files without them have
observations (`obs/`), which the functions `recorded_*` put into the task's own terms.

The stored model of an older robosuite does not compile any more (some of its meshes are gone), so only the names and
types of its joints are read from it; the present robot, whose kinematics are the same to 1e-6 m, is posed by them.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from robopolicy import rotation
from robopolicy.dataset.importers.arrays import Arrays
from robopolicy.dataset.importers.robosuite_hdf5 import Demonstration, DemonstrationStreams, ReadStreams, hand_pose
from robopolicy.errors import DatasetError
from sim.lift import RATE_HZ, LiftSimulation

Array = NDArray[np.float64]
Layout = dict[str, tuple[slice, slice]]

_WIDTHS = {"free": (7, 6), "ball": (4, 3)}
_SITE_IN_HAND = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""Rotation of the grip site, which our actions move, in the Panda's hand, whose quaternion robosuite records."""


def state_reader() -> ReadStreams:
    """Makes streams of a demonstration's states; raises DatasetError when they are not those of a Panda with a cube."""
    return partial(read_streams, LiftSimulation())


def recorded_pose(arrays: Arrays) -> Array:
    """[T, 9] position and 6-D rotation of the grip site, from the hand's pose in `obs/`."""
    hand = hand_pose(arrays)
    site = rotation.to_matrix(hand[:, 3:], "rotation_6d") @ _SITE_IN_HAND
    return np.concatenate([hand[:, :3], rotation.from_matrix(site, "rotation_6d")], axis=-1)


def recorded_cube_rotation(arrays: Arrays) -> Array:
    """[T, 6] 6-D rotation of the cube: robomimic's `object` is its position, its quaternion (x, y, z, w), and more."""
    if "object" not in arrays:
        raise DatasetError(f"obs/ has no 'object', there are {sorted(arrays)}")
    return rotation.convert(np.roll(arrays["object"][:, 3:7], 1, axis=-1), "quaternion", "rotation_6d")


def read_streams(simulation: LiftSimulation, demonstration: Demonstration) -> DemonstrationStreams:
    """Every stream of `simulation` at every state, and the first state in its own layout."""
    states = _states(simulation, demonstration)
    count, _ = _sizes(simulation.joints)
    seen = [simulation.observe_at(row) for row in states[:, 1 : 1 + count]]
    observations = {name: np.stack([streams[name] for streams in seen]) for name in simulation.spec.observations}
    pose = observations["end_effector_pose"].astype(np.float64)
    return DemonstrationStreams(observations, pose[:, :3], rotation.to_matrix(pose[:, 3:], "rotation_6d"), states[0])


def _states(simulation: LiftSimulation, demonstration: Demonstration) -> Array:
    """[T, 1 + nq + nv]: the demonstration's states in the layout of `simulation`."""
    states, name = demonstration.states, demonstration.name
    if states is None or not demonstration.model_xml:
        raise DatasetError(f"{name} has no simulator states with their model, so its streams cannot be computed")
    stored, joints = _layout(demonstration), simulation.joints
    if set(stored) != {_plain(joint) for joint in joints}:
        raise DatasetError(f"{name} has the joints {sorted(stored)}, expected those of lift: {sorted(joints)}")
    count, velocity_count = _sizes(joints)
    if states.shape[1:] != (1 + count + velocity_count,):
        raise DatasetError(f"{name} has states of {states.shape[1:]} numbers, expected {1 + count + velocity_count}")
    periods = np.diff(states[:, 0]) * RATE_HZ
    if not np.allclose(periods, 1.0, atol=1e-3):
        raise DatasetError(f"{name} was not recorded at {RATE_HZ:g} Hz throughout, but lift runs at that rate")
    result = states.copy()
    for joint, (position, velocity) in joints.items():
        there = stored[_plain(joint)]
        result[:, 1:][:, position] = states[:, 1:][:, there[0]]
        result[:, 1 + count :][:, velocity] = states[:, 1 + count :][:, there[1]]
    return result


def _layout(demonstration: Demonstration) -> Layout:
    """Where each joint of the stored model lies in its state: joints come in the order of the document, and slide and
    hinge joints have one number each."""
    try:
        world = ElementTree.fromstring(demonstration.model_xml).find("worldbody")
    except ElementTree.ParseError as error:
        raise DatasetError(f"{demonstration.name} has a model that is no XML ({error})") from error
    joints = [] if world is None else [entry for entry in world.iter() if entry.tag in ("joint", "freejoint")]
    kinds = ["free" if entry.tag == "freejoint" else entry.get("type", "hinge") for entry in joints]
    sizes = np.array([(0, 0), *(_WIDTHS.get(kind, (1, 1)) for kind in kinds)])
    ends = np.cumsum(sizes, axis=0).tolist()
    places = [(slice(a[0], b[0]), slice(a[1], b[1])) for a, b in pairwise(ends)]
    return {_plain(entry.get("name", "")): place for entry, place in zip(joints, places, strict=True)}


def _sizes(layout: Layout) -> tuple[int, int]:
    """nq and nv."""
    return max(position.stop for position, _ in layout.values()), max(velocity.stop for _, velocity in layout.values())


def _plain(joint: str) -> str:
    """A joint's name without what robosuite 1.5 has put into those of the gripper."""
    return joint.replace("gripper0_right_", "gripper0_")
