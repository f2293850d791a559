"""Norms over large images, computed in steps where the runtime adds up all values one after another."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from .calls import caller
from .draft import Draft, arguments_of
from .report import PassReport
from .sizes import refuse_read, size_hint

aten = torch.ops.aten

MOST = 2**18
"""Values that one norm may see; one that sees more is computed in steps.

onnxruntime's kernel for a CPU (1.31) sums in float32, one value after another. That moves the result by 9e-6
of a standard deviation at 2**18 values, by 2e-4 at 2**21 (a channel of 128x128x128), by 3e-3 at 2**24 (eight
of them in a group), and by far more where all values are equal, as in a window that shows no body
(`benchmarks.export_norms`). In steps a norm takes longer, which is little beside the convolutions.
"""

_NORMS = (aten.instance_norm.default, aten.group_norm.default)


def steady_norms(source: fx.GraphModule, most: int | None = None) -> tuple[fx.GraphModule, PassReport]:
    """Write norms over more than `most` values (`MOST`) as averages of lines and averages of those.

    A line is what lies behind the first spatial axis. The variance is that of values from which their mean
    has been taken, so nothing cancels; what rounding left of the mean is taken away with the shift.
    """
    draft = Draft(source, "steady_norms")
    for node in list(draft.graph.nodes):
        if node.target not in _NORMS or _values_seen(node) <= (MOST if most is None else most):
            continue
        reason = _refusal(node) or refuse_read(node)
        if reason:
            draft.reject(node, reason)
            continue
        draft.note(f"{node.name}: lines, then the rest")
        draft.replace(node, _written(draft, node))
    return draft.finish()


def has_norms(graph: fx.Graph) -> bool:
    """Tell whether a graph holds norms that are left to the runtime's kernel."""
    return any(node.target in _NORMS for node in graph.nodes)


def _values_seen(node: fx.Node) -> int:
    """Return over how many values each mean of a norm goes, at the size of the example."""
    shape = _shape(node)
    return math.prod(shape[1:]) // _groups(node) if len(shape) > 1 else 0


def _refusal(node: fx.Node) -> str:
    if not arguments_of(node).get("use_input_stats", True):
        return "it goes by running statistics"
    return "" if len(_shape(node)) > 3 else "it has one line"


def _shape(node: fx.Node) -> tuple[int, ...]:
    value = node.args[0].meta.get("val") if isinstance(node.args[0], fx.Node) else None
    return tuple(map(size_hint, value.shape)) if isinstance(value, Tensor) else ()


def _groups(node: fx.Node) -> int:
    groups = arguments_of(node).get("num_groups")
    return int(groups) if groups is not None else _shape(node)[1]


def _written(draft: Draft, node: fx.Node) -> fx.Node:
    found, call = arguments_of(node), caller(draft, node)
    (_, channels, *spatial), groups = _shape(node), _groups(node)
    alone = [1] * len(spatial)
    x = found["input"]
    batch = call(aten.sym_size.int, x, 0)

    def average(values: fx.Node) -> fx.Node:
        lines = call(aten.mean.dim, values, list(range(3, 2 + len(spatial))), True)
        rows = call(aten.reshape.default, lines, [batch, groups, -1])
        whole = call(aten.mean.dim, rows, [2], True)
        spread = call(aten.expand.default, whole, [-1, -1, channels // groups])
        return call(aten.reshape.default, spread, [batch, channels, *alone])

    def of_channels(parameter: Any) -> fx.Node:
        return call(aten.reshape.default, parameter, [1, channels, *alone])

    centred = call(aten.sub.Tensor, x, average(x))
    left = average(centred)
    variance = average(call(aten.mul.Tensor, centred, centred))
    scale = call(aten.rsqrt.default, call(aten.add.Scalar, variance, found["eps"]))
    if found["weight"] is not None:
        scale = call(aten.mul.Tensor, scale, of_channels(found["weight"]))
    shift = call(aten.neg.default, call(aten.mul.Tensor, left, scale))
    if found["bias"] is not None:
        shift = call(aten.add.Tensor, shift, of_channels(found["bias"]))
    result = call(aten.add.Tensor, call(aten.mul.Tensor, centred, scale), shift)
    result.meta = dict(node.meta)
    return result
