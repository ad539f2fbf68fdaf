"""Residual multi-layer perceptrons: the networks for machines without a GPU and for low-dimensional observations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robopolicy.nets.embedding import LevelEmbedding


class ResidualBlock(nn.Module):
    """x + W2 act(W1 norm(x)) with LayerNorm before and a FiLM of the condition between, [B, width] to [B, width]."""

    def __init__(self, width: int, condition_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.film = nn.Linear(condition_size, 4 * width)
        self.contract = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition).chunk(2, dim=-1)
        hidden = nn.functional.mish(self.expand(self.norm(x)) * (1.0 + scale) + shift)
        residual: Tensor = self.contract(self.dropout(hidden))
        return x + residual


class ResidualMlp(nn.Module):
    """A denoising network: the chunk flattened, `blocks` residual blocks, level and condition through FiLM.

    Args:
        action_size: D.
        prediction: Tp.
        tokens, condition_size: N and C of the encoded observation.
    """

    def __init__(
        self,
        action_size: int,
        prediction: int,
        tokens: int,
        condition_size: int,
        *,
        width: int = 256,
        blocks: int = 3,
        level_size: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.level = LevelEmbedding(level_size)
        self.condition = nn.Sequential(nn.Linear(tokens * condition_size + level_size, width), nn.Mish())
        self.inlet = nn.Linear(prediction * action_size, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, dropout) for _ in range(blocks))
        self.outlet = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, prediction * action_size))

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """x [B, Tp, D], level [B], condition [B, N, C] to [B, Tp, D]."""
        context = self.condition(torch.cat([condition.flatten(1), self.level(level)], dim=-1))
        hidden = self.inlet(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, context)
        result: Tensor = self.outlet(hidden)
        return result.view_as(x)


class RegressionMlp(nn.Module):
    """A residual perceptron from the condition [B, N, C] straight to [B, outputs]: the body of behaviour cloning."""

    def __init__(
        self,
        tokens: int,
        condition_size: int,
        outputs: int,
        *,
        width: int = 256,
        blocks: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        condition_size *= tokens
        self.inlet = nn.Linear(condition_size, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, condition_size, dropout) for _ in range(blocks))
        self.outlet = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, condition: Tensor) -> Tensor:
        condition = condition.flatten(1)
        hidden = self.inlet(condition)
        for block in self.blocks:
            hidden = block(hidden, condition)
        result: Tensor = self.outlet(hidden)
        return result
