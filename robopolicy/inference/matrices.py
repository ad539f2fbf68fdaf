"""Networks written anew for speed, as the same function up to rounding: convolutions as matrix products, products in
bf16 or int8.

A call of one robot multiplies large weights with few numbers, so it costs what it takes to read the weights. torch's
convolutions over 16 actions are several times slower than that; the same sums as one matrix product are not.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robopolicy.errors import ConfigError


def as_matrices(net: nn.Module) -> nn.Module:
    """A copy of `net` whose one-dimensional convolutions are matrix products. Differs by the order of its sums."""
    return _replaced(copy.deepcopy(net), _matrix)


def in_bf16(net: nn.Module) -> nn.Module:
    """`as_matrices` with weights in bf16: products take bf16 and sum in float32, all between them stays float32 (the
    level too, of whose 1000 steps bf16 would tell 256 apart)."""
    return _replaced(as_matrices(net), lambda module: HalfLinear(module) if type(module) is nn.Linear else None)


def in_int8(net: nn.Module) -> nn.Module:
    """`as_matrices` with int8 weights, and activations scaled to int8 at each call: over all of them at once, so that
    the rows of a batch would change each other's rounding. CPU only, and without gradients."""
    matrices = as_matrices(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 announces that torchao will take this over
        quantize: Any = torch.ao.quantization.quantize_dynamic
        quantised: nn.Module = quantize(matrices, {nn.Linear}, inplace=True)
    for part in quantised.modules():
        if isinstance(part, torch.ao.nn.quantized.dynamic.Linear):
            part.register_forward_pre_hook(_refuse_gradients)
    return quantised


class HalfLinear(nn.Module):
    """A linear layer with weights in bf16, float32 outside."""

    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().bfloat16(), requires_grad=False)
        bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().bfloat16(), requires_grad=False)
        self.register_parameter("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs] float32."""
        return functional.linear(x.bfloat16(), self.weight, self.bias).float()


class MatrixConvolution(nn.Module):
    """A convolution [B, C, T] to [B, C', T']: each output time reads its window of inputs as one vector."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        (self.kernel,), (self.stride,) = convolution.kernel_size, convolution.stride
        self.padding = _padding(convolution)
        self.linear = _linear(convolution.weight.flatten(1), convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        windows = functional.pad(x, (self.padding, self.padding)).unfold(2, self.kernel, self.stride)
        rows = windows.transpose(1, 2).flatten(2)
        return _rowwise(self.linear, rows).transpose(1, 2)


class MatrixTransposedConvolution(nn.Module):
    """A transposed convolution [B, C, T] to [B, C', T']: each input time makes a window of outputs, which add up."""

    def __init__(self, convolution: nn.ConvTranspose1d) -> None:
        super().__init__()
        (self.kernel,), (self.stride,) = convolution.kernel_size, convolution.stride
        self.padding = _padding(convolution)
        self.linear = _linear(convolution.weight.flatten(1).T, None)
        self.bias = convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        length = (x.shape[2] - 1) * self.stride + self.kernel - 2 * self.padding
        windows = _rowwise(self.linear, x.transpose(1, 2)).transpose(1, 2)
        summed = functional.fold(
            windows, (1, length), (1, self.kernel), padding=(0, self.padding), stride=(1, self.stride)
        )
        return summed[:, :, 0] if self.bias is None else summed[:, :, 0] + self.bias[:, None]


def _replaced(net: nn.Module, change: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """`net` with each part that `change` has another one for; parts of replaced parts are left alone."""
    for name, part in list(net.named_children()):
        other = change(part)
        if other is None:
            _replaced(part, change)
        else:
            setattr(net, name, other.train(part.training))
    return net


def _matrix(module: nn.Module) -> nn.Module | None:
    """The matrix form of a plain convolution over time, None for anything else."""
    if not isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
        return None
    if module.groups != 1 or module.dilation != (1,) or module.padding_mode != "zeros":
        return None
    if isinstance(module, nn.ConvTranspose1d):
        return MatrixTransposedConvolution(module) if module.output_padding == (0,) else None
    return None if isinstance(module.padding, str) else MatrixConvolution(module)


def _refuse_gradients(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """torch would leave them out without a word."""
    if torch.is_grad_enabled() and any(value.requires_grad for value in inputs):
        raise ConfigError("int8 products have no gradients, which this sampler needs")


def _padding(convolution: nn.Conv1d | nn.ConvTranspose1d) -> int:
    return int(convolution.padding[0])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def _rowwise(linear: nn.Module, rows: Tensor) -> Tensor:
    """`linear` of rows [B, T, C] as one plain product; torch would copy the weights for transposed rows."""
    result: Tensor = linear(rows.reshape(-1, rows.shape[2]))
    return result.view(*rows.shape[:2], -1)
