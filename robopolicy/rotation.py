"""Rotations as the arrays that observations and actions carry, converted through matrices.

Kinds are those of `robopolicy.spec.Part`: `rotation_vector` (axis times angle, rad), `quaternion` (w, x, y, z, unit,
w >= 0 on output) and `rotation_6d` (first two matrix columns, one after the other; Zhou et al., arXiv 1812.07035).
Every function takes arrays with any leading axes. SciPy does the conversions; this module fixes the conventions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from robopolicy.errors import SpecError

Array = NDArray[np.float64]

ROTATION_KINDS = ("rotation_6d", "rotation_vector", "quaternion")
_DEGENERATE = 1e-6


def to_matrix(values: ArrayLike, kind: str) -> Array:
    """[..., 3|4|6] of `kind` to [..., 3, 3]. A 6-D rotation is orthonormalised (Gram-Schmidt) on the way."""
    array = np.asarray(values, dtype=np.float64)
    if kind == "rotation_6d":
        return _gram_schmidt(array[..., :3], array[..., 3:])
    flat = array.reshape(-1, array.shape[-1])
    if kind == "rotation_vector":
        matrices = Rotation.from_rotvec(flat).as_matrix()
    elif kind == "quaternion":
        matrices = Rotation.from_quat(np.roll(flat, -1, axis=-1)).as_matrix()
    else:
        raise SpecError(f"'{kind}' is no rotation kind, expected one of {', '.join(ROTATION_KINDS)}")
    return np.asarray(matrices.reshape(*array.shape[:-1], 3, 3))


def from_matrix(matrices: ArrayLike, kind: str) -> Array:
    """[..., 3, 3] to [..., 3|4|6] of `kind`."""
    array = np.asarray(matrices, dtype=np.float64)
    if kind == "rotation_6d":
        return np.concatenate([array[..., :, 0], array[..., :, 1]], axis=-1)
    rotation = Rotation.from_matrix(array.reshape(-1, 3, 3))
    if kind == "rotation_vector":
        flat = rotation.as_rotvec()
    elif kind == "quaternion":
        flat = np.roll(rotation.as_quat(), 1, axis=-1)
        flat = np.where(flat[:, :1] < 0, -flat, flat)
    else:
        raise SpecError(f"'{kind}' is no rotation kind, expected one of {', '.join(ROTATION_KINDS)}")
    return np.asarray(flat.reshape(*array.shape[:-2], flat.shape[-1]))


def convert(values: ArrayLike, source: str, target: str) -> Array:
    """[..., n] of kind `source` to [..., m] of kind `target`."""
    return from_matrix(to_matrix(values, source), target)


def is_rotation(values: ArrayLike, kind: str) -> NDArray[np.bool_]:
    """[...] whether each of [..., n] values of `kind` stands for a rotation; True for kinds that are no rotations.

    A quaternion must not be zero, the two columns of a 6-D rotation neither zero nor parallel.
    """
    array = np.asarray(values, dtype=np.float64)
    if kind == "quaternion":
        return np.asarray(np.linalg.norm(array, axis=-1) > _DEGENERATE)
    if kind == "rotation_6d":
        first = np.linalg.norm(array[..., :3], axis=-1)
        area = np.linalg.norm(np.cross(array[..., :3], array[..., 3:]), axis=-1)
        return np.asarray((first > _DEGENERATE) & (area > _DEGENERATE))
    return np.ones(array.shape[:-1], dtype=bool)


def interpolate(start: ArrayLike, end: ArrayLike, fraction: float, kind: str) -> Array:
    """The point at `fraction` (0 to 1) of the geodesic between two rotations of `kind`, [n] each."""
    first, last = to_matrix(start, kind), to_matrix(end, kind)
    turn = Rotation.from_matrix(first.T @ last).as_rotvec() * fraction
    return from_matrix(first @ Rotation.from_rotvec(turn).as_matrix(), kind)


def angle_between(a: ArrayLike, b: ArrayLike, kind: str) -> float:
    """Angle in rad, 0 to pi, of the turn that takes one rotation of `kind` into the other, [n] each."""
    return float(Rotation.from_matrix(to_matrix(a, kind).T @ to_matrix(b, kind)).magnitude())


def _gram_schmidt(first: Array, second: Array) -> Array:
    x = first / np.linalg.norm(first, axis=-1, keepdims=True)
    y = second - np.sum(x * second, axis=-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)
