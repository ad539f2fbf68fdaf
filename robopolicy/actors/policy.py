"""A policy as the actor of many episodes at once: one padded call answers every slot that asks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from robopolicy.policies.policy import Policy
from robopolicy.spec import Nanoseconds


@dataclass
class _Episode:
    seed: int
    calls: int = 0
    next_call_ns: Nanoseconds | None = None


class PolicyActor:
    """Asks the policy for a chunk of Tp actions every Ta ticks and waits for the answer.

    A row's noise is keyed by `seed`, the episode's environment seed and the number of the call, so an episode does not
    depend on the slots around it; `batch_size` pads every call to the same number of rows, so that rounding does not
    depend on them either. `calls`, `evaluations` (of rows that asked) and `seconds` say what it cost so far,
    `slowest_seconds` what the slowest call took.
    """

    def __init__(self, policy: Policy, *, seed: int, batch_size: int, device: torch.device | str = "cpu") -> None:
        self._policy = policy
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
        sampled = self._policy.sample(encoded, Request(noise))
        actions = self._policy.unnormalise(sampled.normalised).cpu().numpy()
        info = {"evaluations": sampled.evaluations.float(), **sampled.info}
        period_ns = self._policy.spec.period_ns
        answers = {}
        for row, (slot, ask, episode) in enumerate(zip(slots, asks, episodes, strict=True)):
            values = {name: float(value[row]) for name, value in info.items()}
            answers[slot] = chunk_from(actions[row], ask.now_ns, period_ns, "policy", values)
            episode.calls += 1
            episode.next_call_ns = ask.now_ns + self._policy.horizon.execution * period_ns
        self.calls += 1
        self.evaluations += int(sampled.evaluations[: len(slots)].sum())
        seconds = time.perf_counter() - began
        self.seconds += seconds
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        return answers

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
