"""Between two actions: linear for positions and joints, geodesic for rotations, held for grippers and discrete parts.

Delta and rate parts mean something per tick, so they are held too: only absolute targets are interpolated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robopolicy import rotation
from robopolicy.spec import ArraySpec, Part

Vector = NDArray[np.float64]


def between(spec: ArraySpec, start: Vector, end: Vector, fraction: float) -> Vector:
    """The action ([D]) at `fraction` of the way from `start` to `end`; held parts keep `start` until fraction 1."""
    if fraction >= 1.0:
        return end.copy()
    result = start.copy()
    for part, place in parts_of(spec):
        if not is_held(part):
            result[place] = along(part, start[place], end[place], fraction)
    return result


def along(part: Part, start: Vector, end: Vector, fraction: float) -> Vector:
    """The value of one part at `fraction` of the way: on the geodesic for absolute rotations, straight otherwise."""
    if part.kind in rotation.ROTATION_KINDS and part.mode == "absolute":
        return rotation.interpolate(start, end, fraction, part.kind)
    return start + fraction * (end - start)


def distance(part: Part, start: Vector, end: Vector) -> float:
    """How far apart two values of one part are: the angle (rad) for rotations, the Euclidean norm otherwise."""
    if part.kind in rotation.ROTATION_KINDS and part.mode == "absolute":
        return rotation.angle_between(start, end, part.kind)
    return float(np.linalg.norm(end - start))


def is_held(part: Part) -> bool:
    """True for what is never interpolated."""
    return part.discrete or part.kind == "gripper" or part.mode != "absolute"


def parts_of(spec: ArraySpec) -> list[tuple[Part, slice]]:
    """The action's parts; an action without named parts is one absolute part."""
    if spec.parts:
        return list(spec.slices())
    return [(Part("action", spec.shape[-1]), slice(0, spec.shape[-1]))]
