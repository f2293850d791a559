"""Factors that were enlarged only to weigh a picture, taken out of the data flow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .axes import ABOUT

Flow = Sequence[list[int]]


def drop_weighing(flow: Flow, resolution: Sequence[int], products: Iterable[int]) -> list[list[int]]:
    """Take out the factors of products that were enlarged and whose content goes on elsewhere.

    They weigh the other factor, as a gate does: a partial decoder (Wu et al., arXiv 1904.08739) multiplies a
    level by the deeper ones, and concatenates it with them.

    Args:
        flow: the inputs of every node, in the order of execution; the last node is the output.
        resolution: the positions of every node.
        products: the nodes that multiply.

    Returns:
        the inputs of every node that carry a picture.
    """
    enlarged = _enlarged(flow, resolution)
    users = users_of(flow)
    kept = list(flow)
    for product in products:
        weights = [source for source in flow[product] if enlarged[source]]
        if not weights or len(weights) == len(flow[product]):
            continue
        origins = {origin for weight in weights for origin in _before(flow, enlarged, weight)}
        beside = {(weight, product) for weight in weights}
        if all(_reaches_output(users, origin, beside) for origin in origins):
            kept[product] = [source for source in flow[product] if source not in weights]
    return kept


def users_of(flow: Flow) -> list[list[int]]:
    """Return the nodes that each node is an input of."""
    users: list[list[int]] = [[] for _ in flow]
    for i, inputs in enumerate(flow):
        for source in inputs:
            users[source].append(i)
    return users


def _enlarged(flow: Flow, resolution: Sequence[int]) -> list[bool]:
    """Tell which tensors hold nothing but what was of lower resolution before."""
    enlarged = [False] * len(flow)
    for i, inputs in enumerate(flow):
        lower = (enlarged[source] or resolution[source] < ABOUT * resolution[i] for source in inputs)
        enlarged[i] = bool(inputs) and all(lower)
    return enlarged


def _before(flow: Flow, enlarged: Sequence[bool], i: int) -> set[int]:
    """Return what an enlarged tensor was made from: the nearest tensors that were not enlarged."""
    behind, seen, found = [i], {i}, set()
    while behind:
        new = set(flow[behind.pop()]) - seen
        seen |= new  # residual blocks have as many ways through as 2 to the power of their number
        found |= {source for source in new if not enlarged[source]}
        behind.extend(source for source in new if enlarged[source])
    return found


def _reaches_output(users: Flow, start: int, without: set[tuple[int, int]]) -> bool:
    """Tell whether a node reaches the output without some of the edges."""
    stack, seen = [start], {start}
    while stack:
        i = stack.pop()
        if i == len(users) - 1:
            return True
        reached = [user for user in users[i] if (i, user) not in without and user not in seen]
        seen.update(reached)
        stack.extend(reached)
    return False
