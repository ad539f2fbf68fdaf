"""Pose actions in other words: deltas as absolute targets and back, and other rotation representations.

Parts are matched by name between two action (or observation) specs, so nobody counts columns. A delta is relative to an
anchor, the absolute pose [..., D] that it starts from. In frame "world" position and rotation deltas are along the axes
of the world (p + dp, dR R); in frame "tool" along those of the anchor's tool (p + R dp, R dR).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy import rotation
from robopolicy.errors import SpecError
from robopolicy.spec import ArraySpec, Kind, Part

Array = NDArray[np.float64]
Frame = Literal["world", "tool"]

_ROTATION_RANGES: dict[str, tuple[int, float]] = {
    "rotation_6d": (6, 1.0),
    "rotation_vector": (3, math.pi),
    "quaternion": (4, 1.0),
}


def delta_to_absolute(
    actions: ArrayLike, anchors: ArrayLike, *, delta: ArraySpec, absolute: ArraySpec, frame: Frame = "world"
) -> Array:
    """[..., D'] actions of spec `delta` to [..., D] targets of spec `absolute`, from [..., D] anchors of that spec.

    Parts that are absolute in both specs (a gripper) are taken over. Raises SpecError when the specs do not match.
    """
    steps, start = np.asarray(actions, dtype=np.float64), np.asarray(anchors, dtype=np.float64)
    targets = start.copy()
    tool = _tool_axes(start, absolute, frame)
    for there, here in _pairs(absolute, delta):
        step, place = steps[..., here[1]], there[1]
        if here[0].mode == "absolute":
            targets[..., place] = step if here[0].kind == there[0].kind else _turned(step, here[0], there[0])
        elif there[0].kind in rotation.ROTATION_KINDS:
            before, turn = rotation.to_matrix(start[..., place], there[0].kind), rotation.to_matrix(step, here[0].kind)
            after = turn @ before if frame == "world" else before @ turn
            targets[..., place] = rotation.from_matrix(after, there[0].kind)
        else:
            targets[..., place] = start[..., place] + _rotated(tool, step, there[0])
    return targets


def absolute_to_delta(
    targets: ArrayLike, anchors: ArrayLike, *, absolute: ArraySpec, delta: ArraySpec, frame: Frame = "world"
) -> Array:
    """The inverse of `delta_to_absolute`: what leads from the anchors to the targets, [..., D']."""
    end, start = np.asarray(targets, dtype=np.float64), np.asarray(anchors, dtype=np.float64)
    actions = np.zeros((*end.shape[:-1], delta.shape[-1]))
    tool = _tool_axes(start, absolute, frame)
    for there, here in _pairs(absolute, delta):
        value, place = end[..., there[1]], here[1]
        if here[0].mode == "absolute":
            actions[..., place] = value if here[0].kind == there[0].kind else _turned(value, there[0], here[0])
        elif there[0].kind in rotation.ROTATION_KINDS:
            before = rotation.to_matrix(start[..., there[1]], there[0].kind)
            after, back = rotation.to_matrix(value, there[0].kind), np.swapaxes(before, -1, -2)
            actions[..., place] = rotation.from_matrix(after @ back if frame == "world" else back @ after, here[0].kind)
        else:
            inverse = None if tool is None else np.swapaxes(tool, -1, -2)
            actions[..., place] = _rotated(inverse, value - start[..., there[1]], there[0])
    return actions


def convert_rotations(values: ArrayLike, *, source: ArraySpec, target: ArraySpec) -> Array:
    """[..., D] values of `source` to [..., D'] values of `target`: same parts, rotations in other representations."""
    array = np.asarray(values, dtype=np.float64)
    result = np.empty((*array.shape[:-1], target.shape[-1]))
    for (there, there_place), (here, here_place) in _pairs(target, source):
        if there.mode != here.mode:
            raise SpecError(f"part '{here.name}' is {here.mode}, expected {there.mode}; use delta_to_absolute for that")
        result[..., there_place] = _turned(array[..., here_place], here, there)
    return result


def with_rotation_kind(spec: ArraySpec, kind: Kind) -> ArraySpec:
    """`spec` with every rotation part as `kind`; where it had limits, rotations get those of their kind."""
    if kind not in _ROTATION_RANGES:
        raise SpecError(f"'{kind}' is no rotation kind, expected one of {', '.join(rotation.ROTATION_KINDS)}")
    size, bound = _ROTATION_RANGES[kind]
    parts: list[Part] = []
    low: list[float] = []
    high: list[float] = []
    for part, place in spec.slices():
        turned = part.kind in rotation.ROTATION_KINDS
        parts.append(replace(part, size=size, kind=kind) if turned else part)
        low += [-bound] * size if turned else list((spec.low or ())[place])
        high += [bound] * size if turned else list((spec.high or ())[place])
    return replace(
        spec,
        shape=(*spec.shape[:-1], sum(part.size for part in parts)),
        parts=tuple(parts),
        low=tuple(low) if spec.low else None,
        high=tuple(high) if spec.high else None,
    )


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


def _tool_axes(anchors: Array, absolute: ArraySpec, frame: Frame) -> NDArray[Any] | None:
    """[..., 3, 3] rotation of the tool in the world when deltas are along its axes."""
    if frame == "world":
        return None
    turning = [(part, place) for part, place in absolute.slices() if part.kind in rotation.ROTATION_KINDS]
    if len(turning) != 1:
        raise SpecError(f"deltas in the tool frame need one rotation part, found {[part.name for part, _ in turning]}")
    part, place = turning[0]
    return rotation.to_matrix(anchors[..., place], part.kind)


def _rotated(axes: NDArray[Any] | None, step: Array, part: Part) -> Array:
    if axes is None or part.kind != "position":
        return step
    if part.size != 3:
        raise SpecError(f"part '{part.name}' of size {part.size} cannot be turned into the tool frame, expected size 3")
    return np.asarray(np.einsum("...ij,...j->...i", axes, step))


def _turned(values: Array, source: Part, target: Part) -> Array:
    return values if source.kind == target.kind else rotation.convert(values, source.kind, target.kind)
