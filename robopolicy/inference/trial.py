"""What a fast network is tried on: calls of the shape that a robot will make, and how far the chunks move."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import PolicyModule

ROWS = 20
"""Chunks that are compared."""
_AGREEING = 0.9
_SECONDS, _CALLS = 1.0, 5
_OBSERVED = 0.8
"""Observations are drawn from this share of the range of the data that the policy was trained on."""


class Trial:
    """Calls of a policy with its present sampler, in batches of `batch_size` rows, on `device`. It is made with the
    reference network in place, whose chunks it keeps."""

    @torch.no_grad()
    def __init__(self, policy: PolicyModule, batch_size: int, device: torch.device) -> None:
        self._policy, self._batch_size, self._device = policy, batch_size, device
        self._observation = _observation(policy, device)
        self._reference = self._chunks(ROWS, None)
        self._later_reference = self._chunks(ROWS, self._reference)
        self.milliseconds = self.time()

    @torch.no_grad()
    def warm_up(self) -> None:
        """A first call of an episode and a second one."""
        self._first_call(), self._later_call()()

    @torch.no_grad()
    def difference(self) -> float:
        """Largest difference to the reference in a normalised chunk, of the nine in ten chunks that differ least: of
        first calls, or of calls that are told the reference's first answer if that is more.

        Noise that lies between two modes goes to either of them with the slightest rounding: such a chunk says nothing.
        """
        first = self._chunks(self._batch_size, None) - self._reference
        later = self._chunks(self._batch_size, self._reference) - self._later_reference
        return max(_distance(first), _distance(later))

    @torch.no_grad()
    def time(self) -> float:
        """Milliseconds of the fastest of several later calls: other work on the machine only makes calls slower."""
        self.warm_up()
        call = self._later_call()
        took: list[float] = []
        began = time.perf_counter()
        while len(took) < _CALLS or time.perf_counter() - began < _SECONDS:
            took.append(self._seconds(call))
        return 1e3 * min(took)

    def _first_call(self) -> Tensor:
        return self._sample(list(range(self._batch_size)), None)

    def _later_call(self) -> Callable[[], Tensor]:
        """One that is told the last answer, as samplers with a warm start want it."""
        previous = self._reference[[row % ROWS for row in range(self._batch_size)]]
        return lambda: self._sample(list(range(self._batch_size)), previous)

    def _chunks(self, batch_size: int, previous: Tensor | None) -> Tensor:
        """[ROWS, Tp, D] normalised, in calls of `batch_size` rows; `previous` [ROWS, Tp, D] is what they are told."""
        calls = []
        for start in range(0, ROWS, batch_size):
            rows = [*range(start, start + batch_size)]
            calls.append(self._sample(rows, None if previous is None else previous[[row % ROWS for row in rows]]))
        return torch.cat(calls)[:ROWS]

    def _sample(self, rows: list[int], previous: Tensor | None) -> Tensor:
        index = torch.tensor(rows, device=self._device) % ROWS
        encoded = self._policy.encode({name: values[index] for name, values in self._observation.items()})
        noise = RowNoise(0, [(row, 0) for row in rows], self._device)
        warm = None if previous is None else torch.ones(len(rows), dtype=torch.bool, device=self._device)
        return self._policy.sample(encoded, Request(noise, previous=previous, warm=warm)).normalised

    def _seconds(self, call: Callable[[], Tensor]) -> float:
        start = time.perf_counter()
        call()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def _distance(difference: Tensor) -> float:
    """Of chunks [ROWS, Tp, D]."""
    distances = difference.abs().amax(dim=(1, 2)).sort().values
    return float(distances[math.ceil(_AGREEING * ROWS) - 1])


def _observation(policy: PolicyModule, device: torch.device) -> dict[str, Tensor]:
    """ROWS random observations, [ROWS, To, ...] in physical units."""
    generator = torch.Generator().manual_seed(0)
    known = {
        name: normaliser
        for module in policy.modules()
        if isinstance(module, SpecNormaliser)
        for name, normaliser in module.observations.items()
    }
    observation = {}
    for name, array in policy.spec.observations.items():
        shape = (ROWS, policy.horizon.observation_steps, *array.shape)
        if array.is_image:
            observation[name] = torch.randint(256, shape, generator=generator, dtype=torch.uint8).to(device)
            continue
        values = _OBSERVED * (2.0 * torch.rand(ROWS, 1, math.prod(array.shape), generator=generator) - 1.0)
        values = values.expand(-1, shape[1], -1).to(device)
        inverse = getattr(known.get(name), "inverse", None)
        observation[name] = (values if inverse is None else inverse(values)).reshape(shape)
    return observation
