"""Smoothed resizing as products with a matrix for each axis.

onnxruntime's Resize smooths as torch does between borders, and differently where corners are aligned or a
scale is given that the sizes do not have (0.5 of 33 pixels are 16).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

_Kernel = Callable[[Tensor], Tensor]


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Return the cubic of Keys with a = -0.5, which smoothed resizing has; the plain one has -0.75."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


_KERNELS: dict[Any, _Kernel] = {
    aten._upsample_bilinear2d_aa.default: _triangle,
    aten._upsample_bilinear2d_aa.vec: _triangle,
    aten._upsample_bicubic2d_aa.default: _cubic,
    aten._upsample_bicubic2d_aa.vec: _cubic,
}


def way_of_resizing(node: fx.Node) -> Callable[..., Any] | None:
    """Return the function to write a smoothed resizing by; None where Resize does the same."""
    kernel = _KERNELS.get(node.target)
    if kernel is None:
        return None
    aligned, factors = node.args[2], _factors(node.args[3:])
    if not aligned and all(float(factor).is_integer() for factor in factors):
        return None

    def resize(x: Tensor, sizes: Sequence[Any] | None, align_corners: bool, *factors: Any) -> Tensor:
        given: Sequence[float | None] = _factors(factors) or (None, None)
        if sizes is None:
            sizes = [math.floor(x.shape[2 + axis] * factor) for axis, factor in enumerate(_factors(factors))]
        rows, columns = (
            smoothing_matrix(x.shape[2 + axis], sizes[axis], kernel, align_corners, given[axis]).to(x)
            for axis in range(2)
        )
        return torch.matmul(torch.matmul(rows, x), columns.transpose(0, 1))

    return resize


def _factors(args: Sequence[Any]) -> list[float]:
    """List the scales of a resizing: in one list or one by one."""
    listed = args[0] if len(args) == 1 and isinstance(args[0], Sequence) else args
    return [factor for factor in listed if factor is not None]


def smoothing_matrix(
    before: Any, after: Any, kernel: _Kernel, align_corners: bool, factor: float | None = None
) -> Tensor:
    """Return what a smoothed resizing of one axis multiplies by, as torch computes it.

    Args:
        before: the size.
        after: the size to be, an int or what stands for one.
        kernel: weights by distance, in pixels of the coarser of both.
        align_corners: whether the middles of the outermost pixels stay where they are.
        factor: the scale that was asked for; None to take it from the sizes.

    Returns:
        `(after, before)`, rows with a sum of one.
    """
    if align_corners:
        steps = after - 1  # of none the scale is 0
        scale = (before - 1) * torch.sym_min(steps, 1) / torch.sym_max(steps, 1)
    else:
        scale = before / after if factor is None else 1 / factor
    middles = (torch.arange(after) + 0.5) * scale
    places = torch.arange(before) + 0.5
    weights = kernel((places[None] - middles[:, None]).abs() / torch.sym_max(scale, 1.0))
    return weights / weights.sum(1, keepdim=True)
