"""What is trained: the implants, and as much of the host beside them as was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from torch import fx, nn

from surgeon.skips import Anatomy, Kind
from surgeon.splicing import SplicedNetwork


class Train(StrEnum):
    """How much of the host is trained beside what is implanted."""

    CELLS = "cells"
    NORMS = "norms"
    DECODER = "decoder"
    ALL = "all"


class Moving(nn.Module):
    """The parameters that training moves: `implants`, and `host` by name with `/` for the dots.

    Args:
        implants: the spliced modules.
        host: parameters of the host, by their name there.
    """

    def __init__(self, implants: nn.Module, host: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.implants = implants
        self.host = nn.ParameterDict({name.replace(".", "/"): value for name, value in host.items()})


def host_parameters(network: SplicedNetwork, train: Train) -> dict[str, nn.Parameter]:
    """Return the host's parameters that are to be trained, by name.

    `norms` are scales and shifts: every parameter of one axis, those of norms and the biases of convolutions.
    `decoder` is what is computed after the first merge, and what raises the resolution on the way there.
    """
    host = {name: value for name, value in network.named_parameters() if not name.startswith("implants.")}
    if train is Train.CELLS:
        return {}
    if train is Train.NORMS:
        return {name: value for name, value in host.items() if value.ndim <= 1}
    if train is Train.DECODER:
        names = decoder_names(network.graph, network.anatomy, frozenset(host))
        return {name: value for name, value in host.items() if name in names}
    return host


def decoder_names(graph: fx.Graph, anatomy: Anatomy, parameters: frozenset[str]) -> frozenset[str]:
    """Return the names of the parameters that the decoder alone uses.

    Args:
        graph: of the host; implants may be in it.
        anatomy: of the host.
        parameters: the names of all the host's parameters.
    """
    decoder = _decoder_nodes(graph, anatomy)
    used: dict[str, bool] = {}
    constant: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr" or (node.all_input_nodes and constant.issuperset(node.all_input_nodes)):
            constant.add(node)
    for node in graph.nodes:
        for name in _names(node, parameters):
            users = [node] if node.op == "call_module" else list(_consumers(node, constant))
            used[name] = used.get(name, True) and all(user in decoder for user in users)
    return frozenset(name for name, inside in used.items() if inside)


def _names(node: fx.Node, parameters: frozenset[str]) -> Iterator[str]:
    if node.op == "get_attr" and node.target in parameters:
        yield str(node.target)
    if node.op == "call_module":
        yield from (name for name in parameters if name.startswith(f"{node.target}."))


def _consumers(node: fx.Node, constant: set[fx.Node]) -> Iterator[fx.Node]:
    """Yield what uses a parameter, looking through what only reshapes it."""
    for user in node.users:
        if user in constant:
            yield from _consumers(user, constant)
        else:
            yield user


def _decoder_nodes(graph: fx.Graph, anatomy: Anatomy) -> set[fx.Node]:
    nodes = {node.name: node for node in graph.nodes}
    skips = [skip for skip in anatomy.skips if skip.kind is not Kind.FUSION] or list(anatomy.skips)
    decoder = _closure([nodes[skip.merge_node] for skip in skips], up=False)
    deepest = skips[-1]
    encoder = _closure([nodes[skip.operand_node] for skip in skips], up=True)
    way = _closure([nodes[deepest.decoder_node]], up=True) - encoder
    sizes = {node: _size(node) for node in way if _size(node)}
    lowest = min(sizes.values(), default=0)
    return decoder | {node for node, size in sizes.items() if size > lowest}


def _closure(starts: list[fx.Node], *, up: bool) -> set[fx.Node]:
    """Return nodes with everything they depend on, or with everything that depends on them."""
    found: set[fx.Node] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes if up else node.users)
    return found


def _size(node: fx.Node) -> int:
    """Count the positions of the map that a node makes; 0 where it makes none."""
    shape = node.meta.get("shape")
    if node.op == "get_attr" or not isinstance(shape, tuple) or len(shape) < 3:
        return 0
    positions = 1
    for side in shape[2:]:
        positions *= side
    return positions
