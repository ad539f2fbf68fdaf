"""Critics: how likely, and how soon, a chunk leads to success (`robopolicy.inference.selection.Critic`).

The value is E[discount^n] with n the steps to success (0 if it never comes), so it lies in [0, 1]: each head says its
logit. The loss is the binary cross-entropy with the return as a soft label. Its minimiser is the conditional mean of
the return, as with a squared error, but its gradient does not vanish where a sigmoid is confident and wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from robopolicy.configuration import build
from robopolicy.errors import ConfigError
from robopolicy.nets.encoder import ObservationEncoder
from robopolicy.nets.ensemble import EnsembleMlp
from robopolicy.nets.vision import CameraFactory
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.spec import RobotSpec
from robopolicy.training import checkpoint

Aggregate = Literal["min", "mean"]
_PACKAGES = ("robopolicy.rl", "robopolicy.nets")
"""Where a critic's parts come from: the configuration of a checkpoint cannot call anything else."""


class EnsembleCritic(nn.Module):
    """See `robopolicy.inference.selection.Critic`. Nothing mixes rows.

    Args:
        spec: the robot through the critic's streams.
        observation_steps, action_steps: how many observations and actions it reads.
        heads: perceptrons with weights of their own; where data are few they disagree.
        aggregate: `min` takes the least of the heads' values, which distrusts what data did not show; or `mean`.
        width, layers, dropout: of the perceptrons.
        normaliser: fitted to a dataset; None: identities, to be loaded from a checkpoint.
        camera: makes the network of each image stream.
    """

    def __init__(
        self,
        spec: RobotSpec,
        observation_steps: int,
        action_steps: int,
        heads: int = 4,
        aggregate: Aggregate = "mean",
        width: int = 256,
        layers: int = 2,
        dropout: float = 0.0,
        normaliser: SpecNormaliser | None = None,
        camera: CameraFactory | None = None,
    ) -> None:
        _check(observation_steps, action_steps, heads, aggregate)
        super().__init__()
        self.spec = spec
        self.observation_steps, self.action_steps = observation_steps, action_steps
        self.aggregate: Aggregate = aggregate
        self.normaliser = SpecNormaliser(spec) if normaliser is None else normaliser
        self.encoder = ObservationEncoder(spec.observations, observation_steps, camera)
        inputs = self.encoder.tokens * self.encoder.size + action_steps * spec.action.shape[0]
        self.net = EnsembleMlp(heads, inputs, width=width, layers=layers, dropout=dropout)

    def forward(self, observation: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        """Values [B, K] of observations {name: [B, To, ...]} with actions [B, K, T, D], physical units."""
        values = torch.sigmoid(self.logits(observation, actions))
        return values.amin(dim=0) if self.aggregate == "min" else values.mean(dim=0)

    def logits(self, observation: Mapping[str, Tensor], actions: Tensor, draws: Tensor | None = None) -> Tensor:
        """[H, B, K], each head's. `draws` [encoder.draws, B] uniform in [0, 1) augment images, in training only."""
        rows, candidates = actions.shape[:2]
        seen = {name: observation[name][:, -self.observation_steps :] for name in self.spec.observations}
        tokens = self.encoder(self.normaliser.observe(seen), draws).flatten(1)
        chunks = self.normaliser.action(actions[:, :, : self.action_steps].float()).flatten(2)
        inputs = torch.cat([tokens[:, None].expand(-1, candidates, -1), chunks], dim=-1)
        outputs: Tensor = self.net(inputs.flatten(0, 1))
        return outputs.view(-1, rows, candidates)

    def loss(
        self, observation: Mapping[str, Tensor], actions: Tensor, returns: Tensor, draws: Tensor | None = None
    ) -> Tensor:
        """[B]: cross-entropy of recorded chunks [B, T, D] with their returns [B] in [0, 1], mean over the heads."""
        logits = self.logits(observation, actions[:, None], draws).squeeze(-1)
        labels = returns.expand_as(logits)
        return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=0)


def make_critic(config: Mapping[str, Any], spec: RobotSpec, normaliser: SpecNormaliser | None = None) -> EnsembleCritic:
    """The critic of `config["critic"]` for a robot seen through `spec`. Raises ConfigError."""
    if "critic" not in config:
        raise ConfigError("a critic's configuration lacks the key 'critic'")
    critic = build(config["critic"], _PACKAGES, spec=spec, normaliser=normaliser)
    if not isinstance(critic, EnsembleCritic):
        raise ConfigError(f"critic._target_ made a {type(critic).__name__}, which is no critic")
    return critic


def load_critic(run: Path) -> tuple[EnsembleCritic, checkpoint.Description]:
    """The critic of a run's newest checkpoint in evaluation mode, and its description. Raises CheckpointError."""
    folder = checkpoint.newest(run, "critic")
    description = checkpoint.read_description(folder, "critic")
    critic = checkpoint.restored(folder, lambda: make_critic(description.config, description.spec), "critic")
    return critic, description


def _check(observation_steps: int, action_steps: int, heads: int, aggregate: str) -> None:
    for name, value in (("observation_steps", observation_steps), ("action_steps", action_steps), ("heads", heads)):
        if value < 1:
            raise ConfigError(f"critic.{name} is {value}, expected at least 1")
    if aggregate not in get_args(Aggregate):
        raise ConfigError(f"critic.aggregate is '{aggregate}', expected one of {', '.join(get_args(Aggregate))}")
