"""Several perceptrons of one shape, side by side in one tensor: the heads of a critic.

LayerNorm after every hidden layer keeps value estimates from growing without bound outside the data (RLPD, Ball et al.,
arXiv 2302.02948).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


class EnsembleMlp(nn.Module):
    """`heads` networks with one output each: linear, LayerNorm and SiLU `layers` times, then linear.

    Args:
        heads: H, with weights of their own.
        inputs: C.
    """

    def __init__(self, heads: int, inputs: int, *, width: int = 256, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [inputs, *[width] * layers]
        self.hidden = nn.ModuleList(
            nn.Sequential(EnsembleLinear(heads, a, b), EnsembleNorm(heads, b), nn.SiLU(), nn.Dropout(dropout))
            for a, b in pairwise(widths)
        )
        self.outlet = EnsembleLinear(heads, widths[-1], 1)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """[R, C] to [H, R]."""
        hidden = x.expand(self.heads, *x.shape)
        for layer in self.hidden:
            hidden = layer(hidden)
        result: Tensor = self.outlet(hidden)
        return result.squeeze(-1)


class EnsembleLinear(nn.Module):
    """[H, R, inputs] to [H, R, outputs], each head by its own matrix, which begins as torch's linear layer does."""

    def __init__(self, heads: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(heads, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleNorm(nn.Module):
    """LayerNorm of [H, R, width] with gain and shift of each head."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(heads, 1, width))
        self.shift = nn.Parameter(torch.zeros(heads, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, nn.functional.layer_norm(x, x.shape[-1:]), self.gain)
