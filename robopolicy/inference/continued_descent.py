"""Real-time chunking for energy policies: the pull towards the last chunk is a quadratic that is mixed into the energy.

See `robopolicy.inference.continuation` for what it is good for, and for the rule of policies that denoise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robopolicy.denoise.descent import EnergySampler, Landscape, LandscapeView
from robopolicy.denoise.sampler import Request, Sampled, bound
from robopolicy.errors import ConfigError
from robopolicy.inference import overlap
from robopolicy.inference.overlap import Schedule
from robopolicy.spec import ArraySpec


@dataclass(frozen=True)
class ContinuedDescent:
    """An `robopolicy.denoise.descent.EnergySampler` that continues the last chunk of warm rows: it descends on

        (1 - pull) E + pull / (2 step size) mean(weights (a - previous)^2),

    so a plain step is the share 1 - pull of the energy's own and, where the weight is 1, the share `pull` of the way to
    `previous`. The step size is learned with the energy, and a quadratic of a fixed stiffness would mean another thing
    in each policy. Merely added, it would make the whole steeper than the step size was learned for; the gain of a
    mixture lies between those of the two steps.

    Attributes:
        sampler: walks downhill. The `energy` in its `info` stays that of the policy.
        delay, schedule: see `robopolicy.inference.overlap.Window`.
        pull: above 0, below 1.
    """

    sampler: EnergySampler
    delay: int
    schedule: Schedule = "exp"
    pull: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, EnergySampler):
            raise ConfigError(f"rtc_ebt needs a descent inside, not '{self.sampler}': for those that denoise use rtc")
        overlap.check(self)
        if not 0.0 < self.pull < 1.0:
            raise ConfigError(f"sampler.pull is {self.pull:g}, expected more than 0 and less than 1")

    def __str__(self) -> str:
        return f"rtc (quadratic energy, pull {self.pull:g}, {overlap.describe(self)}) in {self.sampler}"

    @property
    def max_steps(self) -> int:
        return self.sampler.max_steps

    def for_actions(self, spec: ArraySpec) -> ContinuedDescent:
        return replace(self, sampler=bound(self.sampler, spec))

    def __call__(self, landscape: Landscape, request: Request) -> Sampled:
        weights = overlap.row_weights(self, landscape.shape[1], request)
        if request.previous is None or weights is None:
            return self.sampler(landscape, request)
        pulled = ContinuedLandscape(landscape, request.previous, weights, self.pull)
        sampled = self.sampler(pulled, request)
        if "energy" not in sampled.info:
            return sampled
        return replace(sampled, info={**sampled.info, "energy": pulled.own(sampled.info["energy"], sampled.normalised)})


@dataclass(frozen=True)
class ContinuedLandscape(LandscapeView):
    """A `robopolicy.denoise.descent.Landscape` mixed with a quadratic around `previous` [B, Tp, D], see
    `ContinuedDescent`; `weights` [B, Tp]. Rows without any weight are as without it, bit for bit."""

    previous: Tensor
    weights: Tensor
    pull: float

    def energy(self, actions: Tensor, rows: Tensor) -> Tensor:
        own, guided = self.landscape.energy(actions, rows), (self.weights[rows] > 0).any(dim=1)
        return torch.where(guided, (1.0 - self.pull) * own + self._quadratic(actions, rows), own)

    def own(self, energies: Tensor, actions: Tensor) -> Tensor:
        """The landscape's part of the `energies` [B] of all rows."""
        everything = torch.arange(len(actions), device=actions.device)
        without = (energies - self._quadratic(actions, everything)) / (1.0 - self.pull)
        return torch.where((self.weights > 0).any(dim=1), without, energies)

    def _quadratic(self, actions: Tensor, rows: Tensor) -> Tensor:
        squares = self.weights[rows, :, None] * (actions - self.previous[rows]).square()
        return 0.5 * self.pull / self.step_size * squares.mean(dim=(1, 2))
