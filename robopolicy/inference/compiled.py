"""torch.compile for acting: for the shapes of the warm-up only, so that nothing is compiled while an arm moves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_NEW_STEP: Any = torch.compiler.cudagraph_mark_step_begin


def compile_in_place(net: nn.Module, device: torch.device) -> CompiledForward:
    """Gives `net` a compiled forward, which still has to be warmed up. Its class and its weights stay what they are."""
    forward = CompiledForward(net, device)
    setattr(net, "forward", forward)  # noqa: B010  a method to type checkers
    return forward


class CompiledForward:
    """A network's forward: compiled for shapes that were seen while `learning`, as it was for all others and wherever
    gradients are wanted."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        self.learning = True
        self._plain: Callable[..., Tensor] = net.forward
        self._shapes: set[tuple[torch.Size, ...]] = set()
        self._on_gpu = device.type == "cuda"
        twin = copy.copy(net)  # the same weights, without the forward that is about to be put in
        options: dict[str, Any] = {"mode": "max-autotune"} if self._on_gpu else {"options": {"freezing": True}}
        self._compiled: Callable[..., Tensor] = torch.compile(twin, dynamic=False, **options)

    def __call__(self, *inputs: Tensor) -> Tensor:
        shapes = tuple(value.shape for value in inputs)
        if self.learning:
            self._shapes.add(shapes)
        if shapes not in self._shapes or (torch.is_grad_enabled() and any(value.requires_grad for value in inputs)):
            return self._plain(*inputs)
        with torch.no_grad():
            if not self._on_gpu:
                return self._compiled(*(value.contiguous() for value in inputs))
            _NEW_STEP()
            return self._compiled(*(value.contiguous() for value in inputs)).clone()  # the graph writes there again
