"""The interface that every policy has, and the parts that all trained ones share.

Index 0 of every chunk is the action for the newest observation. Encoding happens once per control step, sampling as
often as a wrapper likes. Normalisation lives inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from robopolicy.denoise.noise import Noise
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.errors import ConfigError
from robopolicy.nets.encoder import ObservationEncoder
from robopolicy.nets.goal import GoalEncoder
from robopolicy.nets.vision import CameraFactory
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
class GoalInput:
    """Which streams of a policy's spec are goals, and the share of training rows that do not see them.

    Only a policy that can be guided drops goals (`PolicyModule.guidable`).
    """

    names: Sequence[str]
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not all(isinstance(name, str) for name in self.names):
            raise ConfigError(f"the goals are {self.names!r}, expected a list of names of streams")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"goal_dropout is {self.dropout:g}, expected 0 or more and less than 1")


@dataclass(frozen=True)
class Encoded:
    """What `encode` made of an observation batch.

    Attributes:
        condition: [B, N, C], N tokens: one an observation step, and one for the goal of a policy that has goals.
        goal_free: [B, N, C], the same without the goal; None for a policy without goals.
    """

    condition: Tensor
    goal_free: Tensor | None = None

    def __len__(self) -> int:
        return len(self.condition)

    def repeat(self, count: int) -> Encoded:
        """Each row `count` times in a row: [B * count, N, C], for candidates."""
        return self._map(lambda tokens: tokens.repeat_interleave(count, dim=0))

    def rows(self, index: Tensor) -> Encoded:
        return self._map(lambda tokens: tokens[index])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Encoded:
        return Encoded(change(self.condition), None if self.goal_free is None else change(self.goal_free))


Code = TypeVar("Code")
"""What a policy makes of an observation batch: opaque to all but the policy itself."""


class Policy(Protocol[Code]):
    """What an actor needs."""

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def horizon(self) -> Horizon: ...

    def encode(self, observation: Mapping[str, Tensor]) -> Code:
        """{name: [B, To, ...]} in physical units, once per control step."""

    def sample(self, encoded: Code, request: Request) -> Sampled:
        """Chunks in normalised space, [B, Tp, D]."""

    def normalise(self, actions: Tensor) -> Tensor: ...

    def unnormalise(self, actions: Tensor) -> Tensor: ...


@runtime_checkable
class HasSampler(Protocol):
    """A policy that draws its chunks with a sampler, which may be replaced by another of its kind (ConfigError)."""

    sampler: Any


class PolicyModule(nn.Module, ABC):
    """A policy with weights, what a checkpoint holds. See `Policy` for what its methods do."""

    spec: RobotSpec
    horizon: Horizon

    @abstractmethod
    def encode(self, observation: Mapping[str, Tensor]) -> Any: ...

    @abstractmethod
    def sample(self, encoded: Any, request: Request) -> Sampled: ...

    @abstractmethod
    def normalise(self, actions: Tensor) -> Tensor: ...

    @abstractmethod
    def unnormalise(self, actions: Tensor) -> Tensor: ...


class LearnedPolicy(PolicyModule):
    """A policy that is trained: spec, horizon, normalisation and encoding, the front half of every network.

    `guidable` says whether a kind of policy can be guided by its goals; only then training drops some of them.
    """

    guidable = False

    def __init__(
        self,
        spec: RobotSpec,
        horizon: Horizon,
        normaliser: SpecNormaliser | None,
        camera: CameraFactory | None = None,
        goals: GoalInput | None = None,
    ) -> None:
        """`camera` makes the network of each image stream, None is enough where there are none; so does `goals`."""
        super().__init__()
        self.spec = spec
        self.horizon = horizon
        self.normaliser = SpecNormaliser(spec) if normaliser is None else normaliser
        self.goals = GoalInput(()) if goals is None else goals
        self.encoder = _encoder(spec, horizon.observation_steps, camera, self.goals.names)

    def encode(self, observation: Mapping[str, Tensor], noise: Noise | None = None) -> Encoded:
        """See `Policy.encode`. `noise` is given in training only, for what is random there (augmentation of images,
        dropped goals). In evaluation mode it changes nothing, so a validation loss is of plain images."""
        chance = noise if self.training else None
        draws = None if chance is None else chance.uniform(self.encoder.draws)
        condition = self.encoder(self.normaliser.observe(observation), draws)
        if not isinstance(self.encoder, GoalEncoder):
            return Encoded(condition)
        goal_free = self.encoder.without_goal(condition)
        if chance is not None:
            dropped = chance.uniform(1)[0] < (self.goals.dropout if self.guidable else 0.0)
            condition = torch.where(dropped[:, None, None], goal_free, condition)
        return Encoded(condition, goal_free)

    def network_of(self, factory: Callable[..., nn.Module]) -> nn.Module:
        """A network over chunks; `factory` is called with action_size, prediction, tokens and condition_size."""
        return factory(
            action_size=self.spec.action.shape[0],
            prediction=self.horizon.prediction,
            tokens=self.encoder.tokens,
            condition_size=self.encoder.size,
        )

    def networks(self) -> list[nn.Module]:
        """What `training.compile` compiles: everything with weights."""
        return [module for module in self.children() if any(True for _ in module.parameters())]

    @abstractmethod
    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: Noise) -> Tensor:
        """Loss of each row, [B]. Observations {name: [B, To, ...]} and actions [B, Tp, D] in physical units."""

    def normalise(self, actions: Tensor) -> Tensor:
        normalised: Tensor = self.normaliser.action(actions)
        return normalised

    def unnormalise(self, actions: Tensor) -> Tensor:
        return self.normaliser.action.inverse(actions)


def _encoder(
    spec: RobotSpec, steps: int, camera: CameraFactory | None, goals: Sequence[str]
) -> ObservationEncoder | GoalEncoder:
    """Of every stream; those of `goals` make a token of their own."""
    if missing := sorted(set(goals) - set(spec.observations)):
        raise ConfigError(f"the goals {missing} are no streams of the policy, there are {sorted(spec.observations)}")
    seen = {name: array for name, array in spec.observations.items() if name not in goals}
    encoder = ObservationEncoder(seen, steps, camera)
    if not goals:
        return encoder
    return GoalEncoder(encoder, ObservationEncoder({name: spec.observations[name] for name in goals}, 1, camera))
