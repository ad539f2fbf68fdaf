"""What `scripts/doctor.py` does: says what works on this machine and what to install for the rest."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from omegaconf import DictConfig

from robopolicy.command import Run
from robopolicy.configuration import build, plain

_PACKAGES = ("torch", "diffusers", "mujoco", "robosuite", "gym-pusht", "zarr", "opencv-python-headless", "numpy")


def doctor(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Prints one line a finding; returns the same for `result.json`."""
    findings = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "gpu": _gpu(),
        **{f"package {name}": _version(name) for name in _PACKAGES},
        **{name: build(check) for name, check in plain(config.checks).items()},
    }
    width = max(len(name) for name in findings)
    for name, finding in findings.items():
        run.say(f"{name:<{width}}  {finding}")
    return findings


def _gpu() -> str:
    try:
        import torch
    except ModuleNotFoundError:
        return "unknown: torch is not installed"
    if not torch.cuda.is_available():
        return "none: training and inference run on the CPU"
    return torch.cuda.get_device_name(0)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
