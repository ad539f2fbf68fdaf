"""Noise paths, x_t = alpha(t) a + sigma(t) eps: how clean actions (t = 0) turn into noise (t = 1)."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from robopolicy.errors import ConfigError

TrainingTime = Literal["uniform", "logit_normal"]
Spacing = Literal["exponential", "karras"]


class NoisePath(Protocol):
    """Times are float tensors in [0, 1]; the results have the shape and dtype of the time."""

    def alpha(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...

    def scale(self, t: Tensor) -> Tensor:
        """After division by it the path is a straight line in its own clock, sigma / scale. Positive."""

    def time_at(self, noise_ratio: Tensor) -> Tensor:
        """The time at which sigma / (alpha + sigma) is `noise_ratio`, in [0, 1]: how paths find each other's levels.

        A path that ends before this much noise answers 1, one that has levels only the nearest of them.
        """

    def levels(self, count: int) -> Tensor:
        """[count] times at which a sampler with `count` steps asks the network, descending from 1.

        Raises ConfigError for a count that the path does not have.
        """

    def embed(self, t: Tensor) -> Tensor:
        """What the network is told of the time: of the order of 1000, as sinusoidal embeddings expect."""

    def training_times(self, uniform: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) to the times at which the network is trained."""


class VariancePreserving:
    """The discrete diffusion path of DDPM, alpha^2 + sigma^2 = 1, on K = `steps` levels with t = (k + 1) / K.

    Schedules are diffusers' by name; `squaredcos_cap_v2` is the cosine schedule of Nichol and Dhariwal (arXiv
    2102.09672) that Diffusion Policy uses.
    """

    def __init__(self, steps: int = 100, schedule: str = "squaredcos_cap_v2") -> None:
        from diffusers import DDPMScheduler

        self.steps = steps
        scheduler: Any = DDPMScheduler
        products = scheduler(steps, beta_schedule=schedule).alphas_cumprod.double()
        products = torch.cat([torch.ones(1, dtype=torch.float64), products])
        self._products = {torch.device("cpu"): products}  # and a copy for each device that asks

    def alpha(self, t: Tensor) -> Tensor:
        return self._product(t).sqrt().to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        return (1.0 - self._product(t)).sqrt().to(t.dtype)

    def scale(self, t: Tensor) -> Tensor:
        """alpha + sigma, which makes the path the linear one. Dividing by alpha would make it EDM's, but with a clock
        that runs to thousands at pure noise: too coarse a first step for Heun's method."""
        return self.alpha(t) + self.sigma(t)

    def time_at(self, noise_ratio: Tensor) -> Tensor:
        times = torch.arange(1, self.steps + 1, dtype=torch.float64, device=noise_ratio.device) / self.steps
        ratios = self.sigma(times) / self.scale(times)
        nearest = (noise_ratio.double()[..., None] - ratios).abs().argmin(dim=-1)
        return times[nearest].to(noise_ratio.dtype)

    def levels(self, count: int) -> Tensor:
        """Evenly spaced and ending at the first level ("trailing", Lin et al., arXiv 2305.08891)."""
        if not 1 <= count <= self.steps:
            raise ConfigError(f"sampler.steps is {count}, expected 1 to {self.steps}: the path has that many levels")
        steps = torch.arange(self.steps, 0, -self.steps / count, dtype=torch.float64)[:count].round()
        return (steps / self.steps).float()

    def embed(self, t: Tensor) -> Tensor:
        return t * self.steps - 1.0

    def training_times(self, uniform: Tensor) -> Tensor:
        return ((uniform * self.steps).floor() + 1.0) / self.steps

    def _product(self, t: Tensor) -> Tensor:
        if t.device not in self._products:
            self._products[t.device] = self._products[torch.device("cpu")].to(t.device)
        return self._products[t.device][(t.double() * self.steps).round().long()]


class LinearPath:
    """The straight path of flow matching, alpha = 1 - t and sigma = t (Lipman et al., arXiv 2210.02747).

    Args:
        time: how training times are drawn; `logit_normal` is sigmoid(mean + std normal) (Esser et al., arXiv
            2403.03206), which trains the middle of the path more often than its ends.
        mean: of the logit, used by `logit_normal`; positive: closer to pure noise.
        std: of the logit, used by `logit_normal`.
    """

    def __init__(self, time: TrainingTime = "uniform", mean: float = 0.0, std: float = 1.0) -> None:
        if time not in get_args(TrainingTime):
            raise ConfigError(f"policy.path.time is '{time}', expected one of {', '.join(get_args(TrainingTime))}")
        _check_positive(std=std)
        self.time, self.mean, self.std = time, mean, std

    def alpha(self, t: Tensor) -> Tensor:
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time_at(self, noise_ratio: Tensor) -> Tensor:
        return noise_ratio

    def levels(self, count: int) -> Tensor:
        """1, 1 - 1/n, ..., 1/n."""
        _check_count(count)
        return torch.arange(count, 0, -1) / count

    def embed(self, t: Tensor) -> Tensor:
        return 1000.0 * t

    def training_times(self, uniform: Tensor) -> Tensor:
        """In (0, 1]: samplers ask at 1 and never at 0."""
        share = 1.0 - uniform
        return share if self.time == "uniform" else (self.mean + self.std * torch.special.ndtri(share)).sigmoid()


class ExplodingPath:
    """EDM's path, alpha = 1 and sigma = `maximum` t (Karras et al., arXiv 2206.00364, table 1).

    Training noise levels are log-logistic, log sigma = log(median) + spread logit(u), within [minimum, maximum], as in
    BESO (Reuss et al., arXiv 2304.02532).

    Args:
        minimum: the smallest sigma that samplers ask at and training sees.
        maximum: sigma of pure noise; sampling starts at N(0, maximum^2), so it must drown the actions.
        spacing: of sampling levels: constant ratios, or EDM's sigma^(1/rho) in constant steps.
        rho: used by `karras`.
        median: of the training levels.
        spread: of the logarithm of the training levels.
    """

    def __init__(
        self,
        minimum: float = 0.005,
        maximum: float = 80.0,
        spacing: Spacing = "exponential",
        rho: float = 7.0,
        median: float = 0.5,
        spread: float = 0.5,
    ) -> None:
        if spacing not in get_args(Spacing):
            raise ConfigError(f"policy.path.spacing is '{spacing}', expected one of {', '.join(get_args(Spacing))}")
        _check_positive(minimum=minimum, rho=rho, median=median, spread=spread)
        if maximum <= minimum:
            raise ConfigError(f"policy.path.maximum is {maximum}, expected more than policy.path.minimum, {minimum}")
        self.minimum, self.maximum, self.spacing, self.rho = minimum, maximum, spacing, rho
        self.median, self.spread = median, spread

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.maximum * t

    def scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time_at(self, noise_ratio: Tensor) -> Tensor:
        return (noise_ratio / ((1.0 - noise_ratio) * self.maximum)).clamp(max=1.0)  # from infinity too

    def levels(self, count: int) -> Tensor:
        """From `maximum` to `minimum`, both included, spaced as `spacing` says."""
        _check_count(count)
        progress = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
        if self.spacing == "exponential":
            return (progress * math.log(self.minimum / self.maximum)).exp().float()
        last = (self.minimum / self.maximum) ** (1.0 / self.rho)
        return torch.pow(1.0 + progress * (last - 1.0), self.rho).float()

    def embed(self, t: Tensor) -> Tensor:
        """250 log sigma: EDM's log(sigma) / 4, a thousand times larger."""
        return 250.0 * self.sigma(t).log()

    def training_times(self, uniform: Tensor) -> Tensor:
        low, high = (self._cumulative(sigma) for sigma in (self.minimum, self.maximum))
        logit = (low + uniform.double() * (high - low)).logit()
        return (self.median * (self.spread * logit).exp() / self.maximum).to(uniform.dtype)

    def _cumulative(self, sigma: float) -> float:
        """Share of the log-logistic distribution below sigma."""
        return 1.0 / (1.0 + math.exp(-math.log(sigma / self.median) / self.spread))


def _check_count(count: int) -> None:
    if count < 1:
        raise ConfigError(f"sampler.steps is {count}, expected at least 1")


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"policy.path.{name} is {value}, expected a positive number")
