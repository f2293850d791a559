"""Compute once what depends on constants alone: softmaxed edge weights, reshaped gammas."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from .draft import Draft
from .report import PassReport

# An expanded constant larger than this would cost more in the file than it saves in time.
_LARGEST = 1 << 16


def fold_constants(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Replace every node whose inputs are all constants by its value."""
    draft = Draft(source, "fold_constants")
    for node in list(draft.graph.nodes):
        if not _depends_on_constants_alone(draft, node):
            continue
        value = _evaluate(draft, node)
        if value is None:
            draft.reject(node, "its constant value is not one tensor of moderate size")
            continue
        folded = draft.add_constant(node.name, value, node)
        draft.note(f"{node.name}: {_name(node)} of constants computed once")
        draft.replace(node, folded)
    return draft.finish()


def _depends_on_constants_alone(draft: Draft, node: fx.Node) -> bool:
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload) or not node.users:
        return False
    if torch.Tag.nondeterministic_seeded in target.tags or target._schema.is_mutable:
        return False
    inputs = node.all_input_nodes
    return bool(inputs) and all(draft.constant(item) is not None for item in inputs)


def _evaluate(draft: Draft, node: fx.Node) -> Tensor | None:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), draft.constant)
    assert callable(node.target)
    value = node.target(*args, **kwargs)
    if not isinstance(value, Tensor):
        return None
    largest = max(_LARGEST, *(_size(draft, item) for item in node.all_input_nodes))
    # A copy, so that a view does not tie the new constant to the host's parameter.
    return value.clone() if value.numel() <= largest else None


def _size(draft: Draft, node: fx.Node) -> int:
    found = draft.constant(node)
    return 0 if found is None else found.numel()


def _name(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.")
