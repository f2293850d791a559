"""A float32 file with its convolutions and products in int8, calibrated on real inputs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import Tensor

from surgeon.errors import ExportError
from surgeon.tracing import quiet

from .flattening import first_line
from .targets import Target

# What onnxruntime has int8 kernels for, and what hands int8 on between them.
_QUANTISED = ["Conv", "MatMul", "Gemm", "Add", "Concat", "Relu", "MaxPool"]


def quantise(
    model: ir.Model, inputs: Sequence[Sequence[Tensor]], target: Target
) -> tuple[ir.Model, dict[str, str]]:
    """Quantise a model to int8 by the range of every tensor on real inputs (QDQ form).

    Weights are scaled by output channel. On a CPU activations are unsigned and weights take seven bits,
    for processors without VNNI add up pairs of products in sixteen; elsewhere both are signed and
    symmetric, as TensorRT wants them. The convolutions that make the outputs stay in float32.

    Args:
        model: in float32.
        inputs: real inputs, each a list of tensors in the order of the graph.
        target: where it will run.

    Returns:
        the quantised model, and the nodes that stayed in float32 with the reason.

    Raises:
        ExportError: it cannot be quantised.
    """
    on_cpu = target.provider == "CPUExecutionProvider"
    kept = dict.fromkeys(_last_nodes(model), "it makes an output")
    names = [str(value.name) for value in model.graph.inputs]
    with tempfile.TemporaryDirectory() as folder, quiet(("root",), logging.ERROR):
        out = Path(folder) / "quantised.onnx"
        try:
            quantize_static(
                ir.to_proto(model),
                out,
                _Reader(names, inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_QUANTISED,
                per_channel=True,
                reduce_range=on_cpu,
                activation_type=QuantType.QUInt8 if on_cpu else QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(kept),
                extra_options={"ActivationSymmetric": not on_cpu},
            )
        except Exception as error:
            raise ExportError(
                f"it cannot be quantised: {first_line(error)}",
                where="precision int8",
                fix="use precision='fp32' or 'fp16'",
            ) from error
        made = ir.load(out)
        # What lies beside the file in memory must not depend on the folder.
        for value in made.graph.initializers.values():
            if value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    if not any(node.op_type == "QuantizeLinear" for node in made.graph):
        raise ExportError(
            "none of its nodes can run in int8", where="precision", fix="use precision='fp32' or 'fp16'"
        )
    return made, kept


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands inputs out one by one."""

    def __init__(self, names: Sequence[str], inputs: Sequence[Sequence[Tensor]]) -> None:
        self._feeds = iter(
            [{name: x.detach().cpu().numpy() for name, x in zip(names, row, strict=True)} for row in inputs]
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next inputs by name, None at the end."""
        return next(self._feeds, None)


def _last_nodes(model: ir.Model) -> list[str]:
    """Name the convolutions and products from which an output comes by other operations alone."""
    found: list[str] = []
    pending = [value.producer() for value in model.graph.outputs]
    seen: set[int] = set()
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            found.append(str(node.name))
            continue
        pending += [value.producer() for value in node.inputs if value is not None]
    return found
