"""From normalised observations to the condition of a network: tokens [B, N, C]."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robopolicy.errors import ConfigError
from robopolicy.spec import ArraySpec


class StateEncoder(nn.Module):
    """Low-dimensional streams side by side, one token for each observation step: {name: [B, To, ...]} to [B, To, C].

    Streams are taken in the order of the spec. `tokens` is To, `size` is C.
    """

    def __init__(self, observations: Mapping[str, ArraySpec], observation_steps: int) -> None:
        super().__init__()
        images = [name for name, spec in observations.items() if spec.is_image]
        if images:
            raise ConfigError(f"the state encoder cannot read the image streams {images}: leave them out of the task")
        self.names = list(observations)
        self.tokens = observation_steps
        self.size = sum(torch.Size(spec.shape).numel() for spec in observations.values())

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([observation[name].flatten(2) for name in self.names], dim=-1)
