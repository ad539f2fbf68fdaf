"""The energy transformer of EBT-Policy: how badly an action chunk fits an observation, as one number a row.

There is no noise level among its inputs: acting is descent on one landscape (arXiv 2510.27545). Training
differentiates its gradient once more, so attention is written out (fused kernels have no second derivative) and
activations are smooth.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robopolicy.errors import ConfigError

Head = Literal["residual", "mean"]


class EnergyTransformer(nn.Module):
    """Energy [B] of chunks [B, Tp, D] under conditions [B, N, C].

    Args:
        action_size, prediction: D and Tp.
        tokens, condition_size: N and C of the encoded observation.
        head: `residual`: the last layer proposes a chunk h and the energy is mean((a - h)^2) / 2, which is never
            negative and zero where the network agrees with its input (Salimans and Ho, "Should EBMs model the energy
            or the score?", 2021); `mean`: the mean of the last layer's outputs, as published.
        dropout: of attention weights and feed-forward activations while training; it makes the landscape random.
    """

    def __init__(
        self,
        action_size: int,
        prediction: int,
        tokens: int,
        condition_size: int,
        *,
        width: int = 256,
        blocks: int = 8,
        heads: int = 4,
        expansion: int = 1,
        dropout: float = 0.0,
        head: Head = "residual",
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        if head not in get_args(Head):
            raise ConfigError(f"net.head is '{head}', expected one of {', '.join(get_args(Head))}")
        self.head: Head = head
        self.inlet = nn.Sequential(nn.Linear(action_size, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(condition_size, width)
        self.positions = nn.Parameter(0.02 * torch.randn(prediction, width))
        self.condition_positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = nn.ModuleList(EnergyBlock(width, heads, expansion, dropout) for _ in range(blocks))
        self.outlet = nn.Sequential(
            nn.RMSNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, action_size)
        )

    def forward(self, actions: Tensor, condition: Tensor) -> Tensor:
        context = self.condition(condition) + self.condition_positions
        hidden = self.inlet(actions) + self.positions
        for block in self.blocks:
            hidden = block(hidden, context)
        output = self.outlet(hidden).to(actions.dtype)
        each = 0.5 * (actions - output).square() if self.head == "residual" else output
        energy: Tensor = each.mean(dim=(1, 2))
        return energy


class EnergyBlock(nn.Module):
    """Self-attention, cross-attention to the observation and a feed-forward network, each behind an RMSNorm."""

    def __init__(self, width: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(3))
        self.attention = TwiceDifferentiableAttention(width, heads, dropout)
        self.observation = TwiceDifferentiableAttention(width, heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, expansion * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(expansion * width, width)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed)
        x = x + self.observation(self.norms[1](x), context)
        result: Tensor = x + self.feed_forward(self.norms[2](x))
        return result


class TwiceDifferentiableAttention(nn.Module):
    """Multi-head attention with normalised queries and keys: [B, T, width] asks [B, N, width]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.query_norm, self.key_norm = nn.RMSNorm(width // heads), nn.RMSNorm(width // heads)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        key, value = self.key_value(context).chunk(2, dim=-1)
        query = self.query_norm(self._split(self.query(x)))
        key, value = self.key_norm(self._split(key)), self._split(value)
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
        mixed = self.dropout(weights) @ value
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, width] to [B, heads, T, width / heads]."""
        rows, steps, width = x.shape
        return x.view(rows, steps, self.heads, width // self.heads).transpose(1, 2)
