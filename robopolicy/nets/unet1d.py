"""The conditional one-dimensional U-Net of Diffusion Policy (Chi et al., arXiv 2303.04137, section 3.1): convolutions
over the time axis of an action chunk, the noise level and the observation through FiLM with scale and shift."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robopolicy.nets.embedding import LevelEmbedding


class ConvBlock(nn.Sequential):
    """Convolution, group norm, Mish: [B, C, T] to [B, C', T]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        super().__init__(conv, nn.GroupNorm(groups, outputs), nn.Mish())


class FilmResidualBlock(nn.Module):
    """Two convolution blocks with a FiLM (scale and shift) of the context between, and a skip connection."""

    def __init__(self, inputs: int, outputs: int, context_size: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = ConvBlock(inputs, outputs, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(context_size, 2 * outputs))
        self.second = ConvBlock(outputs, outputs, kernel, groups)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.film(context)[:, :, None].chunk(2, dim=1)
        hidden = self.second(scale * self.first(x) + shift)
        result: Tensor = hidden + self.skip(x)
        return result


class UNet1d(nn.Module):
    """The U-Net over chunks.

    Args:
        action_size: D.
        prediction: Tp, divisible by 2^(levels - 1).
        tokens, condition_size: N and C of the encoded observation.
        channels: of each level; (256, 512, 1024) is Diffusion Policy's default for states.
    """

    def __init__(
        self,
        action_size: int,
        prediction: int,
        tokens: int,
        condition_size: int,
        *,
        channels: Sequence[int] = (256, 512, 1024),
        kernel: int = 5,
        groups: int = 8,
        level_size: int = 256,
    ) -> None:
        super().__init__()
        if prediction % 2 ** (len(channels) - 1):
            raise ValueError(
                f"a U-Net of {len(channels)} levels needs chunks of a multiple of {2 ** (len(channels) - 1)}"
            )
        context = level_size + tokens * condition_size

        def block(inputs: int, outputs: int) -> FilmResidualBlock:
            return FilmResidualBlock(inputs, outputs, context, kernel, groups)

        widths = [action_size, *channels]
        top = channels[-1]
        self.level = LevelEmbedding(level_size)
        self.down = nn.ModuleList(nn.ModuleList([block(a, b), block(b, b)]) for a, b in itertools.pairwise(widths))
        self.shrink = nn.ModuleList(nn.Conv1d(width, width, 3, 2, 1) for width in channels[:-1])
        self.middle = nn.ModuleList([block(top, top), block(top, top)])
        rising = list(reversed(channels))
        self.up = nn.ModuleList(nn.ModuleList([block(2 * a, b), block(b, b)]) for a, b in itertools.pairwise(rising))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(width, width, 4, 2, 1) for width in rising[1:])
        self.outlet = nn.Sequential(
            ConvBlock(channels[0], channels[0], kernel, groups), nn.Conv1d(channels[0], action_size, 1)
        )

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """x [B, Tp, D], level [B], condition [B, N, C] to [B, Tp, D]."""
        context = torch.cat([self.level(level), condition.flatten(1)], dim=-1)
        hidden, skips = x.transpose(1, 2), []
        for index, stage in enumerate(self.down):
            hidden = _run(stage, hidden, context)
            skips.append(hidden)
            if index < len(self.shrink):
                hidden = self.shrink[index](hidden)
        hidden = _run(self.middle, hidden, context)
        for stage, grow in zip(self.up, self.grow, strict=True):
            hidden = grow(_run(stage, torch.cat([hidden, skips.pop()], dim=1), context))
        result: Tensor = self.outlet(hidden)
        return result.transpose(1, 2)


def _run(stage: nn.Module, hidden: Tensor, context: Tensor) -> Tensor:
    for block in stage.children():
        hidden = block(hidden, context)
    return hidden
