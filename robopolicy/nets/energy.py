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
from robopolicy.nets.attention import Attention

Head = Literal["residual", "mean"]


class EnergyTransformer(nn.Module):
    """Energy [B] of chunks [B, Tp, D] under conditions [B, N, C].

    Args:
        action_size, prediction: D and Tp.
        tokens, condition_size: N and C of the encoded observation.
        patch: actions that share one token; Tp must be a multiple of it.
        head: `residual`: the last layer proposes a chunk h and the energy is mean((a - h)^2) / 2, which is never
            negative and zero where the network agrees with its input (Salimans and Ho, "Should EBMs model the energy
            or the score?", 2021); `mean`: the mean of the last layer's outputs, as published.
        dropout: of what each layer adds, while training; it makes the landscape random.
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
        patch: int = 1,
        dropout: float = 0.0,
        head: Head = "residual",
    ) -> None:
        super().__init__()
        if head not in get_args(Head):
            raise ConfigError(f"net.head is '{head}', expected one of {', '.join(get_args(Head))}")
        if prediction % patch:
            raise ConfigError(f"net.patch is {patch}, expected a divisor of the chunk's {prediction} actions")
        self.head: Head = head
        self.patch = patch
        self.inlet = nn.Sequential(nn.Linear(patch * action_size, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(condition_size, width)
        self.positions = nn.Parameter(0.02 * torch.randn(prediction // patch, width))
        self.condition_positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = nn.ModuleList(EnergyBlock(width, heads, expansion, dropout) for _ in range(blocks))
        bias = head == "residual"  # it would only shift the mean
        last = nn.Linear(width, patch * action_size, bias=bias)
        self.outlet = nn.Sequential(nn.RMSNorm(width), nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, actions: Tensor, condition: Tensor) -> Tensor:
        context = self.condition(condition) + self.condition_positions
        rows, steps, size = actions.shape
        hidden = self.inlet(actions.reshape(rows, steps // self.patch, self.patch * size)) + self.positions
        for block in self.blocks:
            hidden = block(hidden, context)
        output = self.outlet(hidden).to(actions.dtype).view_as(actions)
        each = 0.5 * (actions - output).square() if self.head == "residual" else output
        energy: Tensor = each.mean(dim=(1, 2))
        return energy


class EnergyBlock(nn.Module):
    """Self-attention, cross-attention to the observation and a feed-forward network, each behind an RMS norm."""

    def __init__(self, width: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(3))
        self.itself = Attention(width, heads, qk_norm=True, math=True)
        self.observation = Attention(width, heads, qk_norm=True, math=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, expansion * width), nn.SiLU(), nn.Linear(expansion * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.dropout(self.itself(self.norms[0](x)))
        x = x + self.dropout(self.observation(self.norms[1](x), context))
        result: Tensor = x + self.dropout(self.feed_forward(self.norms[2](x)))
        return result
