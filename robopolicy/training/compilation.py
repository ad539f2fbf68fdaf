"""torch.compile for training: in place, so that checkpoints keep the names of the weights."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

from robopolicy.errors import ConfigError
from robopolicy.policies.policy import LearnedPolicy

_COMPILERS = ("c++", "g++", "clang++")


def compile_networks(policy: LearnedPolicy, device: torch.device) -> None:
    """Compiles every network of `policy` when it is first called. Raises ConfigError where nothing can compile it."""
    wanted = [name for name in (os.environ.get("CXX"), *_COMPILERS) if name]
    if not any(shutil.which(name) for name in wanted):
        raise ConfigError(
            f"training.compile=true needs a C++ compiler, found none of {', '.join(wanted)}: install one, or set "
            "training.compile=false"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError(
            "training.compile=true on a GPU needs the package triton, which is not installed: install torch for CUDA, "
            "or set training.compile=false"
        )
    for network in policy.networks():
        network.compile()
