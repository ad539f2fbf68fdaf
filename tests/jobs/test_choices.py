"""What the options of eval.py make of a policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_policies import small_policy

from robopolicy.configuration import load
from robopolicy.dataset.statistics import Statistics
from robopolicy.errors import ConfigError
from robopolicy.jobs.choices import choose
from robopolicy.policies.factory import make_policy
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import PolicyModule
from robopolicy.spec import ArraySpec, Part, RobotSpec

GRASPING = ArraySpec(
    (3,),
    parts=(Part("position", 2, "position"), Part("gripper", 1, "gripper", discrete=True)),
    low=(-2.0, -2.0, -1.0),
    high=(2.0, 2.0, 1.0),
)


def grasping_policy(discrete_scale: float) -> PolicyModule:
    spec = RobotSpec("r", {"seen": ArraySpec((1,))}, GRASPING, 10.0)
    rows = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    statistics = {"action": Statistics.of(rows), "observation/seen": Statistics.of(rows[:, :1])}
    horizon = {"observation_steps": 1, "prediction": 8, "execution": 4}
    config = {"policy": small_policy("diffusion"), "horizon": horizon}
    return make_policy(config, spec, SpecNormaliser.fit(spec, statistics, discrete_scale))


def chosen(policy: PolicyModule, *options: str) -> str:
    return choose(policy, load("eval", ["run=none", *options]), Path("none"), print)[1]["sampler"]


def test_small_grippers_need_a_policy_that_was_trained_with_them() -> None:
    scaled = ("sampler=rti", "sampler.discrete=scale")
    assert "discrete parts scale 10" in chosen(grasping_policy(10.0), *scaled)
    assert "discrete parts scale 4" in chosen(grasping_policy(4.0), *scaled, "sampler.discrete_scale=4")
    assert "discrete parts clip 10" in chosen(grasping_policy(1.0), "sampler=rti", "sampler.discrete=clip")
    with pytest.raises(ConfigError, match="expects a policy trained with discrete_scale=10, this one was with 1"):
        chosen(grasping_policy(1.0), *scaled)
