"""Networks as the exporter takes them: in float32, and with outputs in plain containers."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgeon.copying import copied
from surgeon.errors import ExportError, InputError
from surgeon.parity import compare, tensors_in
from surgeon.tracing import Example, is_script, map_tensors, run, trace
from surgeon.wrappers import innermost

from .flattening import first_line, leaves_of

# Beyond this, two runs on the same inputs are not the same computation in another order.
_REPEATABLE = 1e-4


class Unpacked(nn.Module):
    """A network that gives what ONNX cannot hold: mappings for dataclasses, nothing for numbers and texts."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the output with the tensors alone, those of dataclasses by the names of their fields."""
        return _unpacked(self.network(*args, **kwargs))


def _unpacked(output: Any) -> Any:
    def unpack(leaf: Any) -> Any:
        if not is_dataclass(leaf):
            return leaf if isinstance(leaf, Tensor) else None  # None keeps the place, and names count places
        named = {field.name: getattr(leaf, field.name) for field in fields(leaf)}
        return {name: _unpacked(value) for name, value in named.items() if tensors_in(value)}

    return pytree.tree_map(unpack, output, is_leaf=is_dataclass)


def conform(model: nn.Module, example: Example) -> tuple[nn.Module, Example]:
    """Return a network and inputs that the exporter takes and that compute the same.

    A network in float16, bfloat16 or float64 is copied to float32: its weights are the same numbers (of
    float64, the nearest ones), and neither onnxruntime nor ONNX has all operations in the others. A
    TorchScript program is replaced by its graph, which `trace` has held against it.

    Raises:
        InputError: the network fails on the example.
        TraceError: it is a TorchScript program of which no graph can be made.
        ExportError: it answers differently each time.
    """
    model, example = _in_float32(innermost(model), example)
    if is_script(model):
        model = trace(model, example.args, example.kwargs).graph_module
    output = _run_twice(model, example)
    leaves = pytree.tree_leaves(output, is_leaf=is_dataclass)
    if not all(leaf is None or isinstance(leaf, Tensor) for leaf in leaves):
        return Unpacked(model).train(model.training), example
    return model, example


def to_float32(x: Any) -> Any:
    """Return a real tensor in float32, anything else as it is."""
    return x.float() if isinstance(x, Tensor) and x.is_floating_point() else x


def _in_float32(model: nn.Module, example: Example) -> tuple[nn.Module, Example]:
    tensors = [*model.parameters(), *model.buffers(), *leaves_of(example)]
    if {x.dtype for x in tensors if x.is_floating_point()} <= {torch.float32}:
        return model, example
    wide, inputs = copied(model).float(), map_tensors(example, to_float32)
    try:
        run(wide, inputs)
    except Exception:  # noqa: BLE001 - a type that is named in the code: it is exported as it is
        return model, example
    return wide, inputs


def _run_twice(model: nn.Module, example: Example) -> Any:
    try:
        first = run(model, example)
        again = map_tensors(example, torch.clone)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)  # `run` always begins at the same place
            second = model(*again.args, **again.kwargs)
    except Exception as error:
        raise InputError(
            f"the network fails on the example: {first_line(error)}",
            where=type(model).__name__,
            fix="give inputs of the shape and type it was trained on",
        ) from error
    difference = compare(first, second).relative
    if _REPEATABLE < difference < float("inf"):  # values that are no numbers are for the gate
        raise ExportError(
            f"the network gives another answer each time it is run (by {difference:.1e} of its range), "
            "and no file can be held against it",
            where=type(model).__name__,
            fix="turn off what samples or counts in its forward, or export the part before it",
        )
    return first
