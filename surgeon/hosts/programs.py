"""Hosts given as an exported program, `.pt2`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from surgeon.errors import HostError


def open_program(file: Path) -> tuple[fx.GraphModule, tuple[Tensor, ...] | None]:
    """Open an exported program as a plain graph.

    Args:
        file: what `torch.export.save` wrote.

    Returns:
        the graph, whose nodes keep their `meta`, and the example inputs that lie in the file.

    Raises:
        HostError: the file cannot be read, or the program was exported in training mode.
    """
    try:
        program = torch.export.load(file)
        exported = program.module(check_guards=False)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HostError(
            f"the exported program cannot be read: {first[:160]}",
            where=str(file),
            fix="write it again with torch.export.save, with this version of torch or an older one",
        ) from error
    # The module of an exported program refuses train() and eval(); the same graph on its own does not.
    graph_module = fx.GraphModule(exported, exported.graph, class_name=file.stem)
    _check_mode(graph_module, file)
    return graph_module.eval(), _example(program)


def _check_mode(module: fx.GraphModule, file: Path) -> None:
    trains = {
        torch.ops.aten.batch_norm.default: 5,
        torch.ops.aten.dropout.default: 2,
        torch.ops.aten.instance_norm.default: None,
    }
    for node in module.graph.nodes:
        place = trains.get(node.target)
        if place is not None and len(node.args) > place and node.args[place] is True:
            raise HostError(
                "the program was exported in training mode",
                where=f"{file}: {node.name}",
                fix="call network.eval() before torch.export.export",
            )


def _example(program: Any) -> tuple[Tensor, ...] | None:
    stored = program.example_inputs
    if not stored or stored[1] or not all(isinstance(value, Tensor) for value in stored[0]):
        return None
    return tuple(stored[0])


def first_weight(module: nn.Module) -> Tensor | None:
    """Return the weight of the first convolution of a graph of ATen operations; None where there is none."""
    if not isinstance(module, fx.GraphModule):
        return None
    for node in module.graph.nodes:
        name = getattr(node.target, "__name__", "")
        if node.op == "call_function" and name.startswith("conv") and len(node.args) > 1:
            weight = node.args[1]
            if isinstance(weight, fx.Node) and weight.op == "get_attr":
                value: Any = module
                for part in str(weight.target).split("."):
                    value = getattr(value, part)
                return value if isinstance(value, Tensor) else None
    return None
