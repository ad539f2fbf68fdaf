"""torch.compile for training: in place, so that checkpoints keep the names of the weights."""

from __future__ import annotations

import torch

from robopolicy.errors import ConfigError
from robopolicy.nets.compiler import obstacle_to_compiling
from robopolicy.policies.policy import LearnedPolicy


def compile_networks(policy: LearnedPolicy, device: torch.device) -> None:
    """Compiles every network of `policy` when it is first called. Raises ConfigError where nothing can compile it."""
    if reason := obstacle_to_compiling(device):
        raise ConfigError(f"training.compile=true cannot work: {reason}; install it, or set training.compile=false")
    for network in policy.networks():
        network.compile()
