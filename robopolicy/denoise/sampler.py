"""Samplers: from noise to clean actions by asking a denoiser at descending noise levels.

Their coefficients come from `robopolicy.denoise.tables`, so the loops have no arithmetic of their own. Noise is drawn
before the loop; clipping of the clean action happens here, after whatever wraps the denoiser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from robopolicy.denoise.noise import Noise
from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.tables import Correction, Table, TableFunction, ddim, ddpm, dpmpp, euler, heun
from robopolicy.errors import ConfigError
from robopolicy.spec import ArraySpec


class Denoiser(Protocol):
    """One encoded observation batch, bound to a network. Callable with gradients enabled."""

    @property
    def path(self) -> NoisePath: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, Tp, D."""

    @property
    def cost(self) -> int:
        """Evaluations of one network on one row that one call costs."""

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """x [B, Tp, D], t [B] or a scalar."""


@dataclass(frozen=True)
class Request:
    """What a caller wants of one sampling call.

    Attributes:
        noise: streams of the batch's rows.
        levels: explicit, descending, in (0, 1]; None: the sampler's own.
        previous: [B, Tp, D] normalised, what the last call answered, moved to now: index 0 is now's action. None: there
            was no call, or nobody kept its answer.
        warm: [B] bool, the rows whose `previous` is one; the others hold anything finite. None without `previous`.
        known: [B] how many leading actions of `previous` the last call answered; those after repeat the last of them.
            None: all.
    """

    noise: Noise
    levels: Sequence[float] | None = None
    previous: Tensor | None = None
    warm: Tensor | None = None
    known: Tensor | None = None


@dataclass(frozen=True)
class Sampled:
    """Actions in normalised space [B, Tp, D] and what they cost: `evaluations` [B] counts forwards of one network on
    one row. `info` holds further [B] values for the record."""

    normalised: Tensor
    evaluations: Tensor
    info: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Sampler(Protocol):
    """What turns noise into actions with a denoiser; a policy tells it from other things with isinstance."""

    @property
    def steps(self) -> int:
        """Levels that it asks at when a request names none."""

    def __call__(self, denoiser: Denoiser, request: Request, /) -> Sampled: ...


SamplerKind = TypeVar("SamplerKind")
BoundKind = TypeVar("BoundKind", covariant=True)


@runtime_checkable
class ActionAware(Protocol[BoundKind]):
    """A sampler that treats some parts of the action in a way of their own, and finds them by name."""

    def for_actions(self, spec: ArraySpec) -> BoundKind:
        """The sampler for this action; a policy asks for it when it is given the sampler. Raises ConfigError."""


def bound(sampler: SamplerKind, spec: ArraySpec) -> SamplerKind:
    """`sampler` for this action, where it cares: what wrappers do with the sampler inside. Raises ConfigError."""
    return sampler.for_actions(spec) if isinstance(sampler, ActionAware) else sampler


@dataclass(frozen=True)
class DenoiserView:
    """What a `Denoiser` that changes the answers of another one has of it."""

    denoiser: Denoiser

    @property
    def path(self) -> NoisePath:
        return self.denoiser.path

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.denoiser.shape

    @property
    def cost(self) -> int:
        return self.denoiser.cost


class TableSampler:
    """Runs a coefficient table, one evaluation a level.

    Args:
        table: `ddpm` or another function of `robopolicy.denoise.tables`.
        steps: evaluations when a request names no levels.
        clip: bound of the clean action in normalised space; None: no clipping.
    """

    def __init__(self, table: TableFunction, steps: int, clip: float | None = 1.0) -> None:
        self._table = table
        self.steps = steps
        self.clip = clip

    def __str__(self) -> str:
        return f"{self._table.__name__}, {self.steps} steps, {clip_name(self.clip)}"

    def __call__(self, denoiser: Denoiser, request: Request) -> Sampled:
        path, (_, *shape) = denoiser.path, denoiser.shape
        levels = asked_levels(path, self.steps, request)
        noise = request.noise.normal(len(levels) + 1, tuple(shape))
        start = float(path.sigma(levels[0])) * noise[0]
        return follow(denoiser, start, levels, self._table(path, levels), noise[1:], self.clip)


def follow(
    denoiser: Denoiser, start: Tensor, levels: Tensor, table: Table, noise: Tensor, clip: float | None
) -> Sampled:
    """Runs the `table` of `levels` [n] from `start` [B, Tp, D], which is what x is at the first level.

    `noise` [n, B, Tp, D] is what the rows of the table add.
    """
    x, previous = start, torch.zeros_like(start)
    told = levels.to(x.device)
    for index, (x_gain, clean_gain, previous_gain, noise_gain) in enumerate(_rows(table)):
        clean = _clipped(denoiser(x, told[index]).clean, clip)
        terms = ((x_gain, x), (clean_gain, clean), (previous_gain, previous), (noise_gain, noise[index]))
        x, previous = _combined(*terms), clean
    return Sampled(x, torch.full((len(x),), len(levels) * denoiser.cost, device=x.device))


class HeunSampler:
    """Second-order steps: Euler's, then again along the mean of the velocities at both ends.

    Args:
        steps: when a request names no levels; all but the last cost two evaluations, 2 steps - 1 in all.
        clip: bound of the clean action in normalised space; None: no clipping.
    """

    def __init__(self, steps: int, clip: float | None = 1.0) -> None:
        self.steps = steps
        self.clip = clip

    def __str__(self) -> str:
        return f"heun, {self.steps} steps, {clip_name(self.clip)}"

    def __call__(self, denoiser: Denoiser, request: Request) -> Sampled:
        path, (rows, *shape) = denoiser.path, denoiser.shape
        levels = asked_levels(path, self.steps, request)
        straight, corrections = _rows(euler(path, levels)), _rows(heun(path, levels))
        x = float(path.sigma(levels[0])) * request.noise.normal(1, tuple(shape))[0]
        levels = levels.to(x.device)
        for index, (x_gain, clean_gain, *_) in enumerate(straight):
            clean = _clipped(denoiser(x, levels[index]).clean, self.clip)
            ahead = _combined((x_gain, x), (clean_gain, clean))
            if index < len(corrections):
                x_gain, euler_gain, clean_gain = corrections[index]
                clean = _clipped(denoiser(ahead, levels[index + 1]).clean, self.clip)
                ahead = _combined((x_gain, x), (euler_gain, ahead), (clean_gain, clean))
            x = ahead
        evaluations = len(straight) + len(corrections)
        return Sampled(x, torch.full((rows,), evaluations * denoiser.cost, device=x.device))


_TABLES: Mapping[str, TableFunction] = {"ddpm": ddpm, "ddim": ddim, "euler": euler, "dpmpp": dpmpp}


def make_sampler(name: str, steps: int, clip: float | None = 1.0) -> TableSampler | HeunSampler:
    """The sampler that a configuration names."""
    if name == "heun":
        return HeunSampler(steps, clip)
    if name not in _TABLES:
        raise ConfigError(f"sampler.name is '{name}', expected one of {', '.join(_TABLES)}, heun")
    return TableSampler(_TABLES[name], steps, clip)


def asked_levels(path: NoisePath, steps: int, request: Request) -> Tensor:
    """[n], those of the request, else the path's own for so many steps. Raises as `checked_levels` does."""
    return checked_levels(path.levels(steps) if request.levels is None else request.levels)


def checked_levels(levels: Tensor | Sequence[float]) -> Tensor:
    """[n] float32. Raises ValueError unless they descend and lie in (0, 1]."""
    levels = torch.as_tensor(levels, dtype=torch.float32)
    if len(levels) == 0 or bool((levels.diff() >= 0).any()):
        raise ValueError(f"sampling levels must descend, found {levels.tolist()}")
    if levels[0] > 1 or levels[-1] <= 0:
        raise ValueError(f"sampling levels must lie in (0, 1], found {levels.tolist()}")
    return levels


def _rows(table: Table | Correction) -> list[list[float]]:
    """One list of coefficients a step."""
    rows: list[list[float]] = torch.stack(list(vars(table).values()), dim=1).tolist()
    return rows


def _combined(*terms: tuple[float, Tensor]) -> Tensor:
    """The sum of gain times tensor, without the terms whose gain is zero."""
    (gain, value), *others = terms
    result = gain * value
    for gain, value in others:
        if gain:
            result = result + gain * value
    return result


def _clipped(clean: Tensor, clip: float | None) -> Tensor:
    return clean if clip is None else clean.clamp(-clip, clip)


def clip_name(clip: float | None) -> str:
    """In two words, for reports."""
    return "no clipping" if clip is None else f"clip {clip:g}"
