"""A policy as the actor of many episodes at once: one padded call answers every slot that asks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.loop import Ask
from robopolicy.control.robot import Observation
from robopolicy.dataset.windows import window_rows
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request
from robopolicy.errors import ConfigError
from robopolicy.policies.policy import Policy
from robopolicy.spec import Nanoseconds


@dataclass
class _Episode:
    """What the actor keeps of an episode; `answer` [Tp, D] (normalised) is the last one, given at `answered_ns`."""

    seed: int
    calls: int = 0
    next_call_ns: Nanoseconds | None = None
    answer: Tensor | None = None
    answered_ns: Nanoseconds = 0

    def remainder(self, now_ns: Nanoseconds, period_ns: Nanoseconds) -> Tensor | None:
        """The actions of the last answer from now on, None when there are none."""
        if self.answer is None:
            return None
        rest = self.answer[round((now_ns - self.answered_ns) / period_ns) :]
        return rest if len(rest) else None


class PolicyActor:
    """Asks the policy for a chunk of Tp actions every Ta ticks and waits for the answer.

    What a sampler says of a row (`Sampled.info`) goes with the chunk, but for what it does not know, NaN; and `seam`,
    how far the new action for now is from the last answer's (root mean square over its elements, normalised).

    With each question comes the last answer of the row, moved to now (`Request.previous`), for samplers that start from
    it. There is none in the first call of an episode, after `forget`, and when it is Tp ticks old.

    A row's noise is keyed by `seed`, the episode's environment seed and the number of the call, so an episode does not
    depend on the slots around it; `batch_size` pads every call to the same number of rows, so that rounding does not
    depend on them either. `calls`, `evaluations` (of rows that asked) and `seconds` say what it cost so far,
    `slowest_seconds` what the slowest call took.
    """

    def __init__(
        self,
        policy: Policy[Any],
        *,
        seed: int,
        batch_size: int,
        device: torch.device | str = "cpu",
        execution: int | None = None,
    ) -> None:
        """`execution` replaces the policy's Ta. Raises ConfigError unless it lies within 1 and Tp."""
        self._policy = policy
        self.execution = policy.horizon.execution if execution is None else execution
        if not 1 <= self.execution <= policy.horizon.prediction:
            raise ConfigError(
                f"execution={execution}, expected 1 to {policy.horizon.prediction}, the length of a chunk"
            )
        self._seed = seed
        self._batch_size = batch_size
        self._device = device
        self._episodes: dict[int, _Episode] = {}
        self.calls = 0
        self.evaluations = 0
        self.seconds = 0.0
        self.slowest_seconds = 0.0

    def reset(self, slot: int, seed: int) -> None:
        """An episode with environment seed `seed` begins in `slot`."""
        self._episodes[slot] = _Episode(seed)

    def forget(self, slot: int) -> None:
        """The next call starts from nothing, and is due: somebody else acted, or the robot was stopped."""
        episode = self._episodes[slot]
        episode.answer, episode.next_call_ns = None, None

    def due(self, slot: int, now_ns: Nanoseconds) -> bool:
        """True every Ta ticks, beginning with the first."""
        next_call_ns = self._episodes[slot].next_call_ns
        return next_call_ns is None or now_ns >= next_call_ns

    def act(self, asks: Mapping[int, Ask]) -> dict[int, Chunk | None]:
        """A chunk for every slot that is due, None for the others."""
        due = [slot for slot, ask in asks.items() if self.due(slot, ask.now_ns)]
        answers: dict[int, Chunk | None] = dict.fromkeys(asks)
        for start in range(0, len(due), self._batch_size):
            slots = due[start : start + self._batch_size]
            answers |= self._call(slots, [asks[slot] for slot in slots])
        return answers

    @torch.no_grad()
    def _call(self, slots: Sequence[int], asks: Sequence[Ask]) -> dict[int, Chunk]:
        began = time.perf_counter()
        padding = self._batch_size - len(slots)
        episodes = [self._episodes[slot] for slot in slots]
        rows = [(episode.seed, episode.calls) for episode in episodes]
        histories = [ask.history for ask in asks]
        encoded = self._policy.encode(self._stack(histories + histories[-1:] * padding))
        noise = RowNoise(self._seed, rows + rows[-1:] * padding, self._device)
        previous = [episode.remainder(ask.now_ns, self._period_ns) for episode, ask in zip(episodes, asks, strict=True)]
        sampled = self._policy.sample(encoded, self._request(noise, previous + previous[-1:] * padding))
        actions = self._policy.unnormalise(sampled.normalised).cpu().numpy()
        info = {"evaluations": sampled.evaluations.float(), **sampled.info}
        answers = {}
        for row, (slot, ask, episode) in enumerate(zip(slots, asks, episodes, strict=True)):
            values = {name: said for name, value in info.items() if not math.isnan(said := float(value[row]))}
            if (rest := previous[row]) is not None:
                values["seam"] = float((sampled.normalised[row, 0] - rest[0]).square().mean().sqrt())
            answers[slot] = chunk_from(actions[row], ask.now_ns, self._period_ns, "policy", values)
            episode.calls += 1
            episode.next_call_ns = ask.now_ns + self.execution * self._period_ns
            episode.answer, episode.answered_ns = sampled.normalised[row], ask.now_ns
        self.calls += 1
        self.evaluations += int(sampled.evaluations[: len(slots)].sum())
        seconds = time.perf_counter() - began
        self.seconds += seconds
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        return answers

    @property
    def _period_ns(self) -> Nanoseconds:
        return self._policy.spec.period_ns

    def _request(self, noise: RowNoise, previous: Sequence[Tensor | None]) -> Request:
        """`previous` holds what is left of the last answer of every row, None where nothing is."""
        there = next((rest for rest in previous if rest is not None), None)
        if there is None:
            return Request(noise)
        none = torch.zeros_like(there[:1])
        known = torch.tensor([0 if rest is None else len(rest) for rest in previous], device=there.device)
        rows = [self._extended(none if rest is None else rest) for rest in previous]
        return Request(noise, previous=torch.stack(rows), warm=known > 0, known=known)

    def _extended(self, rest: Tensor) -> Tensor:
        """[Tp, D]: its last action is repeated."""
        missing = self._policy.horizon.prediction - len(rest)
        return torch.cat([rest, rest[-1:].expand(missing, -1)])

    def _stack(self, histories: Sequence[Sequence[Observation]]) -> dict[str, Tensor]:
        """{name: [B, To, ...]}; a history shorter than To is padded by its first observation, as in training."""
        steps = self._policy.horizon.observation_steps
        result = {}
        for name in self._policy.spec.observations:
            values = [_window(history, name, steps) for history in histories]
            result[name] = torch.as_tensor(np.stack(values), device=self._device)
        return result


class OneRobotActor:
    """A `PolicyActor` of batch size 1 as the actor of one robot, for `robopolicy.control.loop.run_episode`.

    `seed` keys the noise of the first episode; each further one takes the next.
    """

    def __init__(self, actor: PolicyActor, seed: int) -> None:
        self._actor = actor
        self._next_seed = seed

    def reset(self) -> None:
        self._actor.reset(0, self._next_seed)
        self._next_seed += 1

    def act(self, history: Sequence[Observation], now_ns: Nanoseconds) -> Chunk | None:
        return self._actor.act({0: Ask(0, now_ns, history)})[0]


def _window(history: Sequence[Observation], name: str, steps: int) -> NDArray[np.generic]:
    rows, _ = window_rows(len(history) - 1, start=0, stop=len(history), observation_steps=steps, horizon=0)
    return np.stack([history[row][name].value for row in rows])
