"""What no robot may be sent: actions that are not finite, or rotations that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy import rotation
from robopolicy.control.interpolation import parts_of
from robopolicy.errors import BadActionError
from robopolicy.spec import ArraySpec


def check_actions(spec: ArraySpec, actions: NDArray[Any], who: str) -> None:
    """Raises BadActionError, naming `who`, unless `actions` ([..., D]) are finite and their rotations are rotations."""
    if actions.shape[-1:] != spec.shape:
        raise BadActionError(f"{who} has shape {actions.shape}, expected {_readable(spec, actions)}")
    if not np.all(np.isfinite(actions)):
        raise BadActionError(f"{who} is not finite: {np.array2string(actions, precision=4, threshold=20)}")
    for part, place in parts_of(spec):
        if part.mode == "absolute" and not np.all(rotation.is_rotation(actions[..., place], part.kind)):
            raise BadActionError(f"{who} has a '{part.name}' that is no rotation ({part.kind})")


def _readable(spec: ArraySpec, actions: NDArray[Any]) -> str:
    return f"[T, {spec.shape[0]}]" if actions.ndim == 2 else f"{spec.shape}"
