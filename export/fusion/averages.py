"""Averages over volumes computed plane by plane, where the operator set has a slow kernel for them."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from .attention import needs_attention
from .calls import caller
from .draft import Draft, arguments_of
from .report import PassReport
from .sizes import refuse_read

aten = torch.ops.aten


def average_planes(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Write an average over volumes as one over planes and one along the depth, beside attention.

    `Attention` needs an operator set in which onnxruntime averages volumes thirty times slower, and images at
    the usual speed. The average of a box is that of its planes' averages; how many positions of a box lie
    inside is a product as well, so borders are the same whether padding counts or not.
    """
    draft = Draft(source, "average_planes")
    if not needs_attention(source.graph):
        return draft.finish()
    for node in list(draft.graph.nodes):
        if node.target is not aten.avg_pool3d.default:
            continue
        reason = _refusal(node) or refuse_read(node)
        if reason:
            draft.reject(node, reason)
            continue
        draft.note(f"{node.name}: planes, then depth")
        draft.replace(node, _written(draft, node))
    return draft.finish()


def _refusal(node: fx.Node) -> str:
    found = arguments_of(node)
    if found["ceil_mode"] or found["divisor_override"]:
        return "it rounds its size up, or divides by a number of its own"
    value = node.args[0].meta.get("val") if isinstance(node.args[0], fx.Node) else None
    return "" if isinstance(value, Tensor) and value.ndim == 5 else "it is not of volumes in a batch"


def _written(draft: Draft, node: fx.Node) -> fx.Node:
    found, call = arguments_of(node), caller(draft, node)
    kernel = _triple(found["kernel_size"])
    stride, padding = _triple(found["stride"] or kernel), _triple(found["padding"])
    counted = found["count_include_pad"]

    def average(x: fx.Node, axes: slice, rest: list[int]) -> fx.Node:
        window = [[*each[axes], *tail] for each, tail in ((kernel, rest), (stride, rest))]
        padded = [*padding[axes], *(0 for _ in rest)]
        return call(aten.avg_pool2d.default, x, *window, padded, False, counted)

    # Tracer and exporter may disagree on how a convolution lays out its output: a view fails for one.
    x = call(aten.clone.default, node.args[0])
    x.kwargs = {"memory_format": torch.contiguous_format}
    batch, channels, depth = (call(aten.sym_size.int, x, axis) for axis in range(3))
    planes = average(call(aten.flatten.using_ints, x, 1, 2), slice(1, 3), [])  # (N, C D, H, W)
    height, width = (call(aten.sym_size.int, planes, axis) for axis in (2, 3))
    lines = call(aten.reshape.default, planes, [batch, channels, depth, -1])  # (N, C, D, H W)
    whole = average(lines, slice(0, 1), [1])
    whole = call(aten.unflatten.int, whole, 3, [height, width])
    whole.meta = dict(node.meta)
    return whole


def _triple(sizes: list[int]) -> list[int]:
    return [*sizes] if len(sizes) == 3 else [sizes[0]] * 3
