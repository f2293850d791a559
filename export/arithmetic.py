"""Whole numbers as Python computes with them: the sizes that a graph reckons while it runs.

The exporter takes every size for positive, and every quotient for a fraction. Networks that cut or fill up
what does not fit reckon with differences, `(wanted - found) // 2`, which may be below zero; Python rounds
those down, and ONNX divides towards zero.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from torch import fx


def translations(graph: fx.Graph) -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """Return how to write the arithmetic of a graph's sizes where the exporter's own way would be wrong.

    Args:
        graph: of an exported program, with the values that its nodes had when they were traced.
    """
    # Rounding down takes three operations where dividing takes one.
    floor = {operator.floordiv: _floor_divided} if any(map(_may_be_negative, graph.nodes)) else {}
    return {math.ceil: _ceiling, math.floor: _floor, round: _rounded, **floor}


def _may_be_negative(node: fx.Node) -> bool:
    """Tell whether a node divides what could be below zero, by the bounds of the sizes it is made of."""
    if node.target is not operator.floordiv or not isinstance(node.args[0], fx.Node):
        return False
    value = node.args[0].meta.get("val")
    if not isinstance(value, torch.SymInt):
        return not isinstance(value, int) or value < 0
    known = value.node.shape_env
    return known is None or bool(known.bound_sympy(value.node.expr).lower < 0)


def _floor_divided(dividend: Any, divisor: Any) -> Any:
    return op.Div(op.Sub(dividend, op.Mod(dividend, divisor)), divisor)


def _ceiling(value: Any) -> Any:
    return value if _is_whole(value) else op.Cast(op.Ceil(value), to=ir.DataType.INT64)


def _floor(value: Any) -> Any:
    return value if _is_whole(value) else op.Cast(op.Floor(value), to=ir.DataType.INT64)


def _rounded(value: Any, digits: None = None) -> Any:
    if digits is not None:
        raise NotImplementedError(f"a size rounded to {digits} digits")
    # Of two that are as near, both Python and ONNX take the even one.
    return value if _is_whole(value) else op.Cast(op.Round(value), to=ir.DataType.INT64)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or value.dtype.is_integer()
