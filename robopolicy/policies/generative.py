"""The generative policy: a denoising network on a noise path, trained to recover demonstrated chunks from noise.

Diffusion Policy (Chi et al., arXiv 2303.04137) is this class with the variance-preserving path and the eps target, flow
matching (Lipman et al., arXiv 2210.02747) with the linear path and the velocity target, and BESO's EDM (Reuss et al.,
arXiv 2304.02532) with the exploding path and the preconditioned target. Any target goes with any path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor, nn

from robopolicy.denoise.guidance import guide
from robopolicy.denoise.noise import Noise
from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.prediction import Prediction, Target, input_gain, training_target
from robopolicy.denoise.sampler import Denoiser, Request, Sampled, Sampler
from robopolicy.errors import ConfigError
from robopolicy.nets.energy import EnergyTransformer
from robopolicy.nets.protocols import AuxiliaryLoss, LevelCache
from robopolicy.nets.vision import CameraFactory
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import Encoded, GoalInput, Horizon, LearnedPolicy
from robopolicy.policies.samplers import denoising_sampler
from robopolicy.spec import RobotSpec

NetFactory = Callable[..., nn.Module]
"""Called with action_size, prediction, tokens and condition_size; see `robopolicy.nets`."""


class GenerativePolicy(LearnedPolicy):
    """See `robopolicy.policies.policy.Policy`.

    Args:
        net: makes the network; its forward takes x [B, Tp, D], level [B] and condition [B, N, C].
        path: how clean actions turn into noise.
        sampler: used by `sample`.
        target: what the network predicts.
        data_std: of normalised actions, as the `preconditioned` target assumes it.
        normaliser: fitted to a dataset; None: identities, to be loaded from a checkpoint.
        camera: makes the network of each image stream.
        goals: which streams are goals.
        guidance: weight of the goal in `sample`; 1 is the policy as it was trained, 0 does not see the goal.
    """

    guidable = True

    def __init__(
        self,
        spec: RobotSpec,
        horizon: Horizon,
        net: NetFactory,
        path: NoisePath,
        sampler: Sampler,
        target: Target = "eps",
        data_std: float = 0.5,
        normaliser: SpecNormaliser | None = None,
        camera: CameraFactory | None = None,
        goals: GoalInput | None = None,
        guidance: float = 1.0,
    ) -> None:
        _check_target(target, path, data_std)
        super().__init__(spec, horizon, normaliser, camera, goals)
        self.path = path
        self.target: Target = target
        self.data_std = data_std
        self._readings: dict[tuple[float, int], Reading] = {}
        self.sampler = sampler  # through the property, which checks it against the path
        self.guidance = guidance  # likewise
        self.net = self.network_of(net)
        if isinstance(self.net, EnergyTransformer):
            raise ConfigError(
                "a policy that denoises cannot use an EnergyTransformer, which belongs to policy=ebt: choose another "
                "net, such as net=mlp"
            )

    @property
    def sampler(self) -> Sampler:
        """What `sample` runs; may be replaced. Raises ConfigError for anything but a denoising sampler, and for one
        that asks for more levels than there are."""
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: Sampler) -> None:
        self._sampler = denoising_sampler(sampler, self.path, self.spec.action)

    @property
    def guidance(self) -> float:
        """The weight w of classifier-free guidance; may be replaced. Raises ConfigError for other weights than 1 where
        there are no goals, or none was ever dropped, so that the policy does not know what to do without."""
        return self._guidance

    @guidance.setter
    def guidance(self, weight: float) -> None:
        if weight != 1.0 and not self.goals.names:
            raise ConfigError(f"guidance={weight:g} needs a policy with goals: train one with a task that has some")
        if weight != 1.0 and self.goals.dropout == 0.0:
            raise ConfigError(
                f"guidance={weight:g} needs a policy that was trained without its goals too, but goal_dropout was 0: "
                "train one with goal_dropout=0.1"
            )
        self._guidance = weight

    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: Noise) -> Tensor:
        """Mean squared error of the network's target at a random time, mean over the chunk: [B]."""
        clean = self.normalise(actions)
        t = self.path.training_times(noise.uniform(1)[0])
        eps = noise.normal(1, clean.shape[1:])[0]
        alpha, sigma = _column(self.path.alpha(t)), _column(self.path.sigma(t))
        seen = input_gain(self.target, alpha, sigma, self.data_std) * (alpha * clean + sigma * eps)
        level = self.path.embed(t)
        output = self.net(seen, level, self.encode(observation, noise).condition)
        wanted = training_target(self.target, clean, eps, alpha, sigma, self.data_std)
        error: Tensor = (output.float() - wanted).square().mean(dim=(1, 2))
        if self.training and isinstance(self.net, AuxiliaryLoss):
            error = error + self.net.auxiliary_loss(level).float()
        return error

    def denoiser(self, encoded: Encoded) -> Denoiser:
        """The network bound to an encoded observation batch and guided, for samplers and their wrappers."""
        conditional = self._bound(encoded.condition)
        if encoded.goal_free is None:
            return conditional
        return guide(conditional, self._bound(encoded.goal_free), self.guidance)

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        return self.sampler(self.denoiser(encoded), request)

    def prepare(self) -> bool:
        """Lets a network that can compute ahead for the sampler's levels do so (`LevelCache`); whether this one can.

        Outputs stay the same to rounding. Call it with the final weights and sampler, in evaluation mode.
        """
        if not isinstance(self.net, LevelCache):
            return False
        device = next(self.net.parameters()).device
        self.net.prepare(self.path.embed(self.path.levels(self.sampler.steps).to(device)))
        return True

    def _bound(self, condition: Tensor) -> BoundDenoiser:
        shape = (len(condition), self.horizon.prediction, self.spec.action.shape[0])
        return BoundDenoiser(self.net, self.path, self.target, self.data_std, condition, shape, readings=self._readings)


@dataclass(frozen=True)
class BoundDenoiser:
    """A `robopolicy.denoise.sampler.Denoiser`: a network with its condition [B, N, C].

    `readings` keeps what the path says of each level that was asked for, by level and rows, from call to call.
    """

    net: nn.Module
    path: NoisePath
    target: Target
    data_std: float
    condition: Tensor
    shape: tuple[int, int, int]
    cost: int = 1
    readings: dict[tuple[float, int], Reading] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        reading = self._reading(t, len(x))
        seen = x if reading.gain is None else reading.gain * x
        output = self.net(seen, reading.level, self.condition).float()
        return Prediction(x, output, reading.alpha, reading.sigma, self.target, self.data_std)

    def _reading(self, t: Tensor, rows: int) -> Reading:
        """On a CPU a sampler's levels are looked up: a dozen small operations less at every step. A GPU would have to
        be waited for to know the level, so there they are computed."""
        if t.ndim or t.device.type != "cpu" or t.dtype != torch.float32 or t.requires_grad:
            return Reading.of(self.path, self.target, self.data_std, t.expand(rows))
        key = (float(t), rows)
        if key not in self.readings:
            if len(self.readings) >= _READINGS:
                self.readings.clear()
            self.readings[key] = Reading.of(self.path, self.target, self.data_std, t.expand(rows))
        return self.readings[key]


_READINGS = 1000
"""Kept at most; samplers ask at a few hundred levels altogether."""


@dataclass(frozen=True)
class Reading:
    """A path at times [B]: `alpha`, `sigma` and the network's input `gain` (None: 1) as [B, 1, 1], and the `level` [B]
    that the network is told."""

    alpha: Tensor
    sigma: Tensor
    gain: Tensor | None
    level: Tensor

    @staticmethod
    def of(path: NoisePath, target: Target, data_std: float, times: Tensor) -> Reading:
        alpha, sigma = _column(path.alpha(times)), _column(path.sigma(times))
        gain = input_gain(target, alpha, sigma, data_std) if target == "preconditioned" else None
        return Reading(alpha, sigma, gain, path.embed(times))


def _check_target(target: str, path: NoisePath, data_std: float) -> None:
    if target not in get_args(Target):
        raise ConfigError(f"policy.target is '{target}', expected one of {', '.join(get_args(Target))}")
    if not data_std > 0:
        raise ConfigError(f"policy.data_std is {data_std}, expected a positive number")
    if target == "eps" and path.alpha(torch.ones(1)) == 0:
        raise ConfigError(
            "policy.target is 'eps', but this path starts at pure noise, where eps says nothing of the action: use "
            "policy.target=velocity"
        )


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]
