"""What the tests of wrappers that continue the last chunk share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Denoiser, Request, Sampled, make_sampler
from robopolicy.spec import ArraySpec

SHAPE = (3, 8, 2)


@dataclass(frozen=True)
class FixedNoise:
    """The same numbers in every call."""

    values: Tensor

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        return self.values.expand(count, *self.values.shape)

    def uniform(self, count: int) -> Tensor:
        raise NotImplementedError

    def branch(self, number: int) -> FixedNoise:
        raise NotImplementedError


def draw(seed: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def warm_request(previous: Tensor, warm: list[bool], seed: int = 3) -> Request:
    noise = RowNoise(seed, [(row, 1) for row in range(len(warm))])
    return Request(noise, previous=previous, warm=torch.tensor(warm))


@dataclass(frozen=True)
class Aware:
    """A sampler that finds parts of the action by name."""

    size: int = 0
    steps: int = 1

    def for_actions(self, spec: ArraySpec) -> Aware:
        return Aware(spec.shape[0])

    def __call__(self, denoiser: Denoiser, request: Request) -> Sampled:
        return make_sampler("euler", self.steps)(denoiser, request)
