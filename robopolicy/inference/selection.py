"""Best of K: several candidate chunks from one policy call, of which a critic chooses (V-GPS, arXiv 2410.13816).

    p(k) = softmax(Q(s, a_k) / temperature)_k,   the best candidate at temperature 0.

All candidates of all rows are one call of the policy. Candidate 0 is what the policy alone would answer, so one
candidate changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from robopolicy.denoise.noise import Noise
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.errors import ConfigError
from robopolicy.policies.policy import Horizon, Policy
from robopolicy.spec import RobotSpec, check_fits

_CANDIDATES, _CHOICE = 0x6361_6E64, 0x6368_6F69
"""Numbers of branches that samplers do not use, for the noise of further candidates and for the choice; a selection
among selections adds its depth."""


class Critic(Protocol):
    """How good chunks are; has its own encoder and normaliser.

    `spec` is the robot through the critic's streams, `observation_steps` and `action_steps` say how many observations
    (the newest ones) and actions (the first ones) it reads.
    """

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def observation_steps(self) -> int: ...

    @property
    def action_steps(self) -> int: ...

    def __call__(self, observation: Mapping[str, Tensor], actions: Tensor, /) -> Tensor:
        """Values [B, K] of {name: [B, To, ...]} with actions [B, K, T, D], both in physical units; T may be more than
        `action_steps`, and there may be more streams and observations than it reads."""


class Repeatable(Protocol):
    """What `encode` of a policy returns, as far as candidates care."""

    def repeat(self, count: int) -> Any:
        """Each row `count` times in a row."""

    def rows(self, index: Tensor) -> Any: ...


Code = TypeVar("Code", bound=Repeatable)


@dataclass(frozen=True)
class Observed(Generic[Code]):
    """A policy's code of a batch beside the observation itself, {name: [B, To, ...]}, which the critic reads."""

    code: Code
    observation: Mapping[str, Tensor]

    def repeat(self, count: int) -> Observed[Code]:
        return Observed(self.code.repeat(count), self._each(lambda value: value.repeat_interleave(count, dim=0)))

    def rows(self, index: Tensor) -> Observed[Code]:
        return Observed(self.code.rows(index), self._each(lambda value: value[index]))

    def _each(self, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        return {name: change(value) for name, value in self.observation.items()}


class BestOf(Generic[Code]):
    """See `robopolicy.policies.policy.Policy`.

    `evaluations` are the policy's, of all candidates; `info` has what the policy said about the chosen one, its `value`
    and the `value_spread` of its row's candidates, greatest less least.

    Args:
        policy: any policy whose code is `Repeatable`, wrapped ones too.
        critic: scores the candidates.
        count: K, at least 1; 1 is the policy itself.
        temperature: 0 takes the best candidate, the first of equals; infinity takes any.

    Raises ConfigError for other numbers, or a critic that reads more actions than the policy predicts; SpecError for a
    critic of another robot.
    """

    def __init__(self, policy: Policy[Code], critic: Critic, count: int, temperature: float = 0.0) -> None:
        if count < 1:
            raise ConfigError(f"candidates={count}, expected at least 1")
        if not temperature >= 0.0:
            raise ConfigError(f"temperature={temperature:g}, expected 0 or more")
        if critic.action_steps > policy.horizon.prediction:
            raise ConfigError(
                f"the critic reads {critic.action_steps} actions, the policy predicts {policy.horizon.prediction}: fit "
                f"one with critic.action_steps={policy.horizon.prediction}"
            )
        self.policy, self.critic, self.count, self.temperature = policy, critic, count, temperature
        self.spec = _union(policy.spec, critic.spec)
        self.depth: int = 1 + getattr(policy, "depth", -1)

    def __str__(self) -> str:
        if self.temperature == 0.0:
            return f"the best of {self.count} candidates"
        return f"one of {self.count} candidates, temperature {self.temperature:g}"

    @property
    def horizon(self) -> Horizon:
        own = self.policy.horizon
        return replace(own, observation_steps=max(own.observation_steps, self.critic.observation_steps))

    def encode(self, observation: Mapping[str, Tensor]) -> Observed[Code]:
        steps = self.policy.horizon.observation_steps
        seen = {name: observation[name][:, -steps:] for name in self.policy.spec.observations if name in observation}
        return Observed(self.policy.encode(seen), observation)

    def sample(self, encoded: Observed[Code], request: Request) -> Sampled:
        sampled = self.policy.sample(encoded.code.repeat(self.count), self._candidates(request))
        chunks = self._by_row(sampled.normalised)
        values = self.critic(encoded.observation, self._by_row(self.policy.unnormalise(sampled.normalised)))
        chosen = self._choice(values, request.noise)
        row = torch.arange(len(chosen), device=chosen.device)
        info = {name: self._by_row(value)[row, chosen] for name, value in sampled.info.items()}
        info |= {"value": values[row, chosen], "value_spread": values.amax(dim=1) - values.amin(dim=1)}
        return Sampled(chunks[row, chosen], self._by_row(sampled.evaluations).sum(dim=1), info)

    def normalise(self, actions: Tensor) -> Tensor:
        return self.policy.normalise(actions)

    def unnormalise(self, actions: Tensor) -> Tensor:
        return self.policy.unnormalise(actions)

    def _candidates(self, request: Request) -> Request:
        """The same request for every candidate, each with noise of its own."""
        further = request.noise.branch(_CANDIDATES + self.depth)
        noise = CandidateNoise([request.noise, *(further.branch(number) for number in range(1, self.count))])
        previous, warm, known = request.previous, request.warm, request.known
        return replace(
            request,
            noise=noise,
            previous=None if previous is None else previous.repeat_interleave(self.count, dim=0),
            warm=None if warm is None else warm.repeat_interleave(self.count, dim=0),
            known=None if known is None else known.repeat_interleave(self.count, dim=0),
        )

    def _choice(self, values: Tensor, noise: Noise) -> Tensor:
        """[B] candidates, given their values [B, K]."""
        if self.temperature == 0.0:
            return values.argmax(dim=1)
        drawn = noise.branch(_CHOICE + self.depth).uniform(1)[0].to(values.device)
        below = choice_probabilities(values, self.temperature).cumsum(dim=1) <= drawn[:, None]
        return below.sum(dim=1).clamp(max=self.count - 1)

    def _by_row(self, values: Tensor) -> Tensor:
        """[B * K, ...] to [B, K, ...]."""
        return values.reshape(-1, self.count, *values.shape[1:])


def choice_probabilities(values: Tensor, temperature: float) -> Tensor:
    """softmax(values / temperature) over the candidates [B, K], for any temperature above 0, infinity too."""
    return torch.softmax((values - values.amax(dim=1, keepdim=True)) / temperature, dim=1)


class CandidateNoise:
    """The noise of a batch with K candidates a row, [B * K] rows: candidate k of every row draws from stream k."""

    def __init__(self, streams: Sequence[Noise]) -> None:
        self._streams = streams

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        return torch.stack([stream.normal(count, shape) for stream in self._streams], dim=2).flatten(1, 2)

    def uniform(self, count: int) -> Tensor:
        return torch.stack([stream.uniform(count) for stream in self._streams], dim=2).flatten(1, 2)

    def branch(self, number: int) -> CandidateNoise:
        return CandidateNoise([stream.branch(number) for stream in self._streams])


def _union(policy: RobotSpec, critic: RobotSpec) -> RobotSpec:
    """The robot through the streams of both. Raises SpecError where they describe something in two ways."""
    union = replace(policy, observations={**critic.observations, **policy.observations})
    check_fits(critic, union, who="the critic", whom="the policy")
    return union
