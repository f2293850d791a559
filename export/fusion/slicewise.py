"""Depthwise convolutions of volumes as 2-D ones of shifted slices, several of them side by side."""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import opset18 as op
from torch import Tensor
from torch.nn import functional

from .calls import OPEN
from .registering import each, ints, register


def convolve_slices(
    x: Tensor, weights: list[Tensor], bias: Tensor | None, geometry: list[int], filled: int
) -> Tensor:
    """Convolve every channel of volumes by a sum over the taps: `y[d] = sum_k conv2d_k(x[d + k])`.

    Args:
        x: `(N, C, D, H, W)`.
        weights: `(S C, 1, h, w)` for each tap, the kernels repeated for `S` slices side by side.
        bias: `(S C,)`.
        geometry: strides, padding and dilations along depth, height and width; the output has the size of
            the input.
        filled: slices that are missing at most from a multiple of `S`.

    Returns:
        `(N, C, D, H, W)`.
    """
    _, (margin, *padding), (step, *dilation) = each(geometry)
    channels, (batch, _, depth, *sizes) = weights[0].shape[0], x.shape
    whole = depth if not filled else -(-depth // (filled + 1)) * (filled + 1)
    padded = functional.pad(x.transpose(1, 2), [0] * 6 + [margin, margin + whole - depth])  # (N, D, C, H, W)
    total = None
    for tap, weight in enumerate(weights):
        flat = padded[:, tap * step : tap * step + whole].reshape(-1, channels, *sizes)
        of_it = None if tap else bias
        done = functional.conv2d(flat, weight, of_it, 1, padding, dilation, channels)
        total = done if total is None else total + done
    assert total is not None
    return total.reshape(batch, whole, -1, *sizes)[:, :depth].transpose(1, 2).contiguous()


def _write(x: Any, weights: Any, bias: Any, geometry: list[int], filled: int) -> Any:
    """Write `convolve_slices` as ONNX."""
    _, (margin, *padding), (step, *dilation) = each(geometry)
    channels = int(weights[0].shape[0])
    depth = op.Shape(x, start=2, end=3)
    turned = op.Transpose(x, perm=[0, 2, 1, 3, 4])
    padded = op.Pad(turned, ints(margin, margin + filled), None, ints(1))
    shape = op.Concat(ints(-1, channels), op.Shape(x, start=3, end=5), axis=0)
    total = None
    for tap, weight in enumerate(weights):
        first = tap * step
        # The middle tap sees every slice where it is: one copy less.
        part = turned if first == margin and not filled else _part(padded, first, depth, margin, filled)
        operands = [op.Reshape(part, shape), weight, *([] if tap or bias is None else [bias])]
        done = op.Conv(*operands, group=channels, pads=[*padding, *padding], dilations=dilation)
        total = done if total is None else op.Add(total, done)
    sizes = [op.Shape(x, start=0, end=1), ints(-1), op.Shape(turned, start=2, end=5)]
    stacked = op.Reshape(total, op.Concat(*sizes, axis=0))
    if filled:
        stacked = op.Slice(stacked, ints(0), depth, ints(1))
    return op.Transpose(stacked, perm=[0, 2, 1, 3, 4])


def _part(padded: Any, first: int, depth: Any, margin: int, filled: int) -> Any:
    """Take as many of the padded slices as are computed, from `first` on."""
    end = ints(first - 2 * margin or OPEN)
    if filled:
        abreast = ints(filled + 1)
        whole = op.Mul(op.Div(op.Add(depth, ints(filled)), abreast), abreast)
        end = op.Add(whole, ints(first))
    return op.Slice(padded, ints(first), end, ints(1))


def _shaped(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


SLICES = register(convolve_slices, _write, _shaped)
