"""Convolutions of volumes as 2-D ones of their planes: a sum over taps, or two planes at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from onnxscript import opset18 as op
from torch import Tensor
from torch.nn import functional

from .calls import OPEN
from .registering import each, ints, register


def convolve_taps(
    x: Tensor,
    weights: list[Tensor],
    bias: Tensor | None,
    geometry: list[int],
) -> Tensor:
    """Convolve volumes by a sum over the taps along the depth: `y[d] = sum_k conv2d_k(x[s d + k])`.

    Args:
        x: `(N, C, D, H, W)`.
        weights: `(O, C, h, w)` for each tap.
        bias: `(O,)`.
        geometry: the strides along depth, height and width, then the padding on either side, then the
            dilations.

    Returns:
        `(N, O, D', H', W')`.
    """
    stride, padding, dilation = each(geometry)
    padded = functional.pad(x.transpose(1, 2), [0] * 6 + [padding[0]] * 2)  # (N, D, C, H, W)
    beyond = padded.shape[1] - dilation[0] * (len(weights) - 1)
    total = None
    for tap, weight in enumerate(weights):
        start = tap * dilation[0]
        part = padded[:, start : start + beyond : stride[0]]
        done = functional.conv2d(
            part.flatten(0, 1), weight, None if tap else bias, stride[1:], padding[1:], dilation[1:]
        )
        total = done if total is None else total + done
    assert total is not None
    return total.reshape(x.shape[0], -1, *total.shape[1:]).transpose(1, 2).contiguous()


def convolve_pairs(
    x: Tensor,
    weights: list[Tensor],
    bias: Tensor | None,
    geometry: list[int],
    even: bool,
) -> Tensor:
    """Convolve volumes with three taps at stride 1, two planes at a time.

    Four 2-D convolutions do in place of six, by the minimal filtering F(2, 3) of Winograd (Lavin and Gray,
    arXiv 1509.09308), along the depth alone. `y[0]` and `y[1]` are of the planes `x[0]` to `x[3]`:

        y[0] = m0 + m1 + m2    m0 = w0 (x[0] - x[2])    m1 = (w0 + w1 + w2) / 2 (x[1] + x[2])
        y[1] = m1 - m2 - m3    m3 = w2 (x[1] - x[3])    m2 = (w0 - w1 + w2) / 2 (x[2] - x[1])

    Args:
        x: `(N, C, D, H, W)`.
        weights: of `m0`, `m1`, `m2` and `m3`, from `weights_of_pairs`.
        bias: `(O,)`.
        geometry: as above; stride and dilation along the depth are 1.
        even: whether the depth is even at all sizes; else one plane more is computed and cut off.

    Returns:
        `(N, O, D', H', W')`.
    """
    stride, padding, dilation = each(geometry)
    margin, more = padding[0], 0 if even else 1
    padded = functional.pad(x.transpose(1, 2), [0] * 6 + [margin, margin + more])  # (N, D, C, H, W)
    beyond = padded.shape[1] - 3
    parts = _combined([padded[:, start : start + beyond : 2] for start in range(4)])
    # The second product is in both planes with a plus: it carries the bias.
    m = [
        functional.conv2d(
            part.flatten(0, 1), weight, bias if at == 1 else None, stride[1:], padding[1:], dilation[1:]
        )
        for at, (part, weight) in enumerate(zip(parts, weights, strict=True))
    ]
    pairs = torch.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]], 1)  # (N D'/2, 2, O, H', W')
    planes = pairs.reshape(x.shape[0], -1, *pairs.shape[2:])
    return planes[:, : x.shape[2] + 2 * margin - 2].transpose(1, 2).contiguous()


def weights_of_pairs(weight: Tensor) -> list[Tensor]:
    """Return the weights of `convolve_pairs` for those of a convolution, `(O, C, 3, h, w)`."""
    first, middle, last = weight.double().unbind(2)
    wanted = (first, (first + middle + last) / 2, (first - middle + last) / 2, last)
    return [each.to(weight) for each in wanted]


def _combined(x: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Return what the four weights of a pair are multiplied with."""
    return x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]


def _write_taps(x: Any, weights: Any, bias: Any, geometry: list[int]) -> Any:
    """Write `convolve_taps` as ONNX."""
    stride, padding, dilation = each(geometry)
    turned = op.Transpose(x, perm=[0, 2, 1, 3, 4])
    margin, step, taps = padding[0], dilation[0], len(weights)
    if margin:
        turned = op.Pad(turned, ints(margin, margin), None, ints(1))
    total = None
    for tap, weight in enumerate(weights):
        end = -step * (taps - 1 - tap) or OPEN
        part = op.Slice(turned, ints(tap * step), ints(end), ints(1), ints(stride[0]))
        done = _convolved(part, weight, None if tap else bias, geometry)
        total = done if total is None else op.Add(total, done)
    return _turned_back(x, total)


def _write_pairs(x: Any, weights: Any, bias: Any, geometry: list[int], even: bool) -> Any:
    """Write `convolve_pairs` as ONNX."""
    _, padding, _ = each(geometry)
    margin = padding[0]
    parts = _combined(_every_second(x, margin, 0 if even else 1))
    biases = (None, bias, None, None)
    m = [
        _convolved(part, weight, of_it, geometry)
        for part, weight, of_it in zip(parts, weights, biases, strict=True)
    ]
    left = op.Add(op.Add(m[0], m[1]), m[2])
    right = op.Sub(op.Sub(m[1], m[2]), m[3])
    pairs = op.Concat(op.Unsqueeze(left, ints(1)), op.Unsqueeze(right, ints(1)), axis=1)
    depth = None if even else op.Add(op.Shape(x, start=2, end=3), ints(2 * margin - 2))
    return _turned_back(x, left, pairs, depth)


def _every_second(x: Any, margin: int, more: int) -> list[Any]:
    """Take every second plane of the padded input, from the first, the second, the third and the fourth.

    The planes are taken by their numbers, which are padded and sliced in their place: onnxruntime takes on
    all threads, while it pads and slices volumes on one. A plane beyond an end is the last one, times 0.

    Args:
        x: `(N, C, D, H, W)`.
        margin: planes of padding at either end.
        more: further planes at the far end.

    Returns:
        four values `(N, D'/2, C, H, W)`.
    """
    turned = op.Transpose(x, perm=[0, 2, 1, 3, 4])
    depth = op.Shape(x, start=2, end=3)
    end = op.Squeeze(op.Add(depth, ints(margin + more)))
    wanted = op.Range(op.Constant(value_int=-margin), end, op.Constant(value_int=1))
    numbers = op.Min(op.Max(wanted, ints(0)), op.Sub(depth, ints(1)))
    inside = op.Reshape(op.CastLike(op.Equal(wanted, numbers), x), ints(-1, 1, 1, 1))
    parts = []
    for start in range(4):
        cut = (ints(start), ints(start - 3 or OPEN), ints(0), ints(2))
        part = op.Gather(turned, op.Slice(numbers, *cut), axis=1)
        if start < margin or start > 3 - margin - more:
            part = op.Mul(part, op.Slice(inside, *cut))
        parts.append(part)
    return parts


def _convolved(part: Any, weight: Any, bias: Any, geometry: list[int]) -> Any:
    """Convolve every plane of `(N, D, C, H, W)`, to `(N D, O, H', W')`."""
    stride, padding, dilation = each(geometry)
    shape = op.Concat(ints(-1), op.Shape(part, start=2, end=5), axis=0)
    operands = [op.Reshape(part, shape), weight, *([] if bias is None else [bias])]
    pads = [*padding[1:], *padding[1:]]
    return op.Conv(*operands, strides=stride[1:], pads=pads, dilations=dilation[1:])


def _turned_back(x: Any, planes: Any, stacked: Any = None, depth: Any = None) -> Any:
    """Write `(N D, O, H, W)` as `(N, O, D, H, W)`.

    Args:
        x: the input, whose batch it has.
        planes: of that shape.
        stacked: the values, where they lie in another shape; by default `planes`.
        depth: how many planes are kept; by default all.
    """
    sizes = [op.Shape(x, start=0, end=1), ints(-1), op.Shape(planes, start=1, end=4)]
    whole = op.Reshape(planes if stacked is None else stacked, op.Concat(*sizes, axis=0))
    if depth is not None:
        whole = op.Slice(whole, ints(0), depth, ints(1))
    return op.Transpose(whole, perm=[0, 2, 1, 3, 4])


def _shaped(x: Tensor, weights: list[Tensor], bias: Any, geometry: list[int], *in_pairs: bool) -> Tensor:
    del bias
    channels_out, channels_in, *kernel = weights[0].shape
    taps = 3 if in_pairs else len(weights)
    whole = x.new_empty((channels_out, channels_in, taps, *kernel))
    return functional.conv3d(x, whole, None, *each(geometry))


TAPS = register(convolve_taps, _write_taps, _shaped)
PAIRS = register(convolve_pairs, _write_pairs, _shaped)
