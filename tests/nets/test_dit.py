from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robopolicy.nets.dit import DiffusionTransformer, DiT

TP, D, N, C = 6, 3, 2, 5
NETS = [DiffusionTransformer, DiT]


def _net(make: Callable[..., nn.Module]) -> nn.Module:
    """A small network after three optimiser steps: DiT's gates and output have left zero."""
    torch.manual_seed(0)
    net = make(D, TP, N, C, width=32, blocks=2, heads=4, level_size=16)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    wanted = torch.randn(8, TP, D)
    for _ in range(3):
        loss = (net(*_inputs(8)) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


def _inputs(rows: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, TP, D, generator=generator),
        torch.rand(rows, generator=generator) * 100,
        torch.randn(rows, N, C, generator=generator),
    )


@pytest.mark.parametrize("make", NETS)
def test_output_has_the_chunks_shape_and_depends_on_everything(make: Callable[..., nn.Module]) -> None:
    net, (x, level, condition) = _net(make), _inputs(2)
    base = net(x, level, condition)
    assert base.shape == x.shape
    for token in range(N):
        changed = condition.clone()
        changed[:, token] += 1.0
        assert not torch.allclose(base, net(x, level, changed), atol=1e-4)
    assert not torch.allclose(base, net(x, level + 20, condition), atol=1e-4)


@pytest.mark.parametrize("make", NETS)
def test_every_action_reaches_every_other(make: Callable[..., nn.Module]) -> None:
    net, (x, level, condition) = _net(make), _inputs(1)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, level, condition), x)
    influence = jacobian.abs().sum(dim=(0, 2, 3, 5))  # [Tp of the output, Tp of the input]
    assert bool((influence > 1e-6).all())


@pytest.mark.parametrize("make", NETS)
def test_rows_do_not_mix(make: Callable[..., nn.Module]) -> None:
    net, (x, level, condition) = _net(make), _inputs(4)
    torch.testing.assert_close(net(x, level, condition)[2:3], net(x[2:3], level[2:3], condition[2:3]))


@pytest.mark.parametrize("make", NETS)
def test_the_order_of_actions_matters(make: Callable[..., nn.Module]) -> None:
    """Without positions a transformer would reverse its answer with its input."""
    net, (x, level, condition) = _net(make), _inputs(2)
    assert not torch.allclose(net(x.flip(1), level, condition).flip(1), net(x, level, condition), atol=1e-3)


@pytest.mark.parametrize("make", NETS)
def test_the_order_of_condition_tokens_matters(make: Callable[..., nn.Module]) -> None:
    net, (x, level, condition) = _net(make), _inputs(2)
    assert not torch.allclose(net(x, level, condition.flip(1)), net(x, level, condition), atol=1e-4)


@pytest.mark.parametrize("make", NETS)
def test_every_parameter_gets_a_gradient(make: Callable[..., nn.Module]) -> None:
    net = _net(make)
    net.zero_grad()
    net(*_inputs(8)).square().mean().backward()
    silent = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert silent == []


def test_an_untrained_dit_says_zero_and_its_blocks_do_nothing() -> None:
    torch.manual_seed(0)
    net = DiT(D, TP, N, C, width=32, blocks=2, heads=4, level_size=16)
    assert not net(*_inputs(2)).any()
    hidden, context = torch.randn(2, TP, 32), torch.randn(2, 32)
    assert torch.equal(net.blocks[0](hidden, context), hidden)


@pytest.mark.parametrize("make", NETS)
def test_dropout_acts_in_training_only(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    net = make(D, TP, N, C, width=32, blocks=2, heads=4, level_size=16, dropout=0.5)
    net.load_state_dict(_net(make).state_dict())
    inputs = _inputs(2)
    assert not torch.equal(net(*inputs), net(*inputs))
    net.eval()
    assert torch.equal(net(*inputs), net(*inputs))
