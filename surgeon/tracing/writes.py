"""Writes into slices of a fresh tensor, made into values: padding by hand, as many a network does it."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.fx.node import Node

_ATEN = torch.ops.aten
_SCATTERS: dict[Any, Any] = {
    _ATEN.slice.Tensor: _ATEN.slice_scatter.default,
    _ATEN.select.int: _ATEN.select_scatter.default,
}
# Tensors that share their memory with nothing else.
_FRESH = (
    "zeros",
    "ones",
    "full",
    "empty",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "clone",
    "scatter",
)
# They may give back the very tensor that they are given: `zeros(...).float().to(device)`.
_GIVEN_ON = (_ATEN.to.dtype, _ATEN.to.device, _ATEN.to.dtype_layout, _ATEN.contiguous.default)


def writes_to_values(graph: fx.Graph) -> None:
    """Replace each `copy_` into slices of a fresh tensor by the tensor that results.

    In `padded = zeros(...); padded[:, :, :h] = x` the graph of torch.export has no edge from `x` to what
    later uses `padded`: the picture's way is hidden in the shared memory. Other writes stay as they are.
    """
    place = {node: index for index, node in enumerate(graph.nodes)}
    latest: dict[Node, Node] = {}
    for node in list(graph.nodes):
        if node.target is not _ATEN.copy_.default or node.users:
            continue
        views = _views(node)
        base = views[-1].args[0] if views else None
        if not isinstance(base, Node) or not _is_fresh(base) or _is_read_later(views, node, place):
            continue
        later = [user for user in base.users if place.get(user, -1) > place[node]]
        with graph.inserting_before(node):
            value = _scattered(graph, latest.get(base, base), views, node)
        for user in later:
            user.replace_input_with(base, value)
        place[value] = place[node]
        latest[base] = value
        graph.erase_node(node)


def _views(write: Node) -> list[Node]:
    """List the views through which a write reaches its tensor, the innermost first."""
    views: list[Node] = []
    target = write.args[0]
    while isinstance(target, Node) and target.target in _SCATTERS:
        views.append(target)
        target = target.args[0]
    return views


def _is_fresh(base: Node) -> bool:
    """Tell whether nobody else holds a tensor's memory."""
    if base.target in _GIVEN_ON:
        source = base.args[0]
        assert isinstance(source, Node)
        others = [user for user in source.users if user is not base and "_assert" not in str(user.target)]
        return not others and _is_fresh(source)
    return base.op == "call_function" and any(word in str(base.target) for word in _FRESH)


def _is_read_later(views: list[Node], write: Node, place: dict[Node, int]) -> bool:
    return any(place.get(user, -1) > place[write] for view in views for user in view.users)


def _scattered(graph: fx.Graph, base: Node, views: list[Node], write: Node) -> Node:
    """Add the nodes that make the tensor as it is after the write."""
    parents = [base]
    for view in reversed(views):
        parents.append(_node(graph, view.target, (parents[-1], *view.args[1:]), write))
    value = _node(graph, _ATEN.expand_as.default, (write.args[1], parents[-1]), write)
    value = _node(graph, _ATEN.type_as.default, (value, parents[-1]), write)
    for view, parent in zip(views, reversed(parents[:-1]), strict=True):
        value = _node(graph, _SCATTERS[view.target], (parent, value, *view.args[1:]), write)
    return value


def _node(graph: fx.Graph, target: Any, args: tuple[Any, ...], origin: Node) -> Node:
    node = graph.call_function(target, args)
    node.meta.update({key: item for key, item in origin.meta.items() if key != "val"})
    return node
