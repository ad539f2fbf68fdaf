"""Convolutions as matrix products: the same sums for any shape, and what is no plain convolution stays."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robopolicy.inference.matrices import MatrixConvolution, as_matrices, in_bf16

SIZES = st.integers(1, 6)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(5, 9), st.booleans())
def test_both_kinds_of_convolution_are_the_same_function(
    inputs: int, outputs: int, kernel: int, stride: int, padding: int, length: int, bias: bool
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, inputs, length, dtype=torch.float64)
    forward = nn.Conv1d(inputs, outputs, kernel, stride, padding, bias=bias).double()
    torch.testing.assert_close(as_matrices(nn.Sequential(forward))(x), forward(x))
    padding = min(padding, (kernel - 1) // 2)
    backward = nn.ConvTranspose1d(inputs, outputs, kernel, stride, padding, bias=bias).double()
    torch.testing.assert_close(as_matrices(nn.Sequential(backward))(x), backward(x))


def test_the_original_is_not_touched_and_other_convolutions_stay() -> None:
    net = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Conv1d(2, 2, 3, groups=2), nn.Conv1d(2, 2, 3, padding="same"))
    assert [type(part) for part in as_matrices(net).children()] == [MatrixConvolution, nn.Conv1d, nn.Conv1d]
    assert [type(part) for part in net] == [nn.Conv1d] * 3
    assert all(value.requires_grad for value in net.parameters())


def test_bf16_rounds_weights_and_inputs_and_nothing_else() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64))
    x = torch.randn(3, 64)
    half = in_bf16(net)
    assert half(x).dtype == torch.float32
    assert {value.dtype for value in half.get_submodule("1").parameters()} == {torch.float32}
    torch.testing.assert_close(half(x), net(x), atol=0.05, rtol=0.0)
    assert not torch.equal(half(x), net(x))
