"""Wrappers on wrappers: a critic's choice over real-time iteration over a composition of guided policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from small_policies import small_policy
from torch import Tensor

from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request, Sampled, make_sampler
from robopolicy.inference.compose import ComposedPolicy
from robopolicy.inference.continuation import Continuation
from robopolicy.inference.inpaint import Inpaint
from robopolicy.inference.selection import BestOf
from robopolicy.inference.warm_start import RealTimeIteration
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.policies.policy import Policy
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("toy", {"state": ArraySpec((3,)), "goal_state": ArraySpec((3,))}, ArraySpec((2,)), 10.0)
ROWS = 6


class FirstNumber:
    """A critic that likes a large first action."""

    spec, observation_steps, action_steps = SPEC, 1, 1

    def __call__(self, observation: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        return actions[:, :, 0, 0]


def guided(name: str, seed: int, weight: float) -> GenerativePolicy:
    torch.manual_seed(seed)
    config = {
        "horizon": {"observation_steps": 2, "prediction": 8, "execution": 4},
        "policy": small_policy(name),
        "goals": {"names": ["goal_state"], "dropout": 0.1},
    }
    policy = make_policy(config, SPEC).eval()
    assert isinstance(policy, GenerativePolicy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy.guidance = weight
    return policy


def tower() -> BestOf:
    """Best of 3, over inpainting, over RTC, over RTI, over diffusion and flow, guided with 1.5 and with 0.5."""
    composed = ComposedPolicy([guided("diffusion", 0, 1.5), guided("flow", 1, 0.5)], [0.4, 0.6])
    iteration = RealTimeIteration(make_sampler("ddim", 4), [0.2, 0.1])
    composed.sampler = Inpaint(Continuation(iteration, 2, "linear", jacobian="network"), 1)
    return BestOf(composed, FirstNumber(), 3)


def called(policy: Policy, warm: list[bool], rows: list[int], seed: int = 5) -> Sampled:
    generator = torch.Generator().manual_seed(9)
    observation = {name: torch.randn(ROWS, 2, 3, generator=generator)[rows] for name in SPEC.observations}
    previous = torch.randn(ROWS, 8, 2, generator=generator)[rows].clamp(-1, 1)
    is_warm = torch.tensor(warm)[rows]
    request = Request(RowNoise(seed, [(row, 3) for row in rows]), previous=previous, warm=is_warm)
    request = replace(request, known=torch.where(is_warm, 6, 0))
    with torch.no_grad():
        return policy.sample(policy.encode(observation), request)


MIXED = [True, False, True, True, False, True]


def test_the_tower_runs_and_its_seed_decides_everything() -> None:
    policy = tower()
    first, second = (called(policy, MIXED, list(range(ROWS))) for _ in range(2))
    assert first.normalised.shape == (ROWS, 8, 2)
    assert torch.equal(first.normalised, second.normalised)
    assert torch.equal(first.evaluations, second.evaluations)
    assert not torch.equal(first.normalised, called(policy, MIXED, list(range(ROWS)), seed=6).normalised)


def test_every_row_of_the_tower_is_on_its_own() -> None:
    """Its answer is the same wherever it stands, whatever stands beside it, warm or not."""
    policy = tower()
    everyone = called(policy, MIXED, list(range(ROWS)))
    for order in ([5, 4, 3, 2, 1, 0], [0, 0, 0, 1, 1, 2]):
        moved = called(policy, MIXED, order)
        assert torch.equal(moved.normalised, everyone.normalised[order])
    only_warm = [row for row in range(ROWS) if MIXED[row]]
    alone = called(policy, MIXED, (only_warm * 2)[:ROWS])
    assert torch.equal(alone.normalised[: len(only_warm)], everyone.normalised[only_warm])


def test_the_tower_pays_for_every_storey() -> None:
    """4 network calls a level: two parents, each with and without the goal; 3 candidates; warm rows differentiate."""
    policy = tower()
    evaluations = called(policy, MIXED, list(range(ROWS))).evaluations.tolist()
    warm, cold = 3 * 2 * 4 * 3, 4 * 4 * 3
    assert evaluations == [warm if each else cold for each in MIXED]


@pytest.mark.parametrize("count", [1, 3])
def test_the_best_of_one_is_what_it_stands_on(count: int) -> None:
    policy = tower()
    alone = called(policy.policy, MIXED, list(range(ROWS)))
    best = called(BestOf(policy.policy, FirstNumber(), count), MIXED, list(range(ROWS)))
    assert torch.equal(best.normalised, alone.normalised) is (count == 1)
