"""What a network said about a noisy sample, and everything that follows from it.

Every target is a fixed mixture p clean + q eps of the two parts of x = alpha clean + sigma eps, so that each of them
follows exactly from x and any one mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Target = Literal["eps", "clean", "v", "velocity", "preconditioned"]
"""What a network predicts: the noise, the clean action, v = alpha eps - sigma clean (Salimans and Ho, arXiv
2202.00512), the straight path's velocity eps - clean (Liu et al., arXiv 2209.03003), or EDM's F (Karras et al., arXiv
2206.00364, table 1), which has unit variance at every noise level."""


@dataclass(frozen=True)
class Prediction:
    """A network's `output` at the noisy sample x = alpha clean + sigma eps, read as `target`.

    `alpha` and `sigma` broadcast against `x` and `output` ([B, Tp, D]). A target's own reading is its output, bit for
    bit. The others are finite but for what the output cannot tell: the clean action from eps where alpha is 0, eps from
    the clean action where sigma is 0, and whatever needs those; and the score where sigma is 0.
    """

    x: Tensor
    output: Tensor
    alpha: Tensor
    sigma: Tensor
    target: Target
    data_std: float = 0.5

    @property
    def clean(self) -> Tensor:
        """The clean action under x."""
        if self.target == "clean":
            return self.output
        p, q = _mixture(self.target, self.alpha, self.sigma, self.data_std)
        return (q * self.x - self.sigma * self.output) / (self.alpha * q - self.sigma * p)

    @property
    def eps(self) -> Tensor:
        """The noise in x."""
        if self.target == "eps":
            return self.output
        p, q = _mixture(self.target, self.alpha, self.sigma, self.data_std)
        return (self.alpha * self.output - p * self.x) / (self.alpha * q - self.sigma * p)

    @property
    def v(self) -> Tensor:
        """alpha eps - sigma clean."""
        return self._read("v")

    @property
    def flow_velocity(self) -> Tensor:
        """eps - clean: the velocity of the straight path through both, on the linear path d x_t / dt."""
        return self._read("velocity")

    @property
    def score(self) -> Tensor:
        """Gradient of log p_t at x: -eps / sigma."""
        return -self.eps / self.sigma

    def _read(self, target: Target) -> Tensor:
        if self.target == target:
            return self.output
        return training_target(target, self.clean, self.eps, self.alpha, self.sigma, self.data_std)


def training_target(
    target: Target, clean: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, data_std: float = 0.5
) -> Tensor:
    """What a network with this target should say at x = alpha clean + sigma eps."""
    if target == "clean":
        return clean
    if target == "eps":
        return eps
    p, q = _mixture(target, alpha, sigma, data_std)
    return p * clean + q * eps


def input_gain(target: Target, alpha: Tensor, sigma: Tensor, data_std: float = 0.5) -> Tensor:
    """What x is multiplied with before the network sees it: for `preconditioned` to unit variance (EDM's c_in)."""
    return 1.0 / _spread(alpha, sigma, data_std) if target == "preconditioned" else torch.ones_like(alpha)


def _mixture(target: Target, alpha: Tensor, sigma: Tensor, data_std: float) -> tuple[Tensor | float, Tensor | float]:
    """p and q of the target's p clean + q eps."""
    if target == "eps":
        return 0.0, 1.0
    if target == "clean":
        return 1.0, 0.0
    if target == "v":
        return -sigma, alpha
    if target == "velocity":
        return -1.0, 1.0
    spread = _spread(alpha, sigma, data_std)
    return sigma / (data_std * spread), -alpha * data_std / spread


def _spread(alpha: Tensor, sigma: Tensor, data_std: float) -> Tensor:
    """Standard deviation of x when that of the clean action is `data_std`."""
    return (alpha**2 * data_std**2 + sigma**2).sqrt()
