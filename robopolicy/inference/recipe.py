"""How a composed policy stands in its checkpoint: the configurations of its parents, and how they are mixed.

The folder of a composed policy holds all weights and needs no other; its `policy.json` names `make_composed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from robopolicy.errors import ConfigError
from robopolicy.inference.compose import ComposedEnergyPolicy, ComposedPolicy, compose
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import GoalInput, Horizon, PolicyModule
from robopolicy.spec import RobotSpec


def make_composed(
    spec: RobotSpec,
    horizon: Horizon,
    normaliser: SpecNormaliser | None,
    parents: Sequence[Mapping[str, Any]],
    weights: Sequence[float],
    names: Sequence[str],
    sampler: Any = None,
    scales: Sequence[float] | None = None,
) -> ComposedPolicy | ComposedEnergyPolicy:
    """A composed policy from the configuration in its checkpoint (`composed_config`), to be loaded.

    Each entry of `parents` has `policy`, a callable that lacks its spec, horizon and goals, and those beside it. `spec`
    must be that which the parents make; `normaliser` is theirs. Raises ConfigError.
    """
    made = compose(
        [_parent(entry) for entry in parents],
        weights,
        names=names,
        sampler=sampler,
        execution=horizon.execution,
        scales=scales,
    )
    if made.horizon != horizon:
        raise ConfigError(f"the parents make a horizon {made.horizon}, expected {horizon}")
    if made.spec != spec:
        raise ConfigError("the parents make another spec than the composition's own: compose them again")
    return made


def composed_config(
    policy: ComposedPolicy | ComposedEnergyPolicy,
    parents: Mapping[str, tuple[Mapping[str, Any], RobotSpec]],
    sampler: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a checkpoint's `policy.json` says of `policy`, from which `make_composed` makes it again.

    `parents` has, by name, the configuration and the spec in the checkpoint of each parent; `sampler` is the
    configuration of the sampler, None if it was a parent's.
    """
    entries = [_embedded(*parents[name]) for name in policy.names]
    scales = {"scales": list(policy.scales)} if isinstance(policy, ComposedEnergyPolicy) else {}
    composed = {
        "_target_": f"{__name__}.{make_composed.__name__}",
        "parents": entries,
        "weights": list(policy.weights),
        "names": list(policy.names),
        "sampler": None if sampler is None else dict(sampler),
        **scales,
    }
    return {"policy": composed, "horizon": asdict(policy.horizon)}


def _embedded(config: Mapping[str, Any], spec: RobotSpec) -> dict[str, Any]:
    rest = {key: config[key] for key in ("horizon", "goals") if key in config}
    return {"policy": {**config["policy"], "_partial_": True}, "spec": spec.to_json(), **rest}


def _parent(entry: Mapping[str, Any]) -> PolicyModule:
    make: Callable[..., PolicyModule] = entry["policy"]
    goals = {"goals": GoalInput(**entry["goals"])} if entry.get("goals") else {}
    return make(spec=RobotSpec.from_json(entry["spec"]), horizon=Horizon(**entry["horizon"]), normaliser=None, **goals)
