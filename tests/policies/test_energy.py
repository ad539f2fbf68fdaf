"""The energy policy on problems with a known answer."""

from __future__ import annotations

from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor

from robopolicy.denoise.descent import Descent, DescentRule, Unroll
from robopolicy.denoise.noise import RowNoise, StepNoise
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.nets.energy import EnergyTransformer
from robopolicy.nets.mlp import ResidualMlp
from robopolicy.policies.energy import EnergyPolicy, Start
from robopolicy.policies.policy import Horizon
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("toy", {"state": ArraySpec((1,))}, ArraySpec((1,)), 10.0)
HORIZON = Horizon(1, 4, 2)


def make(
    start: Start = "mixture", head: str = "residual", unroll: Unroll | None = None, horizon: Horizon = HORIZON
) -> EnergyPolicy:
    torch.manual_seed(0)
    net = partial(EnergyTransformer, width=32, blocks=1, heads=2, head=head)
    return EnergyPolicy(SPEC, horizon, net, DescentRule(), unroll or Unroll(max_steps=2), Descent(), start=start)


def batch(rows: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """State s in [-1, 1]; the chunk is constantly +0.5 or -0.5, whatever the state: two modes, mean zero."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.rand(rows, 1, 1, generator=generator) * 2 - 1
    side = torch.randint(0, 2, (rows, 1, 1), generator=generator).float() - 0.5
    return {"state": state}, side.expand(rows, 4, 1).clone()


@lru_cache
def trained(start: Start) -> EnergyPolicy:
    policy = make(start)
    optimiser = torch.optim.Adam(policy.parameters(), lr=2e-3)
    for step in range(250):
        loss = policy.loss(*batch(128, step), StepNoise((step,), 128)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return policy.eval()


def sample(policy: EnergyPolicy, observation: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    rows = len(observation["state"])
    with torch.no_grad():
        request = Request(RowNoise(0, [(row, 0) for row in range(rows)]))
        result = policy.sample(policy.encode(observation), request)
    return policy.unnormalise(result.normalised), dict(result.info)


def test_descents_from_many_starts_reach_both_modes_which_lie_below_the_middle() -> None:
    policy = trained("mixture")
    chunks, _ = sample(policy, batch(200)[0])
    ends = chunks.mean(dim=(1, 2))
    assert float(((ends.abs() - 0.5).abs() < 0.15).float().mean()) > 0.9
    assert 60 < int((ends > 0).sum()) < 140
    encoded = policy.encode({"state": torch.zeros(3, 1, 1)})
    left, middle, right = policy.energy(encoded, torch.tensor([-0.5, 0.0, 0.5]).view(3, 1, 1).expand(3, 4, 1)).tolist()
    assert max(left, right) < middle


def test_starts_from_pure_noise_forget_the_modes() -> None:
    """The published start: noise is independent of the chunk, so the best last step leads to the mean."""
    chunks, _ = sample(trained("noise"), batch(200)[0])
    assert float((chunks.mean(dim=(1, 2)).abs() < 0.25).float().mean()) > 0.9


@pytest.mark.parametrize("head", ["residual", "mean"])
def test_the_energys_gradient_is_that_of_finite_differences(head: str) -> None:
    policy = make(head=head).double()
    condition = torch.randn(1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    chunk = torch.randn(1, 4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: policy.net(a, condition), (chunk,))


@pytest.mark.parametrize("head", ["residual", "mean"])
def test_every_parameter_learns_and_so_does_the_step_size(head: str) -> None:
    policy = make(head=head, horizon=Horizon(2, 4, 2))  # with one token there is nothing to choose from
    observation = {"state": torch.randn(16, 2, 1, generator=torch.Generator().manual_seed(0))}
    policy.loss(observation, batch(16)[1], StepNoise((0,), 16)).mean().backward()
    silent = [name for name, p in policy.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []


def test_a_row_does_not_depend_on_its_batch_mates() -> None:
    policy = trained("mixture")
    observation = batch(8)[0]
    whole, info = sample(policy, observation)
    alone = policy.sample(policy.encode({"state": observation["state"][5:6]}), Request(RowNoise(0, [(5, 0)])))
    torch.testing.assert_close(policy.unnormalise(alone.normalised), whole[5:6], atol=1e-5, rtol=1e-4)  # rounding
    assert alone.info["steps"][0] == info["steps"][5]


def test_evaluations_count_three_a_gradient_step_and_one_for_the_final_energy() -> None:
    policy = trained("mixture")
    result = policy.sample(policy.encode(batch(20)[0]), Request(RowNoise(0, [(row, 0) for row in range(20)])))
    assert result.evaluations.tolist() == [3 * int(steps) + 1 for steps in result.info["steps"].tolist()]
    assert all(2 <= steps <= 20 for steps in result.info["steps"].tolist())


def test_loss_is_keyed_by_its_noise_and_gradients_are_not_needed_around_it() -> None:
    policy = make(unroll=Unroll(max_steps=3, noise_high=0.1, step_spread=1.5))
    first = policy.loss(*batch(6), StepNoise((1,), 6))
    assert torch.equal(first, policy.loss(*batch(6), StepNoise((1,), 6)))
    assert not torch.equal(first, policy.loss(*batch(6), StepNoise((2,), 6)))
    with torch.no_grad():
        torch.testing.assert_close(policy.loss(*batch(6), StepNoise((1,), 6)), first)


def test_other_samplers_and_starts_are_refused() -> None:
    policy = make()
    with pytest.raises(ConfigError, match="descent"):
        policy.sampler = make_sampler("ddim", 10)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="policy.start is 'zero'"):
        make(start="zero")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="net.head is 'sum'"):
        make(head="sum")
    with pytest.raises(ConfigError, match="net=energy_small"):
        EnergyPolicy(SPEC, HORIZON, partial(ResidualMlp, width=8), DescentRule(), Unroll(), Descent())
