"""Coefficients of the samplers, computed in double precision once for a list of descending levels.

A sampler that asks the network once a level is a table, one row a level:

    x' = x_gain x + clean_gain clean + previous_gain clean_previous + noise_gain noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from robopolicy.denoise.paths import NoisePath


@dataclass(frozen=True)
class Table:
    """Coefficients of one level list, [n] each: what the new x takes of x, clean, the previous clean and the noise."""

    x_gain: Tensor
    clean_gain: Tensor
    previous_gain: Tensor
    noise_gain: Tensor


class TableFunction(Protocol):
    """Makes the table of a path for descending levels [n]; the last row steps to t = 0."""

    __name__: str

    def __call__(self, path: NoisePath, levels: Tensor, /) -> Table: ...


def ddpm(path: NoisePath, levels: Tensor) -> Table:
    """The ancestral step from t to s: mean and variance of q(x_s | x_t, clean) (Ho et al., arXiv 2006.11239, eq. 7).

    Levels may skip: the posterior is that of the two levels at hand. On neighbouring levels it is the `fixed_small`
    variance of DDPM.
    """
    alpha, sigma, next_alpha, next_sigma = _ends(path, levels)
    ratio = alpha / next_alpha
    step_variance = sigma**2 - ratio**2 * next_sigma**2
    return Table(
        x_gain=ratio * next_sigma**2 / sigma**2,
        clean_gain=next_alpha * step_variance / sigma**2,
        previous_gain=torch.zeros_like(alpha),
        noise_gain=(step_variance / sigma**2).sqrt() * next_sigma,
    )


def ddim(path: NoisePath, levels: Tensor) -> Table:
    """The deterministic step (Song et al., arXiv 2010.02502, eq. 12, eta 0); eps follows the clipped clean action."""
    alpha, sigma, next_alpha, next_sigma = _ends(path, levels)
    x_gain = next_sigma / sigma
    return _deterministic(x_gain, next_alpha - x_gain * alpha)


def euler(path: NoisePath, levels: Tensor) -> Table:
    """The straight step along the velocity of x / scale in the path's clock u = sigma / scale:

        x' / scale' = x / scale + (u' - u) eps + (alpha' / scale' - alpha / scale) clean.

    On the linear path it is x' = x + (t' - t) (eps - clean). Algebraically it is DDIM's step on every path.
    """
    alpha, sigma, next_alpha, next_sigma = _ends(path, levels)
    scale, next_scale = _scales(path, levels)
    step, drift = next_sigma / next_scale - sigma / scale, next_alpha / next_scale - alpha / scale
    return _deterministic(next_scale * (1.0 / scale + step / sigma), next_scale * (drift - step * alpha / sigma))


def dpmpp(path: NoisePath, levels: Tensor) -> Table:
    """DPM-Solver++ 2M (Lu et al., arXiv 2211.01095, algorithm 2): DDIM's step with a clean action extrapolated, in
    log(alpha / sigma), from this level's and the previous one's. First order in the first and the last step."""
    alpha, sigma, next_alpha, next_sigma = _ends(path, levels)
    first_order = ddim(path, levels)
    lengths = (next_alpha / next_sigma).log() - (alpha / sigma).log()  # infinite to sigma' = 0 and from alpha = 0
    extrapolated = torch.zeros_like(alpha)
    extrapolated[1:-1] = lengths[1:-1] / (2.0 * lengths[:-2])
    return Table(
        x_gain=first_order.x_gain,
        clean_gain=first_order.clean_gain * (1.0 + extrapolated),
        previous_gain=-first_order.clean_gain * extrapolated,
        noise_gain=first_order.noise_gain,
    )


@dataclass(frozen=True)
class Correction:
    """Heun's second half, [n - 1] each: what the new x takes of x, of Euler's new x, and of the clean action there."""

    x_gain: Tensor
    euler_gain: Tensor
    clean_gain: Tensor


def heun(path: NoisePath, levels: Tensor) -> Correction:
    """The step along the mean of the velocities at both ends of `euler`'s (Karras et al., arXiv 2206.00364, algorithm
    1), for all steps but the last, which ends where there is no noise to be told."""
    alpha, sigma, next_alpha, next_sigma = (values[:-1] for values in _ends(path, levels))
    scale, next_scale = (values[:-1] for values in _scales(path, levels))
    step, drift = next_sigma / next_scale - sigma / scale, next_alpha / next_scale - alpha / scale
    return Correction(
        x_gain=0.5 * next_scale / scale,
        euler_gain=0.5 * (1.0 + next_scale * step / next_sigma),
        clean_gain=0.5 * next_scale * (drift - step * next_alpha / next_sigma),
    )


def _deterministic(x_gain: Tensor, clean_gain: Tensor) -> Table:
    zeros = torch.zeros_like(x_gain)
    return Table(x_gain=x_gain, clean_gain=clean_gain, previous_gain=zeros, noise_gain=zeros)


def _ends(path: NoisePath, levels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """alpha and sigma at the levels [n] and at the level each of them steps to."""
    times, following = _times(levels)
    return path.alpha(times), path.sigma(times), path.alpha(following), path.sigma(following)


def _scales(path: NoisePath, levels: Tensor) -> tuple[Tensor, Tensor]:
    times, following = _times(levels)
    return path.scale(times), path.scale(following)


def _times(levels: Tensor) -> tuple[Tensor, Tensor]:
    times = levels.double()
    return times, torch.cat([times[1:], torch.zeros(1, dtype=torch.float64)])
