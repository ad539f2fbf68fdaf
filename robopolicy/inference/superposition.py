"""OR and AND of diffusion policies: superposition with weights that follow the densities (Skreta et al., arXiv
2412.17762; for policies: GPC, arXiv 2510.01068).

The step from level t to s is ddpm's with a mixed clean action. By Bayes, the log density of parent i changes by

    log q_i(x_s) - log q_i(x_t) = log q_i(x_s | x_t) - log q(x_t | x_s),

where noising, q(x_t | x_s) = N(r x_s, 1 - r^2) with r = alpha_t / alpha_s, is the same for all, and denoising has the
mean mu_i = A x_t + C clean_i of parent i's own step. With the variance 1 - r^2 for it too (that of unit actions) it is

    (|x_t - r x_s|^2 - |x_s - mu_i|^2) / (2 (1 - r^2)),

equal, in the limit of small steps, to the published

    d log q_i = <dx, score_i> + (div f + <f, score_i> - g^2 |score_i|^2 / 2) d tau;

but it needs no score, whose 1 / sigma is large at the last levels, and stays finite on the cosine path's first step,
where the integral of g^2 is large. Like that formula it counts on the step's own noise in every direction. AND takes
it out where the parents differ, so its tracked densities, equal by construction, are right for parents of one spread,
and else off by a bounded amount that smaller steps do not remove.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from robopolicy.denoise.paths import VariancePreserving
from robopolicy.denoise.sampler import Denoiser, Request, Sampled, asked_levels, clip_name
from robopolicy.denoise.tables import ddpm
from robopolicy.errors import ConfigError
from robopolicy.inference.mixture import ComposedDenoiser

Operator = Literal["or", "and"]
_SAME = 1e-8
"""Mean squared difference of clean actions below which two parents count as agreeing, so that no weight can tell them
apart."""


@dataclass(frozen=True)
class Superposition:
    """A sampler for composed policies on a diffusion path; their own weights only say who takes part.

    Attributes:
        operator: `or`: weights softmax(T log q + l), a sample likely under one parent or another. `and`: weights of sum
            1 with which the log densities of all parents change alike, a sample equally likely under all of them.
        steps: levels when a request names none; steps must be small for densities to be right, so all of them.
        temperature: T.
        bias: l, one a parent; None: zeros.
        clip: bound of each parent's clean actions and of the result, in normalised space; None: no clipping. What AND
            mixes in between is not clipped, since its weights also take back noise that would favour a parent.

    `info` has `weight_<i>` (of the last level) and `log_density_<i>` (where the last level is reached).
    """

    operator: Operator
    steps: int = 100
    temperature: float = 1.0
    bias: Sequence[float] | None = None
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        if self.operator not in get_args(Operator):
            raise ConfigError(f"sampler.operator is '{self.operator}', expected one of {', '.join(get_args(Operator))}")
        if self.temperature < 0.0:
            raise ConfigError(f"sampler.temperature is {self.temperature:g}, expected 0 or more")

    def __str__(self) -> str:
        bias = "" if self.bias is None else f", bias {' '.join(f'{value:g}' for value in self.bias)}"
        softness = f", temperature {self.temperature:g}{bias}" if self.operator == "or" else ""
        return f"{self.operator.upper()} by superposition, {self.steps} steps{softness}, {clip_name(self.clip)}"

    def __call__(self, denoiser: Denoiser, request: Request) -> Sampled:
        parents, path = _composed(denoiser)
        rows, *shape = parents.shape
        levels = asked_levels(path, self.steps, request)
        noise = request.noise.normal(len(levels) + 1, tuple(shape))
        bias, start = self._bias(len(parents.parents)).to(noise.device), float(path.sigma(levels[0]))
        x = start * noise[0]
        prior = -0.5 * (noise[0].square() + math.log(2.0 * math.pi * start**2)).sum(dim=(1, 2))
        log_density = prior.expand(len(parents.parents), rows)
        weights = torch.full_like(log_density, 1.0 / len(log_density))
        steps = zip(levels.to(x.device), _steps(path, levels), noise[1:], strict=True)
        for level, step, fresh in steps:
            cleans = torch.stack([self._clipped(each.clean) for each in parents.predictions(x, level)])
            if self.operator == "or":
                weights = torch.softmax(self.temperature * log_density + bias, dim=0)
            else:
                weights = _balancing(cleans, step.noise_gain / step.clean_gain * fresh)
            mixed = cleans[0] + (weights[:, :, None, None] * (cleans - cleans[0])).sum(dim=0)
            moved = step.x_gain * x + step.clean_gain * mixed + step.noise_gain * fresh
            if step.noise_gain:
                log_density = log_density + step.log_ratio(x, moved, cleans)
            x = moved
        evaluations = torch.full((rows,), len(levels) * parents.cost, device=x.device)
        return Sampled(self._clipped(x), evaluations, _named("weight", weights) | _named("log_density", log_density))

    def _bias(self, count: int) -> Tensor:
        values = [0.0] * count if self.bias is None else list(self.bias)
        if len(values) != count:
            raise ConfigError(f"sampler.bias={values}, expected one for each of the {count} composed policies")
        return torch.tensor(values)[:, None]

    def _clipped(self, clean: Tensor) -> Tensor:
        return clean if self.clip is None else clean.clamp(-self.clip, self.clip)


def _composed(denoiser: Denoiser) -> tuple[ComposedDenoiser, VariancePreserving]:
    if not isinstance(denoiser, ComposedDenoiser):
        raise ConfigError(
            "AND and OR need a composition of at least two policies, not one policy nor a wrapper around them: make "
            "one with compose.py, or choose another sampler"
        )
    if not isinstance(denoiser.path, VariancePreserving):
        raise ConfigError(
            f"AND and OR follow densities on a diffusion path, these policies are composed on a "
            f"{type(denoiser.path).__name__}: have a policy=diffusion among them, or choose another sampler"
        )
    if len({parent.shape for parent in denoiser.parents}) > 1:
        raise ConfigError("AND and OR compare densities of one chunk: choose policies with the same horizon.prediction")
    return denoiser, denoiser.path


def _balancing(cleans: Tensor, pull: Tensor) -> Tensor:
    """[n, B]: weights w of sum 1 with which all d log q_i are equal, for clean actions [n, B, Tp, D].

    With d_i = clean_i - clean_0, the step lands as far from all mu_i where, for i > 0,

        sum_j w_j <d_j, d_i> = |d_i|^2 / 2 - <pull, d_i>,

    `pull` [B, Tp, D] being the step's noise in units of clean actions. Where parents agree, in part or altogether, many
    weights solve it: of these, the ones nearest to equal shares.
    """
    count = len(cleans)
    away = (cleans[1:] - cleans[0]).flatten(2).double()
    gram = torch.einsum("ibk,jbk->bij", away, away)
    squares = gram.diagonal(dim1=1, dim2=2)
    wanted = 0.5 * squares - torch.einsum("bk,ibk->bi", pull.flatten(1).double(), away)
    equal = torch.full_like(wanted, 1.0 / count)
    inverse = torch.linalg.pinv(gram, atol=_SAME * away.shape[2], rtol=1e-9, hermitian=True)
    solved = equal + torch.einsum("bij,bj->bi", inverse, wanted - torch.einsum("bij,bj->bi", gram, equal))
    return torch.cat([1.0 - solved.sum(dim=1, keepdim=True), solved], dim=1).T.to(cleans.dtype)


@dataclass(frozen=True)
class _Step:
    """One ddpm step, x_s = x_gain x_t + clean_gain clean + noise_gain noise, and the noising step back, x_t = ratio x_s
    and noise of variance 1 - ratio^2."""

    x_gain: float
    clean_gain: float
    noise_gain: float
    ratio: float

    def log_ratio(self, x: Tensor, moved: Tensor, cleans: Tensor) -> Tensor:
        """[n, B]: log q_i(moved) - log q_i(x) for clean actions [n, B, Tp, D]."""
        back = (x - self.ratio * moved).square()
        there = (moved - self.x_gain * x - self.clean_gain * cleans).square()
        return (back - there).sum(dim=(-2, -1)) / (2.0 * (1.0 - self.ratio**2))


def _steps(path: VariancePreserving, levels: Tensor) -> list[_Step]:
    """From each level to the next, and from the last one to t = 0 (without noise)."""
    table, times = ddpm(path, levels), levels.double()
    following = torch.cat([times[1:], torch.zeros(1, dtype=torch.float64)])
    ratios = path.alpha(times) / path.alpha(following)
    rows = torch.stack([table.x_gain, table.clean_gain, table.noise_gain, ratios], dim=1).tolist()
    return [_Step(*row) for row in rows]


def _named(name: str, values: Tensor) -> dict[str, Tensor]:
    return {f"{name}_{index}": value for index, value in enumerate(values)}
