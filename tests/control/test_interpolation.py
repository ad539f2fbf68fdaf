"""Between two actions: ends, midpoints and geodesics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robopolicy import rotation
from robopolicy.control.interpolation import along, between, distance, is_held, parts_of
from robopolicy.spec import ArraySpec, Part

POSE = ArraySpec(
    (11,),
    parts=(
        Part("position", 3, "position"),
        Part("rotation", 6, "rotation_6d"),
        Part("gripper", 1, "gripper"),
        Part("switch", 1, discrete=True),
    ),
)
vectors = st.lists(st.floats(-2, 2), min_size=3, max_size=3).map(np.asarray)


def pose(position: NDArray[np.float64], turn: NDArray[np.float64], gripper: float) -> NDArray[np.float64]:
    six = rotation.convert(turn, "rotation_vector", "rotation_6d")
    return np.concatenate([position, six, [gripper, gripper]])


@given(vectors, vectors, vectors, st.floats(0, 1))
def test_the_path_is_straight_for_positions_and_a_geodesic_for_rotations(
    position: NDArray[np.float64], first: NDArray[np.float64], turn: NDArray[np.float64], fraction: float
) -> None:
    """Turning by `turn` from `first`: at any fraction the angle left and right of it adds up."""
    last = (Rotation.from_rotvec(first) * Rotation.from_rotvec(turn)).as_rotvec()
    start, end = pose(np.zeros(3), first, 0.0), pose(position, last, 1.0)
    middle = between(POSE, start, end, fraction)
    assert np.allclose(middle[:3], fraction * position)
    part, place = parts_of(POSE)[1]
    angle = distance(part, start[place], end[place])
    assert distance(part, start[place], middle[place]) == pytest.approx(fraction * angle, abs=1e-6)
    assert distance(part, middle[place], end[place]) == pytest.approx((1 - fraction) * angle, abs=1e-6)


def test_held_parts_change_only_at_the_end() -> None:
    start, end = pose(np.zeros(3), np.zeros(3), 0.0), pose(np.ones(3), np.ones(3), 1.0)
    assert np.array_equal(between(POSE, start, end, 0.999)[9:], [0.0, 0.0])
    assert np.array_equal(between(POSE, start, end, 1.0), end)
    assert np.array_equal(between(POSE, start, end, 0.0)[:3], start[:3])


def test_inputs_are_not_changed() -> None:
    start, end = pose(np.zeros(3), np.zeros(3), 0.0), pose(np.ones(3), np.ones(3), 1.0)
    before = start.copy(), end.copy()
    between(POSE, start, end, 0.5)[:] = 9
    between(POSE, start, end, 1.0)[:] = 9
    assert np.array_equal(start, before[0])
    assert np.array_equal(end, before[1])


def test_what_is_held() -> None:
    assert is_held(Part("g", 1, "gripper"))
    assert is_held(Part("d", 3, "position", "delta"))
    assert is_held(Part("v", 3, "joint", "rate"))
    assert not is_held(Part("p", 3, "position"))


def test_a_delta_rotation_is_measured_and_scaled_as_a_vector() -> None:
    part = Part("turn", 3, "rotation_vector", "delta")
    assert distance(part, np.zeros(3), np.array([0.0, 3.0, 4.0])) == 5.0
    assert np.allclose(along(part, np.zeros(3), np.array([0.0, 3.0, 4.0]), 0.2), [0.0, 0.6, 0.8])


def test_an_action_without_parts_is_one_absolute_part() -> None:
    ((part, place),) = parts_of(ArraySpec((4,)))
    assert (part.size, part.mode, place) == (4, "absolute", slice(0, 4))
