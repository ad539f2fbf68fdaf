"""Real-time iteration: denoising that continues from the last answer instead of from noise (RTI-DP, arXiv 2508.05396).

A policy that is asked at every control step has nearly answered already: its last chunk, moved by one step, is close to
the next one. Rows that have such a guess start at a low noise level and take one evaluation for each of a few listed
levels; rows that have none are answered by another sampler. `WarmDescent` is the same for energies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from robopolicy.denoise.descent import Descent, EnergySampler, Landscape
from robopolicy.denoise.paths import NoisePath, VariancePreserving
from robopolicy.denoise.sampler import (
    Denoiser,
    Request,
    Sampled,
    Sampler,
    bound,
    checked_levels,
    clip_name,
    follow,
)
from robopolicy.denoise.tables import Table, TableFunction, ddim, ddpm, euler
from robopolicy.errors import ConfigError
from robopolicy.spec import ArraySpec

Spacing = Literal["consistent", "paper"]
Discrete = Literal["none", "clip", "scale"]

_TABLES: Mapping[str, TableFunction] = {"ddpm": ddpm, "ddim": ddim, "euler": euler}
_WARM = 1
"""The branch of a request's noise that warm rows draw from; cold rows draw what they would draw alone."""


@dataclass(frozen=True)
class RealTimeIteration:
    """A `robopolicy.denoise.sampler.Sampler` that starts from `Request.previous` in rows that are warm:

        x = alpha(t0) previous + sigma(t0) noise,    then the steps of the table of `levels` t0 > t1 > ... to 0.

    Rows that are not warm get the answer of `cold`, and neither draws numbers that the other would have drawn; a batch
    with both kinds is computed twice as a whole, so what a row becomes never depends on the others. A request's own
    levels are `cold`'s.

    Attributes:
        cold: answers rows without a guess, and is asked for `steps`.
        levels: where the network is asked, descending, in (0, 1].
        step: the table, `ddpm`, `ddim` or `euler`.
        renoise: False feeds the guess as it is, as published. The network at t0 expects alpha(t0) previous plus noise:
            it then sees a chunk that is too long by 1 / alpha(t0) (not on the exploding path, where alpha is 1) and
            cleaner than it was told, and takes it for noise that ended near its own mode.
        spacing: `consistent` steps from each level to the next listed one. `paper` steps from each to the next lower of
            the path's own levels, whatever is listed next, as a scheduler made for all levels does; only variance-
            preserving paths have such levels.
        clip: bound of the clean action in normalised space; None: no clipping.
        discrete: what happens to the action's discrete parts, which would otherwise keep the guess's value when they
            should flip. `clip`: the guess's become -1 / f or 1 / f, the answer's -1 or 1. `scale`, for a policy that
            was trained with `discrete_scale=f`: the answer's become -1 / f or 1 / f, which are the extremes there.
            Answers of cold rows too.
        discrete_scale: f.
        places: indices of the discrete elements of an action, which `for_actions` finds.
    """

    cold: Sampler
    levels: Sequence[float]
    step: str = "ddpm"
    renoise: bool = True
    spacing: Spacing = "consistent"
    clip: float | None = 1.0
    discrete: Discrete = "none"
    discrete_scale: float = 10.0
    places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_choice("step", self.step, tuple(_TABLES))
        _check_choice("spacing", self.spacing, get_args(Spacing))
        _check_choice("discrete", self.discrete, get_args(Discrete))
        if not isinstance(self.cold, Sampler):
            raise ConfigError(f"sampler.cold is '{self.cold}', expected a sampler that denoises, such as ddim")
        if not self.discrete_scale > 0.0:
            raise ConfigError(f"sampler.discrete_scale is {self.discrete_scale}, expected a positive number")
        if not isinstance(self.levels, Sequence):
            raise ConfigError(f"sampler.levels={self.levels} is no list, expected one such as [0.1,0.03]")
        try:
            checked_levels(self.levels)
        except ValueError as error:
            raise ConfigError(f"sampler.levels: {error}") from error

    def __str__(self) -> str:
        levels = " ".join(f"{level:g}" for level in self.levels)
        start = "re-noised" if self.renoise else "unnoised"
        ends = "" if self.discrete == "none" else f", discrete parts {self.discrete} {self.discrete_scale:g}"
        how = f"{start}, {self.spacing}, {clip_name(self.clip)}{ends}"
        return f"rti {self.step} at {levels}, {how}; first {self.cold}"

    @property
    def steps(self) -> int:
        return self.cold.steps

    def for_actions(self, spec: ArraySpec) -> RealTimeIteration:
        """The sampler that knows where the discrete parts are."""
        places = [place for part, place in spec.slices() if part.discrete]
        return replace(
            self, cold=bound(self.cold, spec), places=tuple(index for place in places for index in _indices(place))
        )

    def __call__(self, denoiser: Denoiser, request: Request) -> Sampled:
        """Raises ConfigError when the denoiser's path does not have the levels."""
        table = self._table(denoiser.path)  # in the first, cold call too: an error should not wait for the second
        if request.previous is None or request.warm is None or not request.warm.any():
            return self._settled(self.cold(denoiser, request))
        warm = self._continued(denoiser, table, request.previous, request)
        if not request.warm.all():
            warm = _chosen(request.warm, warm, self.cold(denoiser, request))
        return self._settled(warm)

    def _continued(self, denoiser: Denoiser, table: Table, previous: Tensor, request: Request) -> Sampled:
        levels, path = checked_levels(self.levels), denoiser.path
        noise = request.noise.branch(_WARM).normal(len(levels) + 1, tuple(denoiser.shape[1:]))
        start = self._with_discrete(previous, 1.0 / self.discrete_scale) if self.discrete == "clip" else previous
        if self.renoise:
            start = float(path.alpha(levels[0])) * start + float(path.sigma(levels[0])) * noise[0]
        return follow(denoiser, start, levels, table, noise[1:], self.clip)

    def _table(self, path: NoisePath) -> Table:
        levels = checked_levels(self.levels)
        sigmas = path.sigma(levels)
        if sigmas[-1] <= 0.0 or bool((sigmas.diff() >= 0.0).any()):
            raise ConfigError(
                f"sampler.levels {list(self.levels)} are not levels of this policy's noise path: its noise there is "
                f"{sigmas.tolist()}, which should fall and stay positive; sampler=rti is for diffusion, rti_flow for "
                "flow, rti_edm for EDM"
            )
        if self.spacing == "consistent":
            return _TABLES[self.step](path, levels)
        if not isinstance(path, VariancePreserving):
            raise ConfigError(
                f"sampler.spacing=paper steps to the next of a path's own levels, and a {type(path).__name__} has "
                "none: use sampler.spacing=consistent"
            )
        return _neighbouring(_TABLES[self.step], path, levels)

    def _settled(self, sampled: Sampled) -> Sampled:
        """The answer with its discrete parts at their extremes."""
        if self.discrete == "none":
            return sampled
        extreme = 1.0 if self.discrete == "clip" else 1.0 / self.discrete_scale
        return replace(sampled, normalised=self._with_discrete(sampled.normalised, extreme))

    def _with_discrete(self, actions: Tensor, extreme: float) -> Tensor:
        """`actions` [B, Tp, D] with every discrete element replaced by plus or minus `extreme`, by its sign."""
        result = actions.clone()
        places = list(self.places)
        result[..., places] = torch.where(actions[..., places] < 0.0, -extreme, extreme).to(actions.dtype)
        return result


@dataclass(frozen=True)
class WarmDescent:
    """A `robopolicy.denoise.descent.EnergySampler` that starts warm rows from the last answer,

        a = (1 - noise) previous + noise z,

    the mixture that energy policies are trained on (`policy.start=mixture`) with t = noise, and others as `cold` does.

    Attributes:
        cold: answers rows without a guess.
        warm: walks on from the others' start.
        noise: share of noise in that start; 0 starts at the guess itself.
    """

    cold: EnergySampler
    warm: Descent
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.cold, EnergySampler) or not isinstance(self.warm, Descent):
            raise ConfigError(f"sampler.cold '{self.cold}' and warm '{self.warm}': expected descents on an energy")
        if not 0.0 <= self.noise <= 1.0:
            raise ConfigError(f"sampler.noise is {self.noise:g}, expected 0 to 1")

    def __str__(self) -> str:
        return f"rti: {self.warm}, from the last chunk with {self.noise:g} noise; first {self.cold}"

    @property
    def max_steps(self) -> int:
        return max(self.cold.max_steps, self.warm.max_steps)

    def for_actions(self, spec: ArraySpec) -> WarmDescent:
        """Passed on to `cold`."""
        return replace(self, cold=bound(self.cold, spec))

    def __call__(self, landscape: Landscape, request: Request) -> Sampled:
        """`info` is that of the descent which answered a row."""
        if request.previous is None or request.warm is None or not request.warm.any():
            return self.cold(landscape, request)
        noise = request.noise.branch(_WARM).normal(1, tuple(landscape.shape[1:]))[0]
        warm = self.warm.descend(landscape, (1.0 - self.noise) * request.previous + self.noise * noise)
        if request.warm.all():
            return warm
        return _chosen(request.warm, warm, self.cold(landscape, request))


def _chosen(rows: Tensor, yes: Sampled, no: Sampled) -> Sampled:
    """`yes` in the `rows` [B] that are true. Facts that only one of the two knows are NaN in the other's rows."""
    unknown = torch.full_like(yes.evaluations, torch.nan, dtype=torch.float32)
    names = dict.fromkeys([*yes.info, *no.info])
    return Sampled(
        torch.where(rows[:, None, None], yes.normalised, no.normalised),
        torch.where(rows, yes.evaluations, no.evaluations),
        {name: torch.where(rows, yes.info.get(name, unknown), no.info.get(name, unknown)) for name in names},
    )


def _neighbouring(table: TableFunction, path: VariancePreserving, levels: Tensor) -> Table:
    """The table in which each level steps to the path's next lower one."""
    steps = (levels.double() * path.steps).round()
    rows = [table(path, torch.stack([step, step - 1])[: int(step > 1) + 1] / path.steps) for step in steps]
    return Table(**{name: torch.stack([getattr(row, name)[0] for row in rows]) for name in vars(rows[0])})


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"sampler.{name} is '{value}', expected one of {', '.join(choices)}")


def _indices(place: slice) -> range:
    return range(place.start, place.stop)
