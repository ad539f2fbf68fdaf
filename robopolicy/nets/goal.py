"""Goals as one more token, which a learned token replaces where there is none.

What classifier-free guidance needs (Ho and Salimans, arXiv 2207.12598): in training some rows do not see their goal, so
one network learns the actions with and without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from robopolicy.nets.encoder import ObservationEncoder


class GoalEncoder(nn.Module):
    """Encoded observations and, as the last token, a linear map of the encoded goals: [B, To + 1, C].

    `tokens`, `size` and `draws` are as in `ObservationEncoder`. Tokens are at least one wider than the goals are, with
    zeros at the end of narrower observations: so the learned token can lie apart from every goal.

    Args:
        observations: encodes the To observation steps.
        goals: encodes the goal streams, of which the newest value counts; cameras have weights of their own there.
    """

    def __init__(self, observations: ObservationEncoder, goals: ObservationEncoder) -> None:
        super().__init__()
        self.observations = observations
        self.goals = goals
        self.tokens = observations.tokens + 1
        self.size = max(observations.size, goals.size + 1)
        self.draws = observations.draws + goals.draws
        self.project = nn.Linear(goals.size, self.size)
        self.none = nn.Parameter(torch.randn(self.size))

    def forward(self, observation: Mapping[str, Tensor], draws: Tensor | None = None) -> Tensor:
        """{name: [B, To, ...]} with goals [B, 1 or more, ...]; `draws` [self.draws, B] augment the images."""
        parts = [self.observations.draws, self.goals.draws]
        shares = (None, None) if draws is None else torch.split(draws, parts)
        steps = self.observations(observation, shares[0])
        steps = functional.pad(steps, (0, self.size - self.observations.size))
        newest = {name: values[:, -1:] for name, values in observation.items()}
        return torch.cat([steps, self.project(self.goals(newest, shares[1]))], dim=1)

    def without_goal(self, condition: Tensor) -> Tensor:
        """`condition`, as `forward` made it, with the learned token in the goal's place."""
        none = self.none.expand(len(condition), 1, -1).to(condition.dtype)
        return torch.cat([condition[:, :-1], none], dim=1)
