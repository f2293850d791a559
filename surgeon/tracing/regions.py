"""Regions that torch.export keeps as graphs of their own, taken into the graph around them."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch.fx.node import Node


def inline_regions(module: fx.GraphModule) -> None:
    """Put the nodes of regions without gradients, or with autocast off, in the place of the regions.

    `torch.no_grad()` in a forward, `autocast(enabled=False)` and reentrant checkpointing make one node of
    whatever runs inside, often half of a network. Where autocast is on, the region computes differently
    from its nodes and stays.
    """
    for node in list(module.graph.nodes):
        place = _graph_place(node)
        if place is None:
            continue
        holder = node.args[place]
        inner: Any = module.get_submodule(str(holder.target))
        inline_regions(inner)
        _inline(node, inner.graph, str(holder.target), node.args[place + 1 :])


def _graph_place(node: Node) -> int | None:
    """Return where among its arguments a region has its graph; None when it is no region to take in."""
    regions = torch.ops.higher_order
    if node.target is regions.wrap_with_set_grad_enabled:
        return 1
    if node.target is regions.wrap_with_autocast and not node.args[2]:
        return 4
    return None


def _inline(region: Node, inner: fx.Graph, path: str, operands: tuple[Any, ...]) -> None:
    graph = region.graph
    inputs = [node for node in inner.nodes if node.op == "placeholder"]
    places: dict[Node, Any] = dict(zip(inputs, operands, strict=True))
    results: Any = None
    with graph.inserting_before(region):
        for node in inner.nodes:
            if node.op == "output":
                results = fx.node.map_arg(node.args[0], places.__getitem__)
            elif node.op != "placeholder":
                places[node] = copied = graph.node_copy(node, places.__getitem__)
                if node.op == "get_attr":
                    copied.target = f"{path}.{node.target}"
    if isinstance(results, Node):
        region.replace_all_uses_with(results)
    for user in list(region.users):
        assert user.target is operator.getitem
        user.replace_all_uses_with(results[user.args[1]])
        graph.erase_node(user)
    graph.erase_node(region)
