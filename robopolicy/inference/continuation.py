"""Real-time chunking: a new chunk that continues the one that is still being executed (Black et al., arXiv 2506.07339).

While a call is under way the robot goes on with the last chunk, so the first `delay` actions of the new one are already
decided, and those after them had better not jump. At every level the clean action that the network sees is pulled
towards the last chunk. With clean = D(x, t), J = d clean / dx and err = weights * (previous - clean),

    clean' = clean + min(beta sigma, (alpha^2 + sigma^2) / alpha) J^T err.

On the straight path this is the published rule for the velocity (its time is alpha, and clean moves by sigma times the
velocity's change). Scaling a path by s(t) divides J by s and multiplies everything before it by s, so the rule means
the same on every path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from robopolicy.denoise.descent import GRADIENT_STEP_COST
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Denoiser, DenoiserView, Request, Sampled, Sampler, bound
from robopolicy.errors import ConfigError
from robopolicy.inference import overlap
from robopolicy.inference.overlap import Schedule
from robopolicy.spec import ArraySpec

Jacobian = Literal["network", "identity"]
"""`network` differentiates through the network. `identity` takes J for the identity on the straight path, x / (alpha +
sigma), as some implementations do by asking the network before they ask for gradients: no backward pass, but another
rule, with the same pull whatever the network knows."""


@dataclass(frozen=True)
class Continuation:
    """A `robopolicy.denoise.sampler.Sampler` that continues the last chunk of warm rows (`Request.previous`).

    Rows that are not warm are sampled as without it, bit for bit. With `jacobian="network"` it works under
    `torch.no_grad`, but not under `torch.inference_mode`, whose tensors never take part in gradients.

    Attributes:
        sampler: runs the guided denoiser.
        delay, schedule: see `robopolicy.inference.overlap.Window`.
        max_weight: beta, the largest change of the straight path's velocity for each unit of error.
        jacobian: see `Jacobian`; `network` costs a gradient step for each evaluation of a warm row.
    """

    sampler: Sampler
    delay: int
    schedule: Schedule = "exp"
    max_weight: float = 5.0
    jacobian: Jacobian = "network"

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, Sampler):
            raise ConfigError(f"rtc cannot guide '{self.sampler}', which does not denoise: for energies use rtc_ebt")
        overlap.check(self)
        _check_rule(self.max_weight, self.jacobian)

    def __str__(self) -> str:
        return f"rtc ({self.jacobian} Jacobian, beta {self.max_weight:g}, {overlap.describe(self)}) in {self.sampler}"

    @property
    def steps(self) -> int:
        return self.sampler.steps

    def for_actions(self, spec: ArraySpec) -> Continuation:
        return replace(self, sampler=bound(self.sampler, spec))

    def __call__(self, denoiser: Denoiser, request: Request) -> Sampled:
        weights = overlap.row_weights(self, denoiser.shape[1], request)
        if request.previous is None or weights is None or self.max_weight == 0.0:
            return self.sampler(denoiser, request)
        guided = continue_chunk(denoiser, request.previous, weights, self.max_weight, self.jacobian)
        sampled = self.sampler(guided, request)
        alone = sampled.evaluations * denoiser.cost // guided.cost
        return replace(sampled, evaluations=torch.where(weights.any(dim=1), sampled.evaluations, alone))


def continue_chunk(
    denoiser: Denoiser, previous: Tensor, weights: Tensor, max_weight: float = 5.0, jacobian: Jacobian = "network"
) -> Denoiser:
    """The denoiser pulled towards `previous` [B, Tp, D] (normalised) with `weights` [B, Tp] in [0, 1].

    In rows without any weight its clean action is the denoiser's own, bit for bit.
    """
    _check_rule(max_weight, jacobian)
    return ContinuedDenoiser(denoiser, previous, weights, max_weight, jacobian)


@dataclass(frozen=True)
class ContinuedDenoiser(DenoiserView):
    """A `robopolicy.denoise.sampler.Denoiser`; see `continue_chunk`. Its predictions carry no gradients with
    `jacobian="network"`."""

    previous: Tensor
    weights: Tensor
    max_weight: float
    jacobian: Jacobian

    @property
    def cost(self) -> int:
        return self.denoiser.cost * (GRADIENT_STEP_COST if self.jacobian == "network" else 1)

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        prediction, pull = self._differentiated(x, t) if self.jacobian == "network" else self._straight(x, t)
        alpha, sigma = prediction.alpha, prediction.sigma
        gain = torch.minimum(self.max_weight * sigma, (alpha**2 + sigma**2) / alpha)
        clean = prediction.clean + gain * pull
        if not self._all_guided:
            clean = torch.where(self._guided, clean, self._unguided(x, t, prediction))
        return replace(prediction, output=clean, target="clean")

    @cached_property
    def _guided(self) -> Tensor:
        """[B, 1, 1] bool, the rows with some weight."""
        return (self.weights > 0).any(dim=1)[:, None, None]

    @cached_property
    def _all_guided(self) -> bool:
        return bool(self._guided.all())

    def _unguided(self, x: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
        """The denoiser's own clean action. Kernels that keep something for a backward pass round differently, so after
        one the rows that have nothing to do with it are computed again, at the cost that is counted for them."""
        return self.denoiser(x, t).clean if self.jacobian == "network" else prediction.clean

    def _straight(self, x: Tensor, t: Tensor) -> tuple[Prediction, Tensor]:
        """The prediction, and J^T err where J is the straight path's identity."""
        prediction = self.denoiser(x, t)
        return prediction, self._error(prediction.clean) / (prediction.alpha + prediction.sigma)

    def _differentiated(self, x: Tensor, t: Tensor) -> tuple[Prediction, Tensor]:
        """The prediction, and J^T err through the network."""
        with torch.enable_grad():
            seen = x.detach().requires_grad_()
            prediction = self.denoiser(seen, t)
            clean = prediction.clean
            if not clean.requires_grad:
                raise ConfigError(
                    "rtc with jacobian=network needs the gradient of the network, which this denoiser does not give: "
                    "use jacobian=identity"
                )
            (pull,) = torch.autograd.grad(clean, seen, self._error(clean.detach()))
        return replace(prediction, x=prediction.x.detach(), output=prediction.output.detach()), pull

    def _error(self, clean: Tensor) -> Tensor:
        return self.weights[:, :, None] * (self.previous - clean)


def _check_rule(max_weight: float, jacobian: str) -> None:
    if not 0.0 <= max_weight < float("inf"):
        raise ConfigError(f"sampler.max_weight is {max_weight:g}, expected 0 or more and finite")
    if jacobian not in get_args(Jacobian):
        raise ConfigError(f"sampler.jacobian is '{jacobian}', expected one of {', '.join(get_args(Jacobian))}")
