"""robosuite's operational-space (OSC_POSE) delta actions as absolute poses.

An OSC action is [..., 7]: position delta, rotation vector delta, gripper, each clipped to -1..1; the deltas are scaled
by `output_max` and taken along the world's axes, from the end effector's pose at that step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy.dataset.conversion import delta_to_absolute
from robopolicy.rotation import from_matrix
from robopolicy.spec import ArraySpec, Part

Array = NDArray[np.float64]

OUTPUT_MAX = (0.05, 0.05, 0.05, 0.5, 0.5, 0.5)
"""robosuite's default scale: 0.05 m and 0.5 rad a step."""

DELTA = ArraySpec(
    (7,),
    parts=(
        Part("position", 3, "position", "delta"),
        Part("rotation", 3, "rotation_vector", "delta"),
        Part("gripper", 1, "gripper"),
    ),
)
ABSOLUTE = ArraySpec(
    (10,), parts=(Part("position", 3, "position"), Part("rotation", 6, "rotation_6d"), Part("gripper", 1, "gripper"))
)
"""What OSC actions are once scaled, and the targets that they become."""


def osc_to_absolute(
    actions: ArrayLike, positions: ArrayLike, rotations: ArrayLike, output_max: tuple[float, ...] = OUTPUT_MAX
) -> Array:
    """[..., 10] targets: position (m), 6-D rotation, gripper.

    Args:
        actions: [..., 7] OSC actions.
        positions: [..., 3] end effector in the world, m, when each action was given.
        rotations: [..., 3, 3] its rotation matrix.
        output_max: scale of the six deltas.
    """
    clipped = np.clip(np.asarray(actions, dtype=np.float64), -1.0, 1.0)
    scaled = clipped * np.array([*output_max, 1.0])
    return delta_to_absolute(scaled, _anchors(positions, rotations), delta=DELTA, absolute=ABSOLUTE)


def _anchors(positions: ArrayLike, rotations: ArrayLike) -> Array:
    place, turn = np.asarray(positions, dtype=np.float64), from_matrix(rotations, "rotation_6d")
    return np.concatenate([place, turn, np.zeros((*place.shape[:-1], 1))], axis=-1)
