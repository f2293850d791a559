"""Nodes that do nothing but pick channels: slices, splits, flips, rolls, selections, shuffles."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from .calls import OPEN
from .draft import Draft, arguments_of, shape_of

aten = torch.ops.aten

Order = tuple[int, ...]
"""For each channel of a node, which channel of its source it is."""

_VIEWS = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.unflatten.int,
    aten.flatten.using_ints,
}
_COPIES = {aten.contiguous.default, aten.clone.default}
SPLITS = {aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default}


def channels_of(node: Any) -> int:
    """Return the channels that a node was traced with; 0 where they are not known."""
    shape = shape_of(node) if isinstance(node, fx.Node) else None
    return int(shape[1]) if shape is not None and len(shape) > 2 and shape[1].isdigit() else 0


def read_order(draft: Draft, node: fx.Node) -> tuple[fx.Node, Order] | None:
    """Read a node that picks channels of another.

    Args:
        draft: the graph.
        node: any node.

    Returns:
        the node that it picks from and the order; None for any other node.
    """
    if node.op != "call_function":
        return None
    if node.target in _VIEWS:
        return _read_shuffle(node)
    if node.target is operator.getitem:
        return _read_part(node)
    read = _READERS.get(node.target)
    source = node.args[0] if node.args else None
    channels = channels_of(source)
    if read is None or not channels:
        return None
    order = read(draft, arguments_of(node), channels)
    return None if order is None else (source, order)  # type: ignore[return-value]


def _slice(_: Draft, found: Any, channels: int) -> Order | None:
    start, end, step = bounds = (found["start"], found["end"], found["step"])
    if not all(bound is None or isinstance(bound, int) for bound in bounds):
        return None
    if found["dim"] != 1:
        return tuple(range(channels)) if not start and step == 1 and end in (None, OPEN) else None
    return tuple(range(channels)[slice(*bounds)])


def _narrow(_: Draft, found: Any, channels: int) -> Order | None:
    start, length = found["start"], found["length"]
    if found["dim"] != 1 or not isinstance(start, int) or not isinstance(length, int):
        return None
    return tuple(range(channels)[start : start + length])


def _select(draft: Draft, found: Any, channels: int) -> Order | None:
    index = draft.constant(found["index"])
    if found["dim"] != 1 or index is None:
        return None
    return tuple(range(channels)[i] for i in index.tolist())


def _index(draft: Draft, found: Any, channels: int) -> Order | None:
    indices = found["indices"]
    index = draft.constant(indices[1]) if len(indices) == 2 and indices[0] is None else None
    if index is None or index.ndim != 1 or index.dtype is not torch.int64:
        return None
    return tuple(range(channels)[i] for i in index.tolist())


def _flip(_: Draft, found: Any, channels: int) -> Order | None:
    return tuple(reversed(range(channels))) if list(found["dims"]) == [1] else None


def _roll(_: Draft, found: Any, channels: int) -> Order | None:
    if list(found["dims"]) != [1]:
        return None
    return tuple((i - found["shifts"][0]) % channels for i in range(channels))


def _channel_shuffle(_: Draft, found: Any, channels: int) -> Order | None:
    return _dealt(found["groups"], channels)


_READERS: dict[Any, Callable[[Draft, Any, int], Order | None]] = {
    aten.slice.Tensor: _slice,
    aten.narrow.default: _narrow,
    aten.index_select.default: _select,
    aten.index.Tensor: _index,
    aten.flip.default: _flip,
    aten.roll.default: _roll,
    aten.channel_shuffle.default: _channel_shuffle,
}


def _dealt(groups: int, channels: int) -> Order:
    """Return the order of channels that are laid out in `groups` piles and taken from each in turn."""
    pile = channels // groups
    return tuple(pile * (i % groups) + i // groups for i in range(channels))


def _read_part(node: fx.Node) -> tuple[fx.Node, Order] | None:
    """Read one of the parts that a tensor was split into."""
    split: Any = node.args[0]
    if split.target not in SPLITS or arguments_of(split)["dim"] != 1:
        return None
    source, channels = split.args[0], channels_of(split.args[0])
    parts = split.meta.get("val")
    if not channels or not isinstance(parts, tuple | list):
        return None
    widths = [part.shape[1] for part in parts]
    number: Any = node.args[1]
    if not all(isinstance(width, int) for width in widths):
        return None
    start = sum(widths[:number])
    return source, tuple(range(start, start + widths[number]))


def _read_shuffle(node: fx.Node) -> tuple[fx.Node, Order] | None:
    """Read a view as groups, a transposition of groups and channels, and the view back."""
    turned = _skip_copies(node.args[0])
    if turned.target not in {aten.transpose.int, aten.permute.default}:
        return None
    viewed: Any = turned.args[0]
    if viewed.target not in _VIEWS:
        return None
    source = viewed.args[0]
    before, wide, swapped, after = (shape_of(each) or () for each in (source, viewed, turned, node))
    channels = channels_of(source)
    if not channels or before != after or len(wide) != len(before) + 1:
        return None
    batch, groups, pile, *spatial = wide
    if (batch, *spatial) != (before[0], *before[2:]) or swapped != (batch, pile, groups, *spatial):
        return None
    if not (groups + pile).isdigit() or int(groups) * int(pile) != channels or not _swaps(turned):
        return None
    return source, _dealt(int(groups), channels)


def _skip_copies(node: Any) -> Any:
    while node.target in _COPIES:
        node = node.args[0]
    return node


def _swaps(turned: fx.Node) -> bool:
    """Say whether axes 1 and 2 change places, and no others."""
    found = arguments_of(turned)
    if turned.target is aten.transpose.int:
        return sorted((found["dim0"], found["dim1"])) == [1, 2]
    dims = list(found["dims"])
    return dims == [0, 2, 1, *range(3, len(dims))]
