"""What one call of `policy.sample` takes: each sampler of the configuration, for one robot and for 20 slots."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from robopolicy.benchmarks.networks import SPEC, check_device, device_name, policy_config
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request
from robopolicy.policies.factory import make_policy
from robopolicy.policies.policy import Encoded, PolicyModule


def run(
    *,
    device: str = "cpu",
    nets: Sequence[str] = ("mlp", "unet_small", "unet"),
    samplers: Sequence[str] = ("ddim", "ddpm"),
    batches: Sequence[int] = (1, 20),
    seconds: float = 3.0,
) -> dict[str, Any]:
    """Calls each policy for `seconds`, but at least once after a warm-up with ddim.

    Returns `milliseconds_per_call` (median) by network, sampler and batch size, and divided by the batch size
    `milliseconds_per_chunk`. Raises ConfigError for a device that is not here.
    """
    check_device(device)
    calls: dict[str, Any] = {net: {} for net in nets}
    for net in nets:
        for sampler in samplers:
            policy = make_policy(policy_config(net, sampler), SPEC).to(device).eval()
            calls[net][sampler] = {str(batch): _call_ms(policy, batch, device, seconds) for batch in batches}
    return {
        "milliseconds_per_call": calls,
        "milliseconds_per_chunk": {
            net: {name: {batch: ms / int(batch) for batch, ms in row.items()} for name, row in found.items()}
            for net, found in calls.items()
        },
        "steps": {name: policy_config(nets[0], name)["policy"]["sampler"]["steps"] for name in samplers},
        "device": device_name(device),
    }


@torch.no_grad()
def _call_ms(policy: PolicyModule, batch: int, device: str, seconds: float) -> float:
    encoded = policy.encode({"state": torch.zeros(batch, policy.horizon.observation_steps, 14, device=device)})
    noise = RowNoise(0, [(row, 0) for row in range(batch)], device)
    _sample(policy, encoded, Request(noise, levels=(0.9, 0.5)), device)  # warms up; two evaluations are enough
    took: list[float] = []
    began = time.perf_counter()
    while not took or time.perf_counter() - began < seconds:
        took.append(_seconds(lambda: _sample(policy, encoded, Request(noise), device)))
    return 1e3 * median(took)


def _sample(policy: PolicyModule, encoded: Encoded, request: Request, device: str) -> None:
    policy.sample(encoded, request)
    if device == "cuda":
        torch.cuda.synchronize()


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
