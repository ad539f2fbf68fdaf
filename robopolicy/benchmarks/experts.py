"""What preparing the experts of `policy=mode` saves: evaluations of the network with routing and without."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from robopolicy.benchmarks.networks import SPEC, check_device, device_name
from robopolicy.configuration import load, plain
from robopolicy.errors import ConfigError
from robopolicy.nets.mode import MixtureTransformer
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy


def run(
    *,
    device: str = "cpu",
    nets: Sequence[str] = ("mode_small", "mode"),
    batches: Sequence[int] = (1, 20),
    steps: int = 10,
    seconds: float = 30.0,
) -> dict[str, Any]:
    """Evaluates each untrained network at the `steps` levels of its sampler, routed and prepared in turn.

    Repeats for `seconds`, but at least once after a warm-up. Returns by network and batch size the median milliseconds
    of an evaluation `routed` and `prepared`, their `ratio` (prepared over routed, median of the pairs) and the largest
    `difference` between their outputs. Raises ConfigError for a device that is not here and a network without experts.
    """
    check_device(device)
    figures = {}
    for name in nets:
        policy, net = _network(name, device)
        levels = policy.path.embed(policy.path.levels(steps)).to(device)
        figures[name] = {
            "million_parameters": sum(parameter.numel() for parameter in net.parameters()) / 1e6,
            "batch": {str(batch): _compare(policy, net, levels, batch, seconds) for batch in batches},
        }
    return {"nets": figures, "levels": steps, "device": device_name(device)}


def _network(name: str, device: str) -> tuple[GenerativePolicy, MixtureTransformer]:
    config = plain(load("train", ["task=lift", "policy=mode", f"net={name}"]))
    policy = make_policy({"policy": config["policy"], "horizon": config["horizon"]}, SPEC).to(device).eval()
    if not isinstance(policy, GenerativePolicy) or not isinstance(policy.net, MixtureTransformer):
        raise ConfigError(f"net '{name}' has no experts, expected mode or mode_small")
    return policy, policy.net


@torch.no_grad()
def _compare(
    policy: GenerativePolicy, net: MixtureTransformer, levels: Tensor, batch: int, seconds: float
) -> dict[str, float]:
    x = torch.randn(batch, policy.horizon.prediction, SPEC.action.shape[0], device=levels.device)
    condition = torch.randn(batch, policy.encoder.tokens, policy.encoder.size, device=levels.device)
    prepared = copy.copy(net)  # the same weights
    prepared.prepare(levels)
    pairs: list[tuple[float, float]] = []
    difference = 0.0
    _evaluate(net, x, levels, condition), _evaluate(prepared, x, levels, condition)
    began = time.perf_counter()
    while not pairs or time.perf_counter() - began < seconds:
        (before, expected), (after, found) = (_evaluate(which, x, levels, condition) for which in (net, prepared))
        difference = max(difference, float((expected - found).abs().max()))
        pairs.append((before, after))
    return {
        "routed_ms": median(before for before, _ in pairs),
        "prepared_ms": median(after for _, after in pairs),
        "ratio": median(after / before for before, after in pairs),
        "pairs": len(pairs),
        "difference": difference,
    }


def _evaluate(net: MixtureTransformer, x: Tensor, levels: Tensor, condition: Tensor) -> tuple[float, Tensor]:
    """Milliseconds an evaluation, one at each level, and the outputs [n, B, Tp, D]."""
    start = time.perf_counter()
    outputs = torch.stack([net(x, level.expand(len(x)), condition) for level in levels])
    if levels.is_cuda:
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / len(levels), outputs
