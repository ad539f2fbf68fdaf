"""From normalised observations to the condition of a network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robopolicy.errors import ConfigError
from robopolicy.spec import ArraySpec


class StateEncoder(nn.Module):
    """Low-dimensional streams, every observation step of each, side by side: {name: [B, To, ...]} to [B, size].

    Streams are taken in the order of the spec.
    """

    def __init__(self, observations: Mapping[str, ArraySpec], observation_steps: int) -> None:
        super().__init__()
        images = [name for name, spec in observations.items() if spec.is_image]
        if images:
            raise ConfigError(f"the state encoder cannot read the image streams {images}: leave them out of the task")
        self.names = list(observations)
        widths = [torch.Size(spec.shape).numel() for spec in observations.values()]
        self.size = observation_steps * sum(widths)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([observation[name].flatten(1) for name in self.names], dim=-1)
