"""Behaviour cloning without a generative model: the baselines that every paper compares with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from robopolicy.denoise.noise import Noise
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.nets.vision import CameraFactory
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import Encoded, GoalInput, Horizon, LearnedPolicy
from robopolicy.spec import RobotSpec

HeadFactory = Callable[..., nn.Module]
"""Called with tokens, condition_size and outputs; see `robopolicy.nets.mlp.RegressionMlp`."""

_LOG_STD_RANGE = (-5.0, 2.0)


class _Cloning(LearnedPolicy):
    """A network from the encoded observation straight to `numbers` for each element of the chunk."""

    numbers: int

    def __init__(
        self,
        spec: RobotSpec,
        horizon: Horizon,
        net: HeadFactory,
        normaliser: SpecNormaliser | None = None,
        camera: CameraFactory | None = None,
        goals: GoalInput | None = None,
    ) -> None:
        super().__init__(spec, horizon, normaliser, camera, goals)
        self.chunk_shape = (horizon.prediction, spec.action.shape[0])
        self.net = net(
            tokens=self.encoder.tokens,
            condition_size=self.encoder.size,
            outputs=self.numbers * math.prod(self.chunk_shape),
        )


class MeanSquaredCloning(_Cloning):
    """The chunk that minimises the mean squared error: the conditional mean, blind to modes."""

    numbers = 1

    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: Noise) -> Tensor:
        error = self._mean(self.encode(observation, noise)) - self.normalise(actions)
        return error.square().mean(dim=(1, 2))

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        return _one_evaluation(self._mean(encoded))

    def _mean(self, encoded: Encoded) -> Tensor:
        mean: Tensor = self.net(encoded.condition)
        return mean.float().view(-1, *self.chunk_shape)


class GaussianCloning(_Cloning):
    """A Gaussian with a mean and a standard deviation for each element of the chunk, fitted by maximum likelihood."""

    numbers = 2

    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: Noise) -> Tensor:
        """Negative log likelihood per element (nats), mean over the chunk: [B]."""
        mean, log_std = self._distribution(self.encode(observation, noise))
        standardised = (self.normalise(actions) - mean) * torch.exp(-log_std)
        return (0.5 * standardised.square() + log_std + 0.5 * math.log(2 * math.pi)).mean(dim=(1, 2))

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        mean, log_std = self._distribution(encoded)
        return _one_evaluation(mean + log_std.exp() * request.noise.normal(1, self.chunk_shape)[0])

    def _distribution(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        output: Tensor = self.net(encoded.condition)
        mean, log_std = output.float().view(-1, 2, *self.chunk_shape).unbind(1)
        return mean, log_std.clamp(*_LOG_STD_RANGE)


def _one_evaluation(normalised: Tensor) -> Sampled:
    return Sampled(normalised, torch.ones(len(normalised), dtype=torch.long, device=normalised.device))
