"""The generative policy: a denoising network on a noise path, trained to recover demonstrated chunks from noise.

Diffusion Policy (Chi et al., arXiv 2303.04137) is this class with the variance-preserving path and the eps target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from torch import Tensor, nn

from robopolicy.denoise.noise import Noise
from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.prediction import Prediction, Target
from robopolicy.denoise.sampler import Request, Sampled, Sampler, TableSampler
from robopolicy.errors import ConfigError
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import Encoded, Horizon, PolicyModule
from robopolicy.spec import RobotSpec

NetFactory = Callable[..., nn.Module]
"""Called with action_size, prediction, tokens and condition_size; see `robopolicy.nets`."""


class GenerativePolicy(PolicyModule):
    """See `robopolicy.policies.policy.Policy`.

    Args:
        net: makes the network; its forward takes x [B, Tp, D], level [B] and condition [B, N, C].
        path: how clean actions turn into noise.
        target: what the network predicts.
        sampler: used by `sample`.
        normaliser: fitted to a dataset; None: identities, to be loaded from a checkpoint.
    """

    def __init__(
        self,
        spec: RobotSpec,
        horizon: Horizon,
        net: NetFactory,
        path: NoisePath,
        sampler: Sampler,
        target: Target = "eps",
        normaliser: SpecNormaliser | None = None,
    ) -> None:
        if target not in get_args(Target):
            raise ConfigError(f"policy.target is '{target}', expected one of {', '.join(get_args(Target))}")
        super().__init__(spec, horizon, normaliser)
        self.path = path
        self.target: Target = target
        self.sampler = sampler  # through the property, which checks it against the path
        self.net = net(
            action_size=spec.action.shape[0],
            prediction=horizon.prediction,
            tokens=self.encoder.tokens,
            condition_size=self.encoder.size,
        )

    @property
    def sampler(self) -> Sampler:
        """What `sample` runs; may be replaced. Raises ConfigError for one that asks for more levels than there are."""
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: Sampler) -> None:
        if isinstance(sampler, TableSampler):
            self.path.levels(sampler.steps)
        self._sampler = sampler

    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: Noise) -> Tensor:
        """Mean squared error of the network's target at a random time, mean over the chunk: [B]."""
        clean = self.normalise(actions)
        t = self.path.training_times(noise.uniform(1)[0])
        eps = noise.normal(1, clean.shape[1:])[0]
        x = _column(self.path.alpha(t)) * clean + _column(self.path.sigma(t)) * eps
        output = self.net(x, self.path.embed(t), self.encode(observation, noise).condition)
        wanted = eps if self.target == "eps" else clean
        error: Tensor = output.float() - wanted
        return error.square().mean(dim=(1, 2))

    def denoiser(self, encoded: Encoded) -> BoundDenoiser:
        """The network bound to an encoded observation batch, for samplers and their wrappers."""
        shape = (len(encoded), self.horizon.prediction, self.spec.action.shape[0])
        return BoundDenoiser(self.net, self.path, self.target, encoded.condition, shape)

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        return self.sampler(self.denoiser(encoded), request)


@dataclass(frozen=True)
class BoundDenoiser:
    """A `robopolicy.denoise.sampler.Denoiser`: a network with its condition [B, N, C]."""

    net: nn.Module
    path: NoisePath
    target: Target
    condition: Tensor
    shape: tuple[int, int, int]

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        times = t.expand(len(x))
        output = self.net(x, self.path.embed(times), self.condition).float()
        return Prediction(x, output, _column(self.path.alpha(times)), _column(self.path.sigma(times)), self.target)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]
