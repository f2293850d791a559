"""Tracing networks that put sizes into tensors and read them back as numbers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import torch._functorch.config
from torch import fx
from torch.fx.node import Node


@contextlib.contextmanager
def real_values() -> Iterator[None]:
    """Let torch.export compute real values beside the symbolic ones.

    A crop by `torch.tensor(x.shape)` is data to torch.export, which cannot tell that no pixel has a part in
    it. With real values at hand it goes on, and notes what it has assumed; `check_reads` then says whether
    more than sizes was read.
    """
    config: Any = torch._functorch.config
    with config.patch(fake_tensor_propagate_real_tensors=True):
        yield


@contextlib.contextmanager
def muted_export() -> Iterator[None]:
    """Keep to itself the graph that torch.export prints when it cannot finish it."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def check_reads(graph: fx.Graph) -> None:
    """Refuse a graph that reads numbers out of tensors which depend on more than sizes and constants.

    Raises:
        ValueError: values of the inputs are read back, so that a branch may hang on them.
    """
    depends: set[Node] = set()
    for node in graph.nodes:
        target = str(node.target)
        if node.op == "placeholder":
            depends.add(node)
        elif "sym_size" not in target and depends.intersection(node.all_input_nodes):
            depends.add(node)
            if target.startswith("aten.item"):
                raise ValueError(f"the network reads a value of its input back into Python at `{node.name}`")
