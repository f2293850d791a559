"""An exported program as an ONNX file."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import TopologicalSortPass
from onnxscript.rewriter import _matcher
from onnxscript.rewriter.rules.common import slice_split_rule
from torch import fx
from torch.export import ExportedProgram

from surgeon.errors import ExportError
from surgeon.tracing import quotients_are_checked, site_of

from .arithmetic import translations
from .flattening import first_line, quiet
from .fusion import OPERATIONS
from .naming import axis_names, rename_symbols, simplify_size

# The limit of one protobuf message; weights beside the file would need a second one.
_LARGEST_FILE = 2**31 - 2**20

_FLOAT32 = 1e-7  # relative, of a number that was rounded

# What the exporter says of a node that it failed at, and of an operation that it does not know.
_UNTRANSLATED = re.compile(r"translating node %(\w+) .*?target=torch\.ops\.([\w.]+)", re.DOTALL)
_UNKNOWN = "No ONNX function found"

_OWN: dict[Callable[..., Any], Callable[..., Any]] = {each.target: each.write for each in OPERATIONS}


class UntranslatableError(ExportError):
    """An operation of a graph has no translation to ONNX.

    Attributes:
        reckons: whether the graph makes real numbers of sizes, which a fixed size would spare it.
    """

    reckons: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the file.

    Attributes:
        name: in the graph.
        shape: an integer for each fixed size, a name for each free one.
        type: of the elements, as numpy spells it.
    """

    name: str
    shape: tuple[int | str, ...]
    type: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"name": self.name, "shape": list(self.shape), "type": self.type}


def build_model(
    program: ExportedProgram,
    opset: int,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    metadata: Mapping[str, Any],
) -> ir.Model:
    """Translate an exported program to ONNX.

    Args:
        program: from `flatten`.
        opset: version of the operator set.
        inputs: a name for each input tensor.
        outputs: a name for each output tensor.
        metadata: what the file says of itself; values that are not text are written as JSON.

    Raises:
        UntranslatableError: an operation has no translation.
    """
    try:
        with quiet(), quotients_are_checked(), _without_pairs(), _exact_constants(), torch.no_grad():
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                input_names=list(inputs),
                output_names=list(outputs),
                custom_translation_table={**translations(program.graph), **_OWN},
                optimize=True,
                verbose=False,
            )
    except Exception as error:
        raise _untranslatable(error, program.graph, opset) from error
    assert made is not None
    model = made.model
    _name_axes(model)
    _strip(model, _origins(made.exported_program))
    model.producer_name = "unet-surgeon"
    for key, value in metadata.items():
        model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    return model


def _untranslatable(error: BaseException, graph: fx.Graph, opset: int) -> UntranslatableError:
    """Say which operation of whose line the exporter could not write, where it tells."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    reason, where = first_line(causes[-1]), ""
    for found in filter(None, (_UNTRANSLATED.search(str(cause)) for cause in causes)):
        name, operation = found.groups()
        reason = f"there is no translation of {operation}" if reason.startswith(_UNKNOWN) else reason
        where = next((_told(*site_of(node)) for node in graph.nodes if node.name == name), "")
    untranslatable = UntranslatableError(
        f"it cannot be written as ONNX: {reason}",
        where=where or f"opset {opset}",
        fix="replace the operation in the network, or try another target",
    )
    untranslatable.reckons = any(isinstance(node.meta.get("val"), torch.SymFloat) for node in graph.nodes)
    return untranslatable


def _told(site: str, line: str) -> str:
    return f"{site} (`{line}`)" if line else site


@contextlib.contextmanager
def _without_pairs() -> Iterator[None]:
    """Let the exporter leave out the one pattern that has two ends: two slices that are all of an axis.

    It looks at every node of the graph for every node: seven minutes and more for ten thousand of them.
    """
    slice_split_rule.try_rewrite = lambda *_, **__: None
    try:
        yield
    finally:
        del slice_split_rule.try_rewrite


@contextlib.contextmanager
def _exact_constants() -> Iterator[None]:
    """Let the exporter's optimiser take a number for another only where they are equal up to float32.

    It takes 1e-8 for 0 and leaves it out of a sum: what keeps networks from dividing by zero.
    """

    def is_close(a: float, b: float, **_: float) -> bool:
        return math.isclose(a, b, rel_tol=_FLOAT32, abs_tol=0.0)

    native = _matcher.math
    _matcher.math = SimpleNamespace(isclose=is_close)
    try:
        yield
    finally:
        _matcher.math = native


def write_model(model: ir.Model, path: Path) -> None:
    """Write a model as one file and check it.

    Raises:
        ExportError: it is larger than one file may be, or onnx.checker objects.
    """
    TopologicalSortPass()(model)
    weights = (value for graph in model.graphs() for value in graph.initializers.values())
    size = sum(value.const_value.nbytes for value in weights if value.const_value)
    if size > _LARGEST_FILE:
        raise ExportError(
            f"its weights take {size / 2**30:.1f} GiB and one ONNX file holds 2",
            where=str(path),
            fix="export it with precision='fp16'",
        )
    onnx.save(ir.to_proto(model), path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        raise ExportError(
            f"onnx.checker refuses the file: {first_line(error)}",
            where=str(path),
            fix="report the network; the file was not kept",
        ) from error


def ports_of(values: Any) -> tuple[Port, ...]:
    """Describe the inputs or the outputs of a graph."""
    return tuple(
        Port(
            str(value.name),
            tuple(size if isinstance(size, int) else str(size.value) for size in value.shape or ()),
            value.dtype.numpy().name if value.dtype else "",
        )
        for value in values
    )


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    for node in model.graph.all_nodes():
        yield from node.outputs


def _name_axes(model: ir.Model) -> None:
    """Name the free axes of all values after those of the inputs.

    Only what is read by people is simplified: onnxruntime takes sizes of one name inside the graph for equal,
    and uses the memory of one for the other.
    """
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        shape = value.shape or ()
        for size, axis in zip(shape, axis_names(len(shape)), strict=False):
            if isinstance(size, int):
                continue
            taken = set(names.values())
            free = axis if axis not in taken else f"{axis}_{value.name}"
            names.setdefault(str(size.value), free)
    for value in _values(model):
        if value.shape is None:
            continue
        simplify = simplify_size if value.is_graph_output() else str
        value.shape = ir.Shape([_axis(size, names, simplify) for size in value.shape])


def _axis(
    size: int | ir.SymbolicDim, names: dict[str, str], simplify: Callable[[str], str]
) -> int | str | None:
    if isinstance(size, int) or size.value is None:
        return size if isinstance(size, int) else None
    return simplify(rename_symbols(str(size.value), names))


def _origins(decomposed: ExportedProgram | None) -> dict[str, str]:
    """Name the node that each node of a program was before the exporter took operations apart."""
    if decomposed is None:
        return {}
    sources = {node.name: node.meta.get("from_node") for node in decomposed.graph.nodes}
    return {name: source[-1].name for name, source in sources.items() if source}


def _strip(model: ir.Model, origins: Mapping[str, str]) -> None:
    """Leave out what the exporter notes on every node: stack traces with the paths of this machine.

    What stays is the scope: the modules, and the node of the graph that was handed to the exporter.
    """
    for node in model.graph.all_nodes():
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        node.metadata_props.clear()
        node.doc_string = None
        if scopes:
            *modules, name = ast.literal_eval(scopes)
            node.metadata_props["source"] = str([*modules, origins.get(name, name)])
    for value in _values(model):
        value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = model.graph.doc_string = None
