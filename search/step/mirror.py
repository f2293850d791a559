"""Steps that stay on the simplex: exponentiated gradients for architecture weights (GAEA, arXiv 2004.07802).

Adam on alpha follows the gradient through the softmax, which is flat where a weight is small or large.
A mirror step on the weights themselves multiplies each by exp(-rate * gradient) and divides by the sum: it
leads to sparse weights, and on a convex loss to its least value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..cells import Architecture
from ..config import Config

_LEAST = 1e-12
"""A weight below this has no say, and its gradient no digits."""


def architecture_optimizer(architectures: Sequence[Architecture], config: Config) -> torch.optim.Optimizer:
    """Return what moves alpha and beta: Adam as published for PC-DARTS, or exponentiated gradients.

    Args:
        architectures: whose alpha and beta move.
        config: which of the two, and its rate.
    """
    if config.architecture_step == "gaea":
        return ExponentiatedGradient(architectures, config.gaea_rate)
    return torch.optim.Adam(
        [weight for one in architectures for weight in one.parameters()],
        lr=config.architecture_rate,
        betas=(0.5, 0.999),
        weight_decay=config.architecture_decay,
    )


class ExponentiatedGradient(torch.optim.Optimizer):
    """Descends on the operation weights and edge weights of architectures.

    With theta = softmax(alpha) the gradient of alpha is theta * (g - theta.g), g being that of theta. So the
    step theta * exp(-rate * g), scaled to a sum of 1, is alpha - rate * gradient / theta: what is the same
    for all entries of a row is lost in the softmax.

    Args:
        architectures: whose alpha and beta move.
        lr: the rate.
    """

    def __init__(self, architectures: Sequence[Architecture], lr: float) -> None:
        self._architectures = tuple(architectures)
        parameters = [weight for one in architectures for weight in one.parameters()]
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move every alpha and beta that has a gradient."""
        rate = float(self.param_groups[0]["lr"])
        for one in self._architectures:
            for parameter, weights in zip((one.alpha, one.beta), one(), strict=True):
                _move(parameter, weights, rate)


def _move(parameter: Tensor, weights: Tensor, rate: float) -> None:
    """Make the step of one tensor; weights that were taken out (0) stay where they are."""
    if parameter.grad is None:
        return
    there = weights > _LEAST
    toward = parameter.grad / weights.clamp_min(_LEAST)
    parameter.sub_(torch.where(there, rate * toward, torch.zeros_like(toward)))
