"""Remove what changes nothing: copies, multiplications by one, additions of zero, the `none` operation."""

from __future__ import annotations

import operator

import torch
from torch import fx

from .draft import Draft, arguments_of, dtype_of, shape_of
from .report import PassReport

aten = torch.ops.aten

_COPIES = {
    aten.clone.default,
    aten.alias.default,
    aten.detach.default,
    aten.contiguous.default,
    aten.lift_fresh_copy.default,
}
_VIEWS = {aten.view.default, aten._unsafe_view.default}
_DROPOUTS = {aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default}
_CASTS = {aten._to_copy.default, aten.to.dtype}
_FILLED_WITH_ZEROS = {aten.zeros_like.default}


def remove_neutral(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Remove the nodes that give back their input unchanged.

    `x * 0` counts as zeros, as the architecture's `none` operation writes it: where `x` is not finite
    the original would carry the NaN on, and the fused graph does not.
    """
    draft = Draft(source, "remove_neutral")
    for node in list(draft.graph.nodes):
        kept = _kept_operand(draft, node)
        if kept is None:
            continue
        if shape_of(kept) is None or shape_of(kept) != shape_of(node) or dtype_of(kept) != dtype_of(node):
            draft.reject(node, "it changes the shape or the type of its input")
            continue
        if node.target in _COPIES and _is_viewed(node):
            draft.reject(node, "a view of it asks for its layout in memory")
            continue
        draft.note(f"{node.name}: {str(node.target).removeprefix('aten.')} leaves {kept.name} as it is")
        draft.replace(node, kept)
    return draft.finish()


def _is_viewed(node: fx.Node) -> bool:
    """Whether something reads a tensor as a view of another shape, by itself or through views of it."""
    return any(
        reader.target in _VIEWS or (_passes_on(reader) and _is_viewed(reader)) for reader in node.users
    )


def _passes_on(node: fx.Node) -> bool:
    """Whether a node gives the memory of its input on: a selection, a transposition, one of several parts."""
    target = node.target
    return target is operator.getitem or (isinstance(target, torch._ops.OpOverload) and target.is_view)


def _kept_operand(draft: Draft, node: fx.Node) -> fx.Node | None:
    """Return the input that a neutral node gives back, or None."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    first = node.args[0]
    if node.target in _COPIES or (node.target in _DROPOUTS and not arguments_of(node)["train"]):
        return first
    if node.target in _CASTS and dtype_of(first) == dtype_of(node):
        return first
    if len(node.args) < 2:
        return None
    second = node.args[1]
    if node.target in {aten.mul.Tensor, aten.mul.Scalar}:
        return _other_than(draft, first, second, 1.0)
    if node.target in {aten.div.Tensor, aten.div.Scalar} and "rounding_mode" not in node.kwargs:
        return first if is_all(draft, second, 1.0) else None
    if node.target in {aten.sub.Tensor, aten.sub.Scalar}:
        return first if is_all(draft, second, 0.0) else None
    if node.target in {aten.add.Tensor, aten.add.Scalar}:
        return _addend_beside_zero(draft, node)
    return None


def _addend_beside_zero(draft: Draft, node: fx.Node) -> fx.Node | None:
    if float(node.kwargs.get("alpha", 1)) != 1.0:  # type: ignore[arg-type]
        return None
    return _other_than(draft, node.args[0], node.args[1], 0.0)


def _other_than(draft: Draft, left: object, right: object, value: float) -> fx.Node | None:
    if isinstance(left, fx.Node) and is_all(draft, right, value):
        return left
    if isinstance(right, fx.Node) and is_all(draft, left, value):
        return right
    return None


def is_all(draft: Draft, operand: object, value: float) -> bool:
    """Say whether an operand is `value` everywhere: a number, a constant, a product with zero."""
    if isinstance(operand, int | float):
        return float(operand) == value
    constant = draft.constant(operand)
    if constant is not None:
        return bool((constant == value).all())
    if value != 0.0 or not isinstance(operand, fx.Node):
        return False
    if operand.target in _FILLED_WITH_ZEROS:
        return True
    if operand.target not in {aten.mul.Tensor, aten.mul.Scalar}:
        return False
    return any(is_all(draft, factor, 0.0) for factor in operand.args)
