"""Which actions of a new chunk the last one still has a say in, and how much: the weights of real-time chunking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from robopolicy.denoise.sampler import Request
from robopolicy.errors import ConfigError

Schedule = Literal["exp", "linear", "ones", "hard"]
"""How weights go from 1 at the decided actions to 0 at the end of what the last chunk says: exp and linear decay, ones
stay at 1 until there, hard ones are 0 as soon as nothing is decided."""


class Window(Protocol):
    """A sampler's settings of the overlap.

    Attributes:
        delay: actions of a chunk that are executed before the next one is there; their weight is 1.
        schedule: of the weights between.
    """

    @property
    def delay(self) -> int: ...

    @property
    def schedule(self) -> Schedule: ...


def continuation_weights(horizon: int, delay: int, end: int, schedule: Schedule) -> Tensor:
    """[horizon] of a chunk's actions: 1 before `delay`, 0 from `end` on, and between them, with the linear weight
    w = (end - i) / (end - delay + 1) of action i: w for `linear`, w (e^w - 1) / (e - 1) for `exp`, 1 for `ones`, 0 for
    `hard`.

    Raises ConfigError unless delay <= end.
    """
    if not 0 <= delay <= end <= horizon:
        raise ConfigError(
            f"sampler.delay={delay} does not fit chunks of {horizon} actions, {end} of them known: expected 0 to {end}"
        )
    index = torch.arange(horizon, dtype=torch.float64)
    linear = ((end - index) / (end - delay + 1)).clamp(0.0, 1.0)
    ones = torch.ones_like(linear)
    schedules: Mapping[Schedule, Tensor] = {
        "exp": linear * linear.expm1() / ones.expm1(),
        "linear": linear,
        "ones": ones,
        "hard": torch.zeros_like(linear),
    }
    weights = torch.where(index < delay, ones, schedules[schedule])
    return torch.where(index < end, weights, torch.zeros_like(linear)).float()


def row_weights(window: Window, horizon: int, request: Request) -> Tensor | None:
    """[B, Tp], zero in rows that are not warm and on what the last chunk does not say (`Request.known`), even before
    the delay; None where there is nothing to do. Raises ConfigError for a delay longer than the chunk, in the first
    call already."""
    continuation_weights(horizon, window.delay, horizon, window.schedule)
    if request.previous is None or request.warm is None or not bool(request.warm.any()):
        return None
    ends = [horizon] * len(request.warm) if request.known is None else request.known.tolist()
    rows = [
        continuation_weights(horizon, min(window.delay, int(end)), int(end), window.schedule)
        if warm
        else torch.zeros(horizon)
        for end, warm in zip(ends, request.warm.tolist(), strict=True)
    ]
    weights = torch.stack(rows).to(request.previous)
    return weights if bool(weights.any()) else None


def describe(window: Window) -> str:
    """In a few words, for reports."""
    return f"delay {window.delay}, {window.schedule} weights"


def check(window: Window) -> None:
    """Raises ConfigError for values that fit no chunk."""
    if window.delay < 0:
        raise ConfigError(f"sampler.delay={window.delay}, expected 0 or more")
    if window.schedule not in get_args(Schedule):
        raise ConfigError(f"sampler.schedule is '{window.schedule}', expected one of {', '.join(get_args(Schedule))}")
