"""What moves weights along their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

Kind = Literal["adamw", "sgd"]


def optimizer_of(
    kind: Kind,
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
    *,
    rate: float,
    momentum: float,
    decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Return AdamW (all parameters of a group in one call: a cell has many small ones), or SGD.

    Args:
        kind: which of the two.
        parameters: or groups of them, as `torch.optim` takes them.
        rate: learning rate.
        momentum: of SGD.
        decay: weight decay of groups that name none.
    """
    if kind == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, foreach=True)
    return torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=decay)
