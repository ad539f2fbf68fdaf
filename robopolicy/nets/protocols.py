"""What a denoising network may offer beside its forward; a policy asks with isinstance."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class AuxiliaryLoss(Protocol):
    """A network with a training loss of its own."""

    def auxiliary_loss(self, level: Tensor) -> Tensor:
        """Added to the loss of each row in training: levels [B], as forward gets them, to [B], already weighted."""


@runtime_checkable
class LevelCache(Protocol):
    """A network that can compute ahead whatever depends on the noise level alone."""

    def prepare(self, levels: Tensor) -> None:
        """Readies evaluation at `levels` [n], as forward gets them, in place of those prepared before.

        Outputs stay the same to rounding, other levels and mixed batches still work. No levels: forget everything.
        Weights must not change afterwards, except through `train()`, `load_state_dict` or a move to another device or
        dtype, each of which forgets everything too.
        """
