"""Pools whose window is all of a free size: found while a host is traced, and kept as pools in its graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, library
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional as F

_ATEN = torch.ops.aten
_OPERATIONS: Mapping[str, tuple[Any, ...]] = {
    "average": (_ATEN.avg_pool1d.default, _ATEN.avg_pool2d.default, _ATEN.avg_pool3d.default),
    "max": (_ATEN.max_pool1d.default, _ATEN.max_pool2d.default, _ATEN.max_pool3d.default),
}
_KINDS: Mapping[Any, str] = {
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, *_OPERATIONS["average"]), "average"),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d, *_OPERATIONS["max"]), "max"),
}
_FIRST = ("input", "kernel_size", "stride", "padding")
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "average": (*_FIRST, "ceil_mode", "count_include_pad", "divisor_override"),
    "max": (*_FIRST, "dilation", "ceil_mode", "return_indices"),
}
# What these are where they change nothing of a window that is all of the input.
_NEUTRAL = {"padding": 0, "dilation": 1, "divisor_override": None, "return_indices": False}


@dataclass(frozen=True, slots=True)
class WholePool:
    """A pool over all positions along some axes.

    Attributes:
        x: `(N, C, *spatial)`.
        kind: `average` or `max`.
        axes: counted from the batch; the window is one position wide along the others.
    """

    x: Tensor
    kind: str
    axes: tuple[int, ...]

    @classmethod
    def read(cls, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> WholePool | None:
        """Read a call of torch's; None where it is no such pool, or no size of its window is free."""
        kind = _KINDS.get(function)
        if kind is None:
            return None
        given = {**dict(zip(_ARGUMENTS[kind], args, strict=False)), **kwargs}
        x, window, stride = given["input"], given["kernel_size"], given.get("stride")
        sides = _for_each(window, x.ndim - 2)
        steps = _for_each(window if stride in (None, []) else stride, x.ndim - 2)
        is_free = any(isinstance(side, torch.SymInt) for side in sides)
        if not is_free or not _is_plain(given) or len(sides) != x.ndim - 2:  # an image without a batch
            return None
        found = []
        for axis, (side, step, size) in enumerate(zip(sides, steps, x.shape[2:], strict=True), start=2):
            if statically_known_true(side == size):
                found.append(axis)
            elif not (statically_known_true(side == 1) and statically_known_true(step == 1)):
                return None
        return cls(x, kind, tuple(found)) if found else None

    def marked(self) -> Tensor:
        """Compute it in a way that marks it in a graph, for `restore_pools`."""
        pooled: Tensor = pool_whole(self.x, self.kind, self.axes)
        return pooled

    def reduced(self) -> Tensor:
        """Compute it as a mean or a maximum; equal up to rounding."""
        axes = list(self.axes)
        return self.x.mean(axes, keepdim=True) if self.kind == "average" else self.x.amax(axes, keepdim=True)


def _is_plain(given: Mapping[str, Any]) -> bool:
    """Tell whether nothing pads, stretches or weighs a window."""
    values = ((value, name) for name in _NEUTRAL for value in _for_each(given.get(name, _NEUTRAL[name]), 1))
    return all(value == _NEUTRAL[name] for value, name in values)


def _for_each(value: Any, axes: int) -> tuple[Any, ...]:
    """Return a value for each axis; torch takes one for all, alone or in a list."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * axes if len(values) == 1 else values


@library.custom_op("surgeon::pool_whole", mutates_args=())
def pool_whole(x: Tensor, kind: str, axes: Sequence[int]) -> Tensor:
    """Pool all positions along some axes: what marks such a pool in a graph.

    Args:
        x: `(N, C, *spatial)`.
        kind: `average` or `max`.
        axes: counted from the batch.
    """
    window = [size if axis in axes else 1 for axis, size in enumerate(x.shape)][2:]
    pooled: Tensor = _OPERATIONS[kind][len(window) - 1](x, window)
    return pooled


@pool_whole.register_fake
def _(x: Tensor, kind: str, axes: Sequence[int]) -> Tensor:
    del kind
    return x.new_empty([1 if axis in axes else size for axis, size in enumerate(x.shape)])


def restore_pools(graph: fx.Graph) -> None:
    """Make pools of what marks them, with the sizes of their inputs as windows."""
    for node in list(graph.nodes):
        if node.target is torch.ops.surgeon.pool_whole.default:
            node.replace_all_uses_with(_pool_before(node))
            graph.erase_node(node)


def _pool_before(mark: fx.Node) -> fx.Node:
    graph, (x, kind, axes) = mark.graph, mark.args
    assert isinstance(x, fx.Node)
    shape = x.meta["val"].shape
    window: list[Any] = [1] * (len(shape) - 2)
    with graph.inserting_before(mark):
        for axis in axes:  # type: ignore[union-attr]
            size = graph.call_function(_ATEN.sym_size.int, (x, axis))
            size.meta["val"] = shape[axis]  # type: ignore[index]
            window[axis - 2] = size  # type: ignore[operator, index]
        pool = graph.call_function(_OPERATIONS[str(kind)][len(window) - 1], (x, window))
    pool.meta = dict(mark.meta)
    return pool
