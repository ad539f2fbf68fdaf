"""The trainer: one loop for every policy, on one process or many (Lightning Fabric).

What a step does is a function of the seed and the step number: the batch order and the noise are keyed by them, so
resuming continues bit for bit on a CPU, and W processes with batch B do what one process with batch W B does.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from lightning_fabric import Fabric
from torch import Tensor

from robopolicy.dataset.windows import WindowBatch, Windows
from robopolicy.denoise.noise import StepNoise, generator_for
from robopolicy.errors import ConfigError
from robopolicy.policies.policy import LearnedPolicy
from robopolicy.training import checkpoint
from robopolicy.training.average import Average
from robopolicy.training.compilation import compile_networks
from robopolicy.training.metrics import Metrics
from robopolicy.training.order import BatchOrder
from robopolicy.training.pictures import prediction_picture

_VALIDATION_STREAM, _TRAINING_STREAM = 1, 0
_MOST_VALIDATION_WINDOWS = 2048


@dataclass(frozen=True)
class TrainingSettings:
    """Numbers of one training run.

    Attributes:
        steps: optimiser steps in all; the learning rate reaches zero with the last.
        batch_size: windows a step and process.
        precision: Fabric's: "32-true" or "bf16-mixed".
        compile: the networks, with torch.compile.
        log_every, validate_every, save_every: steps between records, held-out losses and checkpoints.
    """

    steps: int
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 1e-6
    warmup_steps: int = 500
    gradient_clip: float = 1.0
    average_decay: float = 0.9999
    precision: str = "32-true"
    accelerator: str = "auto"
    compile: bool = False
    seed: int = 0
    log_every: int = 100
    validate_every: int = 1000
    save_every: int = 2000

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} is {getattr(self, name)}, expected at least 1")


class Trainer:
    """Trains `policy` on `windows` and writes metrics and checkpoints into `run`.

    Args:
        held_out: windows of episodes that training never sees; None or empty: no validation.
        describe: makes the checkpoint's description for a step.
        resume_from: a checkpoint folder of the same run.
    """

    def __init__(
        self,
        policy: LearnedPolicy,
        windows: Windows,
        held_out: Windows | None,
        settings: TrainingSettings,
        run: Path,
        describe: Callable[[int], checkpoint.Description],
        resume_from: Path | None = None,
    ) -> None:
        self.fabric = _fabric(settings)
        self.settings, self.run, self.describe = settings, run, describe
        self.windows, self.held_out = windows, held_out if held_out is not None and len(held_out) else None
        self._reads_images = any(array.is_image for array in policy.spec.observations.values())
        self.step = 0
        optimiser = torch.optim.AdamW(
            policy.parameters(),
            lr=settings.learning_rate,
            betas=(0.95, 0.999),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.schedule: Any = get_scheduler(
            "cosine", optimiser, num_warmup_steps=settings.warmup_steps, num_training_steps=settings.steps
        )
        if settings.compile:
            compile_networks(policy, self.fabric.device)
        self.policy = policy
        module, self.optimiser = self.fabric.setup(policy, optimiser)
        module.mark_forward_method("loss")
        self.module: Any = module
        self.average = Average(policy, settings.average_decay)
        global_batch = settings.batch_size * self.fabric.world_size
        self.order = BatchOrder(len(windows), global_batch, settings.seed)
        first = self.fabric.global_rank * settings.batch_size
        self.share = slice(first, first + settings.batch_size)
        if resume_from is not None:
            self._resume(checkpoint.load_training_state(resume_from), resume_from)
        self.metrics = Metrics(run, self.step) if self.fabric.is_global_zero else None

    def train(self, on_step: Callable[[int, float], None] = lambda step, loss: None) -> list[float]:
        """Runs to the last step and returns the loss of every step taken here (mean over all processes).

        `on_step` hears of each step, for a progress bar.
        """
        settings, losses, recent = self.settings, [], _Recent()
        for batch in self._batches():
            loss = self._optimise(batch)
            losses.append(loss)
            recent.add(loss)
            on_step(self.step, loss)
            last = self.step == settings.steps
            if self.step % settings.log_every == 0 or last:
                self._record({"loss": recent.mean(), "learning_rate": self.schedule.get_last_lr()[0], **recent.pace()})
                recent = _Recent()
            if self.step % settings.validate_every == 0 or last:
                self._validate()
            if self.step % settings.save_every == 0 or last:
                self._save()
        if self.metrics is not None:
            self.metrics.close()
        self._leave_the_group()
        return losses

    def _leave_the_group(self) -> None:
        """Ends the threads of gloo, which otherwise abort the process now and then while Python shuts down.

        They live as long as anything holds the group, and the wrapped policy does. Only after a run that succeeded:
        after a failure of one process the others may wait for it in here.
        """
        if torch.distributed.is_initialized():
            self.module = self.policy
            torch.distributed.destroy_process_group()
            gc.collect()

    def _batches(self) -> Iterator[WindowBatch]:
        steps = range(self.step, self.settings.steps)
        indices = (self.order.indices(step)[self.share] for step in steps)
        draws = (self.order.draws(step)[self.share] for step in steps)
        return self.windows.batches(indices, prefetch=2 if self._reads_images else 0, draws=draws)

    def _optimise(self, batch: WindowBatch) -> float:
        settings = self.settings
        total = settings.batch_size * self.fabric.world_size
        key = (settings.seed, _TRAINING_STREAM, self.step)
        torch.manual_seed(generator_for(*key, self.fabric.global_rank).initial_seed())  # dropout
        noise = StepNoise(key, total, self.share.start, self.share.stop, self.fabric.device)
        self.module.train()
        with self.fabric.autocast():
            loss = self.module.loss(*self._tensors(batch), noise).mean()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.module, self.optimiser, max_norm=settings.gradient_clip, error_if_nonfinite=False
        )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        self.average.update(self.policy)
        self.step += 1
        reduced: Any = self.fabric.all_reduce(loss.detach(), reduce_op="mean")
        value = float(reduced)
        if not math.isfinite(value):
            raise ConfigError(f"the loss became {value} at step {self.step}: lower training.learning_rate")
        return value

    @torch.no_grad()
    def _validate(self) -> None:
        if self.held_out is None or not self.fabric.is_global_zero:
            return
        count = min(len(self.held_out), _MOST_VALIDATION_WINDOWS)
        chosen = torch.linspace(0, len(self.held_out) - 1, count).long().numpy()
        key = (self.settings.seed, _VALIDATION_STREAM)
        draws = np.random.default_rng(key).random(count)
        policy, losses = self.average.module(self.policy), []
        for start in range(0, count, self.settings.batch_size):  # in pieces, for images would fill the memory
            stop = min(start + self.settings.batch_size, count)
            batch = self.held_out.batch(chosen[start:stop], draws[start:stop])
            noise = StepNoise(key, count, start, stop, self.fabric.device)
            with self.fabric.autocast():
                losses.append(policy.loss(*self._tensors(batch), noise).detach())
        loss = torch.cat(losses).mean()
        self._record({"validation_loss": float(loss)})

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            policy = self.average.module(self.policy)
            state = {
                "step": self.step,
                "settings": asdict(self.settings),
                "world_size": self.fabric.world_size,
                "policy": self.policy.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "average": self.average.state_dict(),
            }
            checkpoint.save(self.run, policy, self.describe(self.step), state)
            self._picture(policy)
        self.fabric.barrier()

    def _picture(self, policy: LearnedPolicy) -> None:
        figure = prediction_picture(policy, self.held_out or self.windows, self.settings.seed)
        figure.savefig(self.run / "predictions.png", dpi=110)
        if self.metrics is not None:
            self.metrics.picture(self.step, "predictions", figure)

    def _resume(self, state: dict[str, Any], folder: Path) -> None:
        changed = [key for key, value in asdict(self.settings).items() if state["settings"].get(key) != value]
        if changed:
            raise ConfigError(f"cannot resume {folder} with other settings: {', '.join(changed)} changed")
        if state["world_size"] != self.fabric.world_size:
            raise ConfigError(
                f"cannot resume {folder} on {self.fabric.world_size} processes: it was trained on {state['world_size']}"
            )
        self.policy.load_state_dict(state["policy"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.load_state_dict(state["average"])
        self.step = int(state["step"])

    def _tensors(self, batch: WindowBatch) -> tuple[dict[str, Tensor], Tensor]:
        device = self.fabric.device
        observation = {name: torch.as_tensor(value, device=device) for name, value in batch.observations.items()}
        return observation, torch.as_tensor(batch.actions, device=device)

    def _record(self, values: dict[str, float]) -> None:
        if self.metrics is not None:
            self.metrics.record(self.step, values)


class _Recent:
    """The losses since the last record and how fast they came."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._began = time.perf_counter()

    def add(self, loss: float) -> None:
        self._losses.append(loss)

    def mean(self) -> float:
        return sum(self._losses) / len(self._losses)

    def pace(self) -> dict[str, float]:
        return {"steps_per_second": len(self._losses) / (time.perf_counter() - self._began)}


def _fabric(settings: TrainingSettings) -> Fabric:
    """One process, or as many as torchrun started. Raises ConfigError for what this machine cannot do."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # says the precision on every start
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            strategy="ddp" if world > 1 else "auto",
            devices=local,
            num_nodes=world // local,
            precision=settings.precision,  # type: ignore[arg-type]
        )
    except (ValueError, RuntimeError) as error:
        chosen = f"training.accelerator={settings.accelerator} with training.precision={settings.precision}"
        raise ConfigError(f"{chosen} does not work here: {error}") from error
    fabric.launch()
    return fabric
