"""Mixtures of denoisers and of energies: GPC's convex composition of scores (arXiv 2510.01068, equation 6).

What n parents say is mixed as

    o = o_0 + sum_i w_i (o_i - o_0),    sum_i w_i = 1,

so that parents that agree are reproduced bit for bit, whatever the weights.

The score of such a mixture at a noise level is not the score of the noised product of the parents' densities: what is
sampled is neither their product nor their mean (docs/methods/composition.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robopolicy.denoise.descent import DescentRule, Landscape
from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Denoiser
from robopolicy.errors import ConfigError

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ComposedDenoiser:
    """A `robopolicy.denoise.sampler.Denoiser` that mixes several.

    Attributes:
        parents: on `path` each (see `robopolicy.denoise.rescale.on_path`), of the same rows and action. Their chunks
            may differ in length: the shape is the longest one's, and each sees as much of it as is its own.
        weights: one a parent, with sum 1; the steps that only some parents have are mixed with their shares.
        path: whose levels the sampler asks at.
    """

    parents: tuple[Denoiser, ...]
    weights: tuple[float, ...]
    path: NoisePath

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, _, size = self.parents[0].shape
        return rows, max(parent.shape[1] for parent in self.parents), size

    @property
    def cost(self) -> int:
        return sum(parent.cost for parent in self.parents)

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """Mixes outputs where all have one target, else clean actions.

        Both are exact: at one x, alpha and sigma every reading (eps, v, velocity, score) is an affine function of every
        other, with coefficients that all parents share, and weights of sum 1 pass through affine functions. Only where
        alpha is 0 an output eps says nothing of the clean action; a policy with that target and such a path does not
        exist (`GenerativePolicy`). Where alpha is small the division makes its errors large, before and after mixing
        alike, and the sampler's clipping bounds them.
        """
        predictions = self.predictions(x, t)
        first = predictions[0]
        if all((other.target, other.data_std) == (first.target, first.data_std) for other in predictions):
            return replace(first, x=x, output=mixed([each.output for each in predictions], self.weights))
        clean = mixed([each.clean for each in predictions], self.weights)
        return Prediction(x, clean, first.alpha, first.sigma, "clean")

    def predictions(self, x: Tensor, t: Tensor) -> list[Prediction]:
        """What each parent says of its part of x [B, Tp, D]."""
        return [parent(x[:, : parent.shape[1]], t) for parent in self.parents]


@dataclass(frozen=True)
class ComposedLandscape:
    """A `robopolicy.denoise.descent.Landscape` that mixes several of one shape: energy sum_i w_i E_i / g_i.

    Attributes:
        scales: g_i, what makes the parents' energies comparable.
        rule: the parents', but for its temperature.
        step_size: a scalar that suits the energy (see `step_size_of`).
    """

    parents: tuple[Landscape, ...]
    weights: tuple[float, ...]
    scales: tuple[float, ...]
    rule: DescentRule
    step_size: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.parents[0].shape

    @property
    def cost(self) -> int:
        return sum(parent.cost for parent in self.parents)

    def energy(self, actions: Tensor, rows: Tensor) -> Tensor:
        energies = [
            parent.energy(actions, rows) / scale for parent, scale in zip(self.parents, self.scales, strict=True)
        ]
        return _affine(energies, self.weights)


def step_size_of(step_sizes: Sequence[Tensor], scales: Sequence[float], weights: Sequence[float]) -> Tensor:
    """alpha for the energy sum_i w_i E_i / g_i, from the parents' alpha_i: 1 / sum_i (w_i / (alpha_i g_i)).

    A parent learns the step that leads to its minimum at once, the inverse of its curvature. Curvatures add with the
    weights of their energies, and dividing an energy by g_i divides its curvature by g_i.
    """
    return 1.0 / _affine([1.0 / (alpha * scale) for alpha, scale in zip(step_sizes, scales, strict=True)], weights)


def mixed(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """[B, longest, D] from [B, Tp, D] of each parent: every stretch of steps is mixed by those that reach over it."""
    pieces, start = [], 0
    for stop in sorted({value.shape[1] for value in values}):
        reaching = [index for index, value in enumerate(values) if value.shape[1] >= stop]
        total = math.fsum(weights[index] for index in reaching)
        shares = [weights[index] / total for index in reaching] if len(reaching) < len(values) else weights
        pieces.append(_affine([values[index][:, start:stop] for index in reaching], shares))
        start = stop
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def checked_weights(weights: Sequence[float], lengths: Sequence[int]) -> tuple[float, ...]:
    """Weights of parents with chunks of these lengths.

    Raises ConfigError unless there is one a parent, their sum is 1 (to 1e-6), and that of those with the longer chunks
    is not 0.
    """
    shown = "[" + ", ".join(f"{weight:g}" for weight in weights) + "]"
    if len(weights) != len(lengths):
        raise ConfigError(f"weights={shown} are {len(weights)}, expected one for each of the {len(lengths)} policies")
    total = math.fsum(weights)
    if not abs(total - 1.0) <= _TOLERANCE:
        raise ConfigError(f"weights={shown} have the sum {total:g}, expected 1: other sums are no composition")
    for length in set(lengths):
        reaching = math.fsum(weight for weight, own in zip(weights, lengths, strict=True) if own >= length)
        if abs(reaching) <= _TOLERANCE and any(
            weight for weight, own in zip(weights, lengths, strict=True) if own >= length
        ):
            raise ConfigError(
                f"weights={shown}: those of the policies that predict {length} actions cancel out, so nobody would "
                "decide the last ones: choose others"
            )
    return tuple(float(weight) for weight in weights)


def _affine(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """values[0] + sum_i weights[i] (values[i] - values[0]), for weights of sum 1."""
    first = values[0]
    result = first
    for value, weight in zip(values[1:], weights[1:], strict=True):
        result = result + weight * (value - first)
    return result
