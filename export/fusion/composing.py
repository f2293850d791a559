"""A 1x1 convolution merged into the convolution that reads it, where that takes fewer products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .calls import caller
from .convolutions import Convolution, read_convolution, write_convolution
from .draft import Draft, arguments_of, shape_of
from .report import PassReport

aten = torch.ops.aten


def compose_convolutions(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Merge a 1x1 convolution into the next one: `V (W x + b) = (V W) x + V b`.

    Between the two may be a concatenation (of cells' states, or of a decoder's parts) and a sum (a cell's
    way out beside the skip): `V cat(s + W x, d) = V' cat(s, x, d)`. It is done where it takes no more
    products. A kernel that pads sees zeros beyond the border, not `b`: there a channel of ones brings it in,
    which is padded alike: `V (W x + b) = V' cat(x, 1)`.
    """
    draft = Draft(source, "compose_convolutions")
    for node in list(draft.graph.nodes):
        convolution = read_convolution(draft, node)
        if convolution is None or convolution.transposed or convolution.groups != 1:
            continue
        for inner in _inner_places(draft, node):
            reason = _refusal(convolution, inner)
            if reason:
                draft.reject(inner.node, reason)
                continue
            _compose(draft, node, convolution, inner)
            draft.note(f"{inner.node.name} into {node.name}")
            break  # one at a time: the others have moved
    return draft.finish()


@dataclass(frozen=True, slots=True)
class _Inner:
    """A 1x1 convolution that another one reads.

    Attributes:
        node: the convolution.
        convolution: its numbers.
        beside: what is added to it; None where nothing is.
        parts: what the reader's channels are made of, in order; `index` is the part it makes.
        index: the place among the parts.
    """

    node: fx.Node
    convolution: Convolution
    beside: fx.Node | None
    parts: tuple[fx.Node, ...]
    index: int


def _inner_places(draft: Draft, node: fx.Node) -> list[_Inner]:
    """List the 1x1 convolutions that nothing but this convolution reads, directly or in part."""
    operand: Any = node.args[0]
    joined = operand.target is aten.cat.default and arguments_of(operand)["dim"] == 1
    if joined and len(operand.users) > 1:
        return []
    parts = tuple(operand.args[0]) if joined else (operand,)
    found = []
    for index, part in enumerate(parts):
        if len(part.users) > 1 or parts.count(part) > 1:
            continue
        for candidate, beside in ((part, None), *_summed(part)):
            inner = read_convolution(draft, candidate)
            if inner is not None and len(candidate.users) == 1 and _is_pointwise(inner):
                found.append(_Inner(candidate, inner, beside, parts, index))
    return found


def _summed(part: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """List the operands of a plain sum, each with the other one."""
    left, right = (*part.args, None, None)[:2]
    if part.target is not aten.add.Tensor or part.kwargs.get("alpha", 1) != 1:
        return []
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node) or left is right:
        return []
    if shape_of(left) is None or shape_of(left) != shape_of(right):
        return []
    return [(left, right), (right, left)]


def _is_pointwise(convolution: Convolution) -> bool:
    one = {1}
    return (
        not convolution.transposed
        and convolution.groups == 1
        and convolution.is_unpadded
        and {*convolution.kernel, *convolution.stride} == one
    )


def _refusal(outer: Convolution, inner: _Inner) -> str:
    """Return why two convolutions stay two; empty when they can be one."""
    if any(_channels(part) == 0 for part in inner.parts):
        return "the channels of what is read beside it are not known"
    read, made = inner.convolution.channels_in, inner.convolution.channels_out
    products = outer.channels_out * math.prod(outer.kernel)
    # For each position that the inner one makes, the outer one makes 1 / prod(stride).
    before = read * made * math.prod(outer.stride) + products * made
    beside = (made if inner.beside is not None else 0) + _needs_ones(outer, inner)
    after = products * (read + beside)
    if after > before:
        return f"one convolution would take {after / before:.2f} times the products of the two"
    return ""


def _needs_ones(outer: Convolution, inner: _Inner) -> bool:
    """Say whether a bias has to come in by a channel of ones: zeros are padded where it would be."""
    bias = inner.convolution.bias
    return bias is not None and bool((bias != 0).any()) and not outer.is_unpadded


def _channels(part: fx.Node) -> int:
    shape = shape_of(part)
    return int(shape[1]) if shape is not None and shape[1].isdigit() else 0


def _compose(draft: Draft, node: fx.Node, outer: Convolution, inner: _Inner) -> None:
    widths = [_channels(part) for part in inner.parts]
    columns = list(torch.split(outer.weight.double(), widths, dim=1))
    own = columns[inner.index]  # (O, made, k...)
    matrix = inner.convolution.weight.double().flatten(1)  # (made, read)
    read: list[fx.Node] = [inner.node.args[0]]  # type: ignore[list-item]
    fresh = [torch.einsum("om...,mr->or...", own, matrix)]
    bias = None
    if _needs_ones(outer, inner):
        assert inner.convolution.bias is not None
        read.append(_ones(draft, node, read[0]))
        fresh.append(torch.einsum("om...,m->o...", own, inner.convolution.bias.double()).unsqueeze(1))
    else:
        bias = _bias(outer, inner, own)
    if inner.beside is not None:
        read, fresh = [inner.beside, *read], [own, *fresh]
    parts = [*inner.parts[: inner.index], *read, *inner.parts[inner.index + 1 :]]
    columns[inner.index : inner.index + 1] = fresh
    write_convolution(draft, node, torch.cat(columns, dim=1), bias)
    node.args = (_joined(draft, node, parts), *node.args[1:])


def _ones(draft: Draft, node: fx.Node, like: fx.Node) -> fx.Node:
    """Insert a channel of ones `(N, 1, *spatial)` for `like (N, C, *spatial)`."""
    call = caller(draft, node)
    first = call(aten.slice.Tensor, like, 1, 0, 1)
    ones = call(aten.ones_like.default, first)
    value = like.meta.get("val")
    if isinstance(value, Tensor):
        first.meta["val"] = ones.meta["val"] = value.new_empty((value.shape[0], 1, *value.shape[2:]))
    return ones


def _bias(outer: Convolution, inner: _Inner, own: Tensor) -> Tensor | None:
    if inner.convolution.bias is None:
        return outer.bias
    added = own.flatten(2).sum(2) @ inner.convolution.bias.double()
    return added if outer.bias is None else outer.bias.double() + added


def _joined(draft: Draft, node: fx.Node, parts: list[fx.Node]) -> fx.Node:
    if len(parts) == 1:
        return parts[0]
    with draft.graph.inserting_before(node):
        joined = draft.graph.call_function(aten.cat.default, (parts, 1))
    known = [value for part in parts if isinstance(value := part.meta.get("val"), Tensor)]
    if len(known) == len(parts):
        channels = sum(value.shape[1] for value in known)
        first = known[0]
        joined.meta["val"] = first.new_empty((first.shape[0], channels, *first.shape[2:]))
    return joined
