"""The axes of every tensor of a graph, inferred operation by operation."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import fx

from . import operations as ops
from .axes import (
    Axes,
    Axis,
    Shape,
    Tag,
    axis,
    broadcast,
    channels_first,
    permuted,
    regrouped,
    resized,
    spread,
)
from .operations import is_any

Known = dict[fx.Node, Axes]


def infer_axes(module: fx.GraphModule, names: dict[fx.Node, str], image_rank: int) -> Known:
    """Tag the axes of every node that makes a tensor.

    Args:
        module: a graph whose nodes carry `meta["shape"]`.
        names: the operation of each node.
        image_rank: dimensions of the network's image; inputs of a lower rank have no space.

    Returns:
        the axes by node; a node whose axes could not be followed is missing.
    """
    known: Known = {}
    for node in module.graph.nodes:
        shape = node.meta.get("shape")
        if not isinstance(shape, tuple):
            continue
        axes = (
            _placeholder(shape, image_rank)
            if node.op == "placeholder"
            else _transfer(node, names, known, shape)
        )
        if axes is not None and len(axes) == len(shape):
            known[node] = axes
    return known


def _placeholder(shape: Shape, image_rank: int) -> Axes:
    if len(shape) == image_rank:
        return channels_first(shape)
    return tuple(axis(size, Tag.CHANNEL if index else Tag.BATCH) for index, size in enumerate(shape))


def _transfer(node: fx.Node, names: dict[fx.Node, str], known: Known, shape: Shape) -> Axes | None:
    sources = [source for source in node.all_input_nodes if source in known]
    name = names[node]
    if name == "getitem" and not sources:
        return _from_tuple(node, names, known, shape)
    if not sources or node.op == "get_attr":
        return None
    for family, rule in _RULES:
        if is_any(name, family):
            axes = rule(node, sources, known, shape)
            return axes if axes is not None else _generic(node, sources, known, shape)
    return _generic(node, sources, known, shape)


def _generic(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    del node
    inputs = [(known[source], source.meta["shape"]) for source in sources]
    return broadcast(inputs, shape) or resized(inputs[0][0], shape)


def _first(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    del node
    batch = known[sources[0]][0] if known[sources[0]] else ()
    same = broadcast([(known[sources[0]], sources[0].meta["shape"])], shape)
    axes = channels_first(shape)
    if same is not None and len(shape) > 2:
        return same
    return (batch, *axes[1:]) if shape[0] == sources[0].meta["shape"][0] else axes


def _linear(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    before = known[sources[0]]
    if len(before) != len(shape):
        return None
    del node
    return (*before[:-1], _mixed(before[-1], shape[-1]))


def _mixed(one: Axis, size: int) -> Axis:
    """Tag an axis that weights made of another: mixed tokens stay spatial, all else are channels."""
    spatial = bool(one) and all(factor.tag is Tag.SPACE for factor in one)
    return axis(size, Tag.SPACE if spatial else Tag.CHANNEL)


def _permutation(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    before = known[sources[0]]
    order = list(range(len(before)))
    places = [number % len(before) for number in _integers(node)]
    if "permute" in str(node.target):
        order = places
    elif "move" in str(node.target) and len(places) == 2:
        order.insert(places[1], order.pop(places[0]))
    elif len(places) == 2:
        order[places[0]], order[places[1]] = places[1], places[0]
    if sorted(order) != list(range(len(before))):
        return None
    sizes = tuple(sources[0].meta["shape"][index] for index in order)
    return permuted(before, order) if sizes == shape else None


def _integers(node: fx.Node) -> list[int]:
    """List the integers among a node's arguments after the first, lists unpacked."""
    numbers: list[int] = []
    for arg in (*node.args[1:], *node.kwargs.values()):
        for item in arg if isinstance(arg, tuple | list) else (arg,):
            if isinstance(item, int) and not isinstance(item, bool):
                numbers.append(item)
    return numbers


def _reshape(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    del node
    moved = regrouped(known[sources[0]], shape)
    return None if moved is None else spread(moved)


def _matmul(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    operands = node.all_input_nodes
    if len(operands) < 2 or operands[1] not in known:
        return _linear(node, sources, known, shape)
    if operands[0] not in known:
        columns = known[operands[1]]  # of `weights @ x`
        return (*columns[:-2], _mixed(columns[-2], shape[-2]), columns[-1]) if len(columns) > 1 else None
    left, right = sources[0], sources[1]
    rows = resized(known[left], (*left.meta["shape"][:-1], shape[-1]))
    if rows is None or len(rows) != len(shape):
        return None
    return (*rows[:-1], known[right][-1])


def _attention(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    del node
    return resized(known[sources[0]], shape)


def _einsum(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    equation = next((arg for arg in node.args if isinstance(arg, str)), "")
    match = re.fullmatch(r"([a-zA-Z,]+)->([a-zA-Z]*)", equation.replace(" ", ""))
    terms = match[1].split(",") if match else []
    if match is None or len(terms) != len(sources) or len(match[2]) != len(shape):
        return None
    letters: dict[str, Any] = {}
    for term, source in zip(terms, sources, strict=True):
        for letter, one in zip(term, known[source], strict=False):
            letters.setdefault(letter, one)
    return tuple(letters[letter] for letter in match[2])


def _reduction(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    before = known[sources[0]]
    if len(before) == len(shape):
        return resized(before, shape)
    removed = {number % len(before) for number in _integers(node)}
    return tuple(one for index, one in enumerate(before) if index not in removed)


def _select(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    before = known[sources[0]]
    if len(before) == len(shape):
        return resized(before, shape)
    dim = node.args[1] if len(node.args) > 1 and isinstance(node.args[1], int) else 0
    return _without(before, dim, shape)


def _without(before: Axes, dim: int, shape: Shape) -> Axes | None:
    if len(before) != len(shape) + 1:
        return None
    dim %= len(before)
    return tuple(one for index, one in enumerate(before) if index != dim)


def _stack(node: fx.Node, sources: list[fx.Node], known: Known, shape: Shape) -> Axes | None:
    dim = node.args[1] if len(node.args) > 1 and isinstance(node.args[1], int) else node.kwargs.get("dim", 0)
    place = int(dim) % len(shape) if isinstance(dim, int) else 0
    before = list(known[sources[0]])
    before.insert(place, axis(shape[place], Tag.CHANNEL))
    return tuple(before)


def _from_tuple(node: fx.Node, names: dict[fx.Node, str], known: Known, shape: Shape) -> Axes | None:
    """Tag an item of a tuple: a piece of a split, or one of an unbound axis."""
    parent = node.all_input_nodes[0]
    sources = [source for source in parent.all_input_nodes if source in known]
    if not sources:
        return None
    before = known[sources[0]]
    if names[parent] == "unbind":
        dim = parent.args[1] if len(parent.args) > 1 else parent.kwargs.get("dim", 0)
        return _without(before, int(dim), shape) if isinstance(dim, int) else None
    if parent.op == "call_module" and len(shape) > 2:
        return resized(before, shape) or channels_first(shape)
    return resized(before, shape)


_Rule = Callable[[fx.Node, list[fx.Node], Known, Shape], Axes | None]
_RULES: tuple[tuple[tuple[str, ...], _Rule], ...] = (
    (ops.CHANNELS_FIRST, _first),
    (("linear", "addmm", "embedding"), _linear),
    (ops.PERMUTATIONS[:-1], _permutation),
    (ops.RESHAPES, _reshape),
    (("matmul", "bmm", "baddbmm"), _matmul),
    (("scaleddotproductattention",), _attention),
    (("einsum",), _einsum),
    (("select", "getitem"), _select),
    (("stack",), _stack),
    (("mean", "sum", "amax", "amin", "std", "var", "logsumexp"), _reduction),
)
