"""Depthwise convolution for training on a CPU, where torch's own is slow for some kernels.

torch computes a depthwise 3x3 convolution fast in both directions when the channels are last, and is ten
times slower or worse for the gradients of wider, dilated or 3-D kernels. They are put together from what is
fast:

- the gradient of the input is a convolution with the kernel turned round;
- a dilated convolution is a plain one on each of the interleaved grids;
- the gradient of a wide kernel is made from those of kernels of three columns on shifted inputs;
- a kernel of three dimensions is a stack of kernels of two.

Everything equals torch's convolution up to the order of summation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .rows import as_computed

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_FAST = 3  # most columns of a kernel whose gradient torch computes fast


def depthwise(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Convolve every channel with its own kernel, at stride 1, padded with zeros to keep the size.

    Args:
        x: `(N, C, *spatial)`.
        weight: `(C, 1, *kernel)`, odd and of one width.
        dilation: distance of the kernel's taps.
    """
    if x.ndim == 3:
        return depthwise(x.unsqueeze(2), weight.unsqueeze(2), dilation).squeeze(2)
    if x.device.type != "cpu":
        return _convolve(x, weight, dilation)
    out: Tensor = _Depthwise.apply(as_computed(x), as_computed(weight), dilation)
    return out


def average(x: Tensor) -> Tensor:
    """Average over 3 positions along each axis of `(N, C, *spatial)`, the border over those that exist."""
    dims = x.ndim - 2
    sums = depthwise(x, x.new_ones(x.shape[1], 1, *(3,) * dims), 1)
    for axis, size in enumerate(x.shape[2:]):
        counts = x.new_full((size,), 3.0)
        counts[0] -= 1
        counts[-1] -= 1
        shares = counts.reciprocal().view(-1, *(1,) * (dims - 1 - axis))
        sums = sums * shares if axis == 0 else sums.mul_(shares)
    return sums


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        ctx.dilation = dilation
        return _along(x, weight, dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(tuple(range(2, weight.ndim)))
            of_x = depthwise(gradient, turned, ctx.dilation)
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(x, gradient, weight.shape[2:], ctx.dilation)
        return of_x, of_weight, None


def _convolve(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    convolve = F.conv2d if x.ndim == 4 else F.conv3d
    padding = [dilation * (width - 1) // 2 for width in weight.shape[2:]]
    return convolve(x, weight, None, 1, padding, dilation, x.shape[1])


def _along(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    x = x.contiguous(memory_format=_LAST[x.ndim])
    if dilation == 1 or x.ndim == 4:
        return _convolve(x, weight, dilation)
    size = x.shape[2:]
    return _joined(_convolve(_apart(x, dilation), weight, 1), dilation, size)


def _apart(x: Tensor, step: int) -> Tensor:
    """Take the interleaved grids of `(N, C, *spatial)` apart: `(step ** dims * N, C, *spatial / step)`."""
    missing = [-side % step for side in reversed(x.shape[2:])]
    if any(missing):
        x = F.pad(x, [width for side in missing for width in (0, side)])
    dims = x.ndim - 2
    x = x.movedim(1, -1)
    parted = x.reshape(x.shape[0], *(n for side in x.shape[1:-1] for n in (side // step, step)), x.shape[-1])
    phases, places = range(2, 2 * dims + 1, 2), range(1, 2 * dims, 2)
    grids = parted.permute(*phases, 0, *places, 2 * dims + 1)
    return grids.reshape(-1, *grids.shape[dims + 1 :]).movedim(-1, 1)


def _joined(x: Tensor, step: int, size: tuple[int, ...]) -> Tensor:
    """Undo `_apart`, and cut to the spatial size."""
    dims = x.ndim - 2
    x = x.movedim(1, -1)
    grids = x.reshape(*(step,) * dims, -1, *x.shape[1:])
    order = [dims, *(axis for k in range(dims) for axis in (dims + 1 + k, k)), 2 * dims + 1]
    whole = grids.permute(*order).reshape(-1, *(side * step for side in x.shape[1:-1]), x.shape[-1])
    cut = whole[(slice(None), *(slice(0, side) for side in size))]
    return cut.contiguous().movedim(-1, 1)


def _of_weight(x: Tensor, gradient: Tensor, kernel: tuple[int, ...], dilation: int) -> Tensor:
    """Return the gradient `(C, 1, *kernel)` of the weight of a convolution."""
    if dilation > 1:
        return _of_weight(_apart(x, dilation), _apart(gradient, dilation), kernel, 1)
    if len(kernel) == 2:
        return _of_plane(x, gradient, kernel)
    layers = []
    for shift in range(-(kernel[0] // 2), kernel[0] // 2 + 1):
        depth = x.shape[2]
        of_input = slice(max(0, shift), depth + min(0, shift))
        of_output = slice(max(0, -shift), depth - max(0, shift))
        layers.append(_of_plane(_planes(x[:, :, of_input]), _planes(gradient[:, :, of_output]), kernel[1:]))
    return torch.stack(layers, dim=2)


def _planes(x: Tensor) -> Tensor:
    """Turn `(N, C, D, H, W)` into `(N * D, C, H, W)`, channels last."""
    return x.movedim(1, -1).reshape(-1, *x.shape[3:], x.shape[1]).movedim(-1, 1)


def _of_plane(x: Tensor, gradient: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Return the gradient `(C, 1, *kernel)` of the weight of a convolution in two dimensions."""
    high, wide = (width // 2 for width in kernel)
    if kernel[1] <= _FAST:
        return _torch_gradient(x, gradient, kernel, [high, wide])
    padded = F.pad(x.movedim(1, -1), (0, 0, wide, wide)).movedim(-1, 1)
    out = x.new_empty(x.shape[1], 1, *kernel)
    for column in _starts(kernel[1]):
        window = padded[:, :, :, column : column + x.shape[3] + _FAST - 1]
        narrow = _torch_gradient(window, gradient, (kernel[0], _FAST), [high, 0])
        out[:, :, :, column : column + _FAST] = narrow
    return out


def _starts(width: int) -> list[int]:
    """Return where the 3-wide kernels begin that together cover a wider one.

    >>> _starts(3), _starts(5), _starts(7)
    ([0], [0, 2], [0, 3, 4])
    """
    return sorted({*range(0, width - _FAST + 1, _FAST), width - _FAST})


def _torch_gradient(x: Tensor, gradient: Tensor, kernel: tuple[int, ...], padding: list[int]) -> Tensor:
    channels = x.shape[1]
    like = x.new_empty(()).expand(channels, 1, *kernel)
    last = torch.channels_last
    _, found, _ = torch.ops.aten.convolution_backward(
        gradient.contiguous(memory_format=last),
        x.contiguous(memory_format=last),
        like.contiguous(),
        None,
        [1, 1],
        padding,
        [1, 1],
        False,
        [0, 0],
        channels,
        [False, True, False],
    )
    result: Tensor = found
    return result
