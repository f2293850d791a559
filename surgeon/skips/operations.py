"""What an fx node does, by one name whether it is an ATen operator, a function, a method or a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

CONVOLUTIONS = ("conv",)
POOLS = ("maxpool", "avgpool", "lppool", "fractionalmaxpool")
ADAPTIVE_POOLS = ("adaptive",)
RESIZES = ("interpolate", "upsample", "pixelshuffle", "gridsample")
CHANNELS_FIRST = (
    *CONVOLUTIONS,
    "batchnorm",
    "instancenorm",
    "groupnorm",
    *POOLS,
    *ADAPTIVE_POOLS,
    *RESIZES,
    "pixelunshuffle",
    "localresponsenorm",
    "prelu",
)
REDUCTIONS = (
    "mean",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "std",
    "var",
    "logsumexp",
    "norm",
    "linalgvectornorm",
)
RESHAPES = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "unsafeview")
PERMUTATIONS = ("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t")
SIGMOIDS = ("sigmoid", "hardsigmoid")
# What may stand between a sigmoid and the product that it gates.
CARRIERS = (
    *RESHAPES,
    *PERMUTATIONS,
    *RESIZES,
    "expand",
    "expandas",
    "repeat",
    "contiguous",
    "clone",
    "to",
    "typeas",
    "identity",
    "dropout",
    "batchnorm",
)
SHAPED_AFTER = ("expandas", "typeas", "reshapeas", "viewas")
CONCATENATIONS = ("cat", "concat", "concatenate")
ADDITIONS = ("add", "iadd")
# What mixes channels or positions by a matrix.
MATRIX_PRODUCTS = ("matmul", "mm", "bmm", "baddbmm", "einsum")
MIXTURES = (*CONVOLUTIONS, "linear", "addmm", *MATRIX_PRODUCTS)
PRODUCTS = ("mul", "imul", "multiply")
# What else makes one tensor of several of a shape, position by position.
BLENDS = (
    *PRODUCTS,
    *("sub", "isub", "subtract"),
    *("max", "maximum", "fmax", "min", "minimum", "fmin"),
    *("lerp", "addcmul", "where", "complex"),
)


def operation(node: fx.Node, module: fx.GraphModule) -> str:
    """Name a node's operation: lower case, without underscores, `conv2d` for all forms of a convolution."""
    target: Any = node.target
    if node.op == "call_module":
        name = type(module.get_submodule(str(target))).__name__
    elif node.op == "call_method":
        name = str(target)
    elif isinstance(target, torch._ops.OpOverload):
        name = target._schema.name.split("::")[-1]
    else:
        name = getattr(target, "__name__", str(target))
    return name.replace("_", "").lower()


def carries_weights(node: fx.Node, module: fx.GraphModule, made: frozenset[fx.Node] = frozenset()) -> bool:
    """Tell whether a node applies learned weights of more than one dimension: it mixes channels or space.

    Args:
        node: what is asked about.
        module: the graph it is in.
        made: what `weights_made` found in that graph.
    """
    if node.op == "call_module":
        return any(p.ndim > 1 for p in module.get_submodule(str(node.target)).parameters())
    if any(_weight(source) for source in node.all_input_nodes):
        return True
    return is_any(operation(node, module), MIXTURES) and not made.isdisjoint(node.all_input_nodes)


def weights_made(graph: fx.Graph) -> frozenset[fx.Node]:
    """Find what a graph makes of weights alone: normalised, standardised or otherwise parametrised ones."""
    made: set[fx.Node] = set()
    varying: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not varying.isdisjoint(node.all_input_nodes):
            varying.add(node)
        elif _weight(node) or not made.isdisjoint(node.all_input_nodes):
            made.add(node)
    return frozenset(made)


def _weight(node: fx.Node) -> bool:
    for _ in range(4):
        if node.op == "get_attr":
            shape = node.meta.get("shape")
            return shape is not None and len(shape) > 1
        # A weight may be reshaped or transposed on its way.
        if len(node.all_input_nodes) != 1:
            return False
        node = node.all_input_nodes[0]
    return False


def is_any(name: str, families: tuple[str, ...]) -> bool:
    """Tell whether an operation belongs to a family: its name begins with one of these."""
    return name.startswith(families)
