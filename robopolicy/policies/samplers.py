"""Which samplers a policy takes: those that denoise belong to policies that denoise, descents to energies."""

from __future__ import annotations

from robopolicy.denoise.descent import EnergySampler
from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.sampler import Sampler, bound
from robopolicy.errors import ConfigError
from robopolicy.spec import ArraySpec


def denoising_sampler(sampler: Sampler, path: NoisePath, action: ArraySpec) -> Sampler:
    """`sampler` for this action. Raises ConfigError for anything that does not denoise, and for more levels than the
    path has."""
    if not isinstance(sampler, Sampler):
        raise ConfigError(
            f"a policy that denoises cannot use the sampler '{sampler}', which asks at no noise levels: choose "
            "another, such as sampler=ddim"
        )
    path.levels(sampler.steps)
    return bound(sampler, action)


def energy_sampler(sampler: EnergySampler, action: ArraySpec) -> EnergySampler:
    """`sampler` for this action. Raises ConfigError for anything that does not walk downhill."""
    if not isinstance(sampler, EnergySampler):
        raise ConfigError(
            f"an energy policy acts by descent, it cannot use the sampler '{sampler}': choose sampler=descent, or one "
            "of those for energies, such as rti_ebt or rtc_ebt"
        )
    return bound(sampler, action)
