import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robopolicy.nets.mode import Mixture, MixtureTransformer
from robopolicy.nets.protocols import AuxiliaryLoss, LevelCache

TP, D, N, C = 6, 3, 2, 5
LEVELS = torch.tensor([99.0, 60.5, 31.0, 2.25])


def _net(**options: Any) -> MixtureTransformer:
    torch.manual_seed(0)
    sizes = {"width": 32, "blocks": 2, "heads": 4, "level_size": 16} | options
    return MixtureTransformer(D, TP, N, C, **sizes)


def _inputs(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(rows, TP, D, generator=generator),
        torch.rand(rows, generator=generator) * 100,
        torch.randn(rows, N, C, generator=generator),
    )


def _at(net: nn.Module, level: Tensor, rows: int = 3) -> Tensor:
    """The output at one level for all rows, as samplers ask for it."""
    x, _, condition = _inputs(rows)
    with torch.no_grad():
        result: Tensor = net(x, level.expand(rows), condition)
    return result


def _router_calls(net: MixtureTransformer) -> list[int]:
    calls: list[int] = []
    for mixture in net.mixtures():
        mixture.router.register_forward_hook(lambda *_: calls.append(1))
    return calls


def _spoil_routers(net: MixtureTransformer) -> None:
    """From here on whatever a router says is wrong, so a prepared evaluation that asked one would show."""
    for mixture in net.mixtures():
        nn.init.constant_(mixture.router.weight, float("nan"))


def test_output_has_the_chunks_shape_and_depends_on_everything() -> None:
    net, (x, level, condition) = _net(), _inputs(2)
    base = net(x, level, condition)
    assert base.shape == x.shape
    for token in range(N):
        changed = condition.clone()
        changed[:, token] += 1.0
        assert not torch.allclose(base, net(x, level, changed), atol=1e-4)
    assert not torch.allclose(base, net(x, level + 20, condition), atol=1e-4)
    assert not torch.allclose(base, net(x + 1, level, condition), atol=1e-4)
    assert not torch.allclose(base, net(x.flip(1), level, condition).flip(1), atol=1e-4)


def test_rows_do_not_mix() -> None:
    net, (x, level, condition) = _net(), _inputs(6)
    torch.testing.assert_close(net(x, level, condition)[2:3], net(x[2:3], level[2:3], condition[2:3]))


def test_every_parameter_gets_a_gradient() -> None:
    net, (x, level, condition) = _net(chosen=4), _inputs(64)
    (net(x, level, condition).square().mean() + net.auxiliary_loss(level).mean()).backward()
    silent = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert silent == []


def test_experts_that_no_row_chose_get_a_zero_gradient_not_none() -> None:
    """DDP waits for the gradient of every parameter."""
    net, (x, level, condition) = _net(chosen=1), _inputs(1)
    (net(x, level, condition).square().mean() + net.auxiliary_loss(level).mean()).backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_the_router_is_constant_across_the_batch_at_one_level() -> None:
    """Whatever the actions and the observation are: the chosen experts and their weights depend on the level alone."""
    net = _net()
    routed: list[Tensor] = []
    for mixture in net.mixtures():
        mixture.router.register_forward_hook(lambda _, inputs, output: routed.append(output))
    _at(net, LEVELS[0], rows=5)
    assert len(routed) == 2
    for logits in routed:
        torch.testing.assert_close(logits, logits[:1].expand_as(logits))


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_weights_are_the_largest_probabilities_normalised(chosen: int) -> None:
    torch.manual_seed(0)
    mixture, token = Mixture(8, experts=4, chosen=chosen), torch.randn(16, 8)
    weights, probabilities = mixture.route(token), mixture.router(token).softmax(dim=-1)
    assert bool(((weights > 0).sum(dim=-1) == chosen).all())
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(16))
    kept = probabilities.sort(dim=-1, descending=True).values[:, :chosen]
    expected = kept / kept.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(weights.sort(dim=-1, descending=True).values[:, :chosen], expected)


def test_choosing_all_experts_is_the_dense_mixture() -> None:
    torch.manual_seed(0)
    mixture, x, token = Mixture(8, experts=3, chosen=3), torch.randn(5, 4, 8), torch.randn(5, 8)
    gates = mixture.router(token).softmax(dim=-1)
    dense = sum(gates[:, index, None, None] * expert(x) for index, expert in enumerate(mixture.experts))
    torch.testing.assert_close(mixture(x, token), dense)


def test_one_expert_is_a_feed_forward_network() -> None:
    torch.manual_seed(0)
    mixture, x = Mixture(8, experts=1, chosen=1), torch.randn(5, 4, 8)
    torch.testing.assert_close(mixture(x, torch.randn(5, 8)), mixture.experts[0](x))


@pytest.mark.parametrize("chosen", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 5])
def test_prepared_outputs_equal_routed_ones(chosen: int, rows: int) -> None:
    net = _net(chosen=chosen).eval()
    routed = [_at(net, level, rows) for level in LEVELS]
    net.prepare(LEVELS)
    calls = _router_calls(net)
    for level, expected in zip(LEVELS, routed, strict=True):
        torch.testing.assert_close(_at(net, level, rows), expected, rtol=1e-5, atol=1e-6)
    assert calls == []


def test_levels_with_the_same_experts_share_the_first_layer() -> None:
    torch.manual_seed(0)
    mixture, x = Mixture(8, experts=4, chosen=2), torch.randn(3, 8)
    weights = torch.tensor([[0.25, 0.0, 0.75, 0.0], [0.5, 0.0, 0.5, 0.0], [0.5, 0.5, 0.0, 0.0]])
    fused = mixture.fuse(weights)
    assert fused[0].up is fused[1].up
    assert fused[2].up is not fused[0].up
    torch.testing.assert_close(fused[0](x), 0.25 * mixture.experts[0](x) + 0.75 * mixture.experts[2](x))


def test_other_levels_and_mixed_batches_are_routed() -> None:
    net = _net().eval()
    x, _, condition = _inputs(4)
    routed_other, routed_mixed = _at(net, LEVELS[0] + 0.5), net(x, LEVELS, condition)
    net.prepare(LEVELS)
    calls = _router_calls(net)
    torch.testing.assert_close(_at(net, LEVELS[0] + 0.5), routed_other, rtol=0, atol=0)
    torch.testing.assert_close(net(x, LEVELS, condition), routed_mixed, rtol=0, atol=0)
    assert len(calls) == 4


def test_new_weights_are_never_answered_from_the_old() -> None:
    net, other = _net().eval(), _net(level_size=16)
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.2)
    net.prepare(LEVELS)
    net.load_state_dict(other.state_dict())
    torch.testing.assert_close(_at(net, LEVELS[0]), _at(other.eval(), LEVELS[0]), rtol=0, atol=0)


def test_new_weights_through_a_parent_module_drop_the_prepared_ones_too() -> None:
    net = _net().eval()
    net.prepare(LEVELS)
    parent = nn.ModuleDict({"net": net})
    parent.load_state_dict(parent.state_dict())
    calls = _router_calls(net)
    _at(net, LEVELS[0])
    assert len(calls) == 2


def test_training_mode_drops_what_was_prepared() -> None:
    net = _net().eval()
    net.prepare(LEVELS)
    net.train()
    net.eval()
    calls = _router_calls(net)
    _at(net, LEVELS[0])
    assert len(calls) == 2


def test_another_dtype_drops_what_was_prepared() -> None:
    net = _net().eval()
    net.prepare(LEVELS)
    net.double()
    x, _, condition = _inputs(2)
    assert net(x.double(), LEVELS[:1].expand(2).double(), condition.double()).dtype == torch.float64


def test_preparing_no_levels_is_the_reference_path() -> None:
    net = _net().eval()
    net.prepare(LEVELS)
    net.prepare(LEVELS[:0])
    calls = _router_calls(net)
    _at(net, LEVELS[0])
    assert len(calls) == 2


def test_a_copy_is_prepared_with_its_own_weights() -> None:
    net = _net().eval()
    net.prepare(LEVELS)
    expected = _at(net, LEVELS[1])
    other = copy.deepcopy(net)
    _spoil_routers(net)
    other.load_state_dict(_net().state_dict())
    torch.testing.assert_close(_at(other, LEVELS[1]), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(_at(net, LEVELS[1]), expected, rtol=0, atol=0)


def test_prepared_outputs_still_have_a_gradient_with_respect_to_the_chunk() -> None:
    net, (x, _, condition) = _net().eval(), _inputs(2)
    x.requires_grad_()
    level = LEVELS[:1].expand(2)
    (routed,) = torch.autograd.grad(net(x, level, condition).square().sum(), x)
    net.prepare(LEVELS)
    (prepared,) = torch.autograd.grad(net(x, level, condition).square().sum(), x)
    torch.testing.assert_close(prepared, routed, rtol=1e-4, atol=1e-6)


def test_imbalance_is_one_when_balanced_and_largest_when_one_expert_does_everything() -> None:
    mixture, token = Mixture(4, experts=4, chosen=1), torch.eye(4)
    nn.init.zeros_(mixture.router.bias)
    with torch.no_grad():
        mixture.router.weight.copy_(50.0 * torch.eye(4))  # row i chooses expert i
        torch.testing.assert_close(mixture.imbalance(token), torch.ones(4))
        mixture.router.weight.copy_(50.0 * torch.eye(4)[:, :1].expand(4, 4).clone())  # every row chooses expert 0
        torch.testing.assert_close(mixture.imbalance(token), torch.full((4,), 4.0))


def _shares_after_training(balance: float) -> Tensor:
    """How often each expert is chosen, [blocks, E], by routers that began with a favourite."""
    net = _net(balance=balance, experts=4, chosen=1, blocks=1, width=16)
    with torch.no_grad():
        for mixture in net.mixtures():
            mixture.router.bias.add_(torch.tensor([5.0, 0.0, 0.0, 0.0]))
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2)
    for _ in range(150):
        x, condition = torch.randn(64, TP, D, generator=generator), torch.randn(64, N, C, generator=generator)
        level = torch.rand(64, generator=generator) * 100
        error = (net(x, level, condition) - level[:, None, None] / 100 * x).square().mean(dim=(1, 2))
        loss = (error + net.auxiliary_loss(level)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    token = net.level(torch.linspace(0, 100, 500))
    return torch.stack([(mixture.route(token) > 0).float().mean(dim=0) for mixture in net.mixtures()])


def test_load_balancing_brings_all_experts_into_use() -> None:
    balanced, free = _shares_after_training(1e-1), _shares_after_training(0.0)
    assert float(balanced.min()) > 0.05
    assert float(free.min()) < 0.01


def test_it_offers_what_a_policy_may_ask_for() -> None:
    net = _net(balance=0.5)
    assert isinstance(net, AuxiliaryLoss)
    assert isinstance(net, LevelCache)
    loss = net.auxiliary_loss(LEVELS)
    expected = torch.stack([mixture.imbalance(net.level(LEVELS)) for mixture in net.mixtures()]).mean(dim=0)
    torch.testing.assert_close(loss, 0.5 * expected)
    assert not isinstance(nn.Linear(2, 2), AuxiliaryLoss)


def test_more_experts_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="5 of 4 experts"):
        _net(chosen=5)
