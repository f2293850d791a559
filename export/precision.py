"""A float32 model with float16 inside: what is safe is halved, what is not stays, casts at the borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import Tensor

from surgeon.errors import ExportError

from .exposing import expose, run_exposed

# Statistics of a norm sum thousands of squares and overflow in float16, so norms and reductions are not here.
_SAFE = frozenset(
    (
        "Conv",
        "ConvTranspose",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Sigmoid",
        "Tanh",
        "Elu",
        "Selu",
        "HardSigmoid",
        "HardSwish",
        "Softplus",
        "Gelu",
        "Clip",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Abs",
        "Concat",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Slice",
        "Split",
        "Gather",
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Expand",
        "Tile",
        "Pad",
        "Identity",
        "Gemm",
        "MatMul",
        "Resize",
        "Softmax",
    )
)
# float16 ends at 65504; other inputs may reach further than those that were measured.
_WIDEST = 65504 / 8
# Below this float16 loses digits, and soon everything.
_NARROWEST = 2.0**-14
# What hands a value on that may be as small as the number that keeps it from zero.
_HAND_ON = frozenset(("Sqrt", "Expand", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Transpose"))
# Inputs that stay float32 by the operator's own signature.
_ALWAYS_FLOAT32 = {"Resize": (1, 2)}


def halve(model: ir.Model, inputs: Sequence[Sequence[Tensor]]) -> tuple[ir.Model, dict[str, str]]:
    """Turn the safe nodes of a float32 model into float16.

    Inputs and outputs stay float32. Norms and reductions stay, and so does every node with an activation or
    a weight beyond an eighth of what float16 can hold, measured on `inputs`, and what divides by a sum that a
    number too small for float16 keeps from zero.

    Args:
        model: from `build_model`.
        inputs: the example, and real inputs where there are some, each in the order of the model's inputs.

    Returns:
        a new model, and for each node that stayed in float32 the reason.

    Raises:
        ExportError: the model has functions or branches of its own, or no node could be halved.
    """
    model = model.clone()
    if model.functions or any(_has_branches(node) for node in model.graph):
        raise ExportError(
            "a graph with branches or functions cannot be turned into float16",
            where="precision",
            fix="use precision='fp32'",
        )
    ranges = measure_ranges(model, inputs)
    conversion = _Conversion(model.graph)
    kept: dict[str, str] = {}
    small: set[ir.Value] = set()
    for node in list(model.graph):
        if not any(_is_real(value) for value in (*node.inputs, *node.outputs)):
            continue
        reason = _why_small(node, ranges, small) or _why_kept(node, ranges)
        if reason:
            kept[f"{node.op_type} {node.outputs[0].name}"] = reason
        conversion.convert(node, ir.DataType.FLOAT if reason else ir.DataType.FLOAT16)
    if not conversion.halved:
        raise ExportError(
            "none of its nodes can run in float16", where="precision", fix="use precision='fp32'"
        )
    conversion.finish()
    return model, kept


def measure_ranges(model: ir.Model, inputs: Sequence[Sequence[Tensor]]) -> dict[str, float]:
    """Run a float32 model and return the largest absolute value of every real tensor in it, by name.

    Args:
        model: to run.
        inputs: of each run, in the order of the model's inputs.
    """
    ranges = {
        name: _widest(value.const_value.numpy())
        for name, value in model.graph.initializers.items()
        if _is_real(value) and value.const_value is not None
    }
    proto = expose(model)
    for tensors in inputs:
        arrays = run_exposed(proto, tensors)
        given = zip((str(value.name) for value in model.graph.inputs), tensors, strict=True)
        arrays |= {name: tensor.detach().cpu().numpy() for name, tensor in given}
        for name, array in arrays.items():
            ranges[name] = max(ranges.get(name, 0.0), _widest(array))
    return ranges


class _Conversion:
    """Rewrites a graph node by node, in order, with a cast wherever two types meet."""

    def __init__(self, graph: ir.Graph) -> None:
        self.halved = 0
        self._graph = graph
        self._made: dict[tuple[int, ir.DataType], ir.Value] = {}

    def convert(self, node: ir.Node, dtype: ir.DataType) -> None:
        """Let a node read and write one type."""
        fixed = _ALWAYS_FLOAT32.get(node.op_type, ())
        for index, value in enumerate(node.inputs):
            wanted = ir.DataType.FLOAT if index in fixed else dtype
            if value is not None and _is_real(value) and value.dtype != wanted:
                node.replace_input_with(index, self._as(value, wanted, node))
        if dtype == ir.DataType.FLOAT:
            return
        self.halved += 1
        for output in node.outputs:
            if _is_real(output):
                output.type = ir.TensorType(dtype)  # clones share the type itself

    def finish(self) -> None:
        """Give the outputs back as float32 under their names, and drop the weights nobody reads."""
        for index, value in enumerate(self._graph.outputs):
            if value.dtype != ir.DataType.FLOAT16:
                continue
            name, value.name = str(value.name), f"{value.name}_half"
            cast = _cast(value, ir.DataType.FLOAT, name)
            self._graph.append(cast)
            self._graph.outputs[index] = cast.outputs[0]
        for name in [name for name, value in self._graph.initializers.items() if not value.uses()]:
            self._graph.initializers.pop(name)

    def _as(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        key = (id(value), dtype)
        if key in self._made:
            return self._made[key]
        name = f"{value.name}_{'half' if dtype == ir.DataType.FLOAT16 else 'float'}"
        if value.is_initializer() and value.const_value is not None:
            array = value.const_value.numpy().astype(dtype.numpy())
            made = ir.Value(name=name, const_value=ir.tensor(array, name=name), type=ir.TensorType(dtype))
            made.shape = value.shape
            self._graph.register_initializer(made)
        else:
            cast = _cast(value, dtype, name)
            self._graph.insert_before(before, cast)
            made = cast.outputs[0]
        self._made[key] = made
        return made


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    made = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
    return ir.node("Cast", [value], {"to": dtype}, outputs=[made], name=f"cast_{name}")


def _why_kept(node: ir.Node, ranges: dict[str, float]) -> str:
    """Return why a node stays in float32; empty when float16 will do."""
    if node.op_type not in _SAFE:
        return "norms, reductions and other operations that are not known to be safe stay in float32"
    if all(len(value.shape) < 3 for value in node.outputs if value.shape is not None):
        return "it computes sizes or a vector, not an activation"
    for value in (*node.inputs, *node.outputs):
        if value is None or not _is_real(value):
            continue
        widest = ranges.get(str(value.name), 0.0)
        if not widest <= _WIDEST:
            return f"{value.name} reaches {widest:.3g}"
    return ""


def _why_small(node: ir.Node, ranges: dict[str, float], small: set[ir.Value]) -> str:
    """Return why a node stays in float32 for a number that is zero in float16, as `x / (s + 1e-8)` has one.

    Args:
        node: the next one in order.
        ranges: the largest absolute value of every tensor.
        small: the values before it that such a number keeps from zero; what this node gives is added.
    """
    numbers = [value for value in node.inputs if value is not None and value.is_initializer()]
    tiny = any(
        value.const_value is not None
        and value.const_value.size == 1
        and 0 < ranges.get(str(value.name), 0.0) < _NARROWEST
        for value in numbers
        if _is_real(value)
    )
    if tiny and node.op_type in {"Add", "Sub", "Clip", "Max"}:
        small.update(node.outputs)
        return "it adds a number that float16 takes for zero"
    if node.op_type in _HAND_ON and small & set(node.inputs):
        small.update(node.outputs)
        return "what it hands on may be next to zero"
    divisor = node.inputs[1] if node.op_type == "Div" else None
    return "it divides by what may be next to zero" if divisor in small else ""


def _widest(array: np.ndarray[Any, Any]) -> float:
    """Return the largest absolute value; infinity where one is no number, so that it is never halved."""
    widest = float(np.abs(array).max()) if array.size else 0.0
    return float("inf") if np.isnan(widest) else widest


def _is_real(value: ir.Value | None) -> bool:
    return value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def _has_branches(node: ir.Node) -> bool:
    return any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for attribute in node.attributes.values()
    )
