"""The averaged copy of a policy: its weights are what is evaluated and saved (diffusers' EMA with a warm-up)."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

from diffusers.training_utils import EMAModel
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Average(Generic[M]):
    """An exponential moving average of a module's parameters: decay min(max_decay, 1 - (1 + step)^-power)."""

    def __init__(self, module: M, max_decay: float = 0.9999, power: float = 0.75) -> None:
        make: Any = EMAModel
        self._ema: Any = make(
            module.parameters(), decay=max_decay, use_ema_warmup=True, inv_gamma=1.0, power=power, foreach=True
        )
        self._module = copy.deepcopy(module).eval().requires_grad_(False)

    def update(self, module: M) -> None:
        self._ema.step(module.parameters())

    def module(self, live: M) -> M:
        """The averaged weights with the buffers (normalisation) of `live`, in evaluation mode; one object for all."""
        self._ema.copy_to(self._module.parameters())
        for mine, theirs in zip(self._module.buffers(), live.buffers(), strict=True):
            mine.copy_(theirs)
        return self._module

    def state_dict(self) -> dict[str, Any]:
        return dict(self._ema.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._ema.load_state_dict(state)
        self._ema.to(device=next(self._module.parameters()).device)
