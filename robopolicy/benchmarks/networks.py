"""Policies of the default configuration at lift's size, for the benchmarks that compute: their data are random."""

from __future__ import annotations

from typing import Any

import torch

from robopolicy.configuration import load, plain
from robopolicy.errors import ConfigError
from robopolicy.spec import ArraySpec, Part, RobotSpec

SPEC = RobotSpec(
    "benchmark", {"state": ArraySpec((14,))}, ArraySpec((10,), parts=(Part("targets", 10, "position"),)), 20.0
)
"""As many numbers as the lift task's observation and action."""


def policy_config(net: str, sampler: str = "ddim") -> dict[str, Any]:
    """`policy` and `horizon` of the default training configuration with this net and sampler."""
    config = plain(load("train", ["task=lift", f"net={net}", f"sampler={sampler}"]))
    return {"policy": config["policy"], "horizon": config["horizon"]}


def check_device(device: str) -> None:
    """Raises ConfigError for a device that is unknown or not here."""
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device={device} is unknown, expected cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: torch finds no GPU on this machine, use device=cpu")


def device_name(device: str) -> str:
    """What figures were measured on: a GPU's name, or the threads that torch uses."""
    return torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
