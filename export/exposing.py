"""An ONNX model with all its inner values as outputs, to look at what it computes on the way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from torch import Tensor

_REAL = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def expose(model: ir.Model, names: Collection[str] | None = None) -> onnx.ModelProto:
    """Return a model that gives every real value of its graph as an output as well.

    Args:
        model: whose values to give.
        names: those to give alone; None gives all.
    """
    proto = ir.to_proto(model)
    known = {output.name for output in proto.graph.output}
    for value in (value for node in model.graph for value in node.outputs):
        if value.dtype not in _REAL or value.name in known or (names is not None and value.name not in names):
            continue
        kind = int(value.dtype)
        proto.graph.output.append(onnx.helper.make_tensor_value_info(str(value.name), kind, None))
    return proto


def run_exposed(proto: onnx.ModelProto, inputs: Sequence[Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Run a model as it is written, on the CPU, and return its outputs by name."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    # Fused nodes would hide what lies between them.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    arrays = [tensor.detach().cpu().numpy() for tensor in inputs]
    feeds = dict(zip((item.name for item in session.get_inputs()), arrays, strict=True))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
