"""What one call for one robot costs: a plain loop over the network with diffusers' scheduler beside `policy.sample`, as
it is and in each fast way (`robopolicy.inference.fast`), all with the same weights and taking turns."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor

from robopolicy.benchmarks.networks import SPEC, check_device, device_name, policy_config
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import VariancePreserving
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.inference.fast import make_fast
from robopolicy.inference.ways import WAYS
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy

SCHEDULERS = ("ddim", "ddpm")
_PREDICTION_TYPES: Mapping[str, str] = {"eps": "epsilon", "clean": "sample", "v": "v_prediction"}

_Call = Callable[[], Tensor]


def run(
    *,
    device: str = "cpu",
    net: str = "unet",
    scheduler: str = "ddim",
    steps: int = 10,
    batch: int = 1,
    ways: Sequence[str] = tuple(WAYS),
    threads: Sequence[int] = (1, 2),
    rounds: int = 5,
) -> dict[str, Any]:
    """Calls every candidate once a round, from encoded observation to normalised chunk.

    Returns by number of CPU threads (on a GPU: of `threads[0]` alone) median `milliseconds` of each candidate, how many
    `times_faster` than the peer it was (median of the rounds), the largest `difference` to the reference's chunk of the
    same noise, and why ways were `left_out`. Raises ConfigError for unknown options and a device that is not here.
    """
    check_device(device)
    if scheduler not in SCHEDULERS:
        raise ConfigError(f"scheduler={scheduler} is unknown, expected one of {', '.join(SCHEDULERS)}")
    policy = _policy(net, scheduler, steps).to(device).eval()
    figures = {}
    for count in threads if device == "cpu" else threads[:1]:
        with _threads(count):
            figures[str(count)] = _compare(policy, scheduler, steps, batch, ways, rounds, device)
    return {
        "threads": figures,
        "net": net,
        "million_parameters": sum(value.numel() for value in policy.net.parameters()) / 1e6,
        "scheduler": scheduler,
        "steps": steps,
        "batch": batch,
        "rounds": rounds,
        "device": device if device == "cpu" else device_name(device),
        "torch": torch.__version__,
    }


def peer_call(policy: GenerativePolicy, condition: Tensor, scheduler: str, steps: int) -> _Call:
    """The usual sampling loop of a diffusion policy: float32, the scheduler's own `set_timesteps` and `step`."""
    from diffusers import DDIMScheduler, DDPMScheduler

    kind: Any = DDIMScheduler if scheduler == "ddim" else DDPMScheduler
    assert isinstance(policy.path, VariancePreserving)
    says = _PREDICTION_TYPES[policy.target]
    schedule = kind(policy.path.steps, beta_schedule="squaredcos_cap_v2", clip_sample=True, prediction_type=says)
    shape = (len(condition), policy.horizon.prediction, policy.spec.action.shape[0])

    @torch.no_grad()
    def call() -> Tensor:
        chunk = torch.randn(shape, device=condition.device)
        schedule.set_timesteps(steps)
        for step in schedule.timesteps:
            output = policy.net(chunk, step.to(chunk).expand(len(chunk)), condition)
            chunk = schedule.step(output, step, chunk).prev_sample
        return chunk

    return call


def _policy(net: str, scheduler: str, steps: int) -> GenerativePolicy:
    policy = make_policy(policy_config(net), SPEC)
    if not isinstance(policy, GenerativePolicy):
        raise ConfigError(f"net={net} makes a {type(policy).__name__}, expected one that denoises")
    policy.sampler = make_sampler(scheduler, steps)
    return policy


def _compare(
    policy: GenerativePolicy, scheduler: str, steps: int, batch: int, ways: Sequence[str], rounds: int, device: str
) -> dict[str, Any]:
    observation = {"state": torch.zeros(batch, policy.horizon.observation_steps, 14, device=device)}
    condition = policy.encode(observation).condition
    calls = {"peer": peer_call(policy, condition, scheduler, steps), "reference": _sampling(policy, observation)}
    left_out = {}
    for way in ways:
        fast = copy.deepcopy(policy)
        try:
            make_fast(fast, way, batch_size=batch)
        except ConfigError as error:
            left_out[way] = str(error)
        else:
            calls[way] = _sampling(fast, observation)
    expected = calls["reference"]()
    differences = {name: float((call() - expected).abs().max()) for name, call in calls.items() if name != "peer"}
    took = _take_turns(calls, rounds, device)
    return {
        "milliseconds": {name: 1e3 * median(seconds) for name, seconds in took.items()},
        "times_faster": {name: median(_ratios(took["peer"], seconds)) for name, seconds in took.items()},
        "difference": differences,
        "left_out": left_out,
    }


def _sampling(policy: GenerativePolicy, observation: dict[str, Tensor]) -> _Call:
    rows = [(row, 0) for row in range(len(observation["state"]))]
    encoded = policy.encode(observation)
    device = encoded.condition.device

    @torch.no_grad()
    def call() -> Tensor:
        return policy.sample(encoded, Request(RowNoise(0, rows, device))).normalised

    return call


def _take_turns(calls: dict[str, _Call], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each call by name, after one round that does not count."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                took[name].append(time.perf_counter() - start)
    return took


def _ratios(peer: Sequence[float], seconds: Sequence[float]) -> list[float]:
    return [theirs / ours for theirs, ours in zip(peer, seconds, strict=True)]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
