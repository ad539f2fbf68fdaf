"""Every kind of policy as its configuration file says, but small enough for a test."""

from __future__ import annotations

from typing import Any

from robopolicy.configuration import load, plain

POLICIES = ["diffusion", "flow", "edm", "mode", "ebt", "bc_mse", "bc_gaussian"]


def small_policy(name: str, *overrides: str) -> dict[str, Any]:
    """What `policy=<name>` stands for in a configuration."""
    net = "policy.net" if name.startswith("bc_") else "net"  # cloning brings its own
    small = [f"{net}.width=16", f"{net}.blocks=1", *(["net.heads=2"] if name in ("mode", "ebt") else [])]
    chosen: dict[str, Any] = plain(load("train", ["task=reach", f"policy={name}", *small, *overrides]))["policy"]
    return chosen
