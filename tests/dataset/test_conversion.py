from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robopolicy.dataset.conversion import absolute_to_delta, convert_rotations, delta_to_absolute, with_rotation_kind
from robopolicy.errors import SpecError
from robopolicy.rotation import ROTATION_KINDS, angle_between
from robopolicy.spec import ArraySpec, Kind, Mode, Part

KINDS = st.sampled_from(ROTATION_KINDS)
FRAMES = st.sampled_from(["world", "tool"])
ROWS = hnp.arrays(np.float64, (6, 7), elements=st.floats(-1.5, 1.5))


def pose_spec(kind: Kind, mode: Mode = "absolute") -> ArraySpec:
    """Position, rotation of `kind`, gripper; the order differs between modes so that names must be used."""
    size = {"rotation_6d": 6, "rotation_vector": 3, "quaternion": 4}[kind]
    parts = [Part("place", 3, "position", mode), Part("turn", size, kind, mode), Part("hand", 1, "gripper")]
    return ArraySpec((4 + size,), parts=tuple(parts if mode == "absolute" else reversed(parts)))


VECTORS = pose_spec("rotation_vector")


@given(ROWS, ROWS, KINDS, KINDS, FRAMES)
def test_deltas_round_trip_through_absolute_targets(
    anchors: np.ndarray, targets: np.ndarray, kind: Kind, delta_kind: Kind, frame: Literal["world", "tool"]
) -> None:
    absolute, delta = pose_spec(kind), pose_spec(delta_kind, "delta")
    start = convert_rotations(anchors, source=VECTORS, target=absolute)
    end = convert_rotations(targets, source=VECTORS, target=absolute)
    steps = absolute_to_delta(end, start, absolute=absolute, delta=delta, frame=frame)
    again = delta_to_absolute(steps, start, delta=delta, absolute=absolute, frame=frame)
    np.testing.assert_allclose(again, end, atol=1e-7)


@given(ROWS, hnp.arrays(np.float64, (6, 7), elements=st.floats(-1.0, 1.0)), FRAMES)
def test_absolute_targets_round_trip_through_deltas(
    anchors: np.ndarray, steps: np.ndarray, frame: Literal["world", "tool"]
) -> None:
    absolute, delta = pose_spec("rotation_6d"), pose_spec("rotation_vector", "delta")
    start = convert_rotations(anchors, source=VECTORS, target=absolute)
    targets = delta_to_absolute(steps, start, delta=delta, absolute=absolute, frame=frame)
    again = absolute_to_delta(targets, start, absolute=absolute, delta=delta, frame=frame)
    np.testing.assert_allclose(again, steps, atol=1e-7)


def test_the_two_frames_differ_as_a_person_expects() -> None:
    """A tool turned 90 degrees about z: forward along its x is y in the world."""
    delta = pose_spec("rotation_vector", "delta")
    anchor = np.array([1.0, 2.0, 3.0, 0.0, 0.0, np.pi / 2, 0.0])
    step = np.array([0.5, 0.2, 0.0, 0.0, 0.1, 0.0, 0.0])  # hand, turn (about x), place (along x)
    world = delta_to_absolute(step, anchor, delta=delta, absolute=VECTORS)
    tool = delta_to_absolute(step, anchor, delta=delta, absolute=VECTORS, frame="tool")
    np.testing.assert_allclose(world[:3], [1.1, 2.0, 3.0])
    np.testing.assert_allclose(tool[:3], [1.0, 2.1, 3.0])
    assert world[6] == tool[6] == 0.5
    for result in (world, tool):
        assert angle_between(result[3:6], anchor[3:6], "rotation_vector") == pytest.approx(0.2)
    about_x = delta_to_absolute(step, np.zeros(7), delta=delta, absolute=VECTORS)
    np.testing.assert_allclose(about_x[3:6], [0.2, 0.0, 0.0], atol=1e-12)


@given(ROWS, KINDS, KINDS)
def test_rotation_representations_round_trip(values: np.ndarray, first: Kind, second: Kind) -> None:
    a, b = pose_spec(first), pose_spec(second)
    start = convert_rotations(values, source=VECTORS, target=a)
    np.testing.assert_allclose(
        convert_rotations(convert_rotations(start, source=a, target=b), source=b, target=a), start, atol=1e-7
    )


def test_a_spec_with_another_rotation_kind_keeps_the_rest() -> None:
    spec = ArraySpec(
        (7,),
        parts=VECTORS.parts,
        low=(-1.0, -2.0, -3.0, -9.0, -9.0, -9.0, 0.0),
        high=(1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 1.0),
    )
    found = with_rotation_kind(spec, "rotation_6d")
    assert found.shape == (10,)
    assert [(part.name, part.size, part.kind) for part in found.parts] == [
        ("place", 3, "position"),
        ("turn", 6, "rotation_6d"),
        ("hand", 1, "gripper"),
    ]
    assert found.low == (-1.0, -2.0, -3.0, *[-1.0] * 6, 0.0)
    assert found.high == (1.0, 2.0, 3.0, *[1.0] * 6, 1.0)
    assert with_rotation_kind(VECTORS, "quaternion").low is None
    with pytest.raises(SpecError, match="'joint'"):
        with_rotation_kind(spec, "joint")


def test_specs_that_do_not_match_are_named() -> None:
    delta = ArraySpec((3,), parts=(Part("place", 3, "position", "delta"),))
    with pytest.raises(SpecError, match="do not match the parts"):
        delta_to_absolute(np.zeros(3), np.zeros(7), delta=delta, absolute=VECTORS)
    joints = ArraySpec((3,), parts=(Part("place", 3, "joint"),))
    with pytest.raises(SpecError, match="part 'place' is position of size 3, expected joint of size 3"):
        delta_to_absolute(np.zeros(3), np.zeros(3), delta=delta, absolute=joints)
    position = ArraySpec((3,), parts=(Part("place", 3, "position"),))
    with pytest.raises(SpecError, match="need one rotation part"):
        delta_to_absolute(np.zeros(3), np.zeros(3), delta=delta, absolute=position, frame="tool")
    with pytest.raises(SpecError, match="delta_to_absolute"):
        convert_rotations(np.zeros(3), source=delta, target=position)
