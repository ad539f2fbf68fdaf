"""Which simulators and which controller made a dataset or a result: their numbers change between versions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("mujoco", "robosuite", "gym-pusht", "pymunk")

CONTROLLER = "robosuite OSC_POSE, absolute, world frame, kp 150, 500 Hz"
"""What the `lift` tasks track their targets with; `reach` and `pusht` track with their own position controllers."""


def versions() -> dict[str, str]:
    """Package versions ("absent" for one that is not installed) and the arm's controller."""
    found = {name: _version(name) for name in _PACKAGES}
    return {**found, "controller": CONTROLLER}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
