"""Fits a critic to the returns of recorded episodes. What a step does is a function of the seed and the step number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from numpy.typing import NDArray
from torch import Tensor

from robopolicy.dataset.windows import Indices, WindowBatch, Windows
from robopolicy.denoise.noise import StepNoise, generator_for
from robopolicy.errors import ConfigError
from robopolicy.rl.assessment import auroc, calibration, calibration_error
from robopolicy.rl.critic import EnsembleCritic
from robopolicy.rl.returns import returns_of
from robopolicy.training.average import Average
from robopolicy.training.metrics import Metrics
from robopolicy.training.order import BatchOrder


@dataclass(frozen=True)
class FitSettings:
    """Numbers of one fit; `steps` optimiser steps in all, the learning rate reaches zero with the last."""

    steps: int
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    warmup_steps: int = 100
    gradient_clip: float = 1.0
    average_decay: float = 0.999
    seed: int = 0
    log_every: int = 100
    validate_every: int = 250

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} is {getattr(self, name)}, expected at least 1")


class Recorded:
    """Windows and the return of each, {name: [B, To, ...]}, [B, T, D] and [B] as tensors on a device."""

    def __init__(self, windows: Windows, discount: float, device: torch.device | str) -> None:
        """Raises ConfigError unless the discount lies in (0, 1], DatasetError for episodes without an outcome."""
        if not 0.0 < discount <= 1.0:
            raise ConfigError(f"discount={discount:g}, expected more than 0 and at most 1")
        self.windows, self._device = windows, device
        self.returns = returns_of(windows.episodes, discount)

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: Indices) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        return self.tensors(self.windows.batch(indices), indices)

    def tensors(self, batch: WindowBatch, indices: Indices) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        observation = {name: torch.as_tensor(value, device=self._device) for name, value in batch.observations.items()}
        actions = torch.as_tensor(batch.actions, device=self._device)
        return observation, actions, torch.as_tensor(self.returns[np.asarray(indices)], device=self._device)


def fit(
    critic: EnsembleCritic,
    recorded: Recorded,
    held_out: Recorded | None,
    settings: FitSettings,
    metrics: Metrics,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> EnsembleCritic:
    """The averaged critic after `settings.steps` steps; `metrics` gets losses and `assess` of `held_out`."""
    parameters = list(critic.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule: Any = get_scheduler(
        "cosine", optimiser, num_warmup_steps=settings.warmup_steps, num_training_steps=settings.steps
    )
    average, order = (
        Average(critic, settings.average_decay),
        BatchOrder(len(recorded), settings.batch_size, settings.seed),
    )
    recent: list[float] = []
    for step in range(settings.steps):
        torch.manual_seed(generator_for(settings.seed, step).initial_seed())  # dropout
        loss = _loss(critic.train(), recorded, order.indices(step), (settings.seed, step))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
        optimiser.step()
        schedule.step()
        average.update(critic)
        recent.append(_finite(float(loss.detach()), step))
        on_step(step + 1, recent[-1])
        last = step + 1 == settings.steps
        if (step + 1) % settings.log_every == 0 or last:
            metrics.record(step + 1, {"loss": sum(recent) / len(recent)})
            recent = []
        if held_out is not None and ((step + 1) % settings.validate_every == 0 or last):
            figures = assess(average.module(critic), held_out, settings.batch_size)
            metrics.record(step + 1, {name: value for name, value in figures.items() if isinstance(value, float)})
    return average.module(critic)


@torch.no_grad()
def assess(critic: EnsembleCritic, held_out: Recorded, batch_size: int) -> dict[str, Any]:
    """Of all windows: `validation_loss` (mean cross-entropy), `auroc` of value against whether success follows,
    `first_auroc` of the first window of each episode alone, `calibration` and its mean error."""
    values, losses = [], []
    for start in range(0, len(held_out), batch_size):
        observation, actions, returns = held_out.batch(np.arange(start, min(start + batch_size, len(held_out))))
        values.append(critic(observation, actions[:, None])[:, 0].cpu().numpy())
        losses.append(critic.loss(observation, actions, returns).cpu().numpy())
    value, success = np.concatenate(values), held_out.returns > 0
    first = np.cumsum([0, *(episode.length for episode in held_out.windows.episodes[:-1])])
    table = calibration(value, held_out.returns)
    return {
        "validation_loss": float(np.concatenate(losses).mean()),
        "auroc": auroc(value, success),
        "first_auroc": auroc(value[first], success[first]),
        "calibration_error": calibration_error(table),
        "calibration": table,
    }


def _loss(critic: EnsembleCritic, recorded: Recorded, indices: NDArray[np.int64], key: tuple[int, ...]) -> Tensor:
    observation, actions, returns = recorded.batch(indices)
    draws = StepNoise(key, len(indices), device=actions.device).uniform(critic.encoder.draws)
    return critic.loss(observation, actions, returns, draws).mean()


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise ConfigError(f"the loss became {loss} at step {step + 1}: lower training.learning_rate")
    return loss
