"""Inpainting: chunks whose first actions are those of the last chunk, exactly.

Where real-time chunking (`robopolicy.inference.continuation`) pulls towards the last chunk and reaches it more or less,
this writes it in. At every level the first actions of x are those of the last chunk with noise of that level,

    x = alpha previous + sigma eps    (one eps a call),

so the network completes a chunk that begins this way, and their clean reading is `previous` itself. Energy policies
keep them fixed while they descend. What follows the prefix is the network's guess, which nothing ties to it but what
the network has learned; a new observation that contradicts the prefix shows as a jump behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robopolicy.denoise.descent import EnergySampler, Landscape, LandscapeView
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Denoiser, DenoiserView, Request, Sampled, Sampler, bound
from robopolicy.errors import ConfigError
from robopolicy.spec import ArraySpec

_PREFIX_NOISE = 0x696E_7061
"""Of the noise branch for eps: no number that a sampler inside would choose."""


@dataclass(frozen=True)
class Inpaint:
    """A `robopolicy.denoise.sampler.Sampler`: in warm rows the first `frozen` actions are those of `Request.previous`
    (as many of them as are known), bit for bit, whatever the sampler's clipping. The other rows are sampled as without
    it, bit for bit."""

    sampler: Sampler
    frozen: int

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, Sampler):
            raise ConfigError(f"inpaint cannot use '{self.sampler}', which does not denoise: see inpaint_ebt")
        _check_frozen(self.frozen)

    def __str__(self) -> str:
        return f"inpaint (first {self.frozen} actions) in {self.sampler}"

    @property
    def steps(self) -> int:
        return self.sampler.steps

    def for_actions(self, spec: ArraySpec) -> Inpaint:
        return replace(self, sampler=bound(self.sampler, spec))

    def __call__(self, denoiser: Denoiser, request: Request) -> Sampled:
        if (prefix := _prefix(denoiser.shape, request, self.frozen)) is None:
            return self.sampler(denoiser, request)
        eps = request.noise.branch(_PREFIX_NOISE).normal(1, denoiser.shape[1:])[0]
        sampled = self.sampler(InpaintedDenoiser(denoiser, prefix, eps), request)
        return replace(sampled, normalised=prefix.into(sampled.normalised))


@dataclass(frozen=True)
class InpaintDescent:
    """The same for energies, an `robopolicy.denoise.descent.EnergySampler`: the prefix stands still in the descent."""

    sampler: EnergySampler
    frozen: int

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, EnergySampler):
            raise ConfigError(f"inpaint_ebt needs a descent inside, not '{self.sampler}': see inpaint")
        _check_frozen(self.frozen)

    def __str__(self) -> str:
        return f"inpaint (first {self.frozen} actions) in {self.sampler}"

    @property
    def max_steps(self) -> int:
        return self.sampler.max_steps

    def for_actions(self, spec: ArraySpec) -> InpaintDescent:
        return replace(self, sampler=bound(self.sampler, spec))

    def __call__(self, landscape: Landscape, request: Request) -> Sampled:
        if (prefix := _prefix(landscape.shape, request, self.frozen)) is None:
            return self.sampler(landscape, request)
        sampled = self.sampler(InpaintedLandscape(landscape, prefix), request)
        return replace(sampled, normalised=prefix.into(sampled.normalised))


@dataclass(frozen=True)
class Prefix:
    """What is fixed: the elements of `previous` [B, Tp, D] (normalised) where `fixed` [B, Tp, 1] is true."""

    previous: Tensor
    fixed: Tensor

    def into(self, actions: Tensor) -> Tensor:
        """`actions` with it written in."""
        return torch.where(self.fixed, self.previous, actions)

    def of_rows(self, rows: Tensor) -> Prefix:
        return Prefix(self.previous[rows], self.fixed[rows])


@dataclass(frozen=True)
class InpaintedDenoiser(DenoiserView):
    """A `robopolicy.denoise.sampler.Denoiser` that sees the `prefix` noised with `eps` [B, Tp, D], and says so."""

    prefix: Prefix
    eps: Tensor

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        level = t.expand(len(x))[:, None, None].to(x)
        noised = self.path.alpha(level) * self.prefix.previous + self.path.sigma(level) * self.eps
        prediction = self.denoiser(torch.where(self.prefix.fixed, noised, x), t)
        return replace(prediction, output=self.prefix.into(prediction.clean), target="clean")


@dataclass(frozen=True)
class InpaintedLandscape(LandscapeView):
    """A `robopolicy.denoise.descent.Landscape` that is flat along the `prefix` and sees it at its place."""

    prefix: Prefix

    def energy(self, actions: Tensor, rows: Tensor) -> Tensor:
        return self.landscape.energy(self.prefix.of_rows(rows).into(actions), rows)


def _prefix(shape: tuple[int, int, int], request: Request, frozen: int) -> Prefix | None:
    """None where no row has one. Raises ConfigError when chunks of `shape` are shorter."""
    if frozen > shape[1]:
        raise ConfigError(f"sampler.frozen is {frozen}, but chunks have {shape[1]} actions: expected at most that")
    if request.previous is None or request.warm is None or frozen == 0 or not bool(request.warm.any()):
        return None
    said = torch.full_like(request.warm, shape[1], dtype=torch.long) if request.known is None else request.known
    early = torch.arange(shape[1], device=request.warm.device) < said.clamp(max=frozen)[:, None]
    return Prefix(request.previous, (request.warm[:, None] & early)[:, :, None])


def _check_frozen(frozen: int) -> None:
    if frozen < 0:
        raise ConfigError(f"sampler.frozen is {frozen}, expected 0 or more")
