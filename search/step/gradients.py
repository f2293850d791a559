"""From a loss to a step of an optimizer, in any precision and among any number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..fleet import Fleet
from .bill import Clock, Part
from .precision import Precision


class Gradients:
    """Puts gradients on parameters, and lets an optimizer follow them.

    Every process holds the loss of the whole batch and differentiates its share of it; the sum over the
    processes is the gradient, so that all of them take the same step.

    Args:
        fleet: the processes that share a batch.
        precision: float16 scales losses, and leaves a step out when its gradients are too large for it.
        clock: told of what the time goes to.
    """

    def __init__(self, fleet: Fleet, precision: Precision, clock: Clock | None = None) -> None:
        self._fleet, self._clock = fleet, clock or Clock()
        self._scaler = precision.scaler(fleet.device)

    def of(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor | None, ...]:
        """Return this process's part of the gradients of a loss, scaled; None where it does not depend.

        Args:
            loss: of the whole batch, the same in all processes.
            parameters: those of the optimizer.
        """
        share = loss if self._fleet.size == 1 else loss / self._fleet.size
        return torch.autograd.grad(self._scaler.scale(share), parameters, allow_unused=True)

    def put(
        self,
        gradients: Sequence[Tensor | None],
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Set `.grad` of these parameters, and of no others, to the sum of what `of` gave in all processes.

        Args:
            gradients: of this process.
            parameters: those of the optimizer.
            optimizer: that will follow.
        """
        self._clock.enter(Part.OPTIMISER)
        summed = iter(self._fleet.add_up([gradient for gradient in gradients if gradient is not None]))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else next(summed)
        self._scaler.unscale_(optimizer)

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the optimizer's step."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, which the next step depends on."""
        state: dict[str, Any] = self._scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        if state:
            self._scaler.load_state_dict(state)
