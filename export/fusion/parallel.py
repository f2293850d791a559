"""Convolutions of the same input whose outputs are added, summed into one convolution."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from .convolutions import Convolution, read_convolution, write_convolution
from .draft import Draft, shape_of
from .report import PassReport

aten = torch.ops.aten

Place = tuple[fx.Node, Convolution]


def sum_parallel_convolutions(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Sum `conv_a(x) + conv_b(x)` into one convolution, kernels of different size centred on each other.

    Exact where both put their taps on the same grid: equal stride, groups, and dilation (where a kernel
    has more than one tap), and each padding as much larger as its kernel is.
    """
    draft = Draft(source, "sum_parallel_convolutions")
    for root in list(draft.graph.nodes):
        if not _is_sum(root) or _is_inner(root):
            continue
        for first, *others in _by_input(draft, _addends(root)).values():
            survivor = first
            for other in others:
                survivor = _merge(draft, survivor, other)
    return draft.finish()


def _is_sum(node: object) -> bool:
    if (
        not isinstance(node, fx.Node)
        or node.target is not aten.add.Tensor
        or node.kwargs.get("alpha", 1) != 1
    ):
        return False
    left, right = node.args[0], node.args[1]
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node):
        return False
    # A broadcast sum is not a plain one: its operands cannot change places.
    return shape_of(left) is not None and shape_of(left) == shape_of(right)


def _is_inner(node: fx.Node) -> bool:
    return len(node.users) == 1 and _is_sum(next(iter(node.users)))


def _addends(node: Any) -> list[fx.Node]:
    """List what a tree of additions adds up, entering only sums that nobody else reads."""
    found: list[fx.Node] = []
    for operand in node.args[:2]:
        found += _addends(operand) if _is_sum(operand) and len(operand.users) == 1 else [operand]
    return found


def _by_input(draft: Draft, addends: list[fx.Node]) -> dict[str, list[Place]]:
    groups: dict[str, list[Place]] = defaultdict(list)
    for node in dict.fromkeys(addends):
        convolution = read_convolution(draft, node)
        if convolution is not None and isinstance(node.args[0], fx.Node):
            groups[node.args[0].name].append((node, convolution))
    return groups


def _merge(draft: Draft, first: Place, second: Place) -> Place:
    """Put the smaller kernel into the larger one, and return the place to merge the next one with."""
    (small_node, small), (large_node, large) = sorted(
        (first, second), key=lambda place: place[1].weight[0, 0].numel()
    )
    reason = _refusal(small_node, small, large_node, large)
    if reason:
        draft.reject(small_node, reason)
        return second
    margin = [(wide - narrow) // 2 for wide, narrow in zip(large.kernel, small.kernel, strict=True)]
    sides = [side for size in reversed(margin) for side in (size, size)]
    weight = large.weight.double() + torch.nn.functional.pad(small.weight.double(), sides)
    bias = _sum_of_biases(small.bias, large.bias)
    write_convolution(draft, large_node, weight, bias)
    draft.note(f"{small_node.name} into {large_node.name}")
    _drop_addend(draft, small_node)
    return large_node, replace(large, weight=weight, bias=bias)


def _drop_addend(draft: Draft, addend: fx.Node) -> None:
    total = next(iter(addend.users))
    left, right = total.args[0], total.args[1]
    kept = right if left is addend else left
    assert isinstance(kept, fx.Node)
    draft.replace(total, kept)
    if not addend.users:
        draft.graph.erase_node(addend)


def _sum_of_biases(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first.double() + second.double()


def _refusal(small_node: fx.Node, small: Convolution, large_node: fx.Node, large: Convolution) -> str:
    """Return why two convolutions of one input are not one; empty when they are."""
    pair = f"{small_node.name} and {large_node.name}"
    if len(small_node.users) > 1 or len(large_node.users) > 1:
        return f"{pair}: one of them is read by others as well"
    if small.transposed or large.transposed or small.padding is None or large.padding is None:
        return f"{pair}: transposed or padded unevenly"
    if small.stride != large.stride or small.groups != large.groups:
        return f"{pair}: stride or groups differ"
    for axis, (narrow, wide) in enumerate(zip(small.kernel, large.kernel, strict=True)):
        if narrow > 1 and small.dilation[axis] != large.dilation[axis]:
            return f"{pair}: dilation differs"
        if (wide - narrow) % 2 or wide < narrow:
            return f"{pair}: kernels cannot be centred on each other"
        if large.padding[axis] - small.padding[axis] != large.dilation[axis] * (wide - narrow) // 2:
            return f"{pair}: their taps lie on different grids"
    return ""
