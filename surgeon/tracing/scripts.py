"""Graphs of TorchScript programs, which torch.export does not take."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn
from torch._export.converter import TS2EPConverter
from torch.fx.experimental.proxy_tensor import make_fx

from .bounds import size_limits
from .guiding import muted_export
from .quieting import quiet
from .trace import Example
from .ways import place, plain_graph_module

# Kinds of operations that merge, as TorchScript names them: each kind is counted by itself.
_MERGES = (("aten::cat", "aten::concat"), ("aten::add", "aten::add_"))
# How a scripted and a traced program say where an operation stands.
_SCRIPTED = re.compile(r'File "([^"]+)", line (\d+)')
_TRACED = re.compile(r"(.+?)\((\d+)\): ")


def is_script(host: nn.Module) -> TypeGuard[torch.jit.ScriptModule]:
    """Whether a network is a TorchScript program, scripted or traced."""
    return isinstance(host, torch.jit.ScriptModule)


def class_name(host: nn.Module) -> str:
    """Return the name of a network's class, for a TorchScript program that of the class it was made of."""
    return str(host.original_name) if is_script(host) else type(host).__name__


def converted_graph(host: torch.jit.ScriptModule, example: Example) -> fx.GraphModule:
    """Translate the program operation by operation; sizes that it reads stay free.

    Loops cannot be translated; scripted, torch's own checks of norms hold some.

    Args:
        host: a TorchScript program in eval mode, of positional inputs.
        example: inputs to trace with; free dimensions should be larger than 1.
    """
    with quiet(), muted_export():
        program = TS2EPConverter(host, example.args, dict(example.kwargs)).convert()
        module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    _tell_convolutions(module.graph)
    _tell_lines(module.graph, host)
    plain = plain_graph_module(module, host)
    plain.meta["limits"] = size_limits(program)
    return plain


def recorded_graph(host: torch.jit.ScriptModule, example: Example) -> fx.GraphModule:
    """Record the operations that the program runs on an example: its sizes, where it reads them, are fixed.

    Args:
        host: a TorchScript program in eval mode, of positional inputs.
        example: inputs to run.
    """

    def call(*args: Any) -> Any:
        return host(*args)

    with quiet(), torch.no_grad():
        record: Callable[..., fx.GraphModule] = make_fx(
            call, tracing_mode="fake", pre_dispatch=True, _allow_non_fake_inputs=True
        )
        module = record(*example.args)
    _name_weights(module, host)
    _tell_lines(module.graph, host)
    return plain_graph_module(module, host)


def _tell_convolutions(graph: fx.Graph) -> None:
    """Call each convolution by its rank and its direction, as torch.export does: here all have one name."""
    for node in graph.nodes:
        if node.target is not torch.ops.aten.convolution.default:
            continue
        image, weight, bias, stride, padding, dilation, transposed, filling, groups = node.args
        rank = len(stride)
        if transposed:
            node.target = getattr(torch.ops.aten, f"conv_transpose{rank}d")
            node.target = node.target.input if rank > 1 else node.target.default
            node.args = (image, weight, bias, stride, padding, filling, groups, dilation)
        else:
            node.target = getattr(torch.ops.aten, f"conv{rank}d").default
            node.args = (image, weight, bias, stride, padding, dilation, groups)


def _tell_lines(graph: fx.Graph, host: torch.jit.ScriptModule) -> None:
    """Write beside merges which lines of the network's code they are: siblings are told by them.

    A program keeps them and a translation loses them, so they are told by the order of operations, where
    program and graph have as many of a kind: a branch that is not taken holds others.
    """
    inlined = host.graph.copy()
    torch._C._jit_pass_inline(inlined)
    for kinds in _MERGES:
        there = [node for node in _nodes_within(inlined) if node.kind() in kinds and _gives_tensor(node)]
        here = [node for node in graph.nodes if _kind(node) in kinds]
        if len(there) == len(here):
            for node, made in zip(here, there, strict=True):
                node.meta["stack_trace"] = _place_of(made.sourceRange())


def _nodes_within(block: Any) -> Iterator[Any]:
    """Yield the nodes of a TorchScript graph in the order of its text, those of its branches included."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes_within(inner)


def _gives_tensor(node: Any) -> bool:
    return isinstance(node.output().type(), torch._C.TensorType)


def _kind(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return "" if packet is None else str(packet._qualified_op_name)


def _place_of(source: str) -> str:
    """Spell where an operation stands as Python does; empty where a program does not know."""
    found = _SCRIPTED.search(source) if source.lstrip().startswith("File") else _TRACED.match(source)
    if found is None:
        return ""
    file, number = found.groups()
    return f'File "{file}", line {number}, in forward\n  {linecache.getline(file, int(number)).strip()}\n'


def _name_weights(module: fx.GraphModule, host: nn.Module) -> None:
    """Let a recorded graph read the weights under the names of the program, where it holds them by number."""
    names = {_identity(tensor): name for name, tensor in (*host.named_parameters(), *host.named_buffers())}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            held = getattr(module, str(node.target), None)
            if isinstance(held, Tensor) and (name := names.get(_identity(held))) is not None:
                node.target = name
                place(module, name, held, persistent=True)


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
