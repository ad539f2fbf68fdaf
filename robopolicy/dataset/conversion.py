"""Pose actions in other words: deltas as absolute targets and back, whatever the rotation representations of both.

Parts are matched by name between two action specs, so nobody counts columns. A delta is relative to an anchor, the
absolute pose [..., D] that it starts from; position and rotation deltas are along the axes of the world (p + dp, dR R).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy import rotation
from robopolicy.errors import SpecError
from robopolicy.spec import ArraySpec, Part

Array = NDArray[np.float64]


def delta_to_absolute(actions: ArrayLike, anchors: ArrayLike, *, delta: ArraySpec, absolute: ArraySpec) -> Array:
    """[..., D'] actions of spec `delta` to [..., D] targets of spec `absolute`, from [..., D] anchors of that spec.

    Parts that are absolute in both specs (a gripper) are taken over. Raises SpecError when the specs do not match.
    """
    steps, start = np.asarray(actions, dtype=np.float64), np.asarray(anchors, dtype=np.float64)
    targets = start.copy()
    for there, here in _pairs(absolute, delta):
        step, place = steps[..., here[1]], there[1]
        if here[0].mode == "absolute":
            targets[..., place] = _turned(step, here[0], there[0])
        elif there[0].kind in rotation.ROTATION_KINDS:
            before, turn = rotation.to_matrix(start[..., place], there[0].kind), rotation.to_matrix(step, here[0].kind)
            targets[..., place] = rotation.from_matrix(turn @ before, there[0].kind)
        else:
            targets[..., place] = start[..., place] + step
    return targets


def absolute_to_delta(targets: ArrayLike, anchors: ArrayLike, *, absolute: ArraySpec, delta: ArraySpec) -> Array:
    """The inverse of `delta_to_absolute`: what leads from the anchors to the targets, [..., D']."""
    end, start = np.asarray(targets, dtype=np.float64), np.asarray(anchors, dtype=np.float64)
    actions = np.zeros((*end.shape[:-1], delta.shape[-1]))
    for there, here in _pairs(absolute, delta):
        value, place = end[..., there[1]], here[1]
        if here[0].mode == "absolute":
            actions[..., place] = _turned(value, there[0], here[0])
        elif there[0].kind in rotation.ROTATION_KINDS:
            before = rotation.to_matrix(start[..., there[1]], there[0].kind)
            after, back = rotation.to_matrix(value, there[0].kind), np.swapaxes(before, -1, -2)
            actions[..., place] = rotation.from_matrix(after @ back, here[0].kind)
        else:
            actions[..., place] = value - start[..., there[1]]
    return actions


def _pairs(first: ArraySpec, second: ArraySpec) -> list[tuple[tuple[Part, slice], tuple[Part, slice]]]:
    names, others = [part.name for part in first.parts], [part.name for part in second.parts]
    if not names or set(names) != set(others):
        raise SpecError(f"the parts {others} do not match the parts {names}; both specs need the same named parts")
    there = {part.name: (part, place) for part, place in second.slices()}
    pairs = [((part, place), there[part.name]) for part, place in first.slices()]
    for (a, _), (b, _) in pairs:
        both_turn = a.kind in rotation.ROTATION_KINDS and b.kind in rotation.ROTATION_KINDS
        if not both_turn and (a.kind, a.size) != (b.kind, b.size):
            raise SpecError(f"part '{a.name}' is {b.kind} of size {b.size}, expected {a.kind} of size {a.size}")
    return pairs


def _turned(values: Array, source: Part, target: Part) -> Array:
    return values if source.kind == target.kind else rotation.convert(values, source.kind, target.kind)
