"""What tests of warm starts share: targets and noises that let gains be read off exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robopolicy.benchmarks.samplers import GaussianDenoiser
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.inference.warm_start import RealTimeIteration
from robopolicy.spec import ArraySpec, Part

VP = VariancePreserving(100)
COLD = make_sampler("ddim", 4, None)
ROBOT = ArraySpec((4,), parts=(Part("position", 3, "position"), Part("gripper", 1, "gripper", discrete=True)))


def levels_of(indices: Sequence[int]) -> list[float]:
    """Published lists count the levels from 0."""
    return [(index + 1) / 100 for index in indices]


def down_from(first: int) -> list[float]:
    return levels_of(range(first, -1, -1))


def rti(levels: Sequence[float], **options: Any) -> RealTimeIteration:
    return RealTimeIteration(**{"cold": COLD, "levels": levels, "clip": None, **options})


def row_noise(rows: int, seed: int = 3) -> RowNoise:
    return RowNoise(seed, [(row, 0) for row in range(rows)])


def warm_request(previous: Tensor, seed: int = 3) -> Request:
    return Request(row_noise(len(previous), seed), previous=previous, warm=torch.ones(len(previous), dtype=torch.bool))


@dataclass(frozen=True)
class UnitNoise:
    """Rows 0 and 1 get no noise, row k + 2 one unit of draw k."""

    rows: int

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        units = torch.eye(self.rows, dtype=torch.float64)[2 : count + 2]
        return units.reshape(count, self.rows, *(1 for _ in shape)).expand(count, self.rows, *shape)

    def uniform(self, count: int) -> Tensor:
        raise AssertionError("real-time iteration draws normal numbers only")

    def branch(self, number: int) -> UnitNoise:
        return self


def gains(path: NoisePath, std: float, sampler: RealTimeIteration) -> tuple[float, float]:
    """Of the guess and of all noise together (a standard deviation), read off for the target N(0, std^2)."""
    rows = len(sampler.levels) + 3
    guess = torch.zeros(rows, 1, 1, dtype=torch.float64)
    guess[1] = 1.0
    request = Request(UnitNoise(rows), previous=guess, warm=torch.ones(rows, dtype=torch.bool))
    nothing, unit, *draws = sampler(GaussianDenoiser(path, 0.0, std, (rows, 1, 1)), request).normalised.flatten()
    return float(unit - nothing), float(torch.stack(draws).square().sum().sqrt())


@dataclass(frozen=True)
class WildDenoiser:
    """A fixed nonlinear network whose clean actions leave [-1, 1]."""

    path: NoisePath
    shape: tuple[int, int, int] = (3, 5, 4)
    cost: int = 2

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        return Prediction(x, torch.sin(3 * x) + 0.5 * x, self.path.alpha(t), self.path.sigma(t), "clean")


@dataclass(frozen=True)
class SilentNoise:
    """No noise: what is left is the mean of an affine sampler."""

    rows: int

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(count, self.rows, *shape, dtype=torch.float64)

    def uniform(self, count: int) -> Tensor:
        return torch.zeros(count, self.rows)

    def branch(self, number: int) -> SilentNoise:
        return self
