"""Pooling to a fixed number of bins, written so that it holds for every size of the image.

ONNX has no such operation. The exporter turns it into a pooling window of the size that was traced, which at
any other size gives other bins: the pyramids of PSPNet and UPerNet come out wrong without an error.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from .spelling import written_out

aten = torch.ops.aten


def with_free_bins(source: fx.GraphModule) -> fx.GraphModule:
    """Return the graph with every pooling to several bins of a free size written out, if there is one."""
    return written_out(source, lambda node: _WRITTEN_OUT[node.target] if _has_free_size(node) else None)


def average_bins(x: Tensor, bins: Sequence[int]) -> Tensor:
    """Average over bins as `torch.nn.functional.adaptive_avg_pool` does: one product for each axis.

    Args:
        x: `(N, C, *spatial)`.
        bins: how many, for each spatial axis.

    Returns:
        `(N, C, *bins)`.
    """
    for axis, count in enumerate(bins, start=x.ndim - len(bins)):
        inside = _members(x, axis, count)  # (count, size)
        shares = inside / inside.sum(1, keepdim=True)
        x = (x.transpose(axis, -1) @ shares.to(x.dtype).T).transpose(axis, -1)
    return x


def largest_of_bins(x: Tensor, bins: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Take the largest of each bin as `torch.nn.functional.adaptive_max_pool` does, without their places."""
    lowest = torch.finfo(x.dtype).min
    for axis, count in enumerate(bins, start=x.ndim - len(bins)):
        inside = _members(x, axis, count).bool()
        turned = x.transpose(axis, -1)
        best = [torch.where(inside[index], turned, lowest).amax(-1) for index in range(count)]
        x = torch.stack(best, -1).transpose(axis, -1)
    return x, None


_WRITTEN_OUT: dict[Any, Callable[..., Any]] = {
    aten.adaptive_avg_pool1d.default: average_bins,
    aten.adaptive_avg_pool2d.default: average_bins,
    aten.adaptive_avg_pool3d.default: average_bins,
    aten.adaptive_max_pool1d.default: largest_of_bins,
    aten.adaptive_max_pool2d.default: largest_of_bins,
    aten.adaptive_max_pool3d.default: largest_of_bins,
}


def _has_free_size(node: fx.Node) -> bool:
    """Tell whether a node pools an axis of a free size to bins, in a way that can be written out."""
    written_out = _WRITTEN_OUT.get(node.target)
    if written_out is None:
        return False
    pooled, bins = node.args[0], node.args[1]
    assert isinstance(pooled, fx.Node)
    assert isinstance(bins, Sequence)
    # One bin is the mean of the image, for which ONNX has an operation.
    if all(count == 1 for count in bins):
        return False
    if written_out is largest_of_bins and not _gives_values_alone(node, bins):
        return False
    return any(not isinstance(size, int) for size in pooled.meta["val"].shape[-len(bins) :])


def _gives_values_alone(node: fx.Node, bins: Sequence[Any]) -> bool:
    """Tell whether nobody reads the places of the largest values, and the numbers of bins are known."""
    values = all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)
    return values and all(isinstance(count, int) for count in bins)


def _members(x: Tensor, axis: int, count: int) -> Tensor:
    """Return which positions of an axis are in which of its bins, 0 or 1, `(count, size)`."""
    size = x.shape[axis]
    place = torch.arange(size, device=x.device)
    index = torch.arange(count, device=x.device)[:, None]
    # The first position of a bin, and the one after its last, as torch rounds them: bins may overlap.
    first, end = (index * size) // count, ((index + 1) * size + count - 1) // count
    return ((place >= first) & (place < end)).to(torch.float32)
