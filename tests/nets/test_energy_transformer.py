"""The energy transformer: one number a row, of everything it is given."""

from __future__ import annotations

import pytest
import torch

from robopolicy.nets.energy import EnergyTransformer, Head


def make(head: Head = "residual") -> EnergyTransformer:
    torch.manual_seed(0)
    return EnergyTransformer(3, 8, 2, 5, width=32, blocks=2, heads=4, head=head).double()


@pytest.mark.parametrize("head", ["residual", "mean"])
def test_rows_do_not_mix_and_everything_counts(head: Head) -> None:
    net, actions, condition = make(head), torch.randn(4, 8, 3).double(), torch.randn(4, 2, 5).double()
    energy = net(actions, condition)
    assert energy.shape == (4,)
    torch.testing.assert_close(net(actions[2:3], condition[2:3]), energy[2:3])
    for token in range(2):
        changed = condition.clone()
        changed[:, token] += 1.0
        assert not torch.allclose(net(actions, changed), energy)
    assert not torch.allclose(net(actions.flip(1), condition), energy)
    assert not torch.allclose(net(actions, condition.flip(1)), energy)


def test_the_residual_energy_is_never_negative() -> None:
    assert bool((make()(torch.randn(20, 8, 3).double(), torch.randn(20, 2, 5).double()) >= 0).all())


@pytest.mark.parametrize("head", ["residual", "mean"])
def test_it_can_be_differentiated_twice(head: Head) -> None:
    net, condition = make(head), torch.randn(1, 2, 5).double()
    actions = torch.randn(1, 8, 3).double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda a: net(a, condition), (actions,))
