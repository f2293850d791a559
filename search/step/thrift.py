"""The frozen part of a spliced graph with fewer operations: equal up to rounding.

- A BatchNorm in eval mode after a convolution is a part of the convolution: its passes over memory go,
  forward and backward.
- A convolution of a concatenation is the sum of one of each part. What no implant can influence becomes a
  convolution of its own, which the first half of the network computes once (see `halves`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

_ATEN = torch.ops.aten
_CONVOLUTIONS = frozenset(
    getattr(getattr(_ATEN, f"conv{dims}d"), form) for dims in (1, 2, 3) for form in ("default", "padding")
)
_GROUPS = 6  # place of the number of groups among the arguments of a convolution


def thrifty(network: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """Return a copy of a network's graph with fewer operations, and with the network's own modules.

    Args:
        network: the host with its implants; what its trained parameters influence is computed as it was.
        graph: of the network.
    """
    copied, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        copies[node] = copied.node_copy(node, copies.__getitem__)
    found = fx.GraphModule(network, copied)
    moved = influenced(copied.nodes, trained_in(network))
    for change in (_fold_norm, _split_concatenation):
        for node in list(copied.nodes):
            change(found, node, moved)
    copied.eliminate_dead_code(_stays)
    found.recompile()
    return found


def trained_in(network: nn.Module) -> set[str]:
    """Return the names of the parameters that are trained."""
    return {name for name, value in network.named_parameters() if value.requires_grad}


def influenced(nodes: Iterable[fx.Node], trained: set[str]) -> set[fx.Node]:
    """Return the nodes that implants or trained parameters can influence.

    Args:
        nodes: of a spliced graph, in order.
        trained: names of parameters.
    """
    found: set[fx.Node] = set()
    for node in nodes:
        if _moves(node, trained) or found & set(node.all_input_nodes):
            found.add(node)
    return found


def _moves(node: fx.Node, trained: set[str]) -> bool:
    """Tell whether a node is an implant or holds a parameter that is trained."""
    target = str(node.target)
    if node.op not in {"call_module", "get_attr"}:
        return False
    inside = f"{target}."
    return target.startswith("implants.") or any(n == target or n.startswith(inside) for n in trained)


def _stays(node: fx.Node) -> bool:
    """Tell whether a node stays in the graph though nobody uses it: all but what is replaced here."""
    return node.op != "get_attr" and node.target not in {*_CONVOLUTIONS, _ATEN.cat.default}


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution with frozen weights."""

    node: fx.Node
    weight: Tensor
    bias: Tensor | None

    @property
    def groups(self) -> int:
        return int(self.node.args[_GROUPS]) if len(self.node.args) > _GROUPS else 1  # type: ignore[arg-type]


def _convolution(network: fx.GraphModule, node: Any, moved: set[fx.Node]) -> _Convolution | None:
    """Read a node that is a convolution with frozen weights."""
    if not isinstance(node, fx.Node) or node.target not in _CONVOLUTIONS or node.kwargs:
        return None
    constants = _constants(network, (*node.args, None)[1:3], moved)
    return None if constants is None or constants[0] is None else _Convolution(node, *constants)


def _constants(network: fx.GraphModule, nodes: Sequence[Any], moved: set[fx.Node]) -> list[Any] | None:
    """Return the frozen tensors that nodes stand for, None for None; None if there is another among them."""
    known = [
        node is None or (isinstance(node, fx.Node) and node.op == "get_attr" and node not in moved)
        for node in nodes
    ]
    if not all(known):
        return None
    paths = [None if node is None else str(node.target).split(".") for node in nodes]
    values: list[Any] = [None if path is None else functools.reduce(getattr, path, network) for path in paths]
    return [None if value is None else value.detach() for value in values]


def _keep(network: fx.GraphModule, value: Tensor | None, place: fx.Node) -> fx.Node | None:
    """Give the network a constant of its own, read right before a node."""
    if value is None:
        return None
    name = f"_thrifty_{sum(1 for _ in network.buffers())}"
    network.register_buffer(name, value)
    with network.graph.inserting_before(place):
        return network.graph.get_attr(name)


def _fold_norm(network: fx.GraphModule, norm: fx.Node, moved: set[fx.Node]) -> None:
    """Put a BatchNorm in eval mode into the convolution before it."""
    if norm.target is not _ATEN.batch_norm.default or norm.args[5] is not False:
        return
    found, constants = _convolution(network, norm.args[0], moved), _constants(network, norm.args[1:5], moved)
    if found is None or constants is None or len(found.node.users) > 1:
        return
    scale, shift, mean, variance = (None if value is None else value.double() for value in constants)
    if mean is None or variance is None:
        return
    factor = torch.rsqrt(variance + float(norm.args[7]))  # type: ignore[arg-type]
    factor = factor if scale is None else factor * scale
    offset = -mean if found.bias is None else found.bias.double() - mean
    offset = offset * factor if shift is None else offset * factor + shift
    weight = found.weight.double() * factor.view(-1, *(1,) * (found.weight.ndim - 1))
    new = [_keep(network, value.to(found.weight.dtype), found.node) for value in (weight, offset)]
    found.node.args = (found.node.args[0], *new, *found.node.args[3:])
    norm.replace_all_uses_with(found.node)
    network.graph.erase_node(norm)


def _split_concatenation(network: fx.GraphModule, node: fx.Node, moved: set[fx.Node]) -> None:
    """Convolve what no implant can influence by itself, where it meets the rest in a concatenation."""
    found = _convolution(network, node, moved)
    if found is None or found.groups > 1:
        return
    whole: Any = node.args[0]
    if whole.target is not _ATEN.cat.default or len(whole.users) > 1 or whole.args[1:] != (1,):
        return
    joined: list[fx.Node] = list(whole.args[0])
    # A level without channels (an encoder that begins with a stride of 4) adds nothing to the sum.
    parts = [part for part in joined if _width(part)]
    widths = [_width(part) for part in parts]
    if len({part in moved for part in parts}) == 1 or sum(widths) != found.weight.shape[1]:
        return
    blocks = list(zip(parts, torch.split(found.weight, widths, dim=1), strict=True))
    sums = []
    for bias, chosen in (
        (None, [pair for pair in blocks if pair[0] in moved]),
        (found.bias, [pair for pair in blocks if pair[0] not in moved]),
    ):
        weight = _keep(network, torch.cat([block for _, block in chosen], dim=1), whole)
        sums.append(
            _convolved([part for part, _ in chosen], found, (weight, _keep(network, bias, whole)), whole)
        )
    with network.graph.inserting_before(node):
        total = network.graph.call_function(_ATEN.add.Tensor, tuple(sums))
    moved |= {sums[0], total}
    node.replace_all_uses_with(total)
    network.graph.erase_node(node)


def _width(node: fx.Node) -> int:
    return int(node.meta.get("shape", (0, 0))[1])


def _convolved(
    parts: list[fx.Node], found: _Convolution, constants: tuple[Any, Any], place: fx.Node
) -> fx.Node:
    """Write a convolution of some parts of a concatenation, right before that."""
    graph = place.graph
    with graph.inserting_before(place):
        joined = parts[0] if len(parts) == 1 else graph.call_function(_ATEN.cat.default, (parts, 1))
        node = graph.call_function(found.node.target, (joined, *constants, *found.node.args[3:]))  # type: ignore[arg-type]
    node.meta["shape"] = found.node.meta.get("shape")
    return node
