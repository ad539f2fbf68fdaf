import pytest
import torch

from robopolicy.nets.mlp import RegressionMlp, ResidualMlp
from robopolicy.nets.unet1d import UNet1d


def _nets() -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [
        ResidualMlp(3, 8, 1, 5, width=32, blocks=2, level_size=16),
        UNet1d(3, 8, 1, 5, channels=(16, 32, 32), groups=4, level_size=16),
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_output_has_the_chunks_shape_and_depends_on_everything(index: int) -> None:
    net = _nets()[index]
    x, level, condition = torch.randn(2, 8, 3), torch.tensor([3.0, 50.0]), torch.randn(2, 1, 5)
    base = net(x, level, condition)
    assert base.shape == x.shape
    for changed in (net(x + 1, level, condition), net(x, level + 20, condition), net(x, level, condition + 1)):
        assert not torch.allclose(base, changed)


@pytest.mark.parametrize("index", [0, 1])
def test_rows_do_not_mix(index: int) -> None:
    net = _nets()[index]
    x, level, condition = torch.randn(4, 8, 3), torch.rand(4) * 100, torch.randn(4, 1, 5)
    torch.testing.assert_close(net(x, level, condition)[2:3], net(x[2:3], level[2:3], condition[2:3]))


def test_every_parameter_gets_a_gradient() -> None:
    for net in _nets():
        net(torch.randn(4, 8, 3), torch.rand(4) * 100, torch.randn(4, 1, 5)).square().mean().backward()
        silent = [name for name, parameter in net.named_parameters() if parameter.grad is None]
        assert silent == []


def test_the_default_unet_has_the_size_of_diffusion_policys() -> None:
    """65.8 M parameters for Push-T's state features: 20 numbers, two observation steps, two actions."""
    net = UNet1d(2, 16, 2, 20)
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(65.8, abs=0.3)


def test_a_unet_refuses_chunks_that_do_not_halve() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        UNet1d(2, 10, 1, 5)


def test_regression_maps_a_condition_to_numbers() -> None:
    assert RegressionMlp(2, 5, 24, width=16, blocks=1)(torch.randn(3, 2, 5)).shape == (3, 24)
