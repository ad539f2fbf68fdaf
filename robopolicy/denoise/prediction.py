"""What a network said about a noisy sample, and everything that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Target = Literal["eps", "clean"]


@dataclass(frozen=True)
class Prediction:
    """A network's `output` at the noisy sample x = alpha a + sigma eps, read as `target`.

    `alpha` and `sigma` broadcast against `x` and `output` ([B, Tp, D]); both must be positive for the reading that
    divides by them (eps to clean by alpha, clean to eps by sigma).
    """

    x: Tensor
    output: Tensor
    alpha: Tensor
    sigma: Tensor
    target: Target

    @property
    def eps(self) -> Tensor:
        """The noise in x."""
        return self.output if self.target == "eps" else (self.x - self.alpha * self.output) / self.sigma

    @property
    def clean(self) -> Tensor:
        """The clean action under x."""
        return self.output if self.target == "clean" else (self.x - self.sigma * self.output) / self.alpha

    @property
    def score(self) -> Tensor:
        """Gradient of log p_t at x: -eps / sigma."""
        return -self.eps / self.sigma
