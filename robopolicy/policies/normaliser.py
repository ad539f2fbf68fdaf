"""Physical units to the range [-1, 1] and back, inside the policy and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robopolicy.dataset.statistics import Statistics
from robopolicy.errors import CheckpointError, ConfigError, DatasetError
from robopolicy.spec import ArraySpec, RobotSpec

_CONSTANT_BELOW = 1e-6
_BOUNDED_KINDS = ("rotation_6d", "quaternion")


class Normaliser(nn.Module):
    """An affine map of each element of one array, flattened: [..., D] physical to [..., D] in [-1, 1] over the data.

    A constant element maps to zero and back to its constant; 6-D rotations and quaternions (in [-1, 1] already, and
    nearly constant in many tasks) are left as they are. Discrete parts may be made smaller than the rest, see `fit`.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, size: int) -> None:
        """An identity of `size` elements, to be loaded or `fit`."""
        super().__init__()
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("offset", torch.zeros(size))

    @staticmethod
    def fit(spec: ArraySpec, statistics: Statistics, name: str, discrete_scale: float = 1.0) -> Normaliser:
        """Raises DatasetError when the statistic has another size than the spec or is not finite.

        Discrete parts come to lie in [-1, 1] / `discrete_scale`.
        """
        low = torch.as_tensor(statistics.low, dtype=torch.float64).flatten()
        high = torch.as_tensor(statistics.high, dtype=torch.float64).flatten()
        size = math.prod(spec.shape)
        if low.shape != (size,) or high.shape != (size,):
            raise DatasetError(f"the statistics of '{name}' have {low.numel()} values, expected {size}")
        if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise DatasetError(f"the statistics of '{name}' are not finite")
        half = (high - low) / 2
        scale = torch.where(half < _CONSTANT_BELOW, torch.ones_like(half), half)
        offset = (high + low) / 2
        for part, place in spec.slices():
            if part.kind in _BOUNDED_KINDS:
                scale.view(spec.shape)[..., place], offset.view(spec.shape)[..., place] = 1.0, 0.0
            if part.discrete:
                scale.view(spec.shape)[..., place] *= discrete_scale
        result = Normaliser(size)
        result.scale.copy_(scale)
        result.offset.copy_(offset)
        return result

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.offset) / self.scale

    def inverse(self, values: Tensor) -> Tensor:
        return values * self.scale + self.offset


class SpecNormaliser(nn.Module):
    """The normalisers of a robot's action and of each of its low-dimensional streams."""

    def __init__(self, spec: RobotSpec) -> None:
        super().__init__()
        self.action = Normaliser(spec.action.shape[0])
        self.observations = nn.ModuleDict(
            {
                name: Normaliser(math.prod(array.shape))
                for name, array in spec.observations.items()
                if not array.is_image
            }
        )
        self.images = [name for name, array in spec.observations.items() if array.is_image]

    @staticmethod
    def fit(spec: RobotSpec, statistics: Mapping[str, Statistics], discrete_scale: float = 1.0) -> SpecNormaliser:
        """From the statistics of a dataset, keyed `action` and `observation/<name>`; a missing one is an error.

        `discrete_scale` f makes the action's discrete parts, such as a gripper, -1 / f or 1 / f, so that noise which
        leaves the rest of a chunk readable decides them anew (RTI-DP, arXiv 2508.05396). Raises ConfigError unless it
        is positive.
        """
        if not discrete_scale > 0.0:
            raise ConfigError(f"discrete_scale={discrete_scale}, expected a positive number, 1 to leave grippers alone")
        result = SpecNormaliser(spec)
        result.action = Normaliser.fit(spec.action, _get(statistics, "action"), "action", discrete_scale)
        for name in result.observations:
            key = f"observation/{name}"
            result.observations[name] = Normaliser.fit(spec.observations[name], _get(statistics, key), key)
        return result

    def observe(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each low-dimensional stream normalised, [B, To, D], images as they are.

        Raises CheckpointError for a stream that is missing.
        """
        missing = [name for name in (*self.observations, *self.images) if name not in observation]
        if missing:
            raise CheckpointError(f"the policy needs the streams {missing}, it was given {sorted(observation)}")
        images = {name: observation[name] for name in self.images}
        return images | {
            name: normaliser(observation[name].float().flatten(2)) for name, normaliser in self.observations.items()
        }


def _get(statistics: Mapping[str, Statistics], key: str) -> Statistics:
    if key not in statistics:
        raise DatasetError(f"the dataset has no statistics of '{key}', there are {sorted(statistics)}")
    return statistics[key]
