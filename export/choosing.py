"""Whether a network chooses by values: of two that rounding alone tells apart, either may win."""

from __future__ import annotations

import operator

from torch import fx

# Operations whose one output is a choice.
_CHOICES = {"argmax", "argmin", "argsort", "ceil", "floor", "round", "sign", "trunc"}
# Operations whose second output says where the first one stood.
_PLACES = {
    *("max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("kthvalue", "max", "median", "min", "mode", "sort", "topk"),
}


def chooses(graph: fx.Graph) -> bool:
    """Tell whether a graph of ATen operations uses a choice: a place, an order, a number made whole."""
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if node.target is operator.getitem:
            source = node.args[0]
            if node.args[1] == 1 and isinstance(source, fx.Node) and _name(source) in _PLACES:
                return True
        elif _name(node) in _CHOICES:
            return True
    return False


def _name(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return "" if packet is None else str(packet).removeprefix("aten.")
