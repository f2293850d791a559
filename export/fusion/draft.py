"""A copy of a graph that a pass may edit; the graph it was made from stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from .report import PassReport, Rejected

COMPUTING = ("call_function", "call_module", "call_method")


def count_nodes(graph_module: fx.GraphModule) -> int:
    """Count the nodes that compute something."""
    return sum(node.op in COMPUTING for node in graph_module.graph.nodes)


class Draft:
    """An editable copy of an ATen graph together with the notes of the pass that edits it.

    Args:
        source: the graph to copy. Its tensors are shared, never written to.
        name: the pass.
    """

    def __init__(self, source: fx.GraphModule, name: str) -> None:
        self.name = name
        self.module = fx.GraphModule(source, copy.deepcopy(source.graph), class_name="Fused")
        self.graph = self.module.graph
        self._before = count_nodes(source)
        self._source = source
        self._details: list[str] = []
        self._rejected: list[Rejected] = []

    def constant(self, value: Any) -> Tensor | None:
        """Return the tensor that a get_attr node names, or None for anything else."""
        if not isinstance(value, fx.Node) or value.op != "get_attr":
            return None
        found: Any = self.module
        for part in str(value.target).split("."):
            found = getattr(found, part)
        return found.detach() if isinstance(found, Tensor) else None

    def add_constant(self, name: str, tensor: Tensor, before: fx.Node) -> fx.Node:
        """Store a tensor under a free name of the root and return a get_attr node for it."""
        base = name.replace(".", "_").removesuffix("_fused") + "_fused"
        free, number = base, 1
        while hasattr(self.module, free):
            free, number = f"{base}_{number}", number + 1
        self.module.register_buffer(free, tensor.contiguous())
        with self.graph.inserting_before(before):
            node = self.graph.get_attr(free)
        node.meta["val"] = tensor
        return node

    def replace(self, old: fx.Node, new: fx.Node) -> None:
        """Let every user of `old` read `new`, and remove `old` when nothing else needs it."""
        old.replace_all_uses_with(new)
        if not old.users:
            self.graph.erase_node(old)

    def note(self, detail: str) -> None:
        """Record one rewritten place."""
        self._details.append(detail)

    def reject(self, node: fx.Node, reason: str) -> None:
        """Record one place that was left as it was."""
        self._rejected.append(Rejected(node.name, reason))

    def finish(self) -> tuple[fx.GraphModule, PassReport]:
        """Return the new graph and what was changed; without a change, the very graph that came in."""
        rejected = tuple(self._rejected)
        if not self._details:
            return self._source, PassReport(self.name, 0, self._before, self._before, (), rejected)
        self.graph.eliminate_dead_code()
        self.graph.lint()
        # Built anew so that the tensors nobody reads any more are left behind.
        finished = fx.GraphModule(self.module, self.graph, class_name="Fused")
        after = count_nodes(finished)
        return finished, PassReport(
            self.name, len(self._details), self._before, after, tuple(self._details), rejected
        )


def arguments_of(node: fx.Node) -> Mapping[str, Any]:
    """Return the arguments of an ATen node by the names of its schema, defaults filled in."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return {}
    found: dict[str, Any] = {}
    for position, argument in enumerate(target._schema.arguments):
        if position < len(node.args):
            found[argument.name] = node.args[position]
        else:
            found[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return found


def shape_of(node: fx.Node) -> tuple[str, ...] | None:
    """Return the shape a node was traced with, free sizes as their expressions; None when unknown."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return None
    return tuple(str(size) for size in value.shape)


def dtype_of(node: fx.Node) -> torch.dtype | None:
    """Return the type of the tensor that a node was traced with; None when unknown."""
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None
