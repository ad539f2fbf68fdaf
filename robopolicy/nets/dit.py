"""Diffusion transformers: every action of the chunk is a token. Two ways to tell them of level and observation:

- `DiffusionTransformer`: cross-attention to one token for the level and one for each condition token, as in Diffusion
  Policy's transformer (Chi et al., arXiv 2303.04137, section 3.1).
- `DiT`: adaptive layer norm whose gates start at zero (adaLN-Zero, Peebles and Xie, arXiv 2212.09748, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robopolicy.nets.attention import Attention, FeedForward, LevelToken, positions


class DiffusionTransformer(nn.Module):
    """Encoder and decoder: a two-layer perceptron encodes each condition token and the level, action tokens attend to
    each other and to those.

    Diffusion Policy masks later actions; here actions attend both ways, since a chunk is denoised as a whole.

    Args:
        action_size: D.
        prediction: Tp.
        tokens, condition_size: N and C of the encoded observation.
        width: of each token, even and a multiple of `heads`.
        dropout: of what each part adds to the residual stream.
    """

    positions: Tensor
    condition_positions: Tensor

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
        dropout: float = 0.0,
        level_size: int = 256,
    ) -> None:
        super().__init__()
        self.level = LevelToken(level_size, width)
        self.condition = nn.Linear(condition_size, width)
        self.encoder = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.inlet = nn.Linear(action_size, width)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, heads, dropout) for _ in range(blocks))
        self.outlet = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action_size))
        self.register_buffer("positions", positions(prediction, width), persistent=False)
        self.register_buffer("condition_positions", positions(1 + tokens, width), persistent=False)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """x [B, Tp, D], level [B], condition [B, N, C] to [B, Tp, D]."""
        tokens = torch.cat([self.level(level)[:, None], self.condition(condition)], dim=1)
        context = self.encoder(tokens + self.condition_positions)
        hidden = self.inlet(x) + self.positions
        for block in self.blocks:
            hidden = block(hidden, context)
        result: Tensor = self.outlet(hidden)
        return result


class CrossAttentionBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each added to x after a LayerNorm before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.itself = Attention(width, heads)
        self.context = Attention(width, heads)
        self.feed_forward = FeedForward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, T, width], context [B, S, width] to [B, T, width]."""
        first, second, third = self.norms
        x = x + self.dropout(self.itself(first(x)))
        x = x + self.dropout(self.context(second(x), context))
        residual: Tensor = self.dropout(self.feed_forward(third(x)))
        return x + residual


class DiT(nn.Module):
    """Blocks whose layer norms are shifted, scaled and gated by the level and the observation.

    The N condition tokens enter side by side through one linear layer, as in the U-Net's FiLM: N is fixed, so each
    observation step has weights of its own and nothing is averaged away. Gates and output start at zero: an untrained
    network says zero. For many condition tokens `DiffusionTransformer` is the better choice.

    Args: see `DiffusionTransformer`.
    """

    positions: Tensor

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
        dropout: float = 0.0,
        level_size: int = 256,
    ) -> None:
        super().__init__()
        self.level = LevelToken(level_size, width)
        self.condition = nn.Linear(tokens * condition_size, width)
        self.inlet = nn.Linear(action_size, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads, dropout) for _ in range(blocks))
        self.outlet_modulation = _modulation(width, 2)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.outlet = _zero(nn.Linear(width, action_size))
        self.register_buffer("positions", positions(prediction, width), persistent=False)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """x [B, Tp, D], level [B], condition [B, N, C] to [B, Tp, D]."""
        context = self.level(level) + self.condition(condition.flatten(1))
        hidden = self.inlet(x) + self.positions
        for block in self.blocks:
            hidden = block(hidden, context)
        shift, scale = self.outlet_modulation(context)[:, None].chunk(2, dim=-1)
        result: Tensor = self.outlet(_modulate(self.norm(hidden), shift, scale))
        return result


class ModulatedBlock(nn.Module):
    """Self-attention and feed-forward under adaLN-Zero; the identity at the start of training."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.modulation = _modulation(width, 6)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, T, width], context [B, width] to [B, T, width]."""
        shift, scale, gate, shift_2, scale_2, gate_2 = self.modulation(context)[:, None].chunk(6, dim=-1)
        x = x + gate * self.dropout(self.attention(_modulate(self.norm(x), shift, scale)))
        residual: Tensor = gate_2 * self.dropout(self.feed_forward(_modulate(self.norm(x), shift_2, scale_2)))
        return x + residual


def _modulation(width: int, parts: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), _zero(nn.Linear(width, parts * width)))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1.0 + scale) + shift


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
