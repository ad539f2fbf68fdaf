from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from robopolicy.dataset.conversion import absolute_to_delta, delta_to_absolute
from robopolicy.errors import SpecError
from robopolicy.rotation import ROTATION_KINDS, angle_between, convert
from robopolicy.spec import ArraySpec, Kind, Mode, Part

KINDS = st.sampled_from(ROTATION_KINDS)
ROWS = hnp.arrays(np.float64, (6, 7), elements=st.floats(-1.5, 1.5))


def pose_spec(kind: Kind, mode: Mode = "absolute") -> ArraySpec:
    """Position, rotation of `kind`, gripper; the order differs between modes so that names must be used."""
    size = {"rotation_6d": 6, "rotation_vector": 3, "quaternion": 4}[kind]
    parts = [Part("place", 3, "position", mode), Part("turn", size, kind, mode), Part("hand", 1, "gripper")]
    return ArraySpec((4 + size,), parts=tuple(parts if mode == "absolute" else reversed(parts)))


VECTORS = pose_spec("rotation_vector")


def turned(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Poses of `VECTORS` with the rotation as `kind`."""
    rotations = convert(values[:, 3:6], "rotation_vector", kind)
    return np.concatenate([values[:, :3], rotations, values[:, 6:]], axis=-1)


@given(ROWS, ROWS, KINDS, KINDS)
def test_deltas_round_trip_through_absolute_targets(
    anchors: np.ndarray, targets: np.ndarray, kind: Kind, delta_kind: Kind
) -> None:
    absolute, delta = pose_spec(kind), pose_spec(delta_kind, "delta")
    start = turned(anchors, absolute.parts[1].kind)
    end = turned(targets, absolute.parts[1].kind)
    steps = absolute_to_delta(end, start, absolute=absolute, delta=delta)
    again = delta_to_absolute(steps, start, delta=delta, absolute=absolute)
    np.testing.assert_allclose(again, end, atol=1e-7)


@given(ROWS, hnp.arrays(np.float64, (6, 7), elements=st.floats(-1.0, 1.0)))
def test_absolute_targets_round_trip_through_deltas(anchors: np.ndarray, steps: np.ndarray) -> None:
    absolute, delta = pose_spec("rotation_6d"), pose_spec("rotation_vector", "delta")
    start = turned(anchors, absolute.parts[1].kind)
    targets = delta_to_absolute(steps, start, delta=delta, absolute=absolute)
    again = absolute_to_delta(targets, start, absolute=absolute, delta=delta)
    np.testing.assert_allclose(again, steps, atol=1e-7)


def test_deltas_are_along_the_axes_of_the_world() -> None:
    """A tool turned 90 degrees about z: forward along x stays x."""
    delta = pose_spec("rotation_vector", "delta")
    anchor = np.array([1.0, 2.0, 3.0, 0.0, 0.0, np.pi / 2, 0.0])
    step = np.array([0.5, 0.2, 0.0, 0.0, 0.1, 0.0, 0.0])  # hand, turn (about x), place (along x)
    target = delta_to_absolute(step, anchor, delta=delta, absolute=VECTORS)
    np.testing.assert_allclose(target[:3], [1.1, 2.0, 3.0])
    assert target[6] == 0.5
    assert angle_between(target[3:6], anchor[3:6], "rotation_vector") == pytest.approx(0.2)
    expected = Rotation.from_rotvec([0.2, 0.0, 0.0]) * Rotation.from_rotvec(anchor[3:6])
    np.testing.assert_allclose(Rotation.from_rotvec(target[3:6]).as_matrix(), expected.as_matrix(), atol=1e-12)


def test_specs_that_do_not_match_are_named() -> None:
    delta = ArraySpec((3,), parts=(Part("place", 3, "position", "delta"),))
    with pytest.raises(SpecError, match="do not match the parts"):
        delta_to_absolute(np.zeros(3), np.zeros(7), delta=delta, absolute=VECTORS)
    joints = ArraySpec((3,), parts=(Part("place", 3, "joint"),))
    with pytest.raises(SpecError, match="part 'place' is position of size 3, expected joint of size 3"):
        delta_to_absolute(np.zeros(3), np.zeros(3), delta=delta, absolute=joints)
