"""Pieces of the transformers: multi-head attention, the feed-forward network, positions and the level token."""

from __future__ import annotations

import math as mathematics

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from robopolicy.nets.embedding import LevelEmbedding, SinusoidalEmbedding


class Attention(nn.Module):
    """Multi-head attention of x [B, T, width] to itself or to a context [B, S, width] (Vaswani et al., arXiv
    1706.03762, section 3.2).

    Args:
        qk_norm: queries and keys pass an RMS norm per head, which bounds the logits (Henry et al., arXiv 2010.04245).
        math: always computes softmax(Q K^T / sqrt(d)) V term by term, which can be differentiated twice, unlike
            PyTorch's fused kernels.

    Raises:
        ValueError: the width is no multiple of `heads`.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool = False, math: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} does not divide among {heads} heads")
        self.heads, self.math = heads, math
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.query_norm = HeadNorm(width // heads) if qk_norm else nn.Identity()
        self.key_norm = HeadNorm(width // heads) if qk_norm else nn.Identity()
        self.outlet = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """[B, T, width]; without a context x attends to itself."""
        key, value = self.key_value(x if context is None else context).chunk(2, dim=-1)
        query = self.query_norm(self._split(self.query(x)))
        key, value = self.key_norm(self._split(key)), self._split(value)
        attend = attention if self.math or _slow_when_fused(query) else scaled_dot_product_attention
        result: Tensor = self.outlet(attend(query, key, value).transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, width] to [B, heads, T, width / heads]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class HeadNorm(nn.RMSNorm):
    """An RMS norm in the precision of its weight: fused, also where autocast hands it bf16."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class FeedForward(nn.Module):
    """down(gelu(up(x))) with four times the width between, [..., width] to [..., width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down(nn.functional.gelu(self.up(x)))
        return result


class LevelToken(nn.Sequential):
    """Noise levels [B] to tokens [B, width]."""

    def __init__(self, level_size: int, width: int) -> None:
        super().__init__(LevelEmbedding(level_size), nn.Linear(level_size, width))


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V over the last two axes, differentiable as often as one likes."""
    logits = query @ key.transpose(-2, -1) / mathematics.sqrt(query.shape[-1])
    return logits.softmax(dim=-1) @ value


def positions(count: int, width: int) -> Tensor:
    """[count, width]: the fixed sines and cosines of places 0 to count - 1."""
    table: Tensor = SinusoidalEmbedding(width)(torch.arange(count, dtype=torch.float32))
    return table


def _slow_when_fused(query: Tensor) -> bool:
    """Whether a CPU will run the backward pass: its fused kernel took 7 times longer in bf16 for chunks of 16."""
    return query.requires_grad and query.device.type == "cpu"
