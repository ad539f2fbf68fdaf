"""Descent on a learned energy: the sampler of energy policies, and the loop that trains them (arXiv 2510.27545).

One step from chunk a with velocity v, at the look-ahead p = a + mu v (Nesterov):

    v' = mu v - eta dU/dp,   a' = a + v',   U = Tp D E,   eta = c alpha exp(min(E / tau, cap)).

The published step is -alpha dE/dp; E is a mean over the Tp D numbers of a chunk, so there the step shrinks as chunks
grow. Here alpha belongs to the sum U and keeps its meaning: 1 jumps to the minimum of the unit quadratic. Nothing mixes
rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from robopolicy.denoise.noise import Noise
from robopolicy.denoise.sampler import Request, Sampled, clip_name
from robopolicy.errors import ConfigError


class Energy(Protocol):
    """The energies [R] of chunks [R, Tp, D] that stand in the rows [R] (indices) of an encoded batch."""

    def __call__(self, actions: Tensor, /, rows: Tensor) -> Tensor: ...


GRADIENT_STEP_COST = 3
"""Evaluations that one gradient step counts (forward and backward)."""


@dataclass(frozen=True)
class DescentRule:
    """How a step follows from an energy and its gradient.

    Attributes:
        momentum: mu.
        exponential: scale steps by exp(E / tau), larger where the energy is high; False: by 1.
        temperature: tau.
        cap: upper bound of E / tau in the exponential.
        normalise: divide each row's chunk by its root mean square before each step, as published (there over the whole
            batch). A chunk whose root mean square is not 1 is then no fixed point, and descent does not come to rest.
    """

    momentum: float = 0.9
    exponential: bool = True
    temperature: float = 9.0
    cap: float = 1.0
    normalise: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigError(f"descent.momentum is {self.momentum:g}, expected 0 or more and less than 1")
        if self.temperature <= 0.0:
            raise ConfigError(f"descent.temperature is {self.temperature:g}, expected more than 0")


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        actions, velocity: [R, Tp, D] after it.
        push: [R] root mean square of eta dU/dp, how far the gradient alone moved a row (normalised units).
    """

    actions: Tensor
    velocity: Tensor
    push: Tensor


def advance(
    energy: Callable[[Tensor], Tensor],
    actions: Tensor,
    velocity: Tensor,
    step_size: Tensor,
    rule: DescentRule,
    *,
    langevin: Tensor | float = 0.0,
    create_graph: bool = False,
) -> Step:
    """One step of every row; `energy` maps chunks [R, Tp, D] to [R], `step_size` is c alpha, a scalar or [R].

    `langevin` is added to the chunks first, after they were normalised. Neither `actions` nor `velocity` carries
    gradients into the result: with `create_graph` learning flows through this step's energy gradient and its size, and
    through nothing before.
    """
    actions, velocity = actions.detach(), velocity.detach()
    actions = (unit_rows(actions) if rule.normalise else actions) + langevin
    with torch.enable_grad():
        ahead = (actions + rule.momentum * velocity).requires_grad_()
        energies = energy(ahead)
        (mean_gradient,) = torch.autograd.grad(energies.sum(), ahead, create_graph=create_graph)
    gain = step_size.expand(len(actions)) * math.prod(actions.shape[1:])
    if rule.exponential:
        gain = gain * (energies / rule.temperature).clamp(max=rule.cap).exp()
    if not create_graph:
        gain = gain.detach()
    push = gain[:, None, None] * mean_gradient
    moved = rule.momentum * velocity - push
    return Step(actions + moved, moved, push.detach().square().mean(dim=(1, 2)).sqrt())


def unit_rows(actions: Tensor) -> Tensor:
    """Each row divided by the root mean square of its own chunk."""
    return actions / actions.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)


class Landscape(Protocol):
    """An energy bound to one encoded observation batch, and how to walk on it: what a `Denoiser` is to a policy that
    denoises."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, Tp, D."""

    @property
    def rule(self) -> DescentRule: ...

    @property
    def step_size(self) -> Tensor:
        """alpha, a scalar."""

    @property
    def cost(self) -> int:
        """Evaluations of one network on one row that one energy costs."""

    def energy(self, actions: Tensor, /, rows: Tensor) -> Tensor:
        """See `Energy`."""


@dataclass(frozen=True)
class LandscapeView:
    """What a `Landscape` that changes the energies of another one has of it."""

    landscape: Landscape

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.landscape.shape

    @property
    def rule(self) -> DescentRule:
        return self.landscape.rule

    @property
    def step_size(self) -> Tensor:
        return self.landscape.step_size

    @property
    def cost(self) -> int:
        return self.landscape.cost


@runtime_checkable
class EnergySampler(Protocol):
    """What walks downhill on a landscape; a policy tells it from other things with isinstance."""

    @property
    def max_steps(self) -> int:
        """Gradient steps of a row at most."""

    def __call__(self, landscape: Landscape, request: Request, /) -> Sampled: ...


@dataclass(frozen=True)
class Descent:
    """Inference: from pure noise until a row's step is small, each row on its own.

    Attributes:
        min_steps, max_steps: bounds of the steps of a row.
        tolerance: a row stops after a step in which the gradient moved it by at most this (root mean square over the
            chunk, normalised units).
        clip: bound of the final chunk in normalised space; None: no clipping.
    """

    min_steps: int = 2
    max_steps: int = 20
    tolerance: float = 0.01
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_steps <= self.max_steps:
            raise ConfigError(
                f"sampler.min_steps {self.min_steps} and max_steps {self.max_steps}: expected 1 or more, in this order"
            )

    def __str__(self) -> str:
        steps = f"{self.min_steps} to {self.max_steps} steps"
        return f"descent, {steps}, tolerance {self.tolerance:g}, {clip_name(self.clip)}"

    def __call__(self, landscape: Landscape, request: Request) -> Sampled:
        """`info` has the `steps` that each row took and the `energy` of its chunk."""
        return self.descend(landscape, request.noise.normal(1, landscape.shape[1:])[0])

    def descend(self, landscape: Landscape, start: Tensor) -> Sampled:
        """From `start` [B, Tp, D]. Every row is computed until the last one stops, and kept from its own last step on:
        what a row becomes does not depend, bit for bit, on when its neighbours stop. The final energies cost one more
        evaluation."""
        everything = torch.arange(len(start), device=start.device)
        actions, velocity = start, torch.zeros_like(start)
        steps = torch.zeros_like(everything)
        moving = torch.ones_like(everything, dtype=torch.bool)
        for taken in range(1, self.max_steps + 1):
            energy = partial(landscape.energy, rows=everything)
            step = advance(energy, actions, velocity, landscape.step_size, landscape.rule)
            actions = torch.where(moving[:, None, None], step.actions, actions)
            velocity, steps = step.velocity, steps + moving
            if taken >= self.min_steps:
                moving = moving & (step.push > self.tolerance)
            if not moving.any():
                break
        actions = actions if self.clip is None else actions.clamp(-self.clip, self.clip)
        with torch.no_grad():
            energies = landscape.energy(actions, everything)
        evaluations = (GRADIENT_STEP_COST * steps + 1) * landscape.cost
        return Sampled(actions, evaluations, {"steps": steps.float(), "energy": energies})


@dataclass(frozen=True)
class Unroll:
    """Training: a descent of a random number of steps with random step sizes and Langevin noise.

    Attributes:
        min_steps, max_steps: bounds of the uniformly random number of steps of a row.
        step_spread: k; each row's step size is multiplied by a number from [1/k, k], uniform, at each step.
        noise_high, noise_low: standard deviation of the noise before the first step and after the last one, with a
            cosine between (normalised units).
        truncate: only the last step learns; False: every step does, at several times the cost.
    """

    min_steps: int = 1
    max_steps: int = 4
    step_spread: float = 1.0
    noise_high: float = 0.0
    noise_low: float = 0.0
    truncate: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.min_steps <= self.max_steps:
            raise ConfigError(
                f"unroll.min_steps {self.min_steps} and max_steps {self.max_steps}: expected 1 or more, in this order"
            )
        if self.noise_low < 0.0 or self.noise_high < 0.0:
            raise ConfigError(
                f"unroll.noise_low is {self.noise_low:g}, noise_high {self.noise_high:g}: expected 0 or more"
            )
        if self.step_spread < 1.0:
            raise ConfigError(f"unroll.step_spread is {self.step_spread:g}, expected 1 or more")

    def __call__(
        self, energy: Energy, start: Tensor, goal: Tensor, step_size: Tensor, rule: DescentRule, noise: Noise
    ) -> Tensor:
        """Squared error to `goal` of the chunk after the last step (or the mean over the steps), [B].

        Rows with fewer steps begin later, so that the last step is the last for all of them. Under `torch.no_grad` the
        errors are the same and nothing is kept for a backward pass.
        """
        counts = self.min_steps + (noise.uniform(1)[0] * (self.max_steps - self.min_steps + 1)).long()
        spreads = self._spreads(noise.uniform(self.max_steps)).to(start.dtype)
        langevin = noise.normal(self.max_steps, start.shape[1:])
        actions, velocity, error = start.clone(), torch.zeros_like(start), torch.zeros_like(start[:, 0, 0])
        for index in range(self.max_steps):
            taken = index - (self.max_steps - counts)  # steps that a row has behind it; negative: not begun
            rows = (taken >= 0).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            learns = index == self.max_steps - 1 or not self.truncate
            step = advance(
                partial(energy, rows=rows),
                actions[rows],
                velocity[rows],
                step_size * spreads[index, rows],
                rule,
                langevin=self._deviations(taken[rows], counts[rows]) * langevin[index, rows],
                create_graph=learns and torch.is_grad_enabled(),
            )
            if learns:
                distance = (step.actions - goal[rows]).square().mean(dim=(1, 2))
                error = error.index_add(0, rows, distance if self.truncate else distance / counts[rows])
            actions[rows], velocity[rows] = step.actions.detach(), step.velocity.detach()
        return error

    def _spreads(self, uniform: Tensor) -> Tensor:
        low, high = 1.0 / self.step_spread, self.step_spread
        return low + (high - low) * uniform

    def _deviations(self, taken: Tensor, counts: Tensor) -> Tensor:
        """[R, 1, 1]: the noise of a row that has `taken` of its steps behind it."""
        falling = 0.5 * (1.0 + torch.cos(math.pi * taken / counts))
        return (self.noise_low + (self.noise_high - self.noise_low) * falling)[:, None, None]
