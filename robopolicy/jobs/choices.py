"""How a trained policy is run: what the options of `eval.py` put into it, or around it, and how a report names that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from robopolicy.configuration import build, whole
from robopolicy.errors import ConfigError
from robopolicy.inference.compose import Composition
from robopolicy.inference.fast import REFERENCE, make_fast
from robopolicy.inference.selection import BestOf
from robopolicy.inference.warm_start import RealTimeIteration
from robopolicy.nets.protocols import LevelCache
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.policies.policy import HasSampler, Policy, PolicyModule
from robopolicy.rl.critic import load_critic

_CANDIDATES = 16


def choose(
    policy: PolicyModule, config: DictConfig, trained: Path, say: Callable[[str], None]
) -> tuple[Policy[Any], Mapping[str, str]]:
    """The policy that acts, on `config.device`, and what is in force, by name.

    Takes `sampler`, `guidance`, `cache_experts`, `fast`, `critic`, `candidates` and `temperature` of `config`. The
    folder `trained` is where `fast=auto` keeps its choice; `say` hears what it leaves out. Raises ConfigError for an
    option that this policy does not have.
    """
    policy.to(config.device)
    chosen = {
        "sampler": _choose_sampler(policy, config),
        "guidance": _choose_guidance(policy, config),
        "experts": _choose_experts(policy, config),
    }
    rows = int(config.slots) * _candidates(config)
    chosen["network"] = str(make_fast(policy, config.fast, batch_size=rows, folder=trained, say=say))
    if config.fast != REFERENCE:
        say(f"fast={config.fast}: {chosen['network']} (measured for {rows} rows a call)")
    acting, chosen["critic"] = _choose_critic(policy, config)
    return acting, chosen


def _choose_sampler(policy: PolicyModule, config: DictConfig) -> str:
    """Puts the sampler that was asked for into the policy."""
    if not isinstance(policy, HasSampler):
        if config.sampler is not None:
            raise ConfigError(
                f"the sampler '{build(config.sampler)}' was given, but this policy ({type(policy).__name__}) answers "
                "in one pass: leave out sampler="
            )
        return "none: one evaluation a chunk"
    if config.sampler is not None:
        policy.sampler = build(config.sampler)
        _check_discrete(policy, policy.sampler)
    return str(policy.sampler)


def _check_discrete(policy: PolicyModule, sampler: object) -> None:
    """Raises ConfigError for a sampler that expects grippers scaled otherwise than the policy was trained with."""
    high = policy.spec.action.high
    if not isinstance(sampler, RealTimeIteration) or sampler.discrete != "scale" or high is None:
        return
    extremes = policy.normalise(torch.tensor(high, dtype=torch.float32))[list(sampler.places)]
    if not torch.allclose(extremes.abs() * sampler.discrete_scale, torch.ones_like(extremes), rtol=1e-3):
        trained = 1.0 / float(extremes.abs().max())
        raise ConfigError(
            f"sampler.discrete=scale expects a policy trained with discrete_scale={sampler.discrete_scale:g}, this one "
            f"was with {trained:g}: set sampler.discrete_scale={trained:g}, or take sampler.discrete=clip"
        )


def _choose_guidance(policy: PolicyModule, config: DictConfig) -> str:
    """Puts the weight that was asked for into the policy."""
    weight = config.guidance
    if weight is not None:
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigError(f"guidance={weight} is no weight, expected a number such as 1.5")
        if isinstance(policy, Composition):
            raise ConfigError(f"guidance={weight:g} was given, but the policies of a composition are guided as trained")
        if not isinstance(policy, GenerativePolicy):
            raise ConfigError(f"guidance={weight:g} was given, but a {type(policy).__name__} does not denoise")
        policy.guidance = float(weight)
    return f"{policy.guidance:g}" if isinstance(policy, GenerativePolicy) and policy.goals.names else "none"


def _choose_experts(policy: PolicyModule, config: DictConfig) -> str:
    """Prepares the sampler's levels where that was asked for."""
    if not config.cache_experts:
        has_experts = isinstance(policy, GenerativePolicy) and isinstance(policy.net, LevelCache)
        return "routed at every call" if has_experts else "none"
    if not isinstance(policy, GenerativePolicy) or not policy.prepare():
        raise ConfigError("cache_experts=true needs a mixture of experts: a policy that was trained with policy=mode")
    return f"cached for the sampler's own {policy.sampler.steps} levels, others are routed"


def _choose_critic(policy: PolicyModule, config: DictConfig) -> tuple[Policy[Any], str]:
    """The policy, or the best of its candidates."""
    if config.critic is None:
        if config.candidates is not None or config.temperature is not None:
            raise ConfigError("candidates= and temperature= need a critic that chooses: add critic=<run of critic.py>")
        return policy, "none"
    critic = load_critic(Path(config.critic))[0].to(config.device)
    best = BestOf(policy, critic, _candidates(config), _temperature(config))
    return best, f"{best}, by {config.critic}"


def _candidates(config: DictConfig) -> int:
    """Chunks of a row in one call."""
    if config.critic is None:
        return 1
    count = whole(config, "candidates", least=1)
    return _CANDIDATES if count is None else count


def _temperature(config: DictConfig) -> float:
    value = config.temperature
    if value is not None and not isinstance(value, int | float):
        raise ConfigError(f"temperature={value} is no number, expected 0 or more")
    return 0.0 if value is None else float(value)
