"""Operations of our own: what a pass puts into a graph as one node, and what that is in torch and in ONNX.

Spelled out in a graph they are dozens of nodes, whose shapes torch.export works at several times over: it
took most of the time of an export.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from onnxscript import opset18 as op
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of our own.

    Attributes:
        target: of its nodes.
        compute: the same in operations of torch's own.
        write: writes it as ONNX, given the values of the arguments.
    """

    target: torch._ops.OpOverload
    compute: Callable[..., Tensor]
    write: Callable[..., Any]


def register(
    compute: Callable[..., Tensor], write: Callable[..., Any], shaped: Callable[..., Tensor]
) -> Operation:
    """Make an operation.

    Args:
        compute: what it does; its annotations are those of the operation.
        write: the same as ONNX.
        shaped: a tensor of the shape that it gives, the way to it cheap: all that torch.export sees.
    """
    made = torch.library.custom_op(f"surgeon::{compute.__name__}", compute, mutates_args=())
    made.register_fake(shaped)
    return Operation(made._opoverload, compute, write)


def each(geometry: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Return strides, padding and dilations of a convolution of volumes, of nine numbers in a row."""
    return geometry[:3], geometry[3:6], geometry[6:]


def ints(*values: int) -> Any:
    """Write a constant of whole numbers."""
    return op.Constant(value_ints=list(values))
