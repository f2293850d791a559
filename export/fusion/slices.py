"""Depthwise convolutions of volumes computed slice by slice, where a CPU is faster so."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, fx

from .calls import caller
from .convolutions import Convolution, read_convolution
from .draft import Draft
from .report import PassReport
from .sizes import is_known_multiple, size_hint
from .slicewise import SLICES

# onnxruntime's kernels for images work on blocks of so many channels (8 on older processors) and fill them up
# with zeros: so the slices of a few channels stand side by side, as channels of one image.
_BLOCK = 16
_MOST_SIDE_BY_SIDE = 8


def slice_depthwise(source: fx.GraphModule, *, depth_step: int = 1) -> tuple[fx.GraphModule, PassReport]:
    """Write a depthwise 3-D convolution as a sum of 2-D ones over shifted slices.

    onnxruntime has a fast CPU kernel for depthwise convolutions of images alone; for volumes it copies the
    neighbourhood of every voxel first. `conv(x)[d] = sum_k conv2d_k(x[d + k])` is exact, borders included.
    Slices of few channels are taken several at a time, the kernel repeated for each.

    Args:
        source: the graph.
        depth_step: the depths that the network takes differ from the example's by multiples of this; a depth
            that does not divide into the slices taken at a time is filled up where there may be one.
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
        abreast = _abreast(node.args[0], convolution.groups)
        draft.note(f"{node.name}: {convolution.kernel[0]} slices, {abreast} side by side")
        even = is_known_multiple(node.args[0], 2, abreast, depth_step)
        draft.replace(node, _sliced(draft, node, convolution, abreast, 0 if even else abreast - 1))
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
    return ""


def _abreast(x: Any, channels: int) -> int:
    """Return how many slices stand side by side, so that the fewest blocks of channels are computed.

    Args:
        x: the node of the volumes `(N, C, D, H, W)`; of its depth that of the example counts.
        channels: C.
    """
    value = x.meta.get("val")
    depth = size_hint(value.shape[2]) if isinstance(value, Tensor) else _BLOCK

    def blocks(number: int) -> int:
        return math.ceil(depth / number) * math.ceil(number * channels / _BLOCK)

    return min(range(1, min(depth, _MOST_SIDE_BY_SIDE) + 1), key=blocks)


def _sliced(draft: Draft, node: fx.Node, convolution: Convolution, abreast: int, filled: int) -> fx.Node:
    """Insert the operation on slices before a convolution of `x (N, C, D, H, W)`.

    Args:
        draft: the graph.
        node: of the convolution.
        convolution: what it is.
        abreast: slices side by side.
        filled: slices that the depth is filled up by at most.
    """
    assert convolution.padding is not None
    taps = convolution.weight.repeat(abreast, 1, 1, 1, 1).unbind(2)
    weights = [draft.add_constant(f"{node.name}_tap{tap}", weight, node) for tap, weight in enumerate(taps)]
    bias = convolution.bias
    constant = None if bias is None else draft.add_constant(f"{node.name}_bias", bias.repeat(abreast), node)
    geometry = [*convolution.stride, *convolution.padding, *convolution.dilation]
    made = caller(draft, node)(SLICES.target, node.args[0], weights, constant, geometry, filled)
    made.meta = dict(node.meta)
    return made
