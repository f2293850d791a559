"""What a float16 file gives where float16 is computed, on a processor that computes in float32.

onnxruntime has hardly any float16 kernels for a CPU: it runs the nodes in float32 and leaves the rounding
between them out, so that a file whose activations overflow in float16 gives right answers there. A GPU sums
in float32 and rounds what a node gives: that is what the twin does, by a cast to float16 and back after every
such node.
"""

from __future__ import annotations

import onnx_ir as ir

_HALF, _FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def rounding_twin(model: ir.Model) -> ir.Model:
    """Return a float32 model that rounds to float16 wherever a float16 model does.

    Args:
        model: with inputs and outputs in float32, whatever is between them.
    """
    twin = model.clone()
    halved = [
        value for node in twin.graph for value in node.outputs if value.dtype == _HALF
    ]  # before anything is inserted
    for name, value in list(twin.graph.initializers.items()):
        if value.dtype == _HALF and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype("float32"), name=name)
            value.type = ir.TensorType(_FLOAT)
    for value in halved:
        _round(twin.graph, value)
    return twin


def _round(graph: ir.Graph, value: ir.Value) -> None:
    """Put a value that its node gives in float32 through float16."""
    node = value.producer()
    assert node is not None
    readers = value.uses()
    if node.op_type == "Cast":
        narrow, after = value, node
    else:
        value.type = ir.TensorType(_FLOAT)
        narrow = ir.Value(name=f"{value.name}_narrow", shape=value.shape, type=ir.TensorType(_HALF))
        after = ir.node("Cast", [value], {"to": _HALF}, outputs=[narrow], name=f"narrow_{value.name}")
        graph.insert_after(node, after)
    wide = ir.Value(name=f"{value.name}_rounded", shape=value.shape, type=ir.TensorType(_FLOAT))
    graph.insert_after(
        after, ir.node("Cast", [narrow], {"to": _FLOAT}, outputs=[wide], name=f"widen_{value.name}")
    )
    for user, place in readers:
        user.replace_input_with(place, wide)
