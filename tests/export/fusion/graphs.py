"""Graphs for the tests of one pass, in float64, where rounding cannot hide a mistake."""

import torch
from surgeon.export import Freedom, flatten
from torch import nn

from surgeon.tracing import Example
from tests.export.networks import stir


def graph_of(network: nn.Module, *shape: int, freedom: Freedom = Freedom.BATCH_AND_SIZES):
    """Return the ATen graph of a stirred float64 network and an input for it."""
    example = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    flat = flatten(stir(network.double()), Example((example,), {}), (freedom,))
    return flat.graph_module, example


def with_views(graph_module):
    """Write reshapes as views, as a graph has them that was not flattened."""
    for node in graph_module.graph.nodes:
        if node.target is torch.ops.aten.reshape.default:
            node.target = torch.ops.aten.view.default
    graph_module.recompile()
    return graph_module


def operations(graph_module) -> list[str]:
    """List the operations of a graph in order, without constants and tuple items."""
    return [
        str(node.target)
        .removeprefix("aten.")
        .split(".")[0]
        .removeprefix("_native_")
        .removesuffix("_legit_no_training")
        for node in graph_module.graph.nodes
        if node.op == "call_function" and "getitem" not in str(node.target)
    ]


def assert_exact(before, after, example, *, sizes: tuple[int, ...] = (0, 3)):
    """Assert that two graphs compute the same, borders included, at several sizes."""
    for extra in sizes:
        shape = [size + extra * (axis > 1) for axis, size in enumerate(example.shape)]
        x = torch.randn(*shape, dtype=example.dtype, generator=torch.Generator().manual_seed(8))
        torch.testing.assert_close(after(x), before(x), rtol=1e-10, atol=1e-11)
