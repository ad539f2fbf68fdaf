"""Samplers that ask the network once a level: each is a table of coefficients, one row a level,

    x' = A x + B clean + C clean_previous + D noise,

computed once for a list of levels, so the loop itself has no arithmetic of its own. Noise is drawn before the loop;
clipping of the clean action happens here, after whatever wraps the denoiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from robopolicy.denoise.noise import Noise
from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.prediction import Prediction
from robopolicy.errors import ConfigError


class Denoiser(Protocol):
    """One encoded observation batch, bound to a network. Callable with gradients enabled."""

    @property
    def path(self) -> NoisePath: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, Tp, D."""

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """x [B, Tp, D], t [B] or a scalar."""


@dataclass(frozen=True)
class Request:
    """What a caller wants of one sampling call.

    Attributes:
        noise: streams of the batch's rows.
        levels: explicit and descending; None: the sampler's own.
    """

    noise: Noise
    levels: Sequence[float] | None = None


@dataclass(frozen=True)
class Sampled:
    """Actions in normalised space [B, Tp, D] and what they cost: `evaluations` [B] counts forwards of one network on
    one row. `info` holds further [B] values for the record."""

    normalised: Tensor
    evaluations: Tensor
    info: Mapping[str, Tensor] = field(default_factory=dict)


Sampler = Callable[[Denoiser, Request], Sampled]


@dataclass(frozen=True)
class Table:
    """Coefficients of one level list, [n] each: what the new x takes of x, clean, the previous clean and the noise."""

    x_gain: Tensor
    clean_gain: Tensor
    previous_gain: Tensor
    noise_gain: Tensor


class TableFunction(Protocol):
    """Makes the table of a path for descending levels [n]."""

    __name__: str

    def __call__(self, path: NoisePath, levels: Tensor, /) -> Table: ...


class TableSampler:
    """Runs a coefficient table.

    Args:
        table: `ddpm` or `ddim` of this module, or another function of a path and descending levels [n].
        steps: evaluations when a request names no levels.
        clip: bound of the clean action in normalised space; None: no clipping.
    """

    def __init__(self, table: TableFunction, steps: int, clip: float | None = 1.0) -> None:
        self._table = table
        self.steps = steps
        self.clip = clip

    def __str__(self) -> str:
        clip = "no clipping" if self.clip is None else f"clip {self.clip:g}"
        return f"{self._table.__name__}, {self.steps} steps, {clip}"

    def __call__(self, denoiser: Denoiser, request: Request) -> Sampled:
        path, (rows, *shape) = denoiser.path, denoiser.shape
        levels = path.levels(self.steps) if request.levels is None else torch.tensor(request.levels)
        if len(levels) == 0 or bool((levels.diff() >= 0).any()):
            raise ValueError(f"sampling levels must descend, found {levels.tolist()}")
        table = self._table(path, levels)
        noise = request.noise.normal(len(levels) + 1, tuple(shape))
        x = float(path.sigma(levels[0])) * noise[0]
        previous = torch.zeros_like(x)
        levels = levels.to(x.device)
        for index, gains in enumerate(_rows(table)):
            clean = denoiser(x, levels[index]).clean
            clean = clean if self.clip is None else clean.clamp(-self.clip, self.clip)
            x, previous = _step(x, clean, previous, noise[index + 1], gains), clean
        return Sampled(x, torch.full((rows,), len(levels), device=x.device))


def ddpm(path: NoisePath, levels: Tensor) -> Table:
    """The ancestral step from t to s: mean and variance of q(x_s | x_t, clean) (Ho et al., arXiv 2006.11239, eq. 7).

    Levels may skip: the posterior is that of the two levels at hand. On neighbouring levels it is the `fixed_small`
    variance of DDPM.
    """
    alpha, sigma, next_alpha, next_sigma = _ends(path, levels)
    ratio = alpha / next_alpha
    step_variance = sigma**2 - ratio**2 * next_sigma**2
    zeros = torch.zeros_like(alpha)
    return Table(
        x_gain=ratio * next_sigma**2 / sigma**2,
        clean_gain=next_alpha * step_variance / sigma**2,
        previous_gain=zeros,
        noise_gain=(step_variance / sigma**2).sqrt() * next_sigma,
    )


def ddim(path: NoisePath, levels: Tensor) -> Table:
    """The deterministic step (Song et al., arXiv 2010.02502, eq. 12, eta 0); eps follows the clipped clean action."""
    alpha, sigma, next_alpha, next_sigma = _ends(path, levels)
    x_gain = next_sigma / sigma
    zeros = torch.zeros_like(alpha)
    return Table(x_gain=x_gain, clean_gain=next_alpha - x_gain * alpha, previous_gain=zeros, noise_gain=zeros)


_TABLES: Mapping[str, TableFunction] = {"ddpm": ddpm, "ddim": ddim}


def make_sampler(name: str, steps: int, clip: float | None = 1.0) -> TableSampler:
    """The sampler that a configuration names."""
    if name not in _TABLES:
        raise ConfigError(f"sampler.name is '{name}', expected one of {', '.join(_TABLES)}")
    return TableSampler(_TABLES[name], steps, clip)


def _ends(path: NoisePath, levels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """alpha and sigma at the levels [n] and at the level each of them steps to, in double precision."""
    times = levels.double()
    following = torch.cat([times[1:], torch.zeros(1, dtype=torch.float64)])
    return path.alpha(times), path.sigma(times), path.alpha(following), path.sigma(following)


def _rows(table: Table) -> list[tuple[float, float, float, float]]:
    columns = (table.x_gain, table.clean_gain, table.previous_gain, table.noise_gain)
    return [(row[0], row[1], row[2], row[3]) for row in torch.stack(columns, dim=1).tolist()]


def _step(
    x: Tensor, clean: Tensor, previous: Tensor, noise: Tensor, gains: tuple[float, float, float, float]
) -> Tensor:
    x_gain, clean_gain, previous_gain, noise_gain = gains
    result = x_gain * x + clean_gain * clean
    if previous_gain:
        result = result + previous_gain * previous
    if noise_gain:
        result = result + noise_gain * noise
    return result
