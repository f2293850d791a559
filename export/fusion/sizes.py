"""What is known of sizes that a graph leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols, statically_known_true

_DEPTH = 2  # the axis of volumes (N, C, D, H, W)
# Sizes tried for each free axis: expressions of sizes are sums and floors of quotients, which repeat.
_TRIED = 48


def is_multiple(graph: fx.Graph, size: Any, of: Any, factor: int, step: int = 1) -> bool:
    """Say whether `size` is `factor` times `of` at every size of the inputs that a network takes.

    Args:
        graph: the graph that both were traced in.
        size: an integer, or the expression of a free size.
        of: the same.
        factor: an integer.
        step: the sizes that the network takes differ from the example's by multiples of this.
    """
    if isinstance(size, int) and isinstance(of, int):
        return size == factor * of
    left, right = _expression(size), _expression(of)
    symbols = getattr(left, "free_symbols", set()) | getattr(right, "free_symbols", set())
    hints = _hints(graph)
    if len(symbols) != 1 or not symbols <= set(hints):
        return False
    symbol = symbols.pop()
    tried = _tried(symbol, hints[symbol], step)
    return all(_value(left, each) == factor * _value(right, each) for each in tried)


def is_known_multiple(node: fx.Node, axis: int, of: int, depth_step: int = 1) -> bool:
    """Say whether a tensor's size along an axis is a multiple, at all sizes that a network takes.

    Args:
        node: of the tensor.
        axis: of its size.
        of: what the size is to be a multiple of.
        depth_step: the depths of volumes that the network takes, their first spatial axis, differ by
            multiples of this.
    """
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return False
    if statically_known_true(value.shape[axis] % of == 0):
        return True
    expression, depths = _expression(value.shape[axis]), _hints(node.graph, _DEPTH)
    symbols: set[Any] = getattr(expression, "free_symbols", set())
    if depth_step == 1 or len(symbols) != 1 or not symbols <= set(depths):
        return False
    (symbol,) = symbols
    return all(_value(expression, sizes) % of == 0 for sizes in _tried(symbol, depths[symbol], depth_step))


def size_hint(size: Any) -> int:
    """Return a size, or the example's where it is free; 1 where not even that is known."""
    hint = size.node.hint if isinstance(size, torch.SymInt) else size
    return hint if isinstance(hint, int) else 1


def has_single(graph: fx.Graph) -> bool:
    """Tell whether a free size of anything in a graph is 1 at the example."""
    values = (node.meta.get("val") for node in graph.nodes)
    sizes = (size for value in values if isinstance(value, Tensor) for size in value.shape)
    return any(isinstance(size, torch.SymInt) and size.node.hint == 1 for size in sizes)


def refuse_read(node: fx.Node) -> str:
    """Return why a tensor is left in its shape: sizes that are read from tensors; empty for all others.

    torch.export knows nothing of such a size, and works for minutes at the shapes of what it is put into.
    """
    source = node.args[0]
    is_read = isinstance(source, fx.Node) and _is_read(source)
    return "its sizes are read from tensors" if is_read else ""


def reads_sizes(graph: fx.Graph) -> bool:
    """Tell whether a graph has tensors whose sizes are read from tensors."""
    return any(map(_is_read, graph.nodes))


def _is_read(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and bool(free_unbacked_symbols(value))


def _expression(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else size


def _value(expression: Any, sizes: dict[Any, int]) -> int:
    return int(expression.subs(sizes)) if hasattr(expression, "subs") else int(expression)


def _tried(symbol: Any, hint: int, step: int) -> Iterator[dict[Any, int]]:
    """Yield sizes of a free axis that differ from the example's by multiples of a step."""
    start = hint % step or step
    return ({symbol: start + step * number} for number in range(_TRIED))


def _hints(graph: fx.Graph, axis: int | None = None) -> dict[Any, int]:
    """Return the example's size of every free axis, or of one alone, by its symbol."""
    found: dict[Any, int] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or not isinstance(value, Tensor):
            continue
        for size in value.shape if axis is None else value.shape[axis : axis + 1]:
            if isinstance(size, torch.SymInt) and size.node.hint is not None:
                found[size.node.expr] = int(size.node.hint)
    return found
