"""Translations of the graphs that a pass gives, for what only shows in them."""

from collections.abc import Callable

import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from surgeon.export import Freedom
from surgeon.export.flattening import export_program
from surgeon.export.onnx import build_model
from torch import Tensor

from surgeon.tracing import Example


def written(graph_module, example: Tensor, freedom: Freedom = Freedom.BATCH_AND_SIZES) -> ir.Model:
    """Translate a graph of one input and one output."""
    program = export_program(graph_module, Example((example,), {}), freedom)
    return build_model(program, 18, ("x",), ("y",), {})


def computing(model: ir.Model) -> Callable[[Tensor], Tensor]:
    """Return what computes a translation, in any precision."""
    session = ReferenceEvaluator(ir.to_proto(model))
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def count(model: ir.Model, kind: str) -> int:
    """Count the nodes of a kind."""
    return sum(node.op_type == kind for node in model.graph)


def assert_written_exactly(before, after, example: Tensor, *, sizes: tuple[int, ...]) -> None:
    """Assert that the translation of a graph computes what another does, at several sizes."""
    run = computing(written(after, example))
    for extra in sizes:
        shape = [size + extra * (axis > 1) for axis, size in enumerate(example.shape)]
        x = torch.randn(*shape, dtype=example.dtype, generator=torch.Generator().manual_seed(8))
        torch.testing.assert_close(run(x), before(x), rtol=1e-10, atol=1e-11)
