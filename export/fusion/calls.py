"""Insert calls into a graph that is being edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from .draft import Draft

OPEN = 2**63 - 1
"""The end of an open slice, as ATen writes it."""


Call = Callable[..., fx.Node]


def caller(draft: Draft, node: fx.Node) -> Call:
    """Make a function that inserts a call before a node, with the note of where that was traced."""
    notes: tuple[str, ...] = ("nn_module_stack", "stack_trace")
    known = {key: node.meta[key] for key in notes if key in node.meta}

    def call(target: Any, *args: Any) -> fx.Node:
        with draft.graph.inserting_before(node):
            made = draft.graph.call_function(target, args)
        made.meta = dict(known)
        return made

    return call
