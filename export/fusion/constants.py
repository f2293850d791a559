"""Compute once what depends on constants alone: softmaxed edge weights, reshaped gammas."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from .draft import Draft
from .report import PassReport

# An expanded constant larger than this would cost more in the file than it saves in time.
_LARGEST = 1 << 16


def fold_constants(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Replace every node whose inputs are all constants by its value, or by those of its outputs."""
    draft = Draft(source, "fold_constants")
    for node in list(draft.graph.nodes):
        if not _depends_on_constants_alone(draft, node):
            continue
        found = _evaluate(draft, node)
        if not found:
            draft.reject(node, "its constant value is not tensors of moderate size")
            continue
        draft.note(f"{node.name}: {_name(node)} of constants computed once")
        for place, value in found.items():
            draft.replace(place, draft.add_constant(place.name, value, place))
    return draft.finish()


def _depends_on_constants_alone(draft: Draft, node: fx.Node) -> bool:
    if not _is_pure(node):
        return False
    if _makes_a_constant(node):
        # Worth a tensor in the file only where what it goes into is constant too: an identity in a solver.
        takers = (user.all_input_nodes for user in node.users if _is_pure(user))
        return any(all(_makes_a_constant(one) or _is_held(draft, one) for one in inputs) for inputs in takers)
    return bool(node.all_input_nodes) and all(_is_held(draft, one) for one in node.all_input_nodes)


def _is_pure(node: fx.Node) -> bool:
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload) or not node.users:
        return False
    return torch.Tag.nondeterministic_seeded not in target.tags and not target._schema.is_mutable


def _is_held(draft: Draft, node: fx.Node) -> bool:
    return draft.constant(node) is not None


def _makes_a_constant(node: fx.Node) -> bool:
    """Tell whether a node fills a tensor of a fixed size, from nothing; not one that leaves it unfilled."""
    return _is_pure(node) and not node.all_input_nodes and "empty" not in _name(node)


def _evaluate(draft: Draft, node: fx.Node) -> dict[fx.Node, Tensor]:
    """Return the values of a node, or of all that takes an output of it; nothing where they are too large."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), draft.constant)
    assert callable(node.target)
    value = node.target(*args, **kwargs)
    takers = [user for user in node.users if user.target is operator.getitem]
    if isinstance(value, Tensor):
        found = {node: value}
    elif isinstance(value, Sequence) and len(takers) == len(node.users):
        found = {taker: value[int(str(taker.args[1]))] for taker in takers}
    else:
        return {}
    largest = max([_LARGEST, *(_size(draft, item) for item in node.all_input_nodes)])
    if not all(isinstance(one, Tensor) and one.numel() <= largest for one in found.values()):
        return {}
    # Copies, so that a view does not tie the new constant to the host's parameter.
    return {place: one.clone() for place, one in found.items()}


def _size(draft: Draft, node: fx.Node) -> int:
    found = draft.constant(node)
    return 0 if found is None else found.numel()


def _name(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.")
