"""What policies must share to be composed: the action, its normalisation, the rate, and the streams that both see.

Mixing is exact in one action space only: half-way between two normalised numbers means something if both stand for the
same physical ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from robopolicy.denoise.paths import NoisePath, VariancePreserving
from robopolicy.denoise.rescale import same_path
from robopolicy.errors import ConfigError
from robopolicy.policies.normaliser import Normaliser
from robopolicy.policies.policy import LearnedPolicy
from robopolicy.spec import ArraySpec, RobotSpec

_TOLERANCE = 1e-6


def common_spec(parents: Sequence[LearnedPolicy], names: Sequence[str]) -> RobotSpec:
    """The robot through the streams of all parents. Raises ConfigError, naming two parents that cannot be composed."""
    first, streams = parents[0].spec, dict(parents[0].spec.observations)
    for parent, name in zip(parents[1:], names[1:], strict=True):
        problems = [f"action: {row}" for row in first.action.differences(parent.spec.action)]
        for stream, array in parent.spec.observations.items():
            problems += [f"stream '{stream}': {row}" for row in streams.setdefault(stream, array).differences(array)]
        if not math.isclose(first.rate_hz, parent.spec.rate_hz, rel_tol=1e-9):
            problems.append(f"rate_hz is {parent.spec.rate_hz:g}, expected {first.rate_hz:g}")
        if problems:
            raise ConfigError(
                f"'{name}' cannot be composed with '{names[0]}': {'; '.join(problems)}: choose policies of one robot"
            )
        _check_normalisers(parents[0], parent, names[0], name)
    return RobotSpec(first.name, streams, first.action, first.rate_hz)


def common_path(paths: Sequence[NoisePath], names: Sequence[str]) -> NoisePath:
    """The path on which all are mixed: that of the diffusion policies if there are any, else the first one's.

    A diffusion policy knows its own levels only, so nobody else can lead it. Raises ConfigError where two of them have
    different ones.
    """
    grids = [(path, name) for path, name in zip(paths, names, strict=True) if isinstance(path, VariancePreserving)]
    for (a, name_of_a), (b, name_of_b) in pairwise(grids):
        if not same_path(a, b):
            raise ConfigError(
                f"'{name_of_a}' and '{name_of_b}' were trained on the levels of two different diffusion paths (steps "
                f"{a.steps} and {b.steps}, or another schedule): train one with the policy.path of the other"
            )
    return grids[0][0] if grids else paths[0]


def _check_normalisers(first: LearnedPolicy, other: LearnedPolicy, name_of_first: str, name: str) -> None:
    a, b = first.normaliser.action, other.normaliser.action
    shift = ((a.offset - b.offset) / a.scale).abs()
    stretch = (b.scale / a.scale - 1.0).abs()
    different = (shift.maximum(stretch) > _TOLERANCE).nonzero().flatten().tolist()
    if different:
        place = different[0]
        raise ConfigError(
            f"'{name}' cannot be composed with '{name_of_first}': they normalise the action differently, first in "
            f"dimension {place} ({_part_of(first.spec.action, place)}: {_range(b, place)}, expected "
            f"{_range(a, place)}): train one in the other's space with train.py action_statistics=<run of the other>"
        )


def _part_of(action: ArraySpec, place: int) -> str:
    for part, where in action.slices():
        if where.start <= place < where.stop:
            return f"part '{part.name}'" + (f", element {place - where.start}" if part.size > 1 else "")
    return "of no part"


def _range(normaliser: Normaliser, place: int) -> str:
    offset, scale = float(normaliser.offset[place]), float(normaliser.scale[place])
    return f"{offset - scale:.6g} to {offset + scale:.6g}"
