"""Graphs of TorchScript programs, which torch.export does not take."""

from __future__ import annotations

from collections.abc import Callable
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
