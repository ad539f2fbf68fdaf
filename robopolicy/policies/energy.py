"""EBT-Policy: acting is descent on a learned energy of chunk and observation (arXiv 2510.27545)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robopolicy.denoise.descent import DescentRule, EnergySampler, Landscape, Unroll
from robopolicy.denoise.noise import Noise
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.errors import ConfigError
from robopolicy.nets.energy import EnergyTransformer
from robopolicy.nets.vision import CameraFactory
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import Encoded, GoalInput, Horizon, LearnedPolicy
from robopolicy.policies.samplers import energy_sampler
from robopolicy.spec import RobotSpec

EnergyFactory = Callable[..., nn.Module]
"""Called with action_size, prediction, tokens and condition_size; see `robopolicy.nets.energy`."""

Start = Literal["mixture", "noise"]


class EnergyPolicy(LearnedPolicy):
    """See `robopolicy.policies.policy.Policy`.

    Args:
        net: makes the energy; its forward takes chunks [B, Tp, D] and condition [B, N, C] to [B].
        rule: how a step follows from energy and gradient, in training and inference.
        unroll: the training loop.
        sampler: used by `sample`.
        step_size: alpha at the start of training; it is learned.
        start: where training descents begin. `noise`: pure noise, as published; noise says nothing of the chunk, so
            the best last step leads to the conditional mean, whatever the modes. `mixture`: (1 - t) a + t noise with
            uniform t, so that a start lies in the basin of its own chunk.
        normaliser: fitted to a dataset; None: identities, to be loaded from a checkpoint.
        camera: makes the network of each image stream.
        goals: which streams are goals.
    """

    def __init__(
        self,
        spec: RobotSpec,
        horizon: Horizon,
        net: EnergyFactory,
        rule: DescentRule,
        unroll: Unroll,
        sampler: EnergySampler,
        step_size: float = 1.0,
        start: Start = "mixture",
        normaliser: SpecNormaliser | None = None,
        camera: CameraFactory | None = None,
        goals: GoalInput | None = None,
    ) -> None:
        if start not in get_args(Start):
            raise ConfigError(f"policy.start is '{start}', expected one of {', '.join(get_args(Start))}")
        if step_size <= 0.0:
            raise ConfigError(f"policy.step_size is {step_size:g}, expected more than 0")
        super().__init__(spec, horizon, normaliser, camera, goals)
        self.rule, self.unroll, self.start = rule, unroll, start
        self.sampler = sampler
        self.log_step_size = nn.Parameter(torch.tensor(math.log(step_size)))
        network = self.network_of(net)
        if not isinstance(network, EnergyTransformer):
            raise ConfigError(
                f"policy=ebt needs an energy as its network, such as net=energy_small, not a {type(network).__name__}"
            )
        self.net = network

    @property
    def step_size(self) -> Tensor:
        """alpha, learned."""
        return self.log_step_size.exp()

    @property
    def sampler(self) -> EnergySampler:
        """What `sample` runs; may be replaced. Raises ConfigError for anything that does not walk downhill."""
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: EnergySampler) -> None:
        self._sampler = energy_sampler(sampler, self.spec.action)

    def networks(self) -> list[nn.Module]:
        """Compiled code has no second derivative, so the energy network stays as it is."""
        return [self.encoder] if list(self.encoder.parameters()) else []

    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: Noise) -> Tensor:
        """Mean squared error of the chunk after an unrolled descent, [B]."""
        goal = self.normalise(actions)
        start = noise.normal(1, goal.shape[1:])[0]
        if self.start == "mixture":
            t = noise.uniform(1)[0][:, None, None]
            start = (1.0 - t) * goal + t * start
        encoded = self.encode(observation, noise)
        landscape = self.landscape(encoded)
        return self.unroll(landscape.energy, start, goal, self.step_size, self.rule, noise)

    def energy(self, encoded: Encoded, actions: Tensor) -> Tensor:
        """[B] of normalised chunks [B, Tp, D]."""
        energies: Tensor = self.net(actions, encoded.condition)
        return energies

    def landscape(self, encoded: Encoded) -> Landscape:
        """The energy bound to an encoded observation batch, for samplers and their wrappers."""
        shape = (len(encoded), self.horizon.prediction, self.spec.action.shape[0])
        return BoundEnergy(self.net, encoded.condition, shape, self.step_size.detach(), self.rule)

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        return self.sampler(self.landscape(encoded), request)


@dataclass(frozen=True)
class BoundEnergy:
    """A `robopolicy.denoise.descent.Landscape`: a network with its condition [B, N, C]."""

    net: nn.Module
    condition: Tensor
    shape: tuple[int, int, int]
    step_size: Tensor
    rule: DescentRule
    cost: int = 1

    def energy(self, actions: Tensor, rows: Tensor) -> Tensor:
        energies: Tensor = self.net(actions, self.condition[rows])
        return energies
