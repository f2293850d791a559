"""Depthwise convolutions of volumes computed slice by slice, where a CPU is faster so."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from .calls import OPEN, caller
from .convolutions import Convolution, read_convolution
from .draft import Draft
from .report import PassReport

aten = torch.ops.aten

# Measured with onnxruntime on one core: below these, three dimensions at once are as fast.
_MANY_TAPS = 125
_MANY_CHANNELS, _BLOCK = 16, 8


def slice_depthwise(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Write a depthwise 3-D convolution as a sum of 2-D ones over shifted slices.

    onnxruntime has a fast CPU kernel for depthwise convolutions of images alone; for volumes it copies the
    neighbourhood of every voxel first. `conv(x)[d] = sum_k conv2d_k(x[d + k])` is exact, borders included.
    """
    draft = Draft(source, "slice_depthwise")
    for node in list(draft.graph.nodes):
        convolution = read_convolution(draft, node)
        if convolution is None or not _is_depthwise_volume(convolution):
            continue
        reason = _refusal(convolution)
        if reason:
            draft.reject(node, reason)
            continue
        draft.note(f"{node.name}: {convolution.kernel[0]} slices")
        draft.replace(node, _sliced(draft, node, convolution))
    return draft.finish()


def _is_depthwise_volume(convolution: Convolution) -> bool:
    groups = convolution.groups
    return len(convolution.kernel) == 3 and groups == convolution.channels_in == convolution.channels_out > 1


def _refusal(convolution: Convolution) -> str:
    """Return why a depthwise convolution of volumes stays as it is; empty when it is to be sliced."""
    reach = [step * (taps - 1) for step, taps in zip(convolution.dilation, convolution.kernel, strict=True)]
    keeps_size = convolution.padding is not None and [2 * side for side in convolution.padding] == reach
    if convolution.transposed or set(convolution.stride) != {1} or not keeps_size:
        return "its output has another size than its input"
    channels = convolution.groups
    in_blocks = channels % _BLOCK == 0 and channels >= _MANY_CHANNELS
    if math.prod(convolution.kernel) < _MANY_TAPS and not in_blocks:
        return "too few taps and channels for slices to be faster"
    return ""


def _sliced(draft: Draft, node: fx.Node, convolution: Convolution) -> fx.Node:
    """Insert the slices before a convolution of `x (N, C, D, H, W)`; return the node of their sum."""
    assert convolution.padding is not None
    margin, *padding = convolution.padding
    step, *dilation = convolution.dilation
    channels = convolution.groups
    call = caller(draft, node)
    x: Any = node.args[0]
    batch, depth, height, width = (call(aten.sym_size.int, x, axis) for axis in (0, 2, 3, 4))
    turned = call(aten.transpose.int, x, 1, 2)  # (N, D, C, H, W)
    padded = call(aten.constant_pad_nd.default, turned, [0] * 6 + [margin, margin])
    total: fx.Node | None = None
    for tap in range(convolution.kernel[0]):
        # From `tap * step` on as many slices as there were before the padding.
        rest = 2 * margin - tap * step
        part = call(aten.slice.Tensor, padded, 1, tap * step, -rest if rest else OPEN)
        flat = call(aten.reshape.default, part, [-1, channels, height, width])  # (N D, C, H, W)
        weight = draft.add_constant(f"{node.name}_tap{tap}", convolution.weight[:, :, tap], node)
        bias = None
        if tap == 0 and convolution.bias is not None:
            bias = draft.add_constant(f"{node.name}_bias", convolution.bias, node)
        done = call(aten.conv2d.default, flat, weight, bias, [1, 1], padding, dilation, channels)
        total = done if total is None else call(aten.add.Tensor, total, done)
    stacked = call(aten.reshape.default, total, [batch, depth, channels, height, width])
    whole = call(aten.transpose.int, stacked, 1, 2)
    whole.meta = dict(node.meta)
    return whole
