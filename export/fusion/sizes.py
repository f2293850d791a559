"""What is known of sizes that a graph leaves open."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

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
    start = hints[symbol] % step or step
    tried = ({symbol: start + step * number} for number in range(_TRIED))
    return all(_value(left, each) == factor * _value(right, each) for each in tried)


def is_known_multiple(node: fx.Node, axis: int, of: int) -> bool:
    """Say whether a tensor's size along an axis is known to be a multiple, at any size of the inputs."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and bool(statically_known_true(value.shape[axis] % of == 0))


def size_hint(size: Any) -> int:
    """Return a size, or the example's where it is free; 1 where not even that is known."""
    hint = size.node.hint if isinstance(size, torch.SymInt) else size
    return hint if isinstance(hint, int) else 1


def _expression(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else size


def _value(expression: Any, sizes: dict[Any, int]) -> int:
    return int(expression.subs(sizes)) if hasattr(expression, "subs") else int(expression)


def _hints(graph: fx.Graph) -> dict[Any, int]:
    """Return the example's size of every free axis, by its symbol."""
    found: dict[Any, int] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or not isinstance(value, Tensor):
            continue
        for size in value.shape:
            if isinstance(size, torch.SymInt) and size.node.hint is not None:
                found[size.node.expr] = int(size.node.hint)
    return found
