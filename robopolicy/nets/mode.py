"""The mixture of denoising experts, MoDE (Reuss et al., arXiv 2412.12953): a diffusion transformer whose feed-forward
networks are E experts, of which the noise level alone chooses k.

Because the choice depends on nothing else, it is known before acting which experts each level of a sampler needs:
`MixtureTransformer.prepare` joins them to one feed-forward network a level, and no router runs any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robopolicy.nets.attention import Attention, FeedForward, LevelToken, positions


class MixtureTransformer(nn.Module):
    """One sequence of N condition tokens and Tp action tokens; the level is added before every attention and chooses
    the experts of every block. It offers `robopolicy.nets.protocols.AuxiliaryLoss` and `LevelCache`.

    Args:
        action_size: D.
        prediction: Tp.
        tokens, condition_size: N and C of the encoded observation.
        width: of each token, even and a multiple of `heads`.
        experts, chosen: E and k of each block.
        balance: weight of the load balancing loss; 0: none.
        dropout: of what each part adds to the residual stream.

    Raises:
        ValueError: `chosen` is not among 1 to `experts`.
    """

    positions: Tensor

    def __init__(
        self,
        action_size: int,
        prediction: int,
        tokens: int,
        condition_size: int,
        *,
        width: int = 1024,
        blocks: int = 12,
        heads: int = 8,
        experts: int = 4,
        chosen: int = 2,
        balance: float = 0.01,
        dropout: float = 0.0,
        level_size: int = 256,
    ) -> None:
        super().__init__()
        self.balance = balance
        self.level = LevelToken(level_size, width)
        self.condition = nn.Linear(condition_size, width)
        self.inlet = nn.Linear(action_size, width)
        self.blocks = nn.ModuleList(MixtureBlock(width, heads, experts, chosen, dropout) for _ in range(blocks))
        self.outlet = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action_size))
        self.register_buffer("positions", positions(tokens + prediction, width), persistent=False)
        self._prepared: dict[float, Prepared] = {}
        hooks: Any = self
        hooks.register_load_state_dict_post_hook(_forget)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """x [B, Tp, D], level [B], condition [B, N, C] to [B, Tp, D]."""
        prepared = self._lookup(level)
        token = self.level(level) if prepared is None else prepared.token
        hidden = torch.cat([self.condition(condition), self.inlet(x)], dim=1) + self.positions
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, token, None if prepared is None else prepared.experts[index])
        result: Tensor = self.outlet(hidden[:, condition.shape[1] :])
        return result

    def auxiliary_loss(self, level: Tensor) -> Tensor:
        """`balance` times the load balancing loss of each row, mean over the blocks: levels [B] to [B]."""
        token = self.level(level)
        return self.balance * torch.stack([mixture.imbalance(token) for mixture in self.mixtures()]).mean(dim=0)

    @torch.no_grad()
    def prepare(self, levels: Tensor) -> None:
        """See `robopolicy.nets.protocols.LevelCache`. In memory each level costs half of its k experts, and each set of
        experts that occurs the other half."""
        self._prepared = {}
        if len(levels) == 0:
            return
        tokens = self.level(levels)
        fused = [mixture.fuse(mixture.route(tokens)) for mixture in self.mixtures()]
        for index, level in enumerate(levels.tolist()):
            self._prepared[level] = Prepared(tokens[index : index + 1], [block[index] for block in fused])

    def mixtures(self) -> list[Mixture]:
        """Those of all blocks, in order."""
        return [block.mixture for block in self.blocks if isinstance(block, MixtureBlock)]

    def train(self, mode: bool = True) -> MixtureTransformer:
        if mode:
            self._prepared = {}
        return super().train(mode)

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self._prepared = {}  # moves to another device or dtype come through here
        parent: Any = super()
        return parent._apply(*arguments, **options)

    def _lookup(self, level: Tensor) -> Prepared | None:
        """What is prepared for the one level of all rows, if there is one."""
        if not self._prepared:
            return None
        found = set(level.tolist())
        return self._prepared.get(found.pop()) if len(found) == 1 else None


class MixtureBlock(nn.Module):
    """Self-attention of tokens that know the level, then the mixture, each added to x after a LayerNorm before it."""

    def __init__(self, width: int, heads: int, experts: int, chosen: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = Attention(width, heads)
        self.mixture = Mixture(width, experts, chosen)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, token: Tensor, fused: FusedExperts | None) -> Tensor:
        """x [B, T, width], level tokens [B or 1, width] to [B, T, width]; `fused` stands in for the mixture."""
        first, second = self.norms
        x = x + self.dropout(self.attention(first(x) + token[:, None]))
        hidden = second(x)
        residual: Tensor = self.dropout(self.mixture(hidden, token) if fused is None else fused(hidden))
        return x + residual


class Mixture(nn.Module):
    """sum_e g_e expert_e(x), with the router's softmax over the experts reduced to its k largest values and normalised
    to g; the router reads the level token and nothing else."""

    def __init__(self, width: int, experts: int, chosen: int) -> None:
        super().__init__()
        if not 1 <= chosen <= experts:
            raise ValueError(f"{chosen} of {experts} experts cannot be chosen")
        self.chosen = chosen
        self.router = nn.Linear(width, experts)
        self.experts = nn.ModuleList(FeedForward(width) for _ in range(experts))

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """x [B, T, width], level tokens [B, width] to [B, T, width]; each expert sees the rows that chose it."""
        weights = self.route(token)
        result = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows = weights[:, index].nonzero().squeeze(1)
            share = weights[rows, index, None, None] * expert(x[rows])
            result = result.index_add(0, rows, share.to(result.dtype))
        return result

    def route(self, token: Tensor) -> Tensor:
        """Level tokens [B, width] to the weights of the experts [B, E]: k of them positive, with sum 1."""
        probabilities: Tensor = self.router(token).softmax(dim=-1)
        kept = probabilities * _largest(probabilities, self.chosen)
        return kept / kept.sum(dim=-1, keepdim=True)

    def imbalance(self, token: Tensor) -> Tensor:
        """E sum_e f_e p_e of each row [B], 1 when experts are used alike, up to E / k when always the same k are: p_e
        is the row's probability of expert e, f_e its share of the whole batch's choices (Fedus et al., arXiv
        2101.03961, equation 4)."""
        probabilities: Tensor = self.router(token).softmax(dim=-1)
        used = _largest(probabilities, self.chosen).mean(dim=0) / self.chosen
        return len(self.experts) * (probabilities * used).sum(dim=-1)

    def fuse(self, weights: Tensor) -> list[FusedExperts]:
        """One feed-forward network for each row of weights [n, E]; rows with the same experts share the first layer."""
        first_layers: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        result = []
        for row in weights:
            chosen = tuple(row.nonzero().squeeze(1).tolist())
            if chosen not in first_layers:
                first_layers[chosen] = self._joined(chosen, "up.weight"), self._joined(chosen, "up.bias")
            down = torch.cat([row[index] * self._weights(index, "down.weight") for index in chosen], dim=1)
            down_bias = torch.stack([row[index] * self._weights(index, "down.bias") for index in chosen]).sum(dim=0)
            result.append(FusedExperts(*first_layers[chosen], down, down_bias))
        return result

    def _joined(self, chosen: Sequence[int], name: str) -> Tensor:
        return torch.cat([self._weights(index, name) for index in chosen])

    def _weights(self, expert: int, name: str) -> Tensor:
        return self.experts[expert].get_parameter(name)


@dataclass(frozen=True)
class FusedExperts:
    """The k experts of one level as one feed-forward network: their hidden units side by side, and in the second layer
    each expert's columns multiplied by its weight."""

    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        hidden = nn.functional.gelu(nn.functional.linear(x, self.up, self.up_bias))
        return nn.functional.linear(hidden, self.down, self.down_bias)


@dataclass(frozen=True)
class Prepared:
    """One level's token [1, width] and fused experts of every block."""

    token: Tensor
    experts: list[FusedExperts]


def _largest(values: Tensor, count: int) -> Tensor:
    """1 at the `count` largest of the last axis, 0 elsewhere."""
    return torch.zeros_like(values).scatter(-1, values.topk(count, dim=-1).indices, 1.0)


def _forget(net: nn.Module, _: object) -> None:
    assert isinstance(net, MixtureTransformer)
    net.prepare(torch.empty(0))
