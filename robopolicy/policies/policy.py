"""The interface that every policy has, and the parts that all of them share.

Index 0 of every chunk is the action for the newest observation. Encoding happens once per control step, sampling as
often as a wrapper likes. Normalisation lives inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from robopolicy.denoise.noise import Noise
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.errors import ConfigError
from robopolicy.nets.encoder import StateEncoder
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.spec import RobotSpec


@dataclass(frozen=True)
class Horizon:
    """To past observations up to now, Tp predicted actions from now on, Ta of them executed before the next call."""

    observation_steps: int
    prediction: int
    execution: int

    def __post_init__(self) -> None:
        if min(self.observation_steps, self.prediction, self.execution) < 1:
            raise ConfigError(f"horizon {self} has an empty part, expected at least 1 of each")
        if self.execution > self.prediction:
            raise ConfigError(f"horizon.execution {self.execution} exceeds horizon.prediction {self.prediction}")


@dataclass(frozen=True)
class Encoded:
    """What `encode` made of an observation batch: `condition` [B, N, C], N tokens (one an observation step)."""

    condition: Tensor

    def __len__(self) -> int:
        return len(self.condition)

    def repeat(self, count: int) -> Encoded:
        """Each row `count` times in a row: [B * count, N, C], for candidates."""
        return Encoded(self.condition.repeat_interleave(count, dim=0))

    def rows(self, index: Tensor) -> Encoded:
        return Encoded(self.condition[index])


class Policy(Protocol):
    """What the trainer and the actors need."""

    spec: RobotSpec
    horizon: Horizon

    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: Noise) -> Tensor:
        """Loss of each row, [B]. Observations {name: [B, To, ...]} and actions [B, Tp, D] in physical units."""

    def encode(self, observation: Mapping[str, Tensor], noise: Noise | None = None) -> Encoded:
        """{name: [B, To, ...]} in physical units, once per control step. `noise` is given in training only, for what
        is random there (augmentation of images, dropped goals)."""

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        """Chunks in normalised space, [B, Tp, D]."""

    def normalise(self, actions: Tensor) -> Tensor: ...

    def unnormalise(self, actions: Tensor) -> Tensor: ...


class PolicyModule(nn.Module, ABC):
    """A policy with weights: spec, horizon, normalisation and encoding, the front half of every network."""

    def __init__(self, spec: RobotSpec, horizon: Horizon, normaliser: SpecNormaliser | None) -> None:
        super().__init__()
        self.spec = spec
        self.horizon = horizon
        self.normaliser = SpecNormaliser(spec) if normaliser is None else normaliser
        self.encoder = StateEncoder(spec.observations, horizon.observation_steps)

    def encode(self, observation: Mapping[str, Tensor], noise: Noise | None = None) -> Encoded:
        return Encoded(self.encoder(self.normaliser.observe(observation)))

    @abstractmethod
    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: Noise) -> Tensor: ...

    @abstractmethod
    def sample(self, encoded: Encoded, request: Request) -> Sampled: ...

    def normalise(self, actions: Tensor) -> Tensor:
        normalised: Tensor = self.normaliser.action(actions)
        return normalised

    def unnormalise(self, actions: Tensor) -> Tensor:
        return self.normaliser.action.inverse(actions)
