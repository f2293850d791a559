"""In-place operations of a traced graph written out of place, where that is plainly the same."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, fx

aten = torch.ops.aten

# In evaluation mode these give back the very tensor they are given.
_SAME_TENSOR = {
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.detach.default,
    aten.alias.default,
}


def without_mutation(source: fx.GraphModule) -> fx.GraphModule | None:
    """Return the graph with `relu_` written as `relu`, and so on.

    Functionalisation by torch does this for every graph and takes seconds; nearly all networks write in
    place only into a tensor that nobody reads afterwards, where dropping the underscore is all there is.

    Returns:
        a new graph; None where an operation writes into an input, a parameter, a view, or a tensor that is
        read again.
    """
    module = fx.GraphModule(source, copy.deepcopy(source.graph))
    places = {node: place for place, node in enumerate(module.graph.nodes)}
    for node in list(module.graph.nodes):
        if not mutates(node):
            continue
        plain = _out_of_place(node)
        if plain is None or not _may_drop(node, places):
            return None
        node.target = plain
    module.recompile()
    return module


def mutates(node: fx.Node) -> bool:
    """Say whether a node writes into one of its inputs."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _out_of_place(node: fx.Node) -> torch._ops.OpOverload | None:
    assert isinstance(node.target, torch._ops.OpOverload)
    namespace, _, name = node.target._schema.name.partition("::")
    if namespace != "aten" or not name.endswith("_"):
        return None
    packet = getattr(aten, name[:-1], None)
    found = getattr(packet, node.target._overloadname, None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def _may_drop(node: fx.Node, places: dict[fx.Node, int]) -> bool:
    """Say whether nobody can tell the result of an operation from its first input written over."""
    written = node.args[0]
    types = {_type(item) for item in node.all_input_nodes}
    if not isinstance(written, fx.Node) or len(types) != 1:
        return False
    names = _names_of(written)
    if names is None:
        return False
    readers = {reader for name in names for reader in name.users if reader not in names}
    return all(
        reader is node or (places[reader] < places[node] and not _is_view(reader)) for reader in readers
    )


def _names_of(node: fx.Node) -> set[fx.Node] | None:
    """List the nodes that stand for the same tensor; None when others may hold it as well."""
    root = node
    while root.target in _SAME_TENSOR:
        above = root.args[0]
        assert isinstance(above, fx.Node)
        root = above
    if root.op != "call_function" or _is_view(root):
        return None
    names, pending = {root}, [root]
    while pending:
        below: Iterable[fx.Node] = [user for user in pending.pop().users if user.target in _SAME_TENSOR]
        pending += [user for user in below if user not in names]
        names |= set(below)
    return names


def _is_view(node: fx.Node) -> bool:
    """Say whether a node's result may share memory with its input."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return True
    if mutates(node):
        return False
    return any(item.alias_info is not None for item in node.target._schema.returns)


def _type(node: fx.Node) -> torch.dtype | None:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None
