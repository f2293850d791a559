"""Where an export and its network part: the first value that differs, and the line of the host behind it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from surgeon.parity import compare
from surgeon.tracing import Example, run

from .exposing import expose, run_exposed
from .flattening import first_line, leaves_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where two computations part.

    Attributes:
        node: name of the node.
        operation: what it computes.
        module: qualified name of the host's module it belongs to; empty for the network's own forward.
        source: file and line in the host's code; empty where unknown.
        finding: how they differ there.
    """

    node: str
    operation: str
    module: str
    source: str
    finding: str

    def __str__(self) -> str:
        within = ", ".join(part for part in (self.module and f"module {self.module}", self.source) if part)
        return f"{self.node} ({self.operation}{within and f'; {within}'}): {self.finding}"


@dataclass(frozen=True, slots=True)
class Stages:
    """A network on its way to a file.

    Attributes:
        host: the network.
        flat: its graph as it was traced.
        program: the fused graph that was translated.
        model: the translation; its values are named as the nodes of the program.
    """

    host: nn.Module
    flat: fx.GraphModule
    program: ExportedProgram
    model: ir.Model


def find_divergence(stages: Stages, good: Example | None, bad: Example, tolerance: float) -> Place | None:
    """Find the first value in which an export differs from its network on some inputs.

    The traced graph is run node by node; where it fails or gives other values than the host's modules, the
    graph is wrong. Else the translation is held against the graph it was made from.

    Args:
        stages: of the export.
        good: inputs on which they agree: what differs there as well is no fault; None where there are none.
        bad: inputs on which they differ.
        tolerance: what counts as different, relative to the largest value of a tensor.

    Returns:
        the place; None where no single value differs by that much.
    """
    with torch.no_grad():
        usual = {place.node for place in _partings(stages, good, tolerance)} if good is not None else set()
        return next((place for place in _partings(stages, bad, tolerance) if place.node not in usual), None)


def _partings(stages: Stages, example: Example, tolerance: float) -> Iterator[Place]:
    traced = _Recorder(stages.flat, stages.flat.graph.nodes)
    failure = traced.record(example)
    yield from _partings_from_host(traced, stages.host, example, tolerance)
    if failure is not None:
        yield failure
        return
    fused = _Recorder(stages.program.module(check_guards=False), stages.program.graph.nodes)
    failure = fused.record(example)
    if failure is not None:
        yield failure
    else:
        yield from _partings_from_onnx(fused, stages.model, leaves_of(example), tolerance)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps every tensor in it.

    Args:
        graph_module: what to run.
        nodes: of the same names, with the notes of where they were traced.
    """

    def __init__(self, graph_module: nn.Module, nodes: Iterable[fx.Node]) -> None:
        assert isinstance(graph_module, fx.GraphModule)
        super().__init__(graph_module)
        self.nodes = {node.name: node for node in nodes}
        self.values: dict[str, Tensor] = {}
        self._current = ""

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and keep what it gives."""
        self._current = n.name
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op == "call_function" and n.name in self.nodes:
            self.values[n.name] = value
        return value

    def record(self, example: Example) -> Place | None:
        """Run all nodes; where one fails, say which."""
        try:
            self.run(*leaves_of(example))
        except Exception as error:  # noqa: BLE001 - a node may fail in any way
            return self.place(self._current, f"it fails there: {first_line(error)}")
        return None

    def last_of_modules(self) -> dict[str, str]:
        """Name the last tensor that was computed in each module."""
        return {module: name for name in self.values for module in modules_of(self.nodes[name])}

    def place(self, name: str, finding: str) -> Place:
        """Describe a node."""
        node = self.nodes[name]
        own = node.target.__name__ if isinstance(node.target, FunctionType) else ""
        operation = own or str(node.target).removeprefix("aten.").partition(".")[0]
        return Place(name, operation, modules_of(node)[-1], source_of(node), finding)


def _partings_from_host(
    graph: _Recorder, host: nn.Module, example: Example, tolerance: float
) -> Iterator[Place]:
    """Compare what the host's modules give, in the order they end, with the last node of each."""
    last = graph.last_of_modules()
    for module, expected in _outputs_of_modules(host, example):
        finding = _finding(expected, graph.values[last[module]], tolerance) if module in last else ""
        if finding:
            yield graph.place(last[module], f"in the traced graph, {finding}")


def _partings_from_onnx(
    graph: _Recorder, model: ir.Model, inputs: list[Tensor], tolerance: float
) -> Iterator[Place]:
    """Compare the values of the graph, in its order, with those of the ONNX file."""
    twins = _twins(graph, model)
    try:
        found = run_exposed(expose(model, twins.values()), inputs)
    except Exception as error:  # noqa: BLE001 - the file may fail in any way
        yield from _failing(graph, model, error)
        return
    for name, twin in twins.items():
        finding = (
            _finding(graph.values[name], torch.from_numpy(found[twin]), tolerance) if twin in found else ""
        )
        if finding:
            yield graph.place(name, f"in ONNX, {finding}")


def _twins(graph: _Recorder, model: ir.Model) -> dict[str, str]:
    """Name the ONNX value that each tensor of the graph became.

    What the translation took apart has no value of its name: the last value that was made from the tensor's
    node stands for it, or else the last one of its module.
    """
    last = graph.last_of_modules()
    made: dict[str, str] = {}
    made_in: dict[str, str] = {}
    for node in model.graph:
        module, origin = _scopes(node)
        made_in[module] = made[origin] = str(node.outputs[0].name)
    made |= {str(value.name): str(value.name) for node in model.graph for value in node.outputs}
    found = {}
    for name in graph.values:
        module = modules_of(graph.nodes[name])[-1]
        if name in made:
            found[name] = made[name]
        elif last[module] == name and module in made_in:
            found[name] = made_in[module]
    return found


def _failing(graph: _Recorder, model: ir.Model, error: BaseException) -> Iterator[Place]:
    """Find the node that an error of onnxruntime names."""
    named = re.search(r"Name:'([^']*)'", str(error))
    for node in model.graph:
        if named is None or node.name != named.group(1):
            continue
        module, name = _scopes(node)
        inside = [inner for inner in graph.nodes.values() if modules_of(inner)[-1] == module]
        source = next((source for source in map(source_of, inside) if source), "")
        yield Place(name, node.op_type, module, source, "onnxruntime fails there")


def _scopes(node: ir.Node) -> tuple[str, str]:
    """Return the module and the graph node that an ONNX node was translated from."""
    scopes = re.findall(r"'([^']*)'", node.metadata_props.get("source", ""))
    return (scopes[-2], scopes[-1]) if len(scopes) > 1 else ("", str(node.name))


def _finding(expected: Tensor, found: Tensor, tolerance: float) -> str:
    if not expected.is_floating_point():
        return ""
    if expected.shape != found.shape:
        return f"its shape is {tuple(found.shape)} where the network has {tuple(expected.shape)}"
    relative = compare(expected, found).relative
    return "" if relative <= tolerance else f"it differs by {relative:.1e} of its range"


def _outputs_of_modules(host: nn.Module, example: Example) -> list[tuple[str, Tensor]]:
    """Run a host and list what its modules gave, in the order they ended; of several calls, the last."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.pop(name, None)
                found[name] = output.detach().cpu().clone()  # what follows may write into it

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in host.named_modules()]
    try:
        run(host, example)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.items())


def modules_of(node: fx.Node) -> list[str]:
    """Return the qualified names of the host's modules that a node was traced in, the innermost last."""
    stack = node.meta.get("nn_module_stack") or {}
    return ["", *(str(path) for path, _ in stack.values())]


def source_of(node: fx.Node) -> str:
    """Return file and line of the host's code that a node was traced from, torch's own code left out."""
    found = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [(file, line) for file, line in found if "/torch/" not in file]
    return next((f"{_shortened(file)}:{line}" for file, line in reversed(own or found)), "")


def _shortened(file: str) -> str:
    return file.rpartition("/site-packages/")[2] if "/site-packages/" in file else Path(file).name
