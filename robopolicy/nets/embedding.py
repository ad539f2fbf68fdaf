"""How a network is told of the noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SinusoidalEmbedding(nn.Module):
    """[B] to [B, size]: sines and cosines of geometrically spaced frequencies from 1 to 1/10000 (Vaswani et al.,
    arXiv 1706.03762, section 3.5)."""

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size % 2 or size < 4:
            raise ValueError(f"an embedding of size {size} cannot be half sines and half cosines")
        exponents = torch.arange(size // 2) / (size // 2 - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10000.0) * exponents), persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        angles = value[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class LevelEmbedding(nn.Sequential):
    """A sinusoidal embedding of `size` followed by a two-layer network back to `size`."""

    def __init__(self, size: int) -> None:
        super().__init__(SinusoidalEmbedding(size), nn.Linear(size, 4 * size), nn.Mish(), nn.Linear(4 * size, size))
