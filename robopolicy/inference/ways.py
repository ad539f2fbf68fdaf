"""The ways to make a network fast, and where each of them is out of the question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from robopolicy.inference.matrices import as_matrices, in_bf16, in_int8
from robopolicy.nets.compiler import obstacle_to_compiling
from robopolicy.nets.energy import EnergyTransformer
from robopolicy.nets.protocols import LevelCache


@dataclass(frozen=True)
class Way:
    """How networks are made fast. `rewrite` gives a new network; `compiled` ones are then handed to torch.compile."""

    rewrite: Callable[[nn.Module], nn.Module]
    compiled: bool = False


WAYS: Mapping[str, Way] = {
    "matrix": Way(as_matrices),
    "bf16": Way(in_bf16),
    "int8": Way(in_int8),
    "compile": Way(as_matrices, compiled=True),
    "compile_bf16": Way(in_bf16, compiled=True),
}


def obstacle(way: str, networks: Sequence[nn.Module], batch_size: int, device: torch.device) -> str | None:
    """Why a way cannot be taken with these networks of a policy, None if it can."""
    if not networks:
        return "the policy has no network of its own"
    if any(isinstance(net, LevelCache) for net in networks):
        return "a mixture of experts has its experts prepared instead (cache_experts=true)"
    energies = any(isinstance(net, EnergyTransformer) for net in networks)
    if WAYS[way].compiled and energies:
        return "an energy is differentiated at every step, and compiled code is made for calls without gradients"
    if way == "matrix" and not any(isinstance(part, nn.Conv1d) for net in networks for part in net.modules()):
        return "there is no convolution to rewrite"
    if way == "int8":
        return _obstacle_to_int8(energies, batch_size, device)
    return obstacle_to_compiling(device) if WAYS[way].compiled else None


def _obstacle_to_int8(energies: bool, batch_size: int, device: torch.device) -> str | None:
    if energies:
        return "it has no gradients, which an energy needs"
    if batch_size > 1:
        return "its rounding would mix the rows of a batch"
    if device.type != "cpu" or torch.backends.quantized.engine == "none":
        return "torch has int8 products for some CPUs only"
    return None
