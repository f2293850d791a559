"""Compute once what is written twice: the ReLU that several edges of a state begin with."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from typing import Any

import torch
from torch import fx

from .draft import Draft
from .report import PassReport

_OF_SIZES = {operator.add, operator.sub, operator.mul, operator.floordiv}


def share_equal_nodes(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Let nodes with the same operation, inputs and settings be one node."""
    draft = Draft(source, "share_equal_nodes")
    first: dict[Hashable, fx.Node] = {}
    for node in list(draft.graph.nodes):
        key = _key(node)
        if key is None:
            continue
        if key not in first:
            first[key] = node
            continue
        draft.note(f"{node.name} is {first[key].name}")
        draft.replace(node, first[key])
    return draft.finish()


def _key(node: fx.Node) -> Hashable | None:
    """Return what two nodes must have in common to be one; None for a node that may not be shared."""
    if node.op == "get_attr":
        return (node.op, node.target)
    target = node.target
    if node.op != "call_function" or not node.users:
        return None
    if target not in _OF_SIZES and not _is_function(target):
        return None
    key = (target, _frozen(node.args), _frozen(node.kwargs))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _is_function(target: Any) -> bool:
    """Say whether an operation of tensors gives the same each time, and changes nothing."""
    if not isinstance(target, torch._ops.OpOverload):
        return False
    return torch.Tag.nondeterministic_seeded not in target.tags and not target._schema.is_mutable


def _frozen(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((name, _frozen(item)) for name, item in value.items()))
    # 1, 1.0 and True are equal and hash alike, and mean different things to an operation.
    return (type(value).__name__, value)
