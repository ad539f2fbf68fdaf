"""From a configuration to a policy: the same call makes one for training and one to be loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from robopolicy.configuration import build
from robopolicy.errors import ConfigError
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import GoalInput, Horizon, LearnedPolicy, PolicyModule
from robopolicy.spec import RobotSpec

_PACKAGES = ("robopolicy.policies", "robopolicy.nets", "robopolicy.denoise", "robopolicy.inference")
"""Where a policy's parts come from: the configuration of a checkpoint cannot call anything else."""

_Part = TypeVar("_Part")


def make_policy(config: Mapping[str, Any], spec: RobotSpec, normaliser: SpecNormaliser | None = None) -> PolicyModule:
    """The policy of `config["policy"]` with `config["horizon"]`, for a robot seen through `spec`.

    `config["goals"]`, where there is one, says which streams of `spec` are goals (see `GoalInput`). `normaliser` is
    fitted to a dataset; None leaves identities, to be loaded from a checkpoint.
    """
    missing = [key for key in ("policy", "horizon") if key not in config]
    if missing:
        raise ConfigError(f"a policy configuration lacks {missing}")
    horizon = _part(Horizon, "horizon", config["horizon"])
    goals = {"goals": _part(GoalInput, "goals", config["goals"])} if config.get("goals") else {}
    try:
        policy = build(config["policy"], _PACKAGES, spec=spec, horizon=horizon, normaliser=normaliser, **goals)
    except ValueError as error:
        raise ConfigError(f"the policy cannot be built with these options: {error}") from error
    if not isinstance(policy, PolicyModule):
        raise ConfigError(f"policy._target_ made a {type(policy).__name__}, which is no policy")
    return policy


def make_untrained(config: Mapping[str, Any], spec: RobotSpec, normaliser: SpecNormaliser | None) -> LearnedPolicy:
    """The same for a policy that is to be trained; raises ConfigError for one that cannot be."""
    policy = make_policy(config, spec, normaliser)
    if not isinstance(policy, LearnedPolicy):
        raise ConfigError(f"policy._target_ made a {type(policy).__name__}, which is not trained but made of others")
    return policy


def _part(kind: Callable[..., _Part], name: str, values: Any) -> _Part:
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{name} {values} is malformed: {error}") from error
