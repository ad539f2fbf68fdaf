from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robopolicy import rotation
from robopolicy.errors import SpecError

KINDS = st.sampled_from(rotation.ROTATION_KINDS)
VECTORS = hnp.arrays(np.float64, (3,), elements=st.floats(-1.8, 1.8))  # less than pi long: one name for each rotation


@given(VECTORS, KINDS)
def test_matrices_are_rotations_and_conversions_return(vector: np.ndarray, kind: str) -> None:
    assume(np.linalg.norm(vector) < 3.1)
    values = rotation.convert(vector, "rotation_vector", kind)
    matrix = rotation.to_matrix(values, kind)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation.convert(values, kind, "rotation_vector"), vector, atol=1e-7)


@given(hnp.arrays(np.float64, (2, 4, 3), elements=st.floats(-1.5, 1.5)), KINDS, KINDS)
def test_leading_axes_stay_and_all_kinds_name_one_matrix(vectors: np.ndarray, first: str, second: str) -> None:
    a = rotation.convert(vectors, "rotation_vector", first)
    b = rotation.convert(a, first, second)
    assert b.shape[:-1] == (2, 4)
    np.testing.assert_allclose(rotation.to_matrix(b, second), rotation.to_matrix(vectors, "rotation_vector"), atol=1e-9)


def test_a_quarter_turn_about_z_in_every_kind() -> None:
    half = np.sqrt(0.5)
    expected = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for kind, values in (
        ("rotation_vector", [0, 0, np.pi / 2]),
        ("quaternion", [half, 0, 0, half]),
        ("rotation_6d", [0, 1, 0, -1, 0, 0]),
    ):
        np.testing.assert_allclose(rotation.to_matrix(values, kind), expected, atol=1e-12)
        np.testing.assert_allclose(rotation.from_matrix(expected, kind), values, atol=1e-12)


@given(VECTORS)
def test_quaternions_have_a_positive_real_part_and_unit_length(vector: np.ndarray) -> None:
    quaternion = rotation.convert(vector, "rotation_vector", "quaternion")
    assert quaternion[0] >= 0.0
    assert np.linalg.norm(quaternion) == pytest.approx(1.0)


@given(VECTORS, st.floats(0.5, 2.0), st.floats(-0.5, 0.5))
def test_a_6d_rotation_is_orthonormalised(vector: np.ndarray, scale: float, shear: float) -> None:
    matrix = rotation.to_matrix(vector, "rotation_vector")
    skewed = np.concatenate([scale * matrix[:, 0], matrix[:, 1] + shear * matrix[:, 0]])
    np.testing.assert_allclose(rotation.to_matrix(skewed, "rotation_6d"), matrix, atol=1e-12)


@given(VECTORS, VECTORS, st.floats(0.0, 1.0), KINDS)
def test_interpolation_moves_along_the_geodesic(a: np.ndarray, b: np.ndarray, fraction: float, kind: str) -> None:
    start, end = (rotation.convert(v, "rotation_vector", kind) for v in (a, b))
    whole = rotation.angle_between(start, end, kind)
    assume(whole < 3.1)
    between = rotation.interpolate(start, end, fraction, kind)
    assert rotation.angle_between(start, between, kind) == pytest.approx(fraction * whole, abs=1e-6)
    assert rotation.angle_between(between, end, kind) == pytest.approx((1 - fraction) * whole, abs=1e-6)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(SpecError, match="'euler'"):
        rotation.to_matrix([0, 0, 0], "euler")
    with pytest.raises(SpecError, match="'euler'"):
        rotation.from_matrix(np.eye(3), "euler")
