"""Policies made of trained ones by mixing what they say at every denoising step (GPC, arXiv 2510.01068).

The parents may see other streams, have other networks, targets, observation steps and horizons, and denoise on other
noise paths; they share the action and its normalisation. docs/methods/composition.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from robopolicy.denoise.descent import EnergySampler, Landscape
from robopolicy.denoise.rescale import on_path, same_path
from robopolicy.denoise.sampler import Denoiser, Request, Sampled, Sampler
from robopolicy.errors import ConfigError
from robopolicy.inference.agreement import common_path, common_spec
from robopolicy.inference.mixture import ComposedDenoiser, ComposedLandscape, checked_weights, step_size_of
from robopolicy.policies.energy import EnergyPolicy
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.policies.policy import Encoded, Horizon, LearnedPolicy, PolicyModule
from robopolicy.policies.samplers import denoising_sampler, energy_sampler

Parent = TypeVar("Parent", bound=LearnedPolicy)


@dataclass(frozen=True)
class ComposedCode:
    """What each parent made of an observation batch."""

    codes: tuple[Encoded, ...]

    def __len__(self) -> int:
        return len(self.codes[0])

    def repeat(self, count: int) -> ComposedCode:
        """Each row `count` times in a row, for candidates."""
        return ComposedCode(tuple(code.repeat(count) for code in self.codes))

    def rows(self, index: Tensor) -> ComposedCode:
        return ComposedCode(tuple(code.rows(index) for code in self.codes))


class Composition(PolicyModule, Generic[Parent]):
    """What composed policies share: parents that agree, their streams, and the horizon that serves all of them.

    Parents must agree whatever their weights. One whose weight is exactly 0 is then left out, with its streams, horizon
    and cost; of the others To is the longest, Tp the longest and Ta the shortest.
    """

    def __init__(
        self,
        parents: Sequence[Parent],
        weights: Sequence[float],
        names: Sequence[str] | None = None,
        execution: int | None = None,
    ) -> None:
        """Raises ConfigError for weights that do not sum to 1 and for parents that cannot be composed."""
        super().__init__()
        checked = checked_weights(weights, [parent.horizon.prediction for parent in parents])
        called = [f"policy {number}" for number in range(len(parents))] if names is None else list(names)
        common_spec(parents, called)
        used = [index for index, weight in enumerate(checked) if weight != 0.0]
        self.parents = tuple(parents[index] for index in used)
        self.weights = tuple(checked[index] for index in used)
        self.names = tuple(called[index] for index in used)
        self.members = nn.ModuleList(self.parents)
        self.spec = common_spec(self.parents, self.names)
        self.horizon = _common_horizon([parent.horizon for parent in self.parents], execution)

    def encode(self, observation: Mapping[str, Tensor]) -> ComposedCode:
        """Each parent once, from its own streams and its own last To steps of them."""
        return ComposedCode(tuple(parent.encode(_seen_by(parent, observation)) for parent in self.parents))

    def normalise(self, actions: Tensor) -> Tensor:
        return self.parents[0].normalise(actions)

    def unnormalise(self, actions: Tensor) -> Tensor:
        return self.parents[0].unnormalise(actions)


class ComposedPolicy(Composition[GenerativePolicy]):
    """Denoising policies, mixed at every level on one noise path.

    Args:
        parents: at least one.
        weights: one a parent, with sum 1; negative ones extrapolate.
        names: of the parents, for people.
        sampler: used by `sample`; None: that of the first parent that was trained on the common path.
        execution: Ta; None: the shortest of the parents'.
    """

    def __init__(
        self,
        parents: Sequence[GenerativePolicy],
        weights: Sequence[float],
        names: Sequence[str] | None = None,
        sampler: Sampler | None = None,
        execution: int | None = None,
    ) -> None:
        super().__init__(parents, weights, names, execution)
        self.path = common_path([parent.path for parent in self.parents], self.names)
        leading = next(parent for parent in self.parents if same_path(parent.path, self.path))
        self.sampler = leading.sampler if sampler is None else sampler  # through the property, which checks it

    @property
    def sampler(self) -> Sampler:
        """What `sample` runs; may be replaced. Raises ConfigError as that of a `GenerativePolicy` does."""
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: Sampler) -> None:
        self._sampler = denoising_sampler(sampler, self.path, self.spec.action)

    def denoiser(self, encoded: ComposedCode) -> Denoiser:
        """The mixture, bound to an encoded observation batch; one parent that is left has its own."""
        denoisers = [parent.denoiser(code) for parent, code in zip(self.parents, encoded.codes, strict=True)]
        if len(denoisers) == 1:
            return denoisers[0]
        return ComposedDenoiser(tuple(on_path(each, self.path) for each in denoisers), self.weights, self.path)

    def sample(self, encoded: ComposedCode, request: Request) -> Sampled:
        return self.sampler(self.denoiser(encoded), request)


class ComposedEnergyPolicy(Composition[EnergyPolicy]):
    """Energy policies: descent on sum_i w_i E_i / g_i.

    g_i is the size of parent i's gradient at demonstrated actions (`gradient_size`), so that the weights mean the same
    for energies that were learned in other units. The step follows from the parents' learned ones (`step_size_of`); the
    rule's temperature is divided as the energies are. Parents must have one rule and one horizon.

    Args:
        weights: one a parent, 0 or more, with sum 1: a negative energy has no bottom.
        scales: g_i, one a parent.
        sampler: used by `sample`; None: the first parent's.
    """

    def __init__(
        self,
        parents: Sequence[EnergyPolicy],
        weights: Sequence[float],
        scales: Sequence[float],
        names: Sequence[str] | None = None,
        sampler: EnergySampler | None = None,
        execution: int | None = None,
    ) -> None:
        super().__init__(parents, weights, names, execution)
        _check_energies(self, weights, scales, len(parents))
        self.scales = tuple(float(g) for g, weight in zip(scales, weights, strict=True) if weight != 0.0)
        self.sampler = self.parents[0].sampler if sampler is None else sampler

    @property
    def sampler(self) -> EnergySampler:
        """What `sample` runs; may be replaced. Raises ConfigError for anything that does not walk downhill."""
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: EnergySampler) -> None:
        self._sampler = energy_sampler(sampler, self.spec.action)

    def landscape(self, encoded: ComposedCode) -> Landscape:
        """The mixture, bound to an encoded observation batch; one parent that is left has its own."""
        parents = tuple(parent.landscape(code) for parent, code in zip(self.parents, encoded.codes, strict=True))
        if len(parents) == 1:
            return parents[0]
        step_size = step_size_of([parent.step_size for parent in parents], self.scales, self.weights)
        inverse = sum(weight / scale for weight, scale in zip(self.weights, self.scales, strict=True))
        rule = replace(parents[0].rule, temperature=parents[0].rule.temperature * inverse)
        return ComposedLandscape(parents, self.weights, self.scales, rule, step_size)

    def sample(self, encoded: ComposedCode, request: Request) -> Sampled:
        return self.sampler(self.landscape(encoded), request)


def compose(
    parents: Sequence[PolicyModule],
    weights: Sequence[float],
    *,
    names: Sequence[str] | None = None,
    sampler: Any = None,
    execution: int | None = None,
    scales: Sequence[float] | None = None,
) -> ComposedPolicy | ComposedEnergyPolicy:
    """The composition of trained policies of one kind; `scales` belong to energies. Raises ConfigError."""
    if not parents:
        raise ConfigError("there is nothing to compose: name at least one trained policy")
    energies = [parent for parent in parents if isinstance(parent, EnergyPolicy)]
    denoising = [parent for parent in parents if isinstance(parent, GenerativePolicy)]
    if len(denoising) == len(parents):
        return ComposedPolicy(denoising, weights, names, sampler, execution)
    if len(energies) == len(parents) and scales is not None:
        return ComposedEnergyPolicy(energies, weights, scales, names, sampler, execution)
    kinds = ", ".join(type(parent).__name__ for parent in parents)
    raise ConfigError(
        f"these cannot be composed: {kinds}; expected policies that all denoise, or energy policies only (name the "
        "parents of a composed one instead)"
    )


def gradient_size(policy: EnergyPolicy, observation: Mapping[str, Tensor], actions: Tensor) -> float:
    """Root mean square of dU/da, U = Tp D E, over demonstrated chunks [B, Tp, D] (physical units), per element.

    `observation` is {name: [B, To, ...]} with at least the policy's streams and steps.
    """
    with torch.no_grad():
        landscape = policy.landscape(policy.encode(_seen_by(policy, observation)))
    chunks = policy.normalise(actions).detach().requires_grad_()
    energies = landscape.energy(chunks, torch.arange(len(chunks), device=chunks.device))
    (gradient,) = torch.autograd.grad(energies.sum() * chunks[0].numel(), chunks)
    return float(gradient.square().mean().sqrt())


def _seen_by(policy: PolicyModule, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The policy's streams, and of each the last To steps; a stream that is missing is the policy's own error."""
    steps = policy.horizon.observation_steps
    return {name: observation[name][:, -steps:] for name in policy.spec.observations if name in observation}


def _common_horizon(horizons: Sequence[Horizon], execution: int | None) -> Horizon:
    return Horizon(
        observation_steps=max(horizon.observation_steps for horizon in horizons),
        prediction=max(horizon.prediction for horizon in horizons),
        execution=min(horizon.execution for horizon in horizons) if execution is None else execution,
    )


def _check_energies(
    policy: Composition[EnergyPolicy], weights: Sequence[float], scales: Sequence[float], count: int
) -> None:
    if min(weights) < 0.0:
        raise ConfigError(f"weights={list(weights)} of energies, expected 0 or more: a negative energy has no bottom")
    if len(scales) != count or not all(scale > 0.0 for scale in scales):
        raise ConfigError(f"scales={list(scales)} of {count} energies, expected a positive number for each")
    for parent, name in zip(policy.parents[1:], policy.names[1:], strict=True):
        for what in ("rule", "horizon"):
            mine, others = getattr(policy.parents[0], what), getattr(parent, what)
            if mine != others:
                raise ConfigError(
                    f"'{name}' cannot be composed with '{policy.names[0]}': its {what} is {others}, expected {mine}: "
                    "energies are added for one chunk and descended by one rule"
                )
