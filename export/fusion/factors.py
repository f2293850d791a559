"""Numbers that a tensor is multiplied by one after the other: multiplied by their product at once."""

from __future__ import annotations

import torch
from torch import fx

from .draft import Draft, dtype_of
from .report import PassReport

aten = torch.ops.aten

_PRODUCTS = {aten.mul.Tensor, aten.mul.Scalar}
_QUOTIENTS = {aten.div.Tensor, aten.div.Scalar}

# Between these float32 and bfloat16 keep all digits of a number.
_SMALLEST, _LARGEST = 1e-30, 1e30


def merge_factors(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Multiply a tensor by the product of two numbers where it was multiplied by one after the other.

    Where the tensor in between is read by others as well, nothing is saved, but onnxruntime needs it: its
    MatMulScaleFusion loses such a tensor when a matrix product reads it, and refuses the file. Attention
    whose queries are scaled twice, once for each of two keys, is written so.
    """
    draft = Draft(source, "merge_factors")
    for node in list(draft.graph.nodes):
        outer = _scaled(node)
        inner = _scaled(outer[0]) if outer is not None else None
        if outer is None or inner is None:
            continue
        between, (tensor, factor) = outer[0], inner
        factor *= outer[1]
        if not _SMALLEST < abs(factor) < _LARGEST:
            draft.reject(node, f"the product of its numbers, {factor:.1e}, is out of range")
            continue
        with draft.graph.inserting_before(node):
            merged = draft.graph.call_function(aten.mul.Tensor, (tensor, factor))
        merged.meta = dict(node.meta)
        draft.note(f"{node.name}: multiplies {tensor.name} by the number of {between.name} as well")
        draft.replace(node, merged)
    return draft.finish()


def _scaled(node: fx.Node) -> tuple[fx.Node, float] | None:
    """Read a node as a tensor times a number; None where it is something else."""
    if node.op != "call_function" or len(node.args) != 2 or node.kwargs:
        return None
    tensor, number = node.args
    if node.target in _PRODUCTS and isinstance(number, fx.Node):
        tensor, number = number, tensor
    if not (isinstance(tensor, fx.Node) and isinstance(number, int | float)):
        return None
    dtype = dtype_of(node)
    if dtype is None or not dtype.is_floating_point or dtype_of(tensor) != dtype:
        return None
    if node.target in _PRODUCTS:
        return tensor, float(number)
    return (tensor, 1.0 / number) if node.target in _QUOTIENTS and number else None
