"""Noise paths, x_t = alpha(t) a + sigma(t) eps: how clean actions (t = 0) turn into noise (t = 1)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from robopolicy.errors import ConfigError


class NoisePath(Protocol):
    """Times are float tensors in [0, 1]; the results have the shape and dtype of the time."""

    def alpha(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...

    def levels(self, count: int) -> Tensor:
        """[count] times at which a sampler with `count` evaluations asks the network, descending from 1."""

    def embed(self, t: Tensor) -> Tensor:
        """What the network is told of the time."""

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
        self._products = torch.cat([torch.ones(1, dtype=torch.float64), products])

    def alpha(self, t: Tensor) -> Tensor:
        return self._product(t).sqrt().to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        return (1.0 - self._product(t)).sqrt().to(t.dtype)

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
        if self._products.device != t.device:
            self._products = self._products.to(t.device)
        return self._products[(t.double() * self.steps).round().long()]
