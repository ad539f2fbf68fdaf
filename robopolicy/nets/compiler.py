"""What torch.compile needs on a machine."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

COMPILERS = ("c++", "g++", "clang++")


def obstacle_to_compiling(device: torch.device) -> str | None:
    """Why torch.compile cannot work here, None if it can."""
    wanted = [name for name in (os.environ.get("CXX"), *COMPILERS) if name]
    if not any(shutil.which(name) for name in wanted):
        return f"there is no C++ compiler here ({', '.join(wanted)})"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    return None
